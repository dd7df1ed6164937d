/** Containers that have ended, for every runtime that keeps something of them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ExhibitError } from '../../evidence/error.ts';
import type { EndedRecord } from '../../evidence/manifest.ts';
import type { Selector, Target } from './runtime.ts';
import { selectorText } from './select.ts';

/** Pure: the target without what ends with the last process. */
export function endedTarget(target: Target, ended: EndedRecord): Target {
  const { cgroup: _, ...record } = target.record;
  return { ...target, record: { ...record, initPid: 0, pids: [], ended }, freeze: undefined };
}

/** What is named by its processes is nothing any more when they are gone. */
export const noMoreProcesses = (selector: Selector): ExhibitError =>
  new ExhibitError('target-not-running', `${selectorText(selector)} names processes, and they have ended`);

/** The runtime hears of an end when we do, and needs a moment to write it down. */
const SETTLE_MS = 500;
const ASK_EVERY_MS = 20;

/** The end as the runtime tells it once it knows; undefined when it does not in time. */
export async function settledEnd(
  ask: () => Promise<EndedRecord | undefined>,
  signal: AbortSignal,
): Promise<EndedRecord | undefined> {
  const until = performance.now() + SETTLE_MS;
  for (;;) {
    const ended = await ask();
    if (ended !== undefined || performance.now() >= until) return ended;
    await sleep(ASK_EVERY_MS, undefined, { signal });
  }
}
