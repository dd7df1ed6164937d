import type { Logger } from 'pino';
import { ExhibitError } from '../evidence/error.ts';

/** How much a running program logs, for a while: the agent's by its socket, the controller's by an admin's call. docs/metrics.md. */

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

export interface LogLevelState {
  readonly level: string;
  /** The configuration's. */
  readonly usual: string;
  /** When `usual` is back, ms since the epoch; 0: it is there. */
  readonly untilMs: number;
}

export interface LogLevels {
  now(): LogLevelState;
  /** @throws as `set` does, and changes nothing */
  check(level: string, forMs: number): void;
  /**
   * Until `forMs` have passed (0: ten minutes); the usual level is back at once. Who did it stands in the log, whatever the levels are.
   * @throws ExhibitError `usage` for a level that is none, and for a time of more than a day
   */
  set(level: string, forMs: number, by: string): LogLevelState;
}

const USUAL_FOR_MS = 10 * 60_000;
/** What somebody forgot fills no disk for longer. */
const LONGEST_MS = 24 * 3_600_000;
/** At which the change itself is told: between a quiet level and a quiet one it would be lost. */
const TOLD_AT = 'info';

/**
 * Of `log` and its children: pino's children look their level up at their parent, unless they were given one. The level that it has now
 * is the usual one.
 */
export function openLogLevels(log: Logger, now: () => number = Date.now): LogLevels {
  const usual = log.level;
  let untilMs = 0;
  let timer: NodeJS.Timeout | undefined;

  const change = (level: string, tell: () => void) => {
    log.level = TOLD_AT;
    tell();
    log.level = level;
  };
  const fallBack = () => {
    untilMs = 0;
    change(usual, () => log.info({ level: usual }, 'the usual log level is back'));
  };
  return {
    now: () => ({ level: log.level, usual, untilMs }),
    check: (wanted, forMs) => void checked(wanted, forMs),
    set(wanted, forMs, by) {
      const level = checked(wanted, forMs);
      const lastsMs = forMs === 0 ? USUAL_FOR_MS : forMs;
      clearTimeout(timer);
      const isUsual = level === usual;
      untilMs = isUsual ? 0 : now() + lastsMs;
      const fields = { from: log.level, level, by, ...(isUsual ? {} : { forMs: lastsMs }) };
      change(level, () => log.info(fields, 'log level set'));
      if (!isUsual) timer = setTimeout(fallBack, lastsMs).unref();
      return { level, usual, untilMs };
    },
  };
}

function checked(wanted: string, forMs: number): string {
  const level = LOG_LEVELS.find((one) => one === wanted);
  if (level === undefined) throw new ExhibitError('usage', `A log level is one of ${LOG_LEVELS.join(', ')}.`);
  if (!Number.isSafeInteger(forMs) || forMs < 0 || forMs > LONGEST_MS)
    throw new ExhibitError(
      'usage',
      'A log level is set for a day at most; a lasting one is log.level in the configuration.',
    );
  return level;
}
