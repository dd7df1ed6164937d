import { createRequire } from 'node:module';
import { constants } from 'node:os';
import type koffi from 'koffi';
import type { LibraryHandle } from 'koffi';
import { errnoName } from '../../evidence/errno.ts';
import { ExhibitError } from '../../evidence/error.ts';

/**
 * The system calls that Node does not have, through the C library. Paths are raw bytes. Every function throws a
 * `SystemError` with the errno's name in `code`, as Node's own do, so `isErrno` works on both.
 */
export interface Libc {
  /** llistxattr(2): the names as the kernel gives them, each ended by a NUL byte. Symlinks are not followed. */
  llistxattr(path: Uint8Array): Buffer;
  /** lgetxattr(2). Symlinks are not followed. */
  lgetxattr(path: Uint8Array, name: Uint8Array): Buffer;
  /** flistxattr(2); not for O_PATH descriptors (EBADF). */
  flistxattr(fd: number): Buffer;
  /** fgetxattr(2); not for O_PATH descriptors (EBADF). */
  fgetxattr(fd: number, name: Uint8Array): Buffer;
  /** listxattr(2) and getxattr(2): these follow links, which is what `/proc/self/fd/N` of an O_PATH descriptor needs. */
  listxattr(path: Uint8Array): Buffer;
  getxattr(path: Uint8Array, name: Uint8Array): Buffer;
  /** readlinkat(2) with an empty path: the target of the symlink that an O_PATH|O_NOFOLLOW descriptor stands for. */
  readlinkFd(fd: number): Buffer;
  /** readlinkat(2): a link's text in Latin-1, of a name below a folder's descriptor. Half the time of a path from the root. */
  readlinkAt(fd: number, name: string): string;
  /**
   * openat(2), always with O_CLOEXEC: a descriptor, or the negative errno. Most names that are asked for in lower layers are
   * not there, and an error costs ten times an answer.
   */
  openAt(fd: number, name: Uint8Array, flags: number): number;
  /** statx(2) of what a descriptor stands for, all basic fields and the birth time; undefined where the library lacks it. */
  readonly statx: ((fd: number, into: Uint8Array) => void) | undefined;
  /** getdents64(2): fills `into` with linux_dirent64 records and returns how many bytes; 0 at the end. */
  getdents64(fd: number, into: Buffer): number;
  /** lseek(2) with SEEK_DATA or SEEK_HOLE; ENXIO when there is no more data after `offset`. */
  seek(fd: number, offset: bigint, whence: Whence): bigint;
  /** mkfifo(3). `mode` is cut by the umask. */
  mkfifo(path: Uint8Array, mode: number): void;
}

/** lseek(2): SEEK_DATA is 3, SEEK_HOLE is 4. */
export type Whence = 'data' | 'hole';

type ErrnoName = keyof typeof constants.errno;

/** A system error of our own making, shaped as Node's. `errno` is positive, as errno(3) has it. */
export class SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(errno: number | ErrnoName, syscall: string) {
    const number = typeof errno === 'number' ? errno : constants.errno[errno];
    const code = errnoName(number);
    super(`${code}: ${syscall} failed`);
    this.name = 'SystemError';
    this.code = code;
    this.errno = number;
    this.syscall = syscall;
  }
}

/** glibc's name, then musl's on the two machines that EKS has. */
export const LIBRARIES = ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1', 'libc.so'] as const;

/** linux/limits.h: XATTR_LIST_MAX and XATTR_SIZE_MAX, both 65,536; so one buffer of that size is always enough. */
const XATTR_MAX_BYTES = 65_536;
/** linux/limits.h PATH_MAX: no symlink target is longer. */
const PATH_MAX_BYTES = 4096;
/** linux/fcntl.h and linux/stat.h: AT_EMPTY_PATH; STATX_BASIC_STATS and STATX_BTIME. */
export const EMPTY_PATH = 0x1000;
export const BASIC_AND_BIRTH = 0xfff;
/** fcntl.h, the same on x86-64 and arm64; Node does not name it. */
export const O_CLOEXEC = 0o2000000;
const WHENCE = { data: 3, hole: 4 } as const satisfies Record<Whence, number>;

type FFI = typeof koffi;
let loaded: Libc | undefined;
let unavailable = false;

/** Loads the C library on first use. Throws ExhibitError `internal` where none of the known ones can be loaded. */
export function libc(): Libc {
  loaded ??= open(LIBRARIES);
  return loaded;
}

/** `libc()`, or undefined where there is none: the caller records what it cannot read as a gap. */
export function tryLibc(): Libc | undefined {
  if (unavailable) return undefined;
  try {
    return libc();
  } catch {
    unavailable = true;
    return undefined;
  }
}

