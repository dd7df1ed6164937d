import { open, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from 'pino';
import { z } from 'zod';
import { explain, isErrno } from '../../evidence/error.ts';

/**
 * What schedules remember over a restart of the agent: `<stateDir>/schedules.json`. On a tmpfs, so after a reboot nothing is
 * known: no run was missed then, and the next one is at its next time.
 */
const stateSchema = z.object({
  /** By the schedule's name: the tick that was dealt with last, ms since the epoch. */
  last: z.record(z.string(), z.number()),
  spent: z.array(z.object({ atMs: z.number(), bytes: z.number() })).max(10_000),
});
export type ScheduleState = z.output<typeof stateSchema>;

const NOTHING: ScheduleState = { last: {}, spent: [] };

export interface StateFile {
  readonly state: ScheduleState;
  /** In order; a failure is logged, for a run is worth more than its note. */
  put(state: ScheduleState): Promise<void>;
}

export async function openScheduleState(stateDir: string, log: Logger): Promise<StateFile> {
  const file = path.join(stateDir, 'schedules.json');
  let last: Promise<void> = Promise.resolve();
  const write = async (state: ScheduleState) => {
    try {
      await using handle = await open(`${file}.new`, 'w', 0o600);
      await handle.writeFile(JSON.stringify(state));
      await rename(`${file}.new`, file);
    } catch (error) {
      log.error({ error: explain(error) }, 'schedules not noted: a restart would not know of this run');
    }
  };
  return {
    state: await readState(file, log),
    put: (state) => {
      last = last.then(() => write(state));
      return last;
    },
  };
}

async function readState(file: string, log: Logger): Promise<ScheduleState> {
  try {
    return stateSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) log.warn({ error: explain(error) }, 'what schedules remembered cannot be read');
    return NOTHING;
  }
}
