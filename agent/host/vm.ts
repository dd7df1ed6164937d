import { createRequire } from 'node:module';
import type koffi from 'koffi';

/** Calls on address spaces that Node does not have, through the C library: process_vm_readv(2) and madvise(2). */
export interface VmCalls {
  /**
   * Copies `count` ranges (pairs of address and length) of another process, one after the other, to `local` on. Returns how
   * many bytes came, fewer where a page could not be read, or minus the errno when none did. It needs the same right as
   * ptrace(2), a pid of our own pid namespace, and pages that the process itself may read: PROT_NONE fails with EFAULT.
   */
  readProcess(pid: number, local: bigint, ranges: BigUint64Array, count: number): number;
  /** 0, or minus the errno. */
  advise(address: bigint, bytes: number, advice: keyof typeof ADVICE): number;
  /** Where the bytes of a view are in this process. Only for memory that does not move: SharedArrayBuffers. */
  addressOf(view: Uint8Array): bigint;
  /**
   * The memory at an address of this process as bytes that are not shared, although other threads may write there: V8 copies
   * from a SharedArrayBuffer by the word, at a fraction of the speed. Whoever owns the memory must outlive the view.
   */
  viewOf(address: bigint, bytes: number): Uint8Array;
}

/** madvise(2), include/uapi/asm-generic/mman-common.h. */
const ADVICE = { giveBack: 4, hugePages: 14, noDump: 16, populate: 23 } as const;

type FFI = typeof koffi;

let loaded: VmCalls | undefined;
let unavailable = false;

/** Undefined where the FFI library cannot be loaded: then /proc/PID/mem does, at half the speed. One for each thread. */
export function vmCalls(): VmCalls | undefined {
  if (unavailable) return undefined;
  try {
    loaded ??= bind(createRequire(import.meta.url)('koffi'));
    return loaded;
  } catch {
    unavailable = true;
    return undefined;
  }
}

function bind(ffi: FFI): VmCalls {
  const library = ffi.load(null);
  const readv = library.func(
    'intptr_t process_vm_readv(int pid, const void *local, unsigned long locals, const void *remote, unsigned long remotes, unsigned long flags)',
  );
  const madvise = library.func('int madvise(uintptr_t address, size_t bytes, int advice)');
  const local = new BigUint64Array(2);
  return {
    readProcess(pid, to, ranges, count) {
      let bytes = 0n;
      for (let index = 0; index < count; index += 1) bytes += ranges[index * 2 + 1] ?? 0n;
      local[0] = to;
      local[1] = bytes;
      const got = Number(readv(pid, local, 1, ranges, count, 0));
      return got < 0 ? -ffi.errno() : got;
    },
    advise(address, bytes, advice) {
      return Number(madvise(address, bytes, ADVICE[advice])) < 0 ? -ffi.errno() : 0;
    },
    addressOf: (view) => BigInt(ffi.address(view)),
    viewOf: (address, bytes) => new Uint8Array(ffi.view(address, bytes)),
  };
}
