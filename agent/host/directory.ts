import { closeSync, constants, readlinkSync } from 'node:fs';
import { constants as system } from 'node:os';
import { SystemError, tryLibc } from './libc.ts';
import { AT_FDCWD, openAt, pathAt } from './open-at.ts';
import type { FileAhead } from './read-ahead.ts';
import { type Stat, statOf } from './stat.ts';

/**
 * Directories and their children by descriptor, so that nobody who can rename things below can lead the reader
 * elsewhere. A child is first opened with O_PATH, which neither follows links nor wakes devices or FIFOs (open(2)), and
 * is looked at; what is then opened for reading is that very inode, through `/proc/self/fd/N` (proc_pid_fd(5)).
 */

/** open(2) on Linux, the same number on x86-64 and arm64; Node does not name it. */
export const O_PATH = 0o10000000;
const { EPERM, ENOENT, ENAMETOOLONG } = system.errno;
const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NOATIME, O_NONBLOCK, O_NOCTTY, S_IFMT } = constants;

export type NodeKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character-device' | 'block-device';

/** Something with a name in a directory, held by an O_PATH descriptor, and by one for reading once it was asked for. */
export interface Node extends Disposable {
  readonly fd: number;
  readonly kind: NodeKind;
  /** As it was when the descriptor was opened, before anything of it was read. */
  readonly stat: Stat;
  /** See `openForReading`. */
  open(): Readable;
  /** Of a file that was read ahead, which has neither descriptor. */
  readonly ahead?: FileAhead;
}

const KINDS: ReadonlyMap<number, NodeKind> = new Map([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'symlink'],
  [constants.S_IFIFO, 'fifo'],
  [constants.S_IFSOCK, 'socket'],
  [constants.S_IFCHR, 'character-device'],
  [constants.S_IFBLK, 'block-device'],
]);

/** inode(7): the type bits of `st_mode`. An unknown type, which Linux does not have, reads as a socket: never opened. */
export function kindOf(mode: bigint): NodeKind {
  return KINDS.get(Number(mode) & S_IFMT) ?? 'socket';
}

/** `dev_t` as the kernel packs it for user space; makedev(3). */
export function deviceNumbers(rdev: bigint): { major: number; minor: number } {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return { major: Number(major), minor: Number(minor) };
}

/** Opens what `name` is right now. Throws a system error: ENOENT when it has gone. */
export function openNode(directory: Directory, name: Uint8Array): Node {
  const fd = directory.open(name, O_PATH | O_NOFOLLOW);
  if (fd < 0) throw new SystemError(-fd, 'open');
  return nodeOf(fd, directory.pool);
}

/** What an O_PATH descriptor of the caller's holds; it stays the caller's to close. */
export function holdNode(fd: number, pool: DirectoryPool): Node {
  return new HeldNode(fd, pool, false);
}

/** As `openNode`; undefined where there is nothing of that name. */
export function openIfThere(directory: Directory, name: Uint8Array): Node | undefined {
  const fd = directory.open(name, O_PATH | O_NOFOLLOW);
  if (fd >= 0) return nodeOf(fd, directory.pool);
  if (fd === -ENOENT || fd === -ENAMETOOLONG) return undefined;
  throw new SystemError(-fd, 'open');
}

