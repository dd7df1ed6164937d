import { setTimeout as sleep } from 'node:timers/promises';
import { criuRuns } from '../process-tree.ts';
import type { SingleFreezeSpec } from '../runtime.ts';
import { type Thawed, thawIfFrozen } from './pause.ts';
import { thawPaused } from './resume.ts';

/** How long a failed dump is looked after. */
export const AFTER_DUMP_MS = 30_000;

/** A container that was seen running for this long, with no CRIU left on the node, stays so. */
const SETTLED_MS = 300;
const POLL_MS = 50;

/**
 * After a checkpoint that failed: lets the container go if it stands, and sees to it that it keeps running. CRIU outlives a
 * containerd that is killed in the middle of a dump, and puts the freezer back at its end to what it found at its start,
 * which was frozen (seen with containerd 2.1.9 and CRIU 4.2). True when the container had to be resumed.
 */
export async function thawAfterDump(spec: SingleFreezeSpec, procRoot: string, boundMs: number): Promise<boolean> {
  const bound = performance.now() + boundMs;
  let resumed = false;
  let runningSince: number | undefined;
  for (;;) {
    const dumping = criuRuns(procRoot);
    const { outcome } = await letGo(spec, Math.max(0, bound - performance.now()));
    if (outcome === 'gone') return resumed;
    resumed ||= outcome === 'thawed';
    if (dumping || outcome === 'thawed') runningSince = undefined;
    else runningSince ??= performance.now();
    const now = performance.now();
    if ((runningSince !== undefined && now - runningSince >= SETTLED_MS) || now > bound) return resumed;
    await sleep(POLL_MS);
  }
}

const letGo = (spec: SingleFreezeSpec, boundMs: number): Promise<Thawed> =>
  spec.kind === 'containerd' ? thawPaused(spec, boundMs) : thawIfFrozen(spec);
