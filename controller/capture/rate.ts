/** How fast a stage goes, from what an agent tells once a second or so. Pure. */

export interface Progress {
  readonly stage: string;
  readonly doneBytes: number;
  /** 0: not known. */
  readonly totalBytes: number;
  /** By the agent's clock. */
  readonly atMs: number;
}

export interface Rate {
  readonly at: Progress;
  /** 0: not known yet. */
  readonly bytesPerSecond: number;
  /** Until the stage is done, by that rate. 0: not known. */
  readonly remainingMs: number;
}

/** Old speed loses two thirds of its weight in this time: a stutter does not make the estimate jump, a new pace shows soon. */
const MEMORY_MS = 5_000;
/** An estimate of more is no estimate. */
const MOST_REMAINING_MS = 7 * 24 * 3_600_000;

export function nextRate(before: Rate | undefined, at: Progress): Rate {
  const isSame = before !== undefined && before.at.stage === at.stage && at.doneBytes >= before.at.doneBytes;
  if (!isSame) return { at, bytesPerSecond: 0, remainingMs: 0 };
  const passedMs = at.atMs - before.at.atMs;
  // A clock that was set back, or two reports of one moment: the bytes count with the next report.
  if (passedMs <= 0) return { ...before, remainingMs: remaining(at, before.bytesPerSecond) };
  const now = ((at.doneBytes - before.at.doneBytes) * 1_000) / passedMs;
  const weight = before.bytesPerSecond === 0 ? 1 : 1 - Math.exp(-passedMs / MEMORY_MS);
  const bytesPerSecond = before.bytesPerSecond + weight * (now - before.bytesPerSecond);
  return { at, bytesPerSecond, remainingMs: remaining(at, bytesPerSecond) };
}

function remaining({ doneBytes, totalBytes }: Progress, bytesPerSecond: number): number {
  if (bytesPerSecond <= 0 || totalBytes <= doneBytes) return 0;
  return Math.min(MOST_REMAINING_MS, Math.ceil(((totalBytes - doneBytes) * 1_000) / bytesPerSecond));
}