function nodeOf(fd: number, pool: DirectoryPool): Node {
  try {
    return new HeldNode(fd, pool);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** What the inode that `node` holds is now. */
export function statNow(node: Node): Stat {
  return statOf(node.fd);
}

class HeldNode implements Node {
  readonly fd: number;
  readonly stat: Stat;
  readonly kind: NodeKind;
  readonly #pool: DirectoryPool;
  readonly #isOwner: boolean;
  #readable: Readable | undefined;

  constructor(fd: number, pool: DirectoryPool, isOwner = true) {
    this.fd = fd;
    this.#isOwner = isOwner;
    this.#pool = pool;
    this.stat = statOf(fd);
    this.kind = kindOf(this.stat.mode);
  }

  open(): Readable {
    if (this.kind !== 'file' && this.kind !== 'directory') throw new SystemError('EINVAL', 'open');
    this.#readable ??= this.#pool.reopen(this.fd, this.kind === 'directory' ? O_DIRECTORY : 0);
    return this.#readable;
  }

  [Symbol.dispose](): void {
    if (this.#readable !== undefined) closeSync(this.#readable.fd);
    if (this.#isOwner) closeSync(this.fd);
  }
}

/** The target of a symlink, any bytes. Reading it may update the link's own access time: there is no O_NOATIME for links. */
export function readLink(node: Node, directory: Directory, name: Uint8Array): Buffer {
  const libc = tryLibc();
  if (libc !== undefined) return libc.readlinkFd(node.fd);
  return readlinkSync(pathAt(directory.fd, name), 'buffer');
}

/** A descriptor for reading, and whether reading leaves the access time alone. */
export interface Readable {
  readonly fd: number;
  readonly keepsAtime: boolean;
}

/**
 * Opens the inode that `node` holds for reading, once; it is closed with the node. Only for kinds `file` and `directory`, so that
 * nothing blocks and no driver runs. Throws a system error: EACCES, EPERM, ENOKEY (fscrypt) and the like.
 */
export function openForReading(node: Node): Readable {
  return node.open();
}

/** With O_NOATIME where it is allowed: open(2) wants the owner or CAP_FOWNER. */
function openQuietly(directoryFd: number, name: Uint8Array, flags: number): Readable {
  const quiet = openAt(directoryFd, name, flags | O_RDONLY | O_NOATIME);
  const fd = quiet === -EPERM ? openAt(directoryFd, name, flags | O_RDONLY) : quiet;
  if (fd < 0) throw new SystemError(-fd, 'open');
  return { fd, keepsAtime: fd === quiet };
}

/**
 * Descriptors of directories that are open at a time: room for a path through the most lower layers that containerd mounts
 * (about 120), and half of the usual soft limit of 1,024, which Node raises to the hard one.
 */
export const MAX_OPEN_DIRECTORIES = 512;

/**
 * Keeps the descriptors that were used last and opens others again when they are asked for, by name from the nearest open
 * ancestor; device and inode must be what they were, so a directory that was swapped meanwhile is an error (ESTALE).
 */
export class DirectoryPool implements Disposable {
  readonly #open = new Map<Directory, number>();
  readonly #limit: number;
  /** Of /proc/self/fd; or the negative errno. */
  #descriptors: number | undefined;

  constructor(limit: number = MAX_OPEN_DIRECTORIES) {
    this.#limit = Math.max(2, limit);
  }

  /** Opens a directory by path: one that the node's own parts made, so the way to it is trusted, its last step is not. */
  root(path: string | Buffer): Directory {
    const { fd } = openQuietly(AT_FDCWD, Buffer.from(path), O_DIRECTORY | O_NOFOLLOW);
    return this.#adopt(fd, { path });
  }

  /** Opens the directory that `node` holds, which is `name` in `parent`. */
  child(parent: Directory, name: Uint8Array, node: Node): Directory {
    return this.#adopt(this.reopen(node.fd, O_DIRECTORY).fd, { parent, name: Buffer.from(name) });
  }

  /** Opens the very inode that an O_PATH descriptor stands for, for reading. */
  reopen(fd: number, flags: number): Readable {
    // Held, because the way to /proc/self/fd takes longer than the rest.
    this.#descriptors ??= openAt(AT_FDCWD, Buffer.from('/proc/self/fd'), O_PATH | O_DIRECTORY);
    return openQuietly(this.#descriptors, Buffer.from(String(fd)), O_NONBLOCK | O_NOCTTY | flags);
  }

  /** The directory's descriptor, opened again if need be. Valid until another directory of this pool is used. */
  fd(directory: Directory): number {
    const open = this.#open.get(directory);
    if (open !== undefined) {
      this.#open.delete(directory);
      this.#open.set(directory, open);
      return open;
    }
    const chain: Directory[] = [];
    let at: Directory | undefined = directory;
    for (; at !== undefined && !this.#open.has(at); at = at.origin.parent) chain.push(at);
    let fd = -1;
    for (const next of chain.reverse()) fd = this.#reopen(next);
    return fd;
  }

  close(directory: Directory): void {
    const fd = this.#open.get(directory);
    this.#open.delete(directory);
    if (fd !== undefined) closeSync(fd);
  }

  [Symbol.dispose](): void {
    for (const directory of [...this.#open.keys()]) this.close(directory);
    if (this.#descriptors !== undefined && this.#descriptors >= 0) closeSync(this.#descriptors);
    this.#descriptors = undefined;
  }

  #reopen(directory: Directory): number {
    const { parent, name, path } = directory.origin;
    const [from, step] = parent === undefined ? [AT_FDCWD, Buffer.from(path)] : [parent.fd, name];
    const { fd } = openQuietly(from, step, O_DIRECTORY | O_NOFOLLOW);
    const { dev, ino } = statOf(fd);
    if (dev !== directory.dev || ino !== directory.ino) {
      closeSync(fd);
      throw new SystemError('ESTALE', 'open');
    }
    this.#keep(directory, fd);
    return fd;
  }

  #adopt(fd: number, origin: Origin): Directory {
    const stat = statOf(fd);
    const directory = new Directory(this, origin, stat);
    this.#keep(directory, fd);
    return directory;
  }

  #keep(directory: Directory, fd: number): void {
    this.#open.set(directory, fd);
    for (const oldest of this.#open.keys()) {
      if (this.#open.size <= this.#limit) break;
      this.close(oldest);
    }
  }
}

type Origin =
  | { readonly path: string | Buffer; readonly parent?: undefined; readonly name?: undefined }
  | { readonly parent: Directory; readonly name: Buffer; readonly path?: undefined };

export class Directory {
  readonly origin: Origin;
  readonly stat: Stat;
  readonly pool: DirectoryPool;

  constructor(pool: DirectoryPool, origin: Origin, stat: Stat) {
    this.pool = pool;
    this.origin = origin;
    this.stat = stat;
  }

  get dev(): bigint {
    return this.stat.dev;
  }

  get ino(): bigint {
    return this.stat.ino;
  }

  get fd(): number {
    return this.pool.fd(this);
  }

  /** openat(2): a descriptor, or the negative errno. */
  open(name: Uint8Array, flags: number): number {
    return openAt(this.fd, name, flags);
  }

  child(name: Uint8Array, node: Node): Directory {
    return this.pool.child(this, name, node);
  }

  close(): void {
    this.pool.close(this);
  }
}
