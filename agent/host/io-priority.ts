import { readdirSync, readlinkSync } from 'node:fs';
import type { IoPriority } from '../limits.ts';
import { threadLibrary } from './thread-library.ts';

/**
 * How this process' disk requests stand to those of others, ioprio_set(2). It is a property of each thread; threads and
 * children that come later inherit it. The schedulers bfq and mq-deadline go by it (mq-deadline by the class alone), `none` does not.
 */

/** linux/ioprio.h: the class in the upper bits; BE levels 0 to 7, 4 is what nice 0 stands for. */
const CLASS_SHIFT = 13;
const VALUES: Readonly<Record<IoPriority, number>> = {
  normal: (2 << CLASS_SHIFT) | 4,
  low: (2 << CLASS_SHIFT) | 7,
  idle: 3 << CLASS_SHIFT,
};
const IOPRIO_WHO_PROCESS = 1;
const CALLER = 0;
/** asm/unistd: ioprio_set and ioprio_get. */
const NUMBERS: Readonly<Record<string, readonly [set: number, get: number]>> = { x64: [251, 252], arm64: [30, 31] };

interface Calls {
  /** False where the kernel refused: the thread has ended, or a filter is in the way. */
  set(tid: number, value: number): boolean;
  /** -1 where it cannot be told. */
  get(tid: number): number;
}

let calls: Calls | undefined | null = null;

function ioCalls(): Calls | undefined {
  if (calls === null) calls = openCalls();
  return calls;
}

function openCalls(): Calls | undefined {
  const numbers = NUMBERS[process.arch];
  if (numbers === undefined) return undefined;
  try {
    const { library } = threadLibrary();
    const call = library.func('long syscall(long number, long which, long who, long value)');
    const [set, get] = numbers;
    return {
      set: (tid, value) => Number(call(set, IOPRIO_WHO_PROCESS, tid, value)) === 0,
      get: (tid) => Number(call(get, IOPRIO_WHO_PROCESS, tid, 0)),
    };
  } catch {
    // Without koffi or a C library the priority stays.
    return undefined;
  }
}

/** 0 is the calling thread. In another pid namespace than that of /proc its numbers are somebody else's threads. */
function ownThreads(): number[] {
  try {
    return readlinkSync('/proc/self') === String(process.pid) ? readdirSync('/proc/self/task').map(Number) : [CALLER];
  } catch {
    // No descriptor is left to list them with: asked for around a freeze, whose end this must not lengthen or hide.
    return [CALLER];
  }
}

/** For all threads that there are. False where it could not be done. */
export function setIoPriority(priority: IoPriority): boolean {
  const io = ioCalls();
  if (io === undefined) return false;
  return ownThreads().filter((tid) => io.set(tid, VALUES[priority])).length > 0;
}

/** Of the calling thread; undefined where it cannot be told, or is one that nobody here sets. */
export function ioPriority(): IoPriority | undefined {
  const value = ioCalls()?.get(CALLER);
  return (Object.keys(VALUES) as IoPriority[]).find((one) => VALUES[one] === value);
}

/** As anybody's, until the result is called: while a target stands still, what is swapped out must come at once. */
export function hurryIo(): () => void {
  const before = ioPriority();
  if (before === undefined || before === 'normal' || !setIoPriority('normal')) return () => undefined;
  return () => void setIoPriority(before);
}