/** As `libc`, from the first of these libraries that can be loaded. Exported for its tests. */
export function open(names: readonly string[]): Libc {
  const causes: unknown[] = [];
  try {
    // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
    const ffi: FFI = createRequire(import.meta.url)('koffi');
    for (const name of names) {
      try {
        return bind(ffi, ffi.load(name));
      } catch (cause) {
        causes.push(cause);
      }
    }
  } catch (cause) {
    causes.push(cause);
  }
  const words = causes.map((cause) => (cause instanceof Error ? cause.message : String(cause))).join('; ');
  throw new ExhibitError(
    'internal',
    `no C library could be loaded (tried ${names.join(', ')}), so extended attributes cannot be read; run the agent on glibc or musl`,
    { cause: new AggregateError(causes, words) },
  );
}

function bind(koffi: FFI, library: LibraryHandle): Libc {
  const call = (name: string, parameters: string): ((...args: unknown[]) => number) => {
    // koffi has no ssize_t; intptr_t is as wide. It gives numbers while they are exact and bigints beyond.
    const foreign: (...args: unknown[]) => unknown = library.func(`intptr_t ${name}(${parameters})`);
    return (...args) => {
      const result = foreign(...args);
      if (result === -1) throw new SystemError(koffi.errno(), name);
      return Number(result);
    };
  };
  const byFd = (name: string) => call(name, 'int fd, const void *name, void *value, size_t size');
  const byPath = (name: string) => call(name, 'const void *path, const void *name, void *value, size_t size');
  const listByFd = call('flistxattr', 'int fd, void *list, size_t size');
  const [llist, list] = ['llistxattr', 'listxattr'].map((name) =>
    call(name, 'const void *path, void *list, size_t size'),
  );
  const [lget, get, fget] = [byPath('lgetxattr'), byPath('getxattr'), byFd('fgetxattr')];
  const readlinkat = call('readlinkat', 'int fd, const void *path, void *buffer, size_t size');
  const getdents64 = call('getdents64', 'int fd, void *entries, size_t size');
  const openat = library.func('int openat(int fd, const void *path, int flags)');
  const statx = statxOf(library);
  const makeFifo = library.func('int mkfifo(const void *path, unsigned int mode)');
  const lseek = library.func('int64_t lseek(int fd, int64_t offset, int whence)');
  const scratch = Buffer.alloc(XATTR_MAX_BYTES);
  const empty = Buffer.from([0]);
  const copy = (length: number): Buffer => Buffer.from(scratch.subarray(0, length));
  if (llist === undefined || list === undefined) throw new ExhibitError('internal', 'the C library has no listxattr');
  return {
    llistxattr: (path) => copy(llist(cString(path), scratch, scratch.length)),
    listxattr: (path) => copy(list(cString(path), scratch, scratch.length)),
    flistxattr: (fd) => copy(listByFd(fd, scratch, scratch.length)),
    lgetxattr: (path, name) => copy(lget(cString(path), cString(name), scratch, scratch.length)),
    getxattr: (path, name) => copy(get(cString(path), cString(name), scratch, scratch.length)),
    fgetxattr: (fd, name) => copy(fget(fd, cString(name), scratch, scratch.length)),
    readlinkFd: (fd) => copy(readlinkat(fd, empty, scratch, PATH_MAX_BYTES)),
    readlinkAt: (fd, name) =>
      scratch.toString('latin1', 0, readlinkat(fd, Buffer.from(`${name}\0`), scratch, PATH_MAX_BYTES)),
    getdents64: (fd, into) => getdents64(fd, into, into.length),
    openAt: (fd, name, flags) => {
      const opened: unknown = openat(fd, cString(name, shortName), flags | O_CLOEXEC);
      return opened === -1 ? -koffi.errno() : Number(opened);
    },
    statx:
      statx &&
      ((fd, into) => {
        if (statx(fd, empty, EMPTY_PATH, BASIC_AND_BIRTH, into) === -1) throw new SystemError(koffi.errno(), 'statx');
      }),
    seek: (fd, offset, whence) => {
      const at: unknown = lseek(fd, offset, WHENCE[whence]);
      if (at === -1) throw new SystemError(koffi.errno(), 'lseek');
      return BigInt(at as number | bigint);
    },
    mkfifo: (path, mode) => {
      if (makeFifo(cString(path), mode) === -1) throw new SystemError(koffi.errno(), 'mkfifo');
    },
  };
}

/** glibc 2.28, musl 1.2.5. */
function statxOf(library: LibraryHandle): ReturnType<LibraryHandle['func']> | undefined {
  try {
    return library.func('int statx(int fd, const void *path, int flags, unsigned int mask, void *answer)');
  } catch {
    return undefined;
  }
}

/** linux/limits.h NAME_MAX is 255: room for a name that is looked at during one call only. */
const shortName = Buffer.alloc(256);

/** Throws EINVAL for bytes that no C string can hold, as Node does for paths. The answer is in `room` where that is enough. */
function cString(bytes: Uint8Array, room?: Uint8Array): Uint8Array {
  if (bytes.includes(0)) throw new SystemError('EINVAL', 'path');
  const ended = room !== undefined && bytes.length < room.length ? room : Buffer.allocUnsafe(bytes.length + 1);
  ended.set(bytes);
  ended[bytes.length] = 0;
  return ended;
}
