import { lstat, readdir, readFile, statfs } from 'node:fs/promises';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';
import { memoryFileSystem } from '../host/folder-facts.ts';
import { memoryRoom } from '../host/memory-room.ts';
import { spoolLimit } from './spool-room.ts';
import { MIN_SECRET_BYTES, type SpoolConfig, spoolFolder } from './vault-place.ts';

/** A spool from outside, with or without an agent that has it open. */
export interface SpoolLook {
  readonly folder: string;
  /** `tmpfs`, `ramfs`; undefined: a disk. */
  readonly memoryFileSystem: string | undefined;
  /** Where the key is that encrypts it: a file of `spool.keyFile`, or one in stateDir, which is in memory or not. */
  readonly key: 'given' | 'in memory' | 'on a disk' | { readonly unusable: string };
  readonly usedBytes: number;
  /** What it may hold in all, as it is now. */
  readonly limitBytes: number;
  /** What the file system has left. */
  readonly freeBytes: number;
}

/** Reads sizes, and the length of a given key; makes nothing. `stateDir` as this process reaches it. */
export async function lookAtSpool(
  config: SpoolConfig & { readonly bytes: number },
  stateDir: string,
): Promise<SpoolLook> {
  const folder = spoolFolder(config, stateDir);
  const fileSystem = await memoryFileSystem(folder);
  const usedBytes = await bytesBelow(folder);
  const room = fileSystem === undefined ? undefined : await memoryRoom();
  return {
    folder,
    memoryFileSystem: fileSystem,
    key: config.keyFile === undefined ? await ownKey(stateDir) : await givenKey(config.keyFile),
    usedBytes,
    limitBytes: spoolLimit(config.bytes, usedBytes, room),
    freeBytes: await freeBytes(folder),
  };
}

async function ownKey(stateDir: string): Promise<SpoolLook['key']> {
  return (await memoryFileSystem(stateDir)) === undefined ? 'on a disk' : 'in memory';
}

async function givenKey(file: string): Promise<SpoolLook['key']> {
  const secret = await readFile(file).catch(() => undefined);
  if (secret === undefined) return { unusable: `${file} cannot be read` };
  return secret.length >= MIN_SECRET_BYTES
    ? 'given'
    : { unusable: `${file} is shorter than ${MIN_SECRET_BYTES} bytes` };
}

/** Files come and go while it is counted. */
async function bytesBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  let bytes = 0;
  for (const entry of entries) {
    const stat = entry.isFile()
      ? await lstat(path.join(entry.parentPath, entry.name)).catch(() => undefined)
      : undefined;
    bytes += stat?.size ?? 0;
  }
  return bytes;
}

/** Of the folder, or of the nearest one above it that exists. */
async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || path.dirname(folder) === folder) throw error;
    return await freeBytes(path.dirname(folder));
  }
}
