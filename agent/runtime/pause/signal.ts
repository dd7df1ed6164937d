/** SIGSTOP and SIGCONT for processes that no freezer holds. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ExhibitError, isErrno } from '../../../evidence/error.ts';
import { threadState, threadsOf } from '../../host/threads.ts';
import { allProcesses, descendantsOf, type ProcessStat, processStat } from '../process-tree.ts';
import type { Pause, Thawed } from './pause.ts';

/** A process can fork while its parents are being stopped; each round stops one more generation. */
const ROUNDS = 50;

/** How often the states are looked at. */
const POLL_MS = 2;

interface Spec {
  readonly pids: readonly number[];
  readonly startTicks?: readonly number[];
  readonly procRoot?: string;
}

const stands = ({ state }: ProcessStat): boolean => 'TtZX'.includes(state);

/**
 * Nobody of the tree can run. A parent in vfork(2) sleeps in state D until its child has called exec; when the child is
 * stopped before that, the parent never reaches state T, and stands all the same.
 */
export function allStand(tree: readonly ProcessStat[]): boolean {
  const held = new Set(tree.filter(stands).map(({ parent }) => parent));
  return tree.every((one) => stands(one) || (one.state === 'D' && held.has(one.pid)));
}

/** A process reads T as soon as its first thread stands; the others may still be on their way. */
function threadsStand(procRoot: string, { pid, state }: ProcessStat): boolean {
  if (state !== 'T') return true;
  return threadsOf(procRoot, pid).every((tid) => 'TtZX'.includes(threadState(procRoot, tid) ?? 'X'));
}

export async function preparePause(spec: Spec): Promise<Pause> {
  const procRoot = spec.procRoot ?? '/proc';
  if (rootsOf(spec, procRoot).length === 0) {
    throw new ExhibitError('freeze-failed', `none of the processes ${spec.pids.join(', ')} is there any more`);
  }
  /** By pid, what this Pause stopped; processes that stood already are not in it. */
  const stopped = new Map<number, ProcessStat>();
  const found = new Set<number>();
  return {
    async freeze(signal) {
      const toldAt = performance.now();
      found.clear();
      await stopAll({ spec, procRoot, stopped, found, signal });
      const notes =
        found.size === 0 ? [] : [`stopped already, by somebody else, and left so: pids ${[...found].join(', ')}`];
      const pids = [...stopped.keys(), ...found];
      return { by: stopped.size === 0 ? 'found' : 'held', toldAt, notes, pids };
    },
    async thaw() {
      if (stopped.size === 0) return { outcome: 'left', notes: [] };
      const thawed = continueAll([...stopped.values()], procRoot);
      stopped.clear();
      return thawed;
    },
    async [Symbol.asyncDispose]() {},
  };
}

/** Those of the spec that still are the processes it meant. */
function rootsOf(spec: Spec, procRoot: string): ProcessStat[] {
  const roots: ProcessStat[] = [];
  for (const [index, pid] of spec.pids.entries()) {
    const stat = processStat(procRoot, pid);
    const ticks = spec.startTicks?.[index];
    if (stat !== undefined && (ticks === undefined || stat.startTicks === ticks)) roots.push(stat);
  }
  return roots;
}

interface Stopping {
  readonly spec: Spec;
  readonly procRoot: string;
  readonly stopped: Map<number, ProcessStat>;
  readonly found: Set<number>;
  readonly signal: AbortSignal;
}

/** Parents before children, again and again until a whole round finds nobody new and everybody stands. */
async function stopAll({ spec, procRoot, stopped, found, signal }: Stopping): Promise<void> {
  const own = ownAncestry(procRoot);
  for (let round = 0; round < ROUNDS; ) {
    signal.throwIfAborted();
    const all = allProcesses(procRoot);
    const roots = rootsOf(spec, procRoot).map(({ pid }) => pid);
    const tree = descendantsOf(roots, all);
    const forbidden = tree.find(({ pid }) => own.has(pid));
    if (forbidden !== undefined) throw refuse(forbidden.pid);
    const fresh = tree.filter(({ pid }) => !stopped.has(pid) && !found.has(pid));
    for (const process of fresh) {
      if (stands(process)) found.add(process.pid);
      else stop(process, stopped);
    }
    if (fresh.length > 0) round += 1;
    else if (allStand(tree) && tree.every((one) => threadsStand(procRoot, one))) return;
    else await sleep(POLL_MS, undefined, { signal });
  }
  throw new ExhibitError(
    'freeze-failed',
    `the processes forked faster than they could be stopped, ${ROUNDS} rounds long`,
  );
}

function stop(target: ProcessStat, stopped: Map<number, ProcessStat>): void {
  try {
    process.kill(target.pid, 'SIGSTOP');
    stopped.set(target.pid, target);
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return;
    throw new ExhibitError('freeze-failed', `pid ${target.pid} cannot be stopped`, { cause: error });
  }
}

/** The guard and all above it: stopping one of them would stop the thaw. */
function ownAncestry(procRoot: string): Set<number> {
  const own = new Set<number>();
  for (let pid = process.pid; pid > 0 && !own.has(pid); ) {
    own.add(pid);
    pid = processStat(procRoot, pid)?.parent ?? 0;
  }
  return own;
}

const refuse = (pid: number): ExhibitError =>
  new ExhibitError('freeze-failed', `pid ${pid} is the agent itself or one of its parents: it cannot stop itself`);

/** Children before parents, so that no parent sees a stopped child; processes that are gone or another by now are left out. */
function continueAll(stopped: readonly ProcessStat[], procRoot: string): Thawed {
  let continued = 0;
  let running = 0;
  for (const { pid, startTicks } of [...stopped].reverse()) {
    const now = processStat(procRoot, pid);
    if (now === undefined || now.startTicks !== startTicks || 'ZX'.includes(now.state)) continue;
    // State D: in vfork, see allStand.
    if (now.state !== 'T' && now.state !== 'D') running += 1;
    try {
      process.kill(pid, 'SIGCONT');
      continued += 1;
    } catch (error) {
      if (!isErrno(error, 'ESRCH'))
        throw new ExhibitError('freeze-failed', `pid ${pid} cannot be continued`, { cause: error });
    }
  }
  if (continued === 0) return { outcome: 'gone', notes: ['the processes ended while they were stopped'] };
  if (running === continued)
    return { outcome: 'was-thawed', notes: ['the processes had been continued by somebody else'] };
  return {
    outcome: 'thawed',
    notes: running === 0 ? [] : [`${running} of ${continued} processes had been continued by somebody else`],
  };
}

/** For the journal's recovery: continues the processes of the spec, and their descendants, that stand stopped. */
export async function thawStopped(spec: Spec): Promise<Thawed> {
  const procRoot = spec.procRoot ?? '/proc';
  const roots = rootsOf(spec, procRoot).map(({ pid }) => pid);
  const standing = descendantsOf(roots, allProcesses(procRoot)).filter(({ state }) => state === 'T');
  if (standing.length === 0) return { outcome: roots.length === 0 ? 'gone' : 'was-thawed', notes: [] };
  return continueAll(standing, procRoot);
}
