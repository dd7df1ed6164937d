import type { Obstacle } from '../../evidence/dump.ts';
import { shown } from './preflight-obstacle.ts';
import { parseFdinfo } from './process-descriptor.ts';
import { DELETED_SUFFIX, isDeletedName, isMemfdName, isSharedMemoryName } from './process-maps.ts';
import type { Mount } from './process-small.ts';
import { MIB } from './procfs.ts';

/** Which open and mapped files stop CRIU: deleted ones, locked ones, watches, devices and what only the kernel understands. */

/** A process' descriptor with its fdinfo; see preflight-look.ts. */
export interface OpenFile {
  readonly pid: number;
  readonly fd: number;
  /** Latin-1. */
  readonly target: string;
  readonly info: string;
}

/** A deleted file of which it must be known how large it is. */
export interface Ghost {
  readonly pid: number;
  /** Below /proc/PID: `fd/7`, `map_files/7f…-7f…`. */
  readonly name: string;
  readonly target: string;
  /** Undefined when the process' mount table does not have it. */
  readonly mount: Mount | undefined;
  /** As fdinfo has it; undefined for what is only mapped. */
  readonly inode?: number | undefined;
}

/** File systems whose server may let us wait: they are not asked for anything. Prefixes of the types of mountinfo. */
const MAY_WAIT = /^(?:fuse|nfs|cifs|smb|ceph|9p|afs|lustre|gluster|beegfs|virtiofs|autofs|gfs|ocfs|orangefs|coda)/;

export const mayWait = (fileSystem: string): boolean => MAY_WAIT.test(fileSystem);

export function mayAsk({ mount }: Ghost): boolean {
  return mount !== undefined && !mayWait(mount.type);
}

/** Shared memory has names that look like deleted files. */
function isGhostName(target: string): boolean {
  if (!target.startsWith('/') || !isDeletedName(target) || isMemfdName(target) || isSharedMemoryName(target))
    return false;
  return !/^\/(?:secretmem|anon_hugepage|i915|drm mm object) \(deleted\)$/.test(target);
}

export function ghostOf(file: OpenFile, mounts: ReadonlyMap<number, Mount>): Ghost | undefined {
  if (!isGhostName(file.target)) return undefined;
  const { mountId, inode } = parseFdinfo(file.info);
  const mount = mountId === undefined ? undefined : mounts.get(mountId);
  return { pid: file.pid, name: `fd/${file.fd}`, target: file.target, mount, inode };
}

