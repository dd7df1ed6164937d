import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, rename, rm } from 'node:fs/promises';
import { ExhibitError, errnoOf, explain, isErrno } from '../evidence/error.ts';

/**
 * A new file of mode 600: evidence holds secrets. It has its name only when it is whole, before that `FILE.partial`; nothing is
 * overwritten and no link is followed. Disposal without `commit` removes what was written.
 */
export interface NewFile extends AsyncDisposable {
  write(chunk: Uint8Array): Promise<void>;
  commit(): Promise<void>;
}

/** `choose` is what a person changes to choose another: `choose another --output`. Throws ExhibitError `usage`. */
export async function openNewFile(file: string, choose: string): Promise<NewFile> {
  if (await isThere(file)) throw exists(file, choose);
  const partial = `${file}.partial`;
  const handle = await openNew(partial, choose);
  return {
    async write(chunk) {
      await handle.writeFile(chunk).catch((error: unknown) => {
        if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG', 'EIO')) throw error;
        const words = `${file} cannot be written (${errnoOf(error)}), and what was written is removed: ${choose}.`;
        throw new ExhibitError('usage', words, { cause: error });
      });
    },
    async commit() {
      await handle.close();
      await giveName(partial, file, choose);
    },
    async [Symbol.asyncDispose]() {
      await handle.close().catch(() => undefined);
      await rm(partial, { force: true });
    },
  };
}

/** link(2) never overwrites. vfat and some network file systems have no links: there the name is looked at once more. */
async function giveName(partial: string, file: string, choose: string): Promise<void> {
  try {
    await link(partial, file);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) throw exists(file, choose);
    if (!isErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS')) throw cannot(file, choose, error);
    if (await isThere(file)) throw exists(file, choose);
    await rename(partial, file);
  }
}

async function openNew(file: string, choose: string): Promise<FileHandle> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  return await open(file, flags, 0o600).catch((error: unknown) => {
    throw isErrno(error, 'EEXIST') ? exists(file, choose) : cannot(file, choose, error);
  });
}

async function isThere(file: string): Promise<boolean> {
  return await lstat(file).then(
    () => true,
    () => false,
  );
}

function exists(file: string, choose: string): ExhibitError {
  return new ExhibitError('usage', `${file} exists and is not overwritten: remove it or ${choose}.`);
}

function cannot(file: string, choose: string, cause: unknown): ExhibitError {
  return new ExhibitError('usage', `${file} cannot be made (${explain(cause)}): ${choose}.`, { cause });
}
