/**
 * Register sets of threads that stand still, by ptrace(2): PTRACE_SEIZE and PTRACE_INTERRUPT, PTRACE_GETREGSET, and
 * PTRACE_DETACH, which puts each thread back to where it stood (a frozen cgroup, a group stop). Nothing is sent to the
 * thread, and it runs no instruction of its own meanwhile.
 *
 * Only for threads that can reach a trap: frozen by a version 2 cgroup, or stopped by SIGSTOP. A task in the version 1
 * freezer would meet the interrupt after its thaw, and stop there. When this process ends, however it ends, the kernel
 * detaches what is still attached, and takes the interrupt back.
 */
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { errnoName } from '../../evidence/errno.ts';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { LIBRARIES } from './libc.ts';

type FFI = typeof koffi;

/** One register set as PTRACE_GETREGSET gives it; `type` is the note's in a core file. */
export interface RegisterBytes {
  readonly type: number;
  readonly bytes: Uint8Array;
}

export interface ThreadRead {
  readonly tid: number;
  /** The general registers first. Empty: `reason` says why, or the thread ended. */
  readonly sets: readonly RegisterBytes[];
  /** An errno's name, or words. */
  readonly reason?: string;
}

/**
 * All calls from one thread: the kernel ties a tracee to the thread that seized it. Synchronous; none waits for a thread
 * for longer than it says.
 */
export interface Tracer {
  /** Seizes and interrupts; the answer is who could not be, an errno's name as the reason. A thread that ended is in no answer. */
  begin(tids: readonly number[]): ThreadRead[];
  /** Reads those that have stopped by now and lets them go; NAP_US of sleep when nobody has. `extended`: vector registers too. */
  collect(extended: boolean): ThreadRead[];
  /** Lets go of those that have stopped or do so within `boundMs`, unread. How many are still held. */
  release(boundMs: number): number;
  /** Seized, interrupted, and not let go of. */
  readonly held: number;
}

/** linux/ptrace.h */
const PTRACE = { detach: 17, getRegSet: 0x4204, seize: 0x4206, interrupt: 0x4207 } as const;
/** bits/waitflags.h: __WALL, for threads that are no children of ours, and WNOHANG. */
const WALL_NOHANG = 0x4000_0000 | 1;

/** linux/elf.h */
const NT_PRSTATUS = 1;
const NT_PRFPREG = 2;
const NT_X86_XSTATE = 0x202;
const NT_ARM_TLS = 0x401;

/** What is read on a machine; `generalBytes` is its `user_regs_struct`, a 32-bit program's is shorter. */
const MACHINES: Partial<
  Record<NodeJS.Architecture, { generalBytes: number; extended: number | undefined; more: number[] }>
> = {
  x64: { generalBytes: 27 * 8, extended: NT_X86_XSTATE, more: [NT_PRFPREG] },
  arm64: { generalBytes: 34 * 8, extended: undefined, more: [NT_PRFPREG, NT_ARM_TLS] },
};

/** XSAVE's area is 11,008 bytes with AMX's tiles, the largest there is. */
const SET_BYTES = 16 * 1024;

/** A thread needs some ten microseconds to reach its trap, and perhaps this very processor. */
const NAP_US = 30;

/** Loads the C library. Fails with `internal` where it cannot be loaded, or the machine is an unknown one. */
export function openTracer(): Tracer {
  const machine = MACHINES[process.arch];
  if (machine === undefined) throw new ExhibitError('internal', `registers of ${process.arch} are not known`);
  const calls = bind();
  /** Seized and interrupted, and not seen to stop. */
  const held = new Set<number>();

  const readOne = (tid: number, extended: boolean): ThreadRead => {
    const general = calls.registers(tid, NT_PRSTATUS);
    if (general === undefined) return { tid, sets: [] };
    if (general.bytes.byteLength !== machine.generalBytes) return { tid, sets: [], reason: 'a 32-bit program' };
    const wanted = extended && machine.extended !== undefined ? [...machine.more, machine.extended] : machine.more;
    const more = wanted.map((type) => calls.registers(tid, type)).filter((set) => set !== undefined);
    return { tid, sets: [general, ...more] };
  };

  /** Calls `use` for those that stopped, and lets them go; how many there were. */
  const letGo = (use: (tid: number) => void): number => {
    let count = 0;
    for (const tid of held) {
      const stop = calls.stopOf(tid);
      if (stop === 'running') continue;
      count += 1;
      if (stop !== 'gone') use(tid);
      // Killed under our hands: it is a zombie of ours until its end has been waited for, and keeps its whole process one.
      if (stop === 'gone' || calls.detach(tid, stop.signal)) held.delete(tid);
    }
    return count;
  };

  return {
    begin(tids) {
      const failed: ThreadRead[] = [];
      for (const tid of tids) {
        const reason = calls.seize(tid);
        if (reason === undefined) held.add(tid);
        else if (reason !== 'ESRCH') failed.push({ tid, sets: [], reason });
      }
      return failed;
    },
    collect(extended) {
      const reads: ThreadRead[] = [];
      if (letGo((tid) => reads.push(readOne(tid, extended))) === 0) calls.nap();
      return reads;
    },
    release(boundMs) {
      const until = performance.now() + boundMs;
      letGo(() => undefined);
      while (held.size > 0 && performance.now() < until) if (letGo(() => undefined) === 0) calls.nap();
      return held.size;
    },
    get held() {
      return held.size;
    },
  };
}

