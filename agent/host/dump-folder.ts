import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { mkdir, readdir, truncate } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../../evidence/error.ts';
import { asHostPath, type DumpFolders } from '../runtime/runtime.ts';
import { newOutcome, type ReadOutcome, readExtents } from './regular-file.ts';
import type { Tmpfs } from './tmpfs.ts';

/** Where CRIU's files of one dump go, for the runtime and for the agent. */
export interface DumpRoom {
  readonly folders: DumpFolders;
  /** As the agent reaches them. */
  readonly images: string;
  readonly work: string;
}

/** The log's folder is made, that of the images is the runtime's to make. */
export async function makeDumpRoom(tmpfs: Tmpfs): Promise<DumpRoom> {
  const below = (name: string) => asHostPath(path.posix.join(tmpfs.path, name));
  const room = { images: path.join(tmpfs.folder, 'images'), work: path.join(tmpfs.folder, 'work') };
  await mkdir(room.work, { mode: 0o700 });
  return { ...room, folders: { images: below('images'), work: below('work') } };
}

/** One file that CRIU wrote. `bytes` may be iterated once; `outcome` is complete after it. */
export interface DumpFile extends Disposable {
  readonly name: string;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly outcome: ReadOutcome;
  bytes(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** What is in a folder of CRIU's that is no plain file, or cannot be opened. */
export interface NoDumpFile {
  readonly name: string;
  readonly why: string;
  readonly errno?: string;
}

/** Names in a folder of CRIU's, sorted; none where it was not made. */
export async function dumpNames(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.toSorted();
}

export function openDumpFile(folder: string, name: string): DumpFile | NoDumpFile {
  let fd: number;
  try {
    fd = openSync(path.join(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    return { name, why: 'it cannot be opened', ...(errno === undefined ? {} : { errno }) };
  }
  const stat = fstatSync(fd, { bigint: true });
  if (!stat.isFile()) {
    closeSync(fd);
    return { name, why: 'it is no regular file' };
  }
  const outcome = newOutcome();
  return {
    name,
    sizeBytes: Number(stat.size),
    mtimeNs: stat.mtimeNs,
    outcome,
    bytes: (signal) => readExtents(fd, [{ offset: 0n, sizeBytes: stat.size }], outcome, signal),
    [Symbol.dispose]: () => closeSync(fd),
  };
}

/** The end of a file of CRIU's, at most `limitBytes`; undefined where there is none. */
export function readDumpFile(folder: string, name: string, limitBytes: number): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path.join(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const { size } = fstatSync(fd);
    const tail = Buffer.alloc(Math.min(size, limitBytes));
    return tail.subarray(0, readSync(fd, tail, 0, tail.length, size - tail.length));
  } finally {
    closeSync(fd);
  }
}

/** Gives the memory of a file back that has been stored. */
export async function dropDumpFile(folder: string, name: string): Promise<void> {
  await truncate(path.join(folder, name), 0);
}
