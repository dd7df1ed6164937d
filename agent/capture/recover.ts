import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import { AFTER_DUMP_MS, thawAfterDump } from '../runtime/pause/dump.ts';
import type { CheckpointRung, FreezeSpec } from '../runtime/runtime.ts';
import { thawNow } from './freeze.ts';
import type { Journal, JournalEntry } from './journal.ts';

export const ENDED = 'the agent ended during the capture';

type Dumping = NonNullable<JournalEntry['dumping']>;

export interface RecoverOptions {
  readonly now: () => number;
  readonly log: Logger;
  /** The /proc in which CRIU is looked for. */
  readonly procRoot: string;
}

/**
 * What an agent does first: captures that the journal calls running belong to an agent that was killed. Their targets are
 * thawed, should the guard have died as well, or a dump have left them paused, and they are noted as interrupted; their
 * bundles stay unsealed, which shows.
 */
export async function recover(journal: Journal, options: RecoverOptions): Promise<void> {
  for (const left of journal.entries().filter(isLeft)) {
    const { frozen, dumping, ...entry } = left;
    const problems = [
      frozen === undefined ? undefined : await thaw(entry.captureId, frozen, options.log),
      dumping === undefined ? undefined : await endDump(entry.captureId, dumping, options),
    ];
    const [thawProblem, dumpProblem] = problems;
    // One that had ended, and of which only something is left on the node, was not interrupted.
    const running = entry.state === 'running';
    const ended = {
      ...entry,
      state: running ? 'interrupted' : entry.state,
      finishedAtMs: entry.finishedAtMs === 0 ? options.now() : entry.finishedAtMs,
      error: [entry.error === '' && running ? ENDED : entry.error, ...problems].filter(Boolean).join('; '),
      // A target that would not run stays in the journal, so that the next start tries again.
      ...(thawProblem === undefined || frozen === undefined ? {} : { frozen }),
      ...(dumping === undefined ? {} : { dumping: dumpProblem === undefined ? withoutPause(dumping) : dumping }),
    } as const;
    await journal.put(ended);
  }
}

/**
 * After `recover`, when nobody waits for a reader any more: removes what the runtimes left of checkpoints that the journal
 * knows of. What cannot be asked now is asked at the next start.
 */
export async function tidyDumps(journal: Journal, rungs: readonly CheckpointRung[], log: Logger): Promise<void> {
  for (const { dumping, ...entry } of journal.entries()) {
    if (dumping === undefined) continue;
    const rung = rungs.find(({ name }) => name === dumping.rung);
    try {
      const removed = (await rung?.clean?.(dumping.containerId, dumping.startedAtMs)) ?? [];
      if (removed.length > 0)
        log.warn({ captureId: entry.captureId, removed }, 'removed what was left of a checkpoint');
      if (dumping.pause === undefined) await journal.put(entry);
    } catch (error) {
      log.warn(
        { captureId: entry.captureId, error: explain(error) },
        'what was left of a checkpoint could not be learned',
      );
    }
  }
}

/** Its container runs; what the runtime may have left is looked for later. */
function withoutPause({ pause: _, ...dumping }: Dumping): Dumping {
  return dumping;
}

const isLeft = ({ state, frozen, dumping }: JournalEntry): boolean =>
  state === 'running' || frozen !== undefined || dumping !== undefined;

/** A dump outlives the agent that asked for it. Undefined when its container runs, else why it may not. */
async function endDump(
  captureId: string,
  { rung, pause }: Dumping,
  { procRoot, log }: RecoverOptions,
): Promise<string | undefined> {
  if (pause === undefined) return undefined;
  try {
    const resumed = await thawAfterDump(pause, procRoot, AFTER_DUMP_MS);
    log.warn({ captureId, rung, resumed }, 'the last agent ended while a checkpoint was made');
    return undefined;
  } catch (cause) {
    const problem = `its target may still be paused after a checkpoint: ${explain(cause)}`;
    log.error({ captureId, rung, problem }, 'a target may still be paused');
    return problem;
  }
}

/** Undefined when nothing is left frozen, else why it may be. */
async function thaw(captureId: string, frozen: FreezeSpec, log: Logger): Promise<string | undefined> {
  try {
    const thawed = await thawNow(frozen);
    log.warn({ captureId, thawed }, 'the last agent ended while a target was frozen');
    return undefined;
  } catch (cause) {
    const problem = `its target could not be thawed: ${explain(cause)}`;
    log.error({ captureId, problem }, 'a target may still be frozen');
    return problem;
  }
}
