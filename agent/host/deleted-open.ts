import { closeSync, readFileSync, readlinkSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import type { Pid } from '../runtime/runtime.ts';
import { type Host, procPath } from './host.ts';
import { lookAtProcesses } from './preflight-look.ts';
import { parseFdinfo } from './process-descriptor.ts';
import { DELETED_SUFFIX, isDeletedName, isMemfdName } from './process-maps.ts';
import { hold, Refused } from './procfs-open.ts';

/** A file without a name that a process has open or runs, and the mount it is on. */
export interface DeletedOpen {
  readonly pid: number;
  /** As the artifact `processes` names holders: `17/fd/3`, `17/exe`. */
  readonly heldBy: string;
  /** Latin-1, without the kernel's mark. */
  readonly path: string;
  /** Of the mount table of that process' namespace. */
  readonly mountId: number;
  /** Kernels before 5.14 do not tell it here. */
  readonly inode: number | undefined;
}

/** All that the processes hold, told from links and fdinfo alone: no file system is asked, nothing is opened for reading. */
export async function findDeletedOpen(
  host: Host,
  pids: readonly Pid[],
  signal: AbortSignal,
): Promise<{ readonly files: DeletedOpen[]; readonly notes: readonly string[] }> {
  const { looks, notes } = await lookAtProcesses(host, pids, signal);
  const files = looks.flatMap(({ pid, descriptors }) => [
    ...executableOf(host, pid),
    ...descriptors.flatMap(({ fd, target, info }) => lineOf(pid, `${pid}/fd/${fd}`, target, info)),
  ]);
  return { files, notes: [...new Set([...notes, ...looks.flatMap((look) => look.notes)])] };
}

/** The program that runs, held by an O_PATH descriptor as long as it takes to ask for its mount. */
function executableOf(host: Host, pid: number): DeletedOpen[] {
  const file = procPath(host, pid, 'exe');
  try {
    const target = readlinkSync(file, 'latin1');
    if (!isDeletedName(target)) return [];
    const fd = hold(file);
    try {
      return lineOf(pid, `${pid}/exe`, target, readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    // A kernel thread has none, and a process may end at any time.
    if (error instanceof Refused || errnoOf(error) !== undefined) return [];
    throw error;
  }
}

function lineOf(pid: number, heldBy: string, target: string, info: string | undefined): DeletedOpen[] {
  if (info === undefined || !target.startsWith('/') || !isDeletedName(target) || isMemfdName(target)) return [];
  const { mountId, inode } = parseFdinfo(info);
  return mountId === undefined ? [] : [{ pid, heldBy, path: target.slice(0, -DELETED_SUFFIX.length), mountId, inode }];
}
