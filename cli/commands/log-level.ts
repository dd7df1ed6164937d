import type { Command } from 'commander';
import { ExhibitError } from '../../evidence/error.ts';
import type { LogLevel__Output } from '../../proto/gen/exhibit/v1/LogLevel.ts';
import { answer, ask, examples, GROUPS, optionsOf } from '../command.ts';
import type { Session } from '../session.ts';

/** `exhibit log-level [LEVEL]`: how much the agent, or with `--controller` the controller, logs; a change falls back by itself. */
export function registerLogLevel(program: Command, session: Session): void {
  const command = program
    .command('log-level')
    .description("show or change for a while how much the agent logs; with --controller, the controller's replica")
    .helpGroup(GROUPS.agent)
    .argument('[level]', 'trace, debug, info, warn, error or fatal; without it the level is shown')
    .option('--for <time>', 'how long, such as 30s, 10m or 2h; the usual level comes back by itself (default: 10m)')
    .action(async (level: string | undefined) => {
      const options = optionsOf<{ for?: string }>(command);
      if (level === undefined && options.for !== undefined)
        throw new ExhibitError('usage', '--for goes with a level: say which one, such as debug.');
      const forMs = options.for === undefined ? 0 : millisecondsOf(options.for);
      const { signal } = session;
      const state = await ask<LogLevel__Output>(session, options, {
        agent: (client) => (level === undefined ? client.logLevel(signal) : client.setLogLevel(level, forMs, signal)),
        controller: (client) =>
          level === undefined
            ? client.call('GetLogLevel', {}, signal)
            : client.call('SetLogLevel', { level, forMs }, signal),
      });
      const until = Number(state.untilMs) === 0 ? undefined : new Date(Number(state.untilMs)).toISOString();
      await answer(session, options, {
        document: { level: state.level, usual: state.usual, ...(until === undefined ? {} : { until }) },
        words: () =>
          until === undefined
            ? `${state.level}, which is the usual level\n`
            : `${state.level} until ${until}, then ${state.usual} again\n`,
      });
    });
  examples(command, [
    ['exhibit log-level', 'what it is'],
    ['exhibit log-level debug --for 10m', 'more of it, for ten minutes'],
    ['exhibit --controller exhibit.example.org:8443 log-level debug --for 5m', 'of the controller, as an admin'],
  ]);
}

const UNITS_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };

function millisecondsOf(text: string): number {
  const [, digits, unit = ''] = /^(\d{1,6})(s|m|h)$/.exec(text) ?? [];
  const ms = Number(digits) * (UNITS_MS[unit] ?? Number.NaN);
  // A day, as the programs hold it; they would say the same of what fits into the message.
  if (!Number.isSafeInteger(ms) || ms === 0 || ms > 24 * 3_600_000)
    throw new ExhibitError('usage', `${text} is no time that a level is set for: say 30s, 10m or 2h, at most 24h.`);
  return ms;
}
