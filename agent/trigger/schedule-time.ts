import { createHash } from 'node:crypto';
import { Cron } from 'croner';
import type { ScheduleConfig } from './schedule-options.ts';

/** When a schedule is due. Pure: times are ms since the epoch, and the clock is the caller's. */

/** Timers and a busy node are late by less; whatever is later was missed. */
export const ON_TIME_MS = 30_000;
/** A clock that went back by more was wrong before: what it said is forgotten. */
export const MOST_BACK_MS = 3_600_000;
/** How many missed runs are counted. */
export const MOST_COUNTED = 1000;

type Timed = Pick<ScheduleConfig, 'name' | 'cron' | 'timeZone' | 'jitterMs' | 'missed' | 'maxLateMs'>;

/** Ticks are the times of the expression, without the jitter. */
export interface Ticks {
  /** The first after this moment; undefined: none any more. */
  after(ms: number): number | undefined;
  /** The last up to and with this moment. */
  upTo(ms: number): number | undefined;
}

export function ticksOf({ cron, timeZone }: Pick<ScheduleConfig, 'cron' | 'timeZone'>): Ticks {
  const expression = new Cron(cron, { paused: true, mode: '5-or-6-parts', timezone: timeZone });
  return {
    after: (ms) => expression.nextRun(new Date(ms))?.getTime(),
    // croner's own does not count the moment that it is asked about.
    upTo: (ms) => expression.previousRuns(1, new Date(ms + 1000 - (ms % 1000)))[0]?.getTime(),
  };
}

/** 0 to `jitterMs`, always the same for one node and schedule, and even over many nodes. */
export function jitterOf(node: string, { name, jitterMs }: Pick<ScheduleConfig, 'name' | 'jitterMs'>): number {
  const digest = createHash('sha256')
    .update(JSON.stringify([node, name]))
    .digest();
  return digest.readUIntBE(0, 6) % (jitterMs + 1);
}

export type Due =
  /** `lateMs` is more than 0 for a run that was missed and is made up for. */
  | { readonly kind: 'run'; readonly tickMs: number; readonly lateMs: number; readonly missed: number }
  | { readonly kind: 'missed'; readonly tickMs: number; readonly missed: number }
  /** `lastMs`: what is to be remembered in place of what was. */
  | { readonly kind: 'wait'; readonly nextMs: number | undefined; readonly lastMs: number };

/**
 * What to do now. `lastMs`: the tick that was dealt with last, or when the schedule was first seen. At most one run comes of it,
 * however many ticks have passed; a tick that was dealt with never comes again, though the clock may.
 */
export function dueAt(
  now: number,
  lastMs: number,
  { schedule, ticks, jitterMs }: { schedule: Timed; ticks: Ticks; jitterMs: number },
): Due {
  const last = lastMs > now + MOST_BACK_MS ? now : lastMs;
  const latest = ticks.upTo(now - jitterMs);
  if (latest === undefined || latest <= last) {
    const next = ticks.after(Math.max(last, now - jitterMs));
    return { kind: 'wait', nextMs: next === undefined ? undefined : next + jitterMs, lastMs: last };
  }
  const lateMs = now - jitterMs - latest;
  const before = countBetween(ticks, last, latest);
  if (lateMs <= ON_TIME_MS) return { kind: 'run', tickMs: latest, lateMs: 0, missed: before };
  const isMadeUp = schedule.missed === 'once' && lateMs <= schedule.maxLateMs;
  if (isMadeUp) return { kind: 'run', tickMs: latest, lateMs, missed: before };
  return { kind: 'missed', tickMs: latest, missed: Math.min(before + 1, MOST_COUNTED) };
}

/** Ticks after `from` and before `to`, up to MOST_COUNTED. */
function countBetween(ticks: Ticks, from: number, to: number): number {
  let count = 0;
  for (let at = ticks.after(from); at !== undefined && at < to && count < MOST_COUNTED; at = ticks.after(at))
    count += 1;
  return count;
}
