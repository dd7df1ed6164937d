import { constants, readdirSync, statSync } from 'node:fs';
import { errnoName } from '../../evidence/errno.ts';
import { errnoOf } from '../../evidence/error.ts';
import { nativeCalls, nodeCalls } from './procfs-calls.ts';

/**
 * Bounded, synchronous readers of /proc. They run in a process of their own (procfs-child.ts), because some files of
 * /proc can be made to block for ever by the process they describe: `cmdline` and `environ` read its memory, `maps` waits
 * for its memory lock, and stat(2) through `fd/N` asks the file system, which may be a FUSE server that stands still.
 * A length is never trusted: a read ends at the end of the file or at the named limit.
 */

export const KIB = 1024;
export const MIB = 1024 * 1024;

/** What came of reading one file. `errno` ENOENT with the process alive: this kernel has no such file. */
export type FileReading =
  | { readonly kind: 'read'; readonly bytes: Buffer; readonly truncated: boolean }
  | { readonly kind: 'failed'; readonly errno: string };

/** Most bytes taken of one file, and why so many. */
export const LIMIT_BYTES = {
  /** `Groups:` of status holds up to 65,536 ids (NGROUPS_MAX) of at most 11 bytes; everything else is far smaller. */
  small: MIB,
  /** Arguments and environment share 6 MiB at most (execve(2)); setproctitle can only shrink or join them. */
  arguments: 8 * MIB,
  /** vm.max_map_count is 65,530 by default at about 100 bytes a line; EKS raises it for databases to 262,144. */
  maps: 32 * MIB,
  /** fs.mount-max is 100,000; an overlay's line is about 1 KiB with its lowerdirs. */
  mountinfo: 32 * MIB,
  /** 150 bytes a socket: some 200,000 sockets. */
  network: 32 * MIB,
  /** Resolver configuration: resolv.conf and hosts, which operators fill with block lists. */
  rootFile: 4 * MIB,
} as const;

/** Reads grow from here; one call returns at most a page for most files of /proc, up to the buffer for the others. */
let scratch = Buffer.allocUnsafe(256 * KIB);

/** linux/limits.h PATH_MAX: no link is longer. */
const linkText = Buffer.allocUnsafe(4 * KIB);

let calls = nodeCalls;

/** From now on in this process. For whoever reads thousands of files. */
export function useNativeCalls(): void {
  calls = nativeCalls();
}

/** What the reader did to the node, for the footprint. */
export const readerCounts = { bytes: 0, opens: 0 };

/**
 * Reads `path` from its beginning until its end or `limitBytes`. `whole`: a file that the kernel makes in one piece
 * (seq_file's single_open), which a read that does not fill the buffer has read to its end.
 */
export function readBounded(path: string, limitBytes: number, whole = false): FileReading {
  const filled = fillFrom(path, limitBytes, whole);
  return filled < 0 ? failedWith(filled) : taken(filled, limitBytes);
}

/** As `readBounded` of a file in one piece, as Latin-1; undefined when it cannot be read. */
export function readText(path: string, limitBytes: number): string | undefined {
  const filled = fillFrom(path, limitBytes, true);
  return filled < 0 ? undefined : scratch.toString('latin1', 0, Math.min(filled, limitBytes));
}

/** From the descriptor's position to its end or the limit. */
export function readDescriptor(fd: number, limitBytes: number): FileReading {
  const filled = fill(fd, limitBytes, false);
  return filled < 0 ? failedWith(filled) : taken(filled, limitBytes);
}

function fillFrom(path: string, limitBytes: number, whole: boolean): number {
  const fd = calls.open(path);
  if (fd < 0) return fd;
  readerCounts.opens += 1;
  const filled = fill(fd, limitBytes, whole);
  calls.close(fd);
  return filled;
}

/** A copy of what is in `scratch`. */
function taken(filled: number, limitBytes: number): FileReading {
  const truncated = filled > limitBytes;
  const bytes = Buffer.allocUnsafe(truncated ? limitBytes : filled);
  scratch.copy(bytes, 0, 0, bytes.length);
  return { kind: 'read', bytes, truncated };
}

