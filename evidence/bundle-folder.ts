import { constants, type Dirent, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, opendir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BundleEntry, BundleReader } from './bundle.ts';
import { ExhibitError, isErrno } from './error.ts';
import { staysInside } from './member-path.ts';

/** Read in pieces of one frame's usual size. */
const READ_BYTES = 1024 * 1024;
/** Folders below a bundle; ours have none, and a deeper tree is a trap. */
const MAX_DEPTH = 16;

/** A bundle in a folder. Links are never followed, and nothing but regular files is opened. */
export async function openFolderBundle(folder: string): Promise<BundleReader> {
  const url = pathToFileURL(folder).href;
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    (error: unknown) => {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
      throw new ExhibitError('bundle-not-found', `${folder} cannot be read`, { cause: error });
    },
  );
  if (!isFolder) throw new ExhibitError('bundle-not-found', `there is no folder ${folder}`);
  const root = await realpath(folder);
  return {
    url,
    list: () => listFolder(root, '', 0),
    read: (name, range) => readFile(root, name, range?.start ?? 0, range?.end ?? Number.POSITIVE_INFINITY),
    async [Symbol.asyncDispose]() {},
  };
}

async function* listFolder(root: string, below: string, depth: number): AsyncGenerator<BundleEntry> {
  for await (const entry of await opendir(join(root, below))) {
    const name = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory() && depth < MAX_DEPTH) yield* listFolder(root, name, depth + 1);
    else if (entry.isFile()) yield { name, sizeBytes: (await lstat(join(root, name))).size };
    else yield { name, sizeBytes: 0, irregular: kindOf(entry) };
  }
}

async function* readFile(root: string, name: string, start: number, end: number): AsyncGenerator<Uint8Array> {
  await using file = await openRegular(root, name);
  for (let at = start; at < end; ) {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function openRegular(root: string, name: string): Promise<FileHandle> {
  const missing = (cause?: unknown) =>
    new ExhibitError('bundle-not-found', `the bundle has no object ${JSON.stringify(name)}`, { cause });
  if (!staysInside(name) || name.endsWith('/')) throw missing();
  const path = join(root, name);
  let file: FileHandle;
  try {
    // A link anywhere on the way makes the real path another.
    if ((await realpath(path)) !== path) throw missing();
    // NONBLOCK: a FIFO must not make a reader wait for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG')) throw missing(error);
    throw error;
  }
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw missing();
}

function kindOf(entry: Dirent | Stats): string {
  if (entry.isSymbolicLink()) return 'symbolic link';
  if (entry.isFIFO()) return 'fifo';
  if (entry.isSocket()) return 'socket';
  return entry.isDirectory() ? 'folder too deep to look into' : 'device';
}
