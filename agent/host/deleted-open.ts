import type { Pid } from '../runtime/runtime.ts';
import type { Host } from './host.ts';
import { lookAtProcesses } from './preflight-look.ts';
import { parseFdinfo } from './process-descriptor.ts';
import { DELETED_SUFFIX, isDeletedName, isMemfdName } from './process-maps.ts';

/** A file without a name that a descriptor holds, and the mount it is on. */
export interface DeletedOpen {
  readonly pid: number;
  readonly fd: number;
  /** Latin-1, without the kernel's mark. */
  readonly path: string;
  /** Of the mount table of that process' namespace. */
  readonly mountId: number;
  /** Kernels before 5.14 do not tell it here. */
  readonly inode: number | undefined;
}

/** All that the processes hold open, told from links and fdinfo alone: no file system is asked, nothing is opened. */
export async function findDeletedOpen(
  host: Host,
  pids: readonly Pid[],
  signal: AbortSignal,
): Promise<{ readonly files: DeletedOpen[]; readonly notes: readonly string[] }> {
  const { looks, notes } = await lookAtProcesses(host, pids, signal);
  const files = looks.flatMap(({ pid, descriptors }) =>
    descriptors.flatMap(({ fd, target, info }): DeletedOpen[] => {
      if (info === undefined || !target.startsWith('/') || !isDeletedName(target) || isMemfdName(target)) return [];
      const { mountId, inode } = parseFdinfo(info);
      if (mountId === undefined) return [];
      return [{ pid, fd, path: target.slice(0, -DELETED_SUFFIX.length), mountId, inode }];
    }),
  );
  return { files, notes: [...new Set([...notes, ...looks.flatMap((look) => look.notes)])] };
}
