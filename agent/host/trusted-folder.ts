import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, isErrno } from '../../evidence/error.ts';

/**
 * Whether nobody but its owners can put something into a folder, or another folder in its place: every folder of the way to it
 * belongs to one of them and can be written by no one else, and no part of the way is a link. POSIX ACLs are in it: where one
 * lets others write, the group's bits say so (acl(5)).
 */

/** `missing`: it is not there, and the way to it is in order. */
export type FolderTrust =
  | { readonly kind: 'trusted' }
  | { readonly kind: 'missing' }
  | { readonly kind: 'distrusted'; readonly why: string; readonly mend: string };

export interface FolderMode {
  readonly path: string;
  readonly uid: number;
  /** `st_mode`, inode(7). */
  readonly mode: number;
  /** The folder itself, not one on the way to it. */
  readonly last: boolean;
}

const GROUP_OR_OTHERS_WRITE = 0o022;
/** In such a folder an entry is renamed and removed by its owner alone, so it is as good for a way, not for the folder itself. */
const STICKY = 0o1000;
const FOLDER = 0o040000;
const LINK = 0o120000;
const KIND = 0o170000;

/** Root is always among `owners`. Never throws. */
export async function trustFolder(folder: string, owners: readonly number[]): Promise<FolderTrust> {
  const parts = path.resolve(folder).split('/').slice(1).filter(Boolean);
  for (let depth = 0; depth <= parts.length; depth += 1) {
    const at = `/${parts.slice(0, depth).join('/')}`;
    try {
      const { uid, mode } = await lstat(at);
      const fault = folderFault({ path: at, uid, mode, last: depth === parts.length }, owners);
      if (fault !== undefined) return fault;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return { kind: 'missing' };
      const why = `${at} cannot be looked at (${errnoOf(error) ?? 'unknown error'})`;
      return { kind: 'distrusted', why, mend: 'choose a folder that root can reach' };
    }
  }
  return { kind: 'trusted' };
}

/** Pure: what is wrong with one folder of the way. */
export function folderFault(
  { path: at, uid, mode, last }: FolderMode,
  owners: readonly number[],
): Extract<FolderTrust, { kind: 'distrusted' }> | undefined {
  const wrong = (why: string, mend: string) => ({ kind: 'distrusted', why: `${at} ${why}`, mend }) as const;
  if ((mode & KIND) === LINK) return wrong('is a symbolic link', 'name the folder that it leads to');
  if ((mode & KIND) !== FOLDER) return wrong('is not a folder', 'move it away, or choose another path');
  if (!mayOwn(uid, owners)) {
    return wrong(`belongs to uid ${uid}, who may not ask for captures`, `chown root ${at}`);
  }
  const isSticky = !last && (mode & STICKY) !== 0;
  if ((mode & GROUP_OR_OTHERS_WRITE) === 0 || isSticky) return undefined;
  const octal = (mode & 0o7777).toString(8).padStart(4, '0');
  return wrong(`can be written by others than its owner (mode ${octal})`, `chmod go-w ${at}`);
}

/** Root can write everywhere anyway. */
export const mayOwn = (uid: number | bigint, owners: readonly number[]): boolean =>
  Number(uid) === 0 || owners.includes(Number(uid));
