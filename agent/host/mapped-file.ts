import fs from 'node:fs';
import type { AddressRange } from '../../evidence/elfcore.ts';
import { isErrno } from '../../evidence/error.ts';
import type { Pid } from '../runtime/runtime.ts';
import { type Host, procPath } from './host.ts';
import { tryLibc } from './libc.ts';
import type { Vma } from './maps.ts';
import { openFdMemory, type ProcessMemory } from './memory.ts';

/**
 * The object behind a mapping, through /proc/PID/map_files (proc(5)), which also reaches what has no name any more: memfds,
 * System V segments, deleted files. Undefined where it cannot be opened, which needs CAP_SYS_ADMIN or
 * CAP_CHECKPOINT_RESTORE. Reading shmem this way brings in what was swapped out, and allocates nothing for holes.
 */
export function openMappedFile(host: Host, pid: Pid, vma: Vma): ProcessMemory | undefined {
  const range = `${vma.start.toString(16)}-${vma.end.toString(16)}`;
  const flags = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK;
  try {
    const file = procPath(host, pid, 'map_files', range);
    return openFdMemory(openQuietly(file, flags));
  } catch {
    return undefined;
  }
}

/** Without changing its access time, where we may. */
function openQuietly(file: string, flags: number): number {
  try {
    return fs.openSync(file, flags | fs.constants.O_NOATIME);
  } catch (error) {
    if (!isErrno(error, 'EPERM')) throw error;
    return fs.openSync(file, flags);
  }
}

/** Extents looked at in one object; a file in which every other page is a hole has more. */
const MAX_EXTENTS = 64 * 1024;

/** Where the object holds data, within `range` and in whole pages (lseek(2) SEEK_DATA); nothing where it cannot tell. */
export function dataRanges(file: ProcessMemory, range: AddressRange): AddressRange[] {
  const libc = tryLibc();
  if (libc === undefined) return [];
  const found: AddressRange[] = [];
  try {
    for (let at = range.start; at < range.end && found.length < MAX_EXTENTS; ) {
      const start = libc.seek(file.fd, at, 'data');
      if (start >= range.end) break;
      const hole = libc.seek(file.fd, start, 'hole');
      if (hole <= start) break;
      found.push({ start, end: hole });
      at = hole;
    }
  } catch (error) {
    // ENXIO: no data after this. Anything else: the object does not tell, and what is mapped has been copied already.
    if (!isErrno(error, 'ENXIO', 'EINVAL')) return [];
  }
  const last = found.at(-1);
  if (last !== undefined && last.end > range.end) found[found.length - 1] = { ...last, end: range.end };
  return found;
}
