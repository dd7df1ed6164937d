import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { FreezeSpec } from '../runtime/runtime.ts';
import { thawNow } from './freeze.ts';
import type { Journal } from './journal.ts';

/**
 * What an agent does first: captures that the journal calls running belong to an agent that was killed. Their targets are
 * thawed, should the guard have died as well, and they are noted as interrupted; their bundles stay unsealed, which shows.
 */
export async function recover(journal: Journal, options: { now: () => number; log: Logger }): Promise<void> {
  for (const left of journal.entries().filter((one) => one.state === 'running' || one.frozen !== undefined)) {
    const { frozen, ...entry } = left;
    const problem = frozen === undefined ? undefined : await thaw(entry.captureId, frozen, options.log);
    const ended = {
      ...entry,
      state: entry.state === 'running' ? 'interrupted' : entry.state,
      finishedAtMs: entry.finishedAtMs === 0 ? options.now() : entry.finishedAtMs,
      error: [entry.error === '' ? 'the agent ended during the capture' : entry.error, problem ?? '']
        .filter(Boolean)
        .join('; '),
    } as const;
    // A target that would not thaw stays in the journal, so that the next start tries again.
    await journal.put(problem === undefined || frozen === undefined ? ended : { ...ended, frozen });
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
