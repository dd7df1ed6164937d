import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { mkdir, open, readdir, rm, truncate } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, isErrno } from '../../evidence/error.ts';
import { asHostPath, type DumpFolders, type HostPath } from '../runtime/runtime.ts';
import type { Host } from './host.ts';
import { memoryRoom } from './memory-room.ts';
import { newOutcome, type ReadOutcome, readExtents } from './regular-file.ts';
import { mountTmpfs } from './tmpfs.ts';

const IMAGES = 'images';
/** CRIU's log and statistics; its log of a large tree has some megabytes. */
const WORK_BYTES = 32 * 1024 * 1024;

/** Where CRIU's files of one dump go, for the runtime and for the agent. Disposal gives the memory back. */
export interface DumpRoom extends AsyncDisposable {
  readonly folders: DumpFolders;
  /** As the agent reaches them. */
  readonly images: string;
  readonly work: string;
  readonly mounts: readonly HostPath[];
}

/**
 * Two tmpfs, because CRIU's log has to say it when the images do not fit. runc would make the folder of the images without the
 * right to pass through it (0600), and an agent with few capabilities could then remove nothing in it: `makeFolder`.
 * Fails as `mountTmpfs` does.
 */
export async function makeDumpRoom(
  host: Host,
  runDir: HostPath,
  {
    id,
    imagesBytes,
    hugePages,
    makeFolder,
  }: { id: string; imagesBytes: number; hugePages: boolean; makeFolder: boolean },
): Promise<DumpRoom> {
  await using stack = new AsyncDisposableStack();
  const room = stack.use(
    await mountTmpfs(host, runDir, { purpose: 'checkpoint', id, sizeBytes: imagesBytes, hugePages }),
  );
  const work = stack.use(await mountTmpfs(host, runDir, { purpose: 'log', id, sizeBytes: WORK_BYTES }));
  if (makeFolder) await mkdir(path.join(room.folder, IMAGES), { mode: 0o700 });
  const owned = stack.move();
  return {
    folders: { images: asHostPath(path.posix.join(room.path, IMAGES)), work: work.path },
    images: path.join(room.folder, IMAGES),
    work: work.folder,
    mounts: [room.path, work.path],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Written at a time: a few huge pages. */
const TOUCH_BYTES = 8 * 1024 * 1024;
/** Left of the agent's own memory limit: what is touched counts as the agent's while the file is there. */
const SPARED_BYTES = 64 * 1024 * 1024;

/**
 * Makes the kernel find `sizeBytes` of memory for the room now, before the target stands still, by a file that is written and
 * removed again: its pages are the first to be taken next. Where memory has to be freed first, or a virtual machine's host has to
 * provide it, that is most of the time that writing takes. Less where the agent's own limit has no room for it, and stops early where
 * the node has none. Throws the signal's reason.
 */
export async function touchRoom({ images }: DumpRoom, sizeBytes: number, signal: AbortSignal): Promise<void> {
  const file = path.join(path.dirname(images), 'touched');
  const zeros = Buffer.alloc(TOUCH_BYTES);
  const { cgroupRoomBytes = Number.POSITIVE_INFINITY } = await memoryRoom();
  const mostBytes = Math.min(sizeBytes, cgroupRoomBytes - SPARED_BYTES);
  try {
    await using handle = await open(file, 'w', 0o600);
    for (let done = 0; done < mostBytes; done += TOUCH_BYTES) {
      signal.throwIfAborted();
      await handle.write(zeros, 0, Math.min(TOUCH_BYTES, mostBytes - done));
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!isErrno(error, 'ENOSPC', 'ENOMEM')) throw error;
  } finally {
    await rm(file, { force: true });
  }
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
