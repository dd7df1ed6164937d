import { isUtf8 } from 'node:buffer';
import { errnoOf, isErrno } from '../../evidence/error.ts';
import type { Directory, Node } from './directory.ts';
import { tryLibc } from './libc.ts';

/** Extended attributes by name. A name that is not UTF-8 (only `user.*` can have one) is in `unnamed`. */
export interface Xattrs {
  readonly named: ReadonlyMap<string, Buffer>;
  readonly unnamed: ReadonlyArray<{ readonly name: Buffer; readonly value: Buffer }>;
  /** Listed by the kernel, then refused: the names, with the error's code. */
  readonly refused: ReadonlyArray<{ readonly name: Buffer; readonly errno: string }>;
}

export const NO_XATTRS: Xattrs = { named: new Map(), unnamed: [], refused: [] };

/** How often a value that changes its name list while it is read is asked again. */
const ATTEMPTS = 3;

/**
 * All extended attributes of a directory that is open, or of what an O_PATH descriptor stands for, symlinks included: xattr(7).
 * A file is opened for reading for it, where that is allowed, since all who look at its attributes read it next.
 * Attributes of the `trusted` class are only listed for a process with CAP_SYS_ADMIN. Throws a system error; a file system
 * without attributes has none, and without a C library none can be seen: ask `tryLibc` once and say so.
 */
export function readXattrs(of: Directory | Node): Xattrs {
  if ('ahead' in of && of.ahead !== undefined) return of.ahead.xattrs;
  const c = tryLibc();
  if (c === undefined) return NO_XATTRS;
  const fd = 'kind' in of ? readableFd(of) : of.fd;
  if (fd !== undefined) {
    return collect(
      () => c.flistxattr(fd),
      (name) => c.fgetxattr(fd, name),
    );
  }
  // The magic link leads to the very inode, whatever its name is now, and for O_PATH descriptors it is the only way.
  const path = Buffer.from(`/proc/self/fd/${of.fd}`);
  return collect(
    () => c.listxattr(path),
    (name) => c.getxattr(path, name),
  );
}

function readableFd(node: Node): number | undefined {
  if (node.kind !== 'file') return undefined;
  try {
    return node.open().fd;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

/** Exported for its tests: `list` and `get` as the kernel answers them. */
export function collect(list: () => Buffer, get: (name: Buffer) => Buffer): Xattrs {
  const names = absent(list, ['ENOTSUP']);
  if (names === undefined || names.length === 0) return NO_XATTRS;
  const named = new Map<string, Buffer>();
  const unnamed: Array<{ name: Buffer; value: Buffer }> = [];
  const refused: Array<{ name: Buffer; errno: string }> = [];
  for (const name of splitNames(names)) {
    let value: Buffer | undefined;
    try {
      value = absent(() => get(name), ['ENODATA']);
    } catch (error) {
      refused.push({ name, errno: errnoOf(error) ?? 'EIO' });
    }
    // Removed since the list was made.
    if (value === undefined) continue;
    const text = name.toString('utf8');
    if (isUtf8(name)) named.set(text, value);
    else unnamed.push({ name, value });
  }
  return { named, unnamed, refused };
}

/** The names of listxattr(2)'s answer, in bytewise order so that two captures of one file read alike. */
export function splitNames(list: Buffer): Buffer[] {
  const names: Buffer[] = [];
  for (let at = 0; at < list.length; ) {
    const found = list.indexOf(0, at);
    const end = found === -1 ? list.length : found;
    if (end > at) names.push(list.subarray(at, end));
    at = end + 1;
  }
  return names.sort(Buffer.compare);
}

function absent<T>(read: () => T, errnos: readonly string[]): T | undefined {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return read();
    } catch (error) {
      if (isErrno(error, ...errnos)) return undefined;
      if (!isErrno(error, 'ERANGE', 'EINTR') || attempt === ATTEMPTS) throw error;
    }
  }
}
