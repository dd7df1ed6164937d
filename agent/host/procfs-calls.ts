import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import type koffi from 'koffi';

/** What reading /proc takes. A number below zero is minus the errno: many files are not there, and an exception costs more. */
export interface ProcfsCalls {
  /** open(2) for reading, without waiting and without becoming the controlling terminal. */
  open(path: string): number;
  /** read(2), from the descriptor's position, into `into` from `at` to its end or `sizeBytes`. */
  read(fd: number, into: Buffer, at: number, sizeBytes: number): number;
  /** readlink(2). What does not fit into `into` is cut. */
  readLink(path: string, into: Buffer): number;
  close(fd: number): void;
}

const FLAGS = constants.O_RDONLY | constants.O_NOCTTY | constants.O_NONBLOCK;
/** fcntl.h, the same on x86-64 and arm64; Node sets it by itself and does not name it. */
const O_CLOEXEC = 0o2000000;

export const nodeCalls: ProcfsCalls = {
  open: (path) => orErrno(() => openSync(path, FLAGS)),
  read: (fd, into, at, sizeBytes) => orErrno(() => readSync(fd, into, at, sizeBytes, null)),
  readLink: (path, into) => orErrno(() => readlinkSync(path, { encoding: 'buffer' }).copy(into)),
  close: closeSync,
};

function orErrno(call: () => number): number {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return error.errno;
    throw error;
  }
}

let loaded: ProcfsCalls | undefined;

/**
 * The C library's own, which take a third less than Node's until V8 has compiled its way there, some 50,000 calls later. Node's where
 * it cannot be loaded. Loading takes 11 ms.
 */
export function nativeCalls(): ProcfsCalls {
  try {
    // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
    loaded ??= bind(createRequire(import.meta.url)('koffi'));
  } catch {
    loaded = nodeCalls;
  }
  return loaded;
}

function bind(ffi: typeof koffi): ProcfsCalls {
  const library = ffi.load(null);
  // koffi has no ssize_t; intptr_t is as wide, and what is read here fits a number.
  const open: (path: string, flags: number) => number = library.func('int open(const char *path, int flags)');
  const read: (fd: number, into: Uint8Array, size: number) => number = library.func(
    'intptr_t read(int fd, void *into, size_t size)',
  );
  const readlink: (path: string, into: Uint8Array, size: number) => number = library.func(
    'intptr_t readlink(const char *path, void *into, size_t size)',
  );
  const close: (fd: number) => number = library.func('int close(int fd)');
  const orErrno = (result: number): number => (result < 0 ? -ffi.errno() : result);
  return {
    open: (path) => orErrno(open(path, FLAGS | O_CLOEXEC)),
    read: (fd, into, at, sizeBytes) => orErrno(read(fd, at === 0 ? into : into.subarray(at), sizeBytes)),
    readLink: (path, into) => orErrno(readlink(path, into, into.length)),
    close: (fd) => void close(fd),
  };
}
