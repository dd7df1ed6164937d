import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, isErrno } from '../../evidence/error.ts';

/** statfs(2) f_type of the file systems that are memory. */
const IN_MEMORY = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
]);

/**
 * `tmpfs` or `ramfs` when `folder`, or the nearest one above it that exists, lies in memory; undefined for any other file
 * system. Throws what statfs(2) says.
 */
export async function memoryFileSystem(folder: string): Promise<string | undefined> {
  try {
    return IN_MEMORY.get((await statfs(folder)).type);
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || path.dirname(folder) === folder) throw error;
    return memoryFileSystem(path.dirname(folder));
  }
}

/** Whether two paths lead to one file or folder; undefined when one of them leads nowhere. */
export async function isSame(one: string, other: string): Promise<boolean | undefined> {
  const [first, second] = await Promise.all(
    [one, other].map((file) => stat(file, { bigint: true }).catch(() => undefined)),
  );
  if (first === undefined || second === undefined) return undefined;
  return first.dev === second.dev && first.ino === second.ino;
}

/** A journal entry and a FIFO's inode; a file system with less is full. */
const LEAST_FREE_BYTES = 1024 * 1024;

/**
 * Why nothing could be kept in `folder`, as an errno name: ENOENT, ENOTDIR, EROFS, EACCES, ENOSPC; undefined where it could. Asks
 * (access(2), statfs(2)) and writes nothing: the folder may lie on the disk that is evidence.
 */
export async function folderObstacle(folder: string): Promise<string | undefined> {
  try {
    if (!(await stat(folder)).isDirectory()) return 'ENOTDIR';
    await access(folder, constants.W_OK | constants.X_OK);
    const { bavail, bsize, files, ffree } = await statfs(folder);
    // A file system without a bound on its files says 0 of 0.
    return bavail * bsize < LEAST_FREE_BYTES || (files > 0 && ffree === 0) ? 'ENOSPC' : undefined;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    return errno;
  }
}

/** The same for a folder that is made when it is missing, as the agent does at its start. */
export async function placeObstacle(folder: string): Promise<string | undefined> {
  const obstacle = await folderObstacle(folder);
  const above = path.dirname(folder);
  return obstacle === 'ENOENT' && above !== folder ? await placeObstacle(above) : obstacle;
}
