import { intOf, type Worded, wordedText, wordsOf } from './decode.ts';
import { openFlagNames } from './decode-flags.ts';
import { isDeletedName, isMemfdName } from './process-maps.ts';
import type { DescriptorReading } from './process-read.ts';
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

/** Another process' descriptor on the same pipe or socket. */
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
  /** Ends of the pipe with the other direction, in this capture; of sockets, see `sharedWith`. */
  peers?: End[];
  /** Descriptors of the same direction on the same pipe, or on the same socket. */
  sharedWith?: End[];
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

/** Ends listed for one descriptor; a pipe that a thousand workers inherited is not listed a million times. */
const ENDS_MAX = 8;

interface Joinable {
  readonly pid: number;
  readonly descriptors: readonly DescriptorRecord[];
}

/** Joins pipes and sockets by inode over all processes of the capture; sets `peers` and `sharedWith`. */
export function joinDescriptors(processes: readonly Joinable[]): void {
  const byInode = new Map<string, (End & { writes: boolean; reads: boolean })[]>();
  const keyOf = ({ type, inode, device }: DescriptorRecord): string | undefined =>
    inode !== undefined && (type === 'pipe' || type === 'socket' || type === 'fifo')
      ? `${type} ${device ?? ''} ${inode}`
      : undefined;
  for (const { pid, descriptors } of processes) {
    for (const descriptor of descriptors) {
      const key = keyOf(descriptor);
      if (key === undefined) continue;
      const ends = byInode.get(key) ?? [];
      if (ends.length === 0) byInode.set(key, ends);
      ends.push({ pid, fd: descriptor.fd, ...directionOf(descriptor) });
    }
  }
  for (const { pid, descriptors } of processes) {
    for (const descriptor of descriptors) {
      const key = keyOf(descriptor);
      const ends = key === undefined ? [] : (byInode.get(key) ?? []);
      if (ends.length > 1) joinOne(pid, descriptor, ends);
    }
  }
}

function directionOf(descriptor: DescriptorRecord): { writes: boolean; reads: boolean } {
  if (descriptor.type === 'socket') return { writes: true, reads: true };
  const flags = descriptor.flags ?? [];
  return { writes: !flags.includes('O_RDONLY'), reads: !flags.includes('O_WRONLY') };
}

function joinOne(
  pid: number,
  descriptor: DescriptorRecord,
  ends: readonly (End & { writes: boolean; reads: boolean })[],
): void {
  const mine = directionOf(descriptor);
  const peers: End[] = [];
  const shared: End[] = [];
  for (const end of ends) {
    if (end.pid === pid && end.fd === descriptor.fd) continue;
    const opposite = descriptor.type !== 'socket' && ((mine.writes && end.reads) || (mine.reads && end.writes));
    const list = opposite ? peers : shared;
    if (list.length < ENDS_MAX) list.push({ pid: end.pid, fd: end.fd });
    if (peers.length === ENDS_MAX && shared.length === ENDS_MAX) break;
  }
  if (peers.length > 0) descriptor.peers = peers;
  if (shared.length > 0) descriptor.sharedWith = shared;
}