/** Reads into `scratch`; minus the errno when that fails. One byte more than the limit tells a file that ends there from one that goes on. */
function fill(fd: number, limitBytes: number, whole: boolean): number {
  let filled = 0;
  while (filled <= limitBytes) {
    if (filled === scratch.length) grow(limitBytes);
    const count = calls.read(fd, scratch, filled, Math.min(scratch.length, limitBytes + 1) - filled);
    if (count < 0) return count;
    filled += count;
    if (count === 0 || (whole && filled < scratch.length)) break;
  }
  readerCounts.bytes += filled;
  return filled;
}

function grow(limitBytes: number): void {
  const larger = Buffer.allocUnsafe(Math.min(scratch.length * 4, limitBytes + 1));
  scratch.copy(larger);
  scratch = larger;
}

export function failed(error: unknown): { kind: 'failed'; errno: string } {
  return { kind: 'failed', errno: errnoOf(error) ?? 'EIO' };
}

function failedWith(minusErrno: number): { kind: 'failed'; errno: string } {
  return { kind: 'failed', errno: errnoName(-minusErrno) };
}

/** The link's text, never followed. Paths of more than 4095 bytes give ENAMETOOLONG (d_path). */
export function readLink(path: string): FileReading {
  const length = calls.readLink(path, linkText);
  return length < 0
    ? failedWith(length)
    : { kind: 'read', bytes: Buffer.from(linkText.subarray(0, length)), truncated: false };
}

/** As `readLink`, in Latin-1. */
export function readLinkText(path: string): { text?: string; errno?: string } {
  const length = calls.readLink(path, linkText);
  return length < 0 ? { errno: errnoName(-length) } : { text: linkText.toString('latin1', 0, length) };
}

/**
 * Names in `folder` that are numbers, lowest first, `limit` at most. The kernel bounds the listing (fs.nr_open, threads-max), and
 * it is held in the reader process only.
 */
export function listNumbers(
  folder: string,
  limit: number,
): { kind: 'read'; numbers: number[]; truncated: boolean } | { kind: 'failed'; errno: string } {
  try {
    const numbers: number[] = [];
    for (const name of readdirSync(folder)) if (/^\d{1,10}$/.test(name)) numbers.push(Number(name));
    numbers.sort((a, b) => a - b);
    return { kind: 'read', numbers: numbers.slice(0, limit), truncated: numbers.length > limit };
  } catch (error) {
    return failed(error);
  }
}

/** What stat(2) says of a file. */
export interface FileIdentity {
  readonly device: bigint;
  readonly inode: bigint;
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character-device' | 'block-device';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** 0 when no name is left. */
  readonly links: number;
  readonly sizeBytes: bigint;
  readonly allocatedBytes: bigint;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  /** Of devices. */
  readonly rdev: bigint;
}

const TYPES: Readonly<Record<number, FileIdentity['type']>> = {
  [constants.S_IFREG]: 'file',
  [constants.S_IFDIR]: 'directory',
  [constants.S_IFLNK]: 'symlink',
  [constants.S_IFIFO]: 'fifo',
  [constants.S_IFSOCK]: 'socket',
  [constants.S_IFCHR]: 'character-device',
  [constants.S_IFBLK]: 'block-device',
};

interface BigStat {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly nlink: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly rdev: bigint;
}

export function identityOf(stat: BigStat): FileIdentity {
  return {
    device: stat.dev,
    inode: stat.ino,
    type: TYPES[Number(stat.mode) & constants.S_IFMT] ?? 'file',
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    links: Number(stat.nlink),
    sizeBytes: stat.size,
    allocatedBytes: stat.blocks * 512n,
    modifiedNs: stat.mtimeNs,
    changedNs: stat.ctimeNs,
    rdev: stat.rdev,
  };
}

/** Follows the link, as one has to for /proc/PID/exe and /proc/PID/fd/N; opens nothing. */
export function identify(path: string): FileIdentity | { readonly errno: string } {
  try {
    return identityOf(statSync(path, { bigint: true }));
  } catch (error) {
    return { errno: errnoOf(error) ?? 'EIO' };
  }
}
