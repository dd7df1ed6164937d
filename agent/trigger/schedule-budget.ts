import type { ScheduleBudgetConfig } from './schedule-options.ts';

/** What the schedules of a node may take together. Pure but for what it remembers. */

const HOUR_MS = 3_600_000;

/** One scheduled capture that was begun. */
export interface Spent {
  readonly atMs: number;
  /** What it stored, once it has ended. */
  readonly bytes: number;
}

export type Verdict =
  | { readonly kind: 'go' }
  /** For what ends by itself. */
  | { readonly kind: 'wait'; readonly why: 'an incident capture runs' | 'as many scheduled captures run as may' }
  | { readonly kind: 'skip'; readonly why: string };

export interface NodeLoad {
  /** Captures that no schedule asked for. */
  readonly incidents: number;
  readonly scheduled: number;
}

/** What was spent in the last hour; a time in the future, by a clock that went back, counts until it has passed. */
export function recent(spent: readonly Spent[], now: number): Spent[] {
  return spent.filter(({ atMs }) => now - atMs < HOUR_MS && atMs - now < HOUR_MS);
}

export function judge(
  budget: ScheduleBudgetConfig,
  { spent, load, now }: { spent: readonly Spent[]; load: NodeLoad; now: number },
): Verdict {
  const hour = recent(spent, now);
  const bytes = hour.reduce((sum, one) => sum + one.bytes, 0);
  if (hour.length >= budget.capturesPerHour) {
    return {
      kind: 'skip',
      why: `${hour.length} scheduled captures in the last hour, as many as scheduleBudget allows`,
    };
  }
  if (budget.bytesPerHour !== undefined && bytes >= budget.bytesPerHour) {
    return {
      kind: 'skip',
      why: `${bytes} bytes stored by schedules in the last hour, more than scheduleBudget allows`,
    };
  }
  if (load.incidents > 0) return { kind: 'wait', why: 'an incident capture runs' };
  if (load.scheduled >= budget.concurrent) return { kind: 'wait', why: 'as many scheduled captures run as may' };
  return { kind: 'go' };
}
