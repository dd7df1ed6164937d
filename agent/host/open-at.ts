import { openSync } from 'node:fs';
import { tryLibc } from './libc.ts';

/** fcntl.h: the folder of a path that begins with a slash does not matter. */
export const AT_FDCWD = -100;

/**
 * openat(2): a descriptor, or the negative errno. Without a C library the name is reached through `/proc/self/fd/DIRECTORY`,
 * which takes twice as long and is as safe.
 */
export function openAt(directoryFd: number, name: Uint8Array, flags: number): number {
  const libc = tryLibc();
  if (libc !== undefined) return libc.openAt(directoryFd, name, flags);
  try {
    return openSync(directoryFd === AT_FDCWD ? Buffer.from(name) : pathAt(directoryFd, name), flags);
  } catch (error) {
    if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return error.errno;
    throw error;
  }
}

/** For calls that take nothing but paths. */
export function pathAt(directoryFd: number, name: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directoryFd}/`), name]);
}