/** `signal`: one that the thread was about to get; it gets it with the detach. 0 for none. */
type Stop = 'running' | 'gone' | { readonly signal: number };

interface Calls {
  /** An errno's name when it failed. */
  seize(tid: number): string | undefined;
  stopOf(tid: number): Stop;
  nap(): void;
  /** Undefined where the machine has no such set, or the thread has just been killed. */
  registers(tid: number, type: number): RegisterBytes | undefined;
  /** False when the thread has just been killed. */
  detach(tid: number, signal: number): boolean;
}

function bind(): Calls {
  const { ffi, library } = load();
  const ptrace: (request: number, tid: number, address: number, data: unknown) => unknown = library.func(
    'long ptrace(long request, int pid, uintptr_t address, uintptr_t data)',
  );
  const waitpid: (tid: number, status: Buffer, options: number) => number = library.func(
    'int waitpid(int pid, void *status, int options)',
  );
  const usleep: (us: number) => number = library.func('int usleep(unsigned int us)');
  const failed = (request: number, tid: number, address = 0, data: unknown = 0): string | undefined =>
    ptrace(request, tid, address, data) === 0 ? undefined : errnoName(ffi.errno());

  const status = Buffer.alloc(4);
  const set = Buffer.alloc(SET_BYTES);
  // struct iovec: address and length.
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(BigInt(ffi.address(set)), 0);
  const vectorAt = ffi.address(vector);
  return {
    seize: (tid) => failed(PTRACE.seize, tid) ?? interrupted(failed(PTRACE.interrupt, tid)),
    stopOf(tid) {
      const waited = waitpid(tid, status, WALL_NOHANG);
      if (waited === 0) return 'running';
      return waited === tid ? stopOf(status.readUInt32LE()) : 'gone';
    },
    nap: () => void usleep(NAP_US),
    registers(tid, type) {
      vector.writeBigUInt64LE(BigInt(set.byteLength), 8);
      if (failed(PTRACE.getRegSet, tid, type, vectorAt) !== undefined) return undefined;
      return { type, bytes: Uint8Array.from(set.subarray(0, Number(vector.readBigUInt64LE(8)))) };
    },
    detach: (tid, signal) => failed(PTRACE.detach, tid, 0, signal) === undefined,
  };
}

/** Only a thread that has ended cannot be interrupted by its tracer; the wait that follows says so. */
const interrupted = (reason: string | undefined): string | undefined => (reason === 'ESRCH' ? undefined : reason);

/** Pure. wait(2): the low byte is 0x7f for a stop; ptrace(2): a stop for a signal has no event in the third byte. */
export function stopOf(status: number): Stop {
  if ((status & 0xff) !== 0x7f) return 'gone';
  return { signal: status >>> 16 === 0 ? (status >>> 8) & 0xff : 0 };
}

function load() {
  const causes: string[] = [];
  try {
    // Not an import: see libc.ts.
    const ffi: FFI = createRequire(import.meta.url)('koffi');
    for (const name of LIBRARIES) {
      try {
        return { ffi, library: ffi.load(name) };
      } catch (cause) {
        causes.push(explain(cause));
      }
    }
  } catch (cause) {
    causes.push(explain(cause));
  }
  throw new ExhibitError('internal', `the C library cannot be called: ${causes.join('; ')}`);
}
