import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';

/**
 * Makes `folder` and what is missing above it, for root alone. Not Node's recursive mkdir: that one never returns where the
 * kernel answers ENOENT for a folder whose parent exists, as below /proc (seen with Node 24).
 */
export async function makeFolder(folder: string): Promise<void> {
  if (await made(folder)) return;
  await makeFolder(path.dirname(folder));
  await mkdir(folder, { mode: 0o700 });
}

/** False when the folder above is missing. */
async function made(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { mode: 0o700 });
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST') && (await stat(folder)).isDirectory()) return true;
    if (isErrno(error, 'ENOENT') && path.dirname(folder) !== folder) return false;
    throw error;
  }
}
