import { lstat, mkdir, open, rmdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { ExhibitError, isErrno } from '../../evidence/error.ts';

/** Evidence is for its owner only. */
export const FOLDER_MODE = 0o700;

/** Makes an entry durable: a new name lives in its folder, so the folder is what fsync(2) must see. */
export async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, 'r');
  await handle.sync();
}

/**
 * Makes every missing folder down to `root` and from there through `segments`, and returns the last. Below the root no
 * symbolic link is followed; the way to the root may have some, they are the administrator's choice. `made` grows by each new
 * folder. Not Node's recursive mkdir, which never returns where a folder cannot be made for ENOENT (in /proc, for one).
 */
export async function makeFolders(root: string, segments: readonly string[], made: string[] = []): Promise<string> {
  let folder = path.parse(root).root;
  const toRoot = path.relative(folder, root);
  for (const segment of toRoot === '' ? [] : toRoot.split(path.sep)) {
    folder = await makeOne(folder, segment, stat, made);
  }
  for (const segment of segments) folder = await makeOne(folder, segment, lstat, made);
  return folder;
}

/** Removes what `makeFolders` made as far as it is empty, the deepest first. */
export async function removeEmptyFolders(made: readonly string[]): Promise<void> {
  for (const folder of made.toReversed()) {
    try {
      await rmdir(folder);
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY')) throw error;
    }
  }
}

async function makeOne(parent: string, segment: string, look: typeof stat, made: string[]): Promise<string> {
  const folder = path.join(parent, segment);
  const isFolder = async () => (await look(folder)).isDirectory();
  try {
    if (await isFolder()) return folder;
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    if (await makeUnlessThere(folder)) {
      made.push(folder);
      await syncFolder(parent);
      return folder;
    }
    if (await isFolder()) return folder;
  }
  throw new ExhibitError('sink-failed', `${folder} is not a folder; move it away or choose another sink`);
}

/** False when somebody else was faster. */
async function makeUnlessThere(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, FOLDER_MODE);
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  }
}