/** As `START-END PERMS OFFSET MAJOR:MINOR INODE NAME`, proc_pid_maps(5). */
const MAPPED = /^([0-9a-f]+)-([0-9a-f]+) \S{4} [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(.+)$/s;

export interface Mapped {
  readonly pid: number;
  /** As in /proc/PID/map_files. */
  readonly range: string;
  /** `MAJOR:MINOR`, decimal, as in mountinfo. */
  readonly device: string;
  readonly inode: number;
  readonly target: string;
}

export function parseMapped(pid: number, line: string): Mapped | undefined {
  const [, start, end, major = '', minor = '', inode, target] = MAPPED.exec(line) ?? [];
  if (start === undefined || end === undefined || target === undefined) return undefined;
  // map_files knows the addresses without leading zeros, which maps pads to eight digits.
  const range = [start, end].map((address) => address.replace(/^0+(?=.)/, '')).join('-');
  const device = `${Number.parseInt(major, 16)}:${Number.parseInt(minor, 16)}`;
  return { pid, range, device, inode: Number(inode), target };
}

export function mappedGhostOf(mapped: Mapped, mounts: ReadonlyMap<number, Mount>): Ghost | undefined {
  if (!isGhostName(mapped.target)) return undefined;
  const mount = [...mounts.values()].find(({ device }) => device === mapped.device);
  return { pid: mapped.pid, name: `map_files/${mapped.range}`, target: mapped.target, mount, inode: mapped.inode };
}

/** CRIU's --ghost-limit unless told otherwise; what counts is what is allocated, and exactly that much is taken. */
const GHOST_LIMIT_BYTES = MIB;

/** What stat(2) said, or why not. */
export type GhostReading =
  | { readonly isRegular: boolean; readonly links: number; readonly bytes: number }
  | { readonly errno: string };

export function ghostObstacle(ghost: Ghost, reading: GhostReading | undefined): Obstacle | undefined {
  const { pid } = ghost;
  const name = shown(ghost.target.slice(0, -DELETED_SUFFIX.length));
  const found = (what: string, certainty: Obstacle['certainty']): Obstacle => {
    return { kind: 'ghost-file', pid, what: `${name} is deleted and still in use, ${what}`, certainty };
  };
  if (reading === undefined) {
    const where = ghost.mount === undefined ? 'a file system that is not mounted here' : shown(ghost.mount.type);
    return found(`on ${where}, which was not asked for its size`, 'likely');
  }
  if ('errno' in reading) return undefined;
  if (!reading.isRegular) return undefined;
  // It may also be a file with an odd name that is not deleted at all.
  if (reading.links > 0) return found('and has another name', 'likely');
  if (reading.bytes <= GHOST_LIMIT_BYTES) return undefined;
  return found(`${(reading.bytes / MIB).toFixed(1)} MiB, more than CRIU takes along (1 MiB)`, 'certain');
}

export function lockObstacles({ pid, fd, target, info }: OpenFile): Obstacle[] {
  const kinds = [...info.matchAll(/^lock:\t\d+: ([A-Z]+) /gm)].map(([, kind = '']) => kind.toLowerCase());
  if (kinds.length === 0) return [];
  const what = `descriptor ${fd}, ${shown(target)}, holds a lock (${[...new Set(kinds)].join(', ')})`;
  return [{ kind: 'file-locks', pid, what, liftedBy: 'fileLocks', certainty: 'certain' }];
}

/** FILEID_* of include/linux/exportfs.h and overlayfs.h: handles that nobody can open. CRIU then searches a few folders. */
const SEALED_HANDLES: ReadonlySet<string> = new Set([
  'f8', // an overlay's
  '81', // of a file system that has none, such as proc
]);

const WATCH = /^(?:inotify|fanotify) .*\bino:([0-9a-f]+) sdev:([0-9a-f]+) .*\bfhandle-type:([0-9a-f]+) /gm;

/** `deleted`: deleted files that the container holds, as `deviceKey` writes them. One obstacle a descriptor. */
export function watchObstacle({ pid, fd, info }: OpenFile, deleted: ReadonlySet<string>): Obstacle | undefined {
  const watches = [...info.matchAll(WATCH)];
  const gone = watches.filter(([, inode, device]) => deleted.has(`${device}:${inode}`));
  const sealed = watches.filter(([, , , type = '']) => SEALED_HANDLES.has(type));
  const count = (some: readonly unknown[]): string =>
    `${some.length} of the ${watches.length} watches of descriptor ${fd}`;
  if (gone.length > 0)
    return { kind: 'inotify', pid, what: `${count(gone)} are on deleted files`, certainty: 'certain' };
  if (sealed.length === 0) return undefined;
  const what = `${count(sealed)} are on files that CRIU finds only in /etc, /var/spool and /lib/udev`;
  return { kind: 'inotify', pid, what, certainty: 'likely' };
}

/** `DEVICE:INODE` in hex, as fdinfo writes those of a watch: the kernel's own device number. */
export function deviceKey({ mount, inode }: Ghost): string | undefined {
  const [major, minor] = mount?.device.split(':').map(Number) ?? [];
  if (major === undefined || minor === undefined || inode === undefined) return undefined;
  return `${(major * 2 ** 20 + minor).toString(16)}:${inode.toString(16)}`;
}

/** Anonymous inodes that CRIU 4.2 has a dumper for. */
const TAKEN = /^anon_inode:(?:\[(?:eventfd|eventpoll|signalfd|timerfd|fanotify|pidfd)\]|inotify|bpf-map)$/;
/** Those that were seen to be refused. */
const REFUSED = /^anon_inode:\[(?:perf_event|userfaultfd)\]$/;
const GPU = /^\/dev\/(?:nvidia|kfd$|dri\/render)/;
/** Character devices that CRIU has no dumper for and that are met in containers. */
const DEVICE = /^\/dev\/(?:fuse|kvm|vhost-|vfio\/|infiniband\/)/;

export function targetObstacle(pid: number, place: string, target: string): Obstacle | undefined {
  const what = `${place} is ${shown(target)}`;
  if (GPU.test(target)) return { kind: 'gpu', pid, what, certainty: 'likely' };
  if (DEVICE.test(target)) return { kind: 'unsupported-descriptor', pid, what, certainty: 'likely' };
  if (!target.startsWith('anon_inode:') || TAKEN.test(target)) return undefined;
  if (target === 'anon_inode:[io_uring]') return { kind: 'io-uring', pid, what, certainty: 'certain' };
  return { kind: 'unsupported-descriptor', pid, what, certainty: REFUSED.test(target) ? 'certain' : 'likely' };
}

export function mappingObstacle({ pid, range, target }: Mapped): Obstacle | undefined {
  const what = `the mapping at ${range} is ${shown(target)}`;
  if (target.startsWith('[uprobes')) return { kind: 'uprobes', pid, what, certainty: 'certain' };
  if (/^\/secretmem/.test(target)) return { kind: 'unsupported-mapping', pid, what, certainty: 'certain' };
  if (/^\/(?:i915|drm mm object)/.test(target)) return { kind: 'gpu', pid, what, certainty: 'likely' };
  return targetObstacle(pid, `the mapping at ${range}`, target);
}
