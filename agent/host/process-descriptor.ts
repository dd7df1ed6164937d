import { intOf, type Worded, wordedText, wordsOf } from './decode.ts';
import { openFlagNames } from './decode-flags.ts';
import { isDeletedName, isMemfdName } from './process-maps.ts';
import type { DescriptorReading } from './process-read-descriptors.ts';
import type { Mount } from './process-small.ts';

/** What an open file is. `path`: it has a path but was not asked for its type, because asking could block. */
export type DescriptorType =
  | 'file'
  | 'memfd'
  | 'directory'
  | 'symlink'
  | 'fifo'
  | 'socket'
  | 'pipe'
  | 'character-device'
  | 'block-device'
  | 'anonymous'
  | 'namespace'
  | 'path'
  | 'unknown';

/** A descriptor on the same pipe or socket. */
export interface End {
  readonly pid: number;
  readonly fd: number;
}

export type DescriptorRecord = Worded<'target'> & {
  readonly fd: number;
  readonly type: DescriptorType;
  /** Of sockets, pipes and files. */
  readonly inode?: number | bigint;
  /** File offset in bytes. */
  readonly position?: number;
  readonly flags?: string[];
  readonly mountId?: number;
  readonly fileSystem?: string;
  readonly device?: bigint;
  /** Apparent size. */
  readonly sizeBytes?: bigint;
  readonly links?: number;
  readonly deleted?: true;
  /** The other lines of fdinfo: epoll targets, inotify watches, timers, counters, locks, pidfds. */
  readonly details?: string[];
  readonly errno?: string;
};

/** /proc/PID/fdinfo/N, proc_pid_fdinfo(5). */
export interface DescriptorInfo {
  readonly position: number | undefined;
  readonly flags: number | undefined;
  readonly mountId: number | undefined;
  readonly inode: number | undefined;
  readonly details: string[];
}

/** An epoll descriptor has a line a watched file; more than these are counted in the last line. */
const DETAILS_MAX = 64;

/** Takes Latin-1. */
export function parseFdinfo(text: string): DescriptorInfo {
  const fields = new Map<string, string>();
  const details: string[] = [];
  let more = 0;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, key, value] = /^(pos|flags|mnt_id|ino):\s*(\d{1,20})$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined && !fields.has(key)) fields.set(key, value);
    else if (details.length < DETAILS_MAX) details.push(wordsOf(line));
    else more += 1;
  }
  if (more > 0) details.push(`and ${more} more lines`);
  const flags = fields.get('flags');
  return {
    position: intOf(fields.get('pos')),
    flags: flags !== undefined && /^[0-7]{1,12}$/.test(flags) ? Number.parseInt(flags, 8) : undefined,
    mountId: intOf(fields.get('mnt_id')),
    inode: intOf(fields.get('ino')),
    details,
  };
}

/** `socket:[123]`, `pipe:[123]`, `net:[123]`, `anon_inode:[eventpoll]`, `/memfd:name (deleted)`, or a path. Latin-1. */
export function classifyTarget(target: string): { type: DescriptorType; inode?: number } {
  const [, kind, inode] = /^([a-z_]+):\[(\d{1,15})\]$/.exec(target) ?? [];
  if (kind === 'socket' || kind === 'pipe') return { type: kind, inode: Number(inode) };
  if (target.startsWith('anon_inode:')) return { type: 'anonymous' };
  if (kind !== undefined) return { type: 'namespace', inode: Number(inode) };
  if (isMemfdName(target)) return { type: 'memfd' };
  return { type: target.startsWith('/') ? 'path' : 'unknown' };
}

export function describeDescriptor(
  reading: DescriptorReading,
  mounts: ReadonlyMap<number, Mount>,
  machine: string,
): DescriptorRecord {
  const { fd, target, info, file } = reading;
  if (target === undefined)
    return { fd, type: 'unknown', target: '', ...(reading.errno ? { errno: reading.errno } : {}) };
  const kind = classifyTarget(target);
  const parsed = info === undefined ? undefined : parseFdinfo(info);
  const [type, device, fileInode, links, sizeBytes] = typeof file === 'object' ? file : [];
  const inode = kind.inode ?? fileInode ?? parsed?.inode;
  const mountId = parsed?.mountId;
  const fileSystem = mountId === undefined || kind.type === 'memfd' ? undefined : mounts.get(mountId)?.type;
  const deleted = kind.type === 'path' && (links === 0 || isDeletedName(target));
  return {
    fd,
    type: kind.type === 'path' && type !== undefined ? type : kind.type,
    ...wordedText('target', target),
    ...(inode === undefined ? {} : { inode }),
    ...(parsed?.position ? { position: parsed.position } : {}),
    ...(parsed?.flags === undefined ? {} : { flags: openFlagNames(parsed.flags, machine) }),
    ...(mountId === undefined ? {} : { mountId }),
    ...(fileSystem === undefined ? {} : { fileSystem }),
    ...(device === undefined ? {} : { device }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(links === undefined ? {} : { links }),
    ...(deleted ? { deleted } : {}),
    ...(parsed && parsed.details.length > 0 ? { details: parsed.details } : {}),
    ...(typeof file === 'string' ? { errno: file } : {}),
  };
}
