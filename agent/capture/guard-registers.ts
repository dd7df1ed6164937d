/**
 * The guard's reading of registers while its target stands still: a few threads at a time, so that an order, a signal or the
 * deadline is heard between two batches, at most some milliseconds after it came. What was not reached by then is said.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { explain } from '../../evidence/error.ts';
import type { ThreadRead, Tracer } from '../host/registers.ts';
import { isOwnProc, threadState, threadsIn, threadsOf } from '../host/threads.ts';
import type { FreezeSpec, SingleFreezeSpec } from '../runtime/runtime.ts';
import { encodeThread, type WireThread } from './register-wire.ts';

/** Any number of them, then one with `last`. */
export interface RegistersAnswer {
  readonly type: 'registers';
  readonly threads: readonly WireThread[];
  readonly last: boolean;
  readonly note?: string;
}

export interface Reading {
  /** No thread is touched from now on but to let it go, which takes STOP_MS at most here. */
  stop(): void;
  /** Resolves when the last answer has been sent: a turn of the event loop after `stop`. Never rejects. */
  readonly told: Promise<void>;
  /** Lets go of threads that did not stop in time, as soon as they do; after the thaw. Bounded; never rejects. */
  settle(): Promise<void>;
}

/** How many are on their way at once: enough for the processors, and the guard is deaf for under a millisecond. */
const BATCH = 16;
/** Where threads are this many, somebody tests how long a freeze can get. */
const MAX_THREADS = 8_192;
/** Vector registers are up to 11 KiB a thread. */
const MAX_EXTENDED = 256;

/** What a thaw waits for threads that are on their way into their trap. */
const STOP_MS = 3;

/** How long a thread is waited for that was seized and did not stop; the kernel lets go of it when the guard ends. */
const RELEASE_MS = 10_000;
const RELEASE_POLL_MS = 2;

/** Counts threads that are left out, by reason. */
type Skip = (reason: string, count?: number) => void;

export interface RegisterSource {
  readonly spec: FreezeSpec;
  /** The /proc whose thread ids the agent uses. */
  readonly procRoot: string;
  /** Or why there is none. */
  readonly tracer: Tracer | string;
}

/** Starts with the next turn of the event loop. `pids`: what stands, where the spec does not say by a cgroup. */
export function startReading(
  source: RegisterSource,
  pids: readonly number[] | undefined,
  send: (answer: RegistersAnswer) => void,
): Reading {
  const skipped = new Map<string, number>();
  const skip: Skip = (reason, count = 1) => void skipped.set(reason, (skipped.get(reason) ?? 0) + count);
  let stopped = false;
  let note: string | undefined;
  const failed = (error: unknown) => {
    note = explain(error);
  };

  async function read(): Promise<void> {
    if (stopped) return failed('the freeze ended before the registers were read');
    const threads = listThreads(source, pids, skip);
    if (typeof threads === 'string' || typeof source.tracer === 'string') {
      note = typeof threads === 'string' ? threads : String(source.tracer);
      return;
    }
    if (threads.length > MAX_THREADS) skip(`beyond the first ${MAX_THREADS}`, threads.length - MAX_THREADS);
    await readAll(source.tracer, threads.slice(0, MAX_THREADS));
  }

  async function readAll(tracer: Tracer, wanted: readonly number[]): Promise<void> {
    const extended = wanted.length <= MAX_EXTENDED;
    const tell = (reads: readonly ThreadRead[]) => {
      for (const { reason } of reads) if (reason !== undefined) skip(reason);
      const full = reads.filter(({ sets }) => sets.length > 0);
      if (full.length > 0) send({ type: 'registers', threads: full.map(encodeThread), last: false });
    };
    let next = 0;
    while (!stopped && (next < wanted.length || tracer.held > 0)) {
      const room = wanted.slice(next, next + BATCH - tracer.held);
      next += room.length;
      tell(tracer.begin(room.filter((tid) => mayTrap(source.procRoot, tid, skip))));
      tell(tracer.collect(extended));
      await turn();
    }
    const left = wanted.length - next + tracer.held;
    if (stopped && left > 0) skip('the freeze ended first', left);
  }

  const last = () => {
    const words = [note, ...[...skipped].map(([reason, count]) => `${count} threads: ${explainSkip(reason)}`)];
    const told = words.filter((one) => one !== undefined).join('; ');
    send({ type: 'registers', threads: [], last: true, ...(told === '' ? {} : { note: told }) });
  };
  return {
    stop: () => {
      stopped = true;
      if (typeof source.tracer !== 'string') source.tracer.release(STOP_MS);
    },
    told: turn().then(read).catch(failed).then(last),
    async settle() {
      if (typeof source.tracer === 'string') return;
      const until = performance.now() + RELEASE_MS;
      while (source.tracer.release(0) > 0 && performance.now() < until) await sleep(RELEASE_POLL_MS);
    },
  };
}

function explainSkip(reason: string): string {
  if (reason !== 'EPERM' && reason !== 'EACCES') return reason;
  return `${reason}: another tracer has them, or the node's policy forbids it (CAP_SYS_PTRACE, Yama, SELinux)`;
}

/** Who can be asked, or why nobody can. */
function listThreads(
  { spec, procRoot }: RegisterSource,
  pids: readonly number[] | undefined,
  skip: Skip,
): number[] | string {
  if (!isOwnProc(procRoot))
    return `${procRoot} shows another pid namespace than the guard's: run the agent with hostPID`;
  const threads: number[] = [];
  const members = spec.kind === 'group' ? spec.members : [spec];
  for (const member of members) {
    const folder = freezerOf(member);
    if (folder !== undefined) threads.push(...threadsIn(folder));
    // In the version 1 freezer the interrupt would wait for the thaw.
    else if (member.kind !== 'signal')
      return `ptrace(2) reaches no thread that stands by ${member.kind} without a cgroup v2`;
  }
  if (threads.includes(0)) return 'threads of the target are in another pid namespace than the guard';
  return [...threads, ...(pids ?? []).flatMap((pid) => stoppedThreads(procRoot, pid, skip))];
}

/** The version 2 cgroup that stands. */
function freezerOf(spec: SingleFreezeSpec): string | undefined {
  switch (spec.kind) {
    case 'cgroup-v2':
      return spec.path;
    case 'containerd':
    case 'docker':
      return spec.cgroup?.version === 2 ? spec.cgroup.path : undefined;
    case 'cgroup-v1':
    case 'signal':
      return undefined;
    default:
      return spec satisfies never;
  }
}

/** One thread that is not stopped may be in execve(2), and PTRACE_SEIZE of any of its siblings would wait for it. */
function stoppedThreads(procRoot: string, pid: number, skip: Skip): number[] {
  const threads = threadsOf(procRoot, pid);
  if (threads.every((tid) => 'TtZX'.includes(threadState(procRoot, tid) ?? 'X'))) return threads;
  skip('not all threads of the process are stopped', threads.length);
  return [];
}

/** A thread in vfork(2) counts as frozen and reaches no trap: it would be met by the interrupt after the thaw. */
function mayTrap(procRoot: string, tid: number, skip: Skip): boolean {
  const state = threadState(procRoot, tid);
  if (state === 'D') skip('in vfork(2)');
  return state !== undefined && 'STt'.includes(state);
}
