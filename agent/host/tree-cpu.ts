import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseStat } from './process-stat.ts';
import { isOwnProc } from './threads.ts';

/**
 * What the agent and the processes that it starts have used of the processors so far, in ms: those that read for it, the guard, and
 * whoever has ended since. Never less than before, but for the length of a tick.
 */
export type TreeCpu = () => number;

/** proc(5) stat counts in clock ticks: USER_HZ is 100 on every architecture that EKS has. */
const TICK_MS = 10;
/** Looking costs some 50 us, and within a tick nothing new is told. */
const LOOK_EVERY_MS = 20;
/** The guard, one that waits to be the next, a reader, one for each mount that may wait: more is not believed. */
const MOST_CHILDREN = 64;

export interface TreeCpuParts {
  /** The node's /proc; where neither it nor /proc is of the agent's own pid namespace, only children that have ended count. */
  readonly procRoot: string;
  readonly now?: () => number;
  /** Of the process itself, all of its threads. */
  readonly ownMs?: () => number;
}

const ownCpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

export function openTreeCpu({ procRoot, now = () => performance.now(), ownMs = ownCpuMs }: TreeCpuParts): TreeCpu {
  const own = ['/proc', procRoot].find(isOwnProc);
  let lookedMs = Number.NEGATIVE_INFINITY;
  let childrenMs = 0;
  return () => {
    const nowMs = now();
    if (nowMs - lookedMs >= LOOK_EVERY_MS) {
      lookedMs = nowMs;
      // One that ends is in neither number until it is waited for, which is in this thread as well: at most a moment.
      childrenMs = Math.max(childrenMs, endedChildrenMs() + (own === undefined ? 0 : runningChildrenMs(own)));
    }
    return ownMs() + childrenMs;
  };
}

/** Those that were waited for, with their own: cutime and cstime of proc(5) stat. */
function endedChildrenMs(): number {
  const stat = statOf('/proc/self/stat');
  return stat === undefined ? 0 : (stat.childUserTicks + stat.childSystemTicks) * TICK_MS;
}

/** Of the calling thread, which is the one that starts them; none where the kernel has no such file (CONFIG_PROC_CHILDREN). */
function runningChildrenMs(procRoot: string): number {
  const pids = textOf(path.join(procRoot, 'thread-self', 'children'))
    .split(' ')
    .filter(Boolean)
    .slice(0, MOST_CHILDREN);
  let ticks = 0;
  for (const pid of pids) {
    const stat = statOf(path.join(procRoot, pid, 'stat'));
    if (stat !== undefined) ticks += stat.userTicks + stat.systemTicks + stat.childUserTicks + stat.childSystemTicks;
  }
  return ticks * TICK_MS;
}

function statOf(file: string) {
  const text = textOf(file);
  return text === '' ? undefined : parseStat(Buffer.from(text, 'latin1'));
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
