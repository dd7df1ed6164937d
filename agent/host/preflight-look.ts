import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import type { Pid } from '../runtime/runtime.ts';
import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import { type Links, linksBelow } from './preflight-links.ts';
import { KIB, LIMIT_BYTES, MIB, readBounded } from './procfs.ts';

/**
 * What of the preflight cannot be made to wait, read by the agent itself: status, descriptors and their fdinfo, links, tables
 * of sockets. It takes turns with the agent's other work.
 */

/** One process as the preflight sees it. Text is Latin-1. */
export interface ProcessLook {
  readonly pid: number;
  readonly status: StatusLook;
  /** The texts of /proc/PID/ns/NAME. */
  readonly namespaces: Readonly<Record<string, string>>;
  readonly descriptors: readonly DescriptorLook[];
  /** What could not be looked at. */
  readonly notes: readonly string[];
}

export interface StatusLook {
  readonly ppid: number;
  /** 0 when nobody traces it. */
  readonly tracerPid: number;
  /** The pid that the process sees itself. */
  readonly innerPid: number;
  /** How many pid namespaces it is in, from that of the reader inwards. */
  readonly pidLevels: number;
  /** Resident and swapped, without what is only a copy of a file. */
  readonly memoryBytes: number;
}

export interface DescriptorLook {
  readonly fd: number;
  readonly target: string;
  /** The text of fdinfo, of descriptors where it may matter. */
  readonly info?: string;
}

/** proc_pid_status(5). The name comes first and may hold anything, so the last line of a key counts. */
export function parseStatusLook(bytes: Uint8Array): StatusLook | undefined {
  const text = latin1(bytes);
  const value = (key: string): string | undefined => {
    const at = text.lastIndexOf(`\n${key}:\t`);
    return at < 0 ? undefined : text.slice(at + key.length + 3, text.indexOf('\n', at + 1));
  };
  const number = (key: string): number => Number(/^ *(\d{1,15})/.exec(value(key) ?? '')?.[1] ?? 0);
  if (value('PPid') === undefined) return undefined;
  const pids = value('NSpid')?.split('\t') ?? [];
  const memoryBytes = (number('RssAnon') + number('RssShmem') + number('VmSwap')) * KIB;
  return {
    ppid: number('PPid'),
    tracerPid: number('TracerPid'),
    innerPid: Number(pids.at(-1) ?? 0),
    pidLevels: pids.length,
    memoryBytes,
  };
}

/** Those of which CRIU takes only one a tree; see preflight-process.ts. That of pids is told by the status. */
const NAMESPACES = ['net', 'user', 'uts', 'ipc', 'cgroup', 'time_for_children'] as const;

/** Some 8 µs each. */
const DESCRIPTORS_MAX = 16_384;
const DESCRIPTORS_ALL_MAX = 65_536;
/** An inotify instance has a line of 150 bytes a watch, and 8192 watches (fs.inotify.max_user_watches) at the least. */
const INFO_MAX_BYTES = 2 * MIB;
/** The agent's other work waits no longer. */
const TURN_MS = 8;
/** What is not looked at by then is left. A checkpoint is worth waiting for, its forecast is not. */
const LOOK_MS = 2000;

/** Ends early, with a note, when there is too much to look at. Throws the signal's reason only. */
export async function lookAtProcesses(
  host: Host,
  pids: readonly Pid[],
  signal: AbortSignal,
): Promise<{ looks: ProcessLook[]; notes: string[] }> {
  const looks: ProcessLook[] = [];
  const notes: string[] = [];
  const begin = performance.now();
  let turned = begin;
  let room = DESCRIPTORS_ALL_MAX;
  for (const [index, pid] of pids.entries()) {
    const now = performance.now();
    if (now - begin > LOOK_MS || room <= 0) {
      notes.push(`${pids.length - index} processes were not looked at: there is too much to look at`);
      break;
    }
    if (now - turned > TURN_MS) {
      await turn();
      turned = performance.now();
    }
    signal.throwIfAborted();
    const look = lookAtProcess(host, pid, Math.min(room, DESCRIPTORS_MAX));
    if (look === undefined) continue;
    room -= look.descriptors.length;
    looks.push(look);
  }
  return { looks, notes };
}

/** Undefined when the process is gone. */
export function lookAtProcess(host: Host, pid: number, limit: number): ProcessLook | undefined {
  const base = procPath(host, pid);
  using links = linksBelow(base);
  const read = readBounded(`${base}/status`, LIMIT_BYTES.small, true);
  const status = read.kind === 'read' ? parseStatusLook(read.bytes) : undefined;
  if (status === undefined) return undefined;
  const notes: string[] = [];
  const namespaces: Record<string, string> = {};
  for (const name of NAMESPACES) {
    const link = links.read(`ns/${name}`);
    if (link !== undefined) namespaces[name] = link;
  }
  const names = listDescriptors(`${base}/fd`);
  if (typeof names === 'string') notes.push(`the descriptors of process ${pid} cannot be listed (${names})`);
  const listed = typeof names === 'string' ? [] : names;
  if (listed.length > limit) notes.push(`process ${pid} has ${listed.length} descriptors: ${limit} were looked at`);
  const descriptors = listed.slice(0, limit).flatMap((fd) => lookAtDescriptor(base, fd, links) ?? []);
  return { pid, status, namespaces, descriptors, notes };
}

/** Names below `folder`, or why they cannot be listed. */
export function listDescriptors(folder: string): string[] | string {
  try {
    return readdirSync(folder);
  } catch (error) {
    // A zombie has none, and lists none; one that is gone is left out before.
    return error instanceof Error && 'code' in error ? String(error.code) : 'EIO';
  }
}

function lookAtDescriptor(base: string, fd: string, links: Links): DescriptorLook | undefined {
  const target = links.read(`fd/${fd}`);
  if (target === undefined) return undefined;
  if (!tellsMore(target)) return { fd: Number(fd), target };
  const info = readBounded(`${base}/fdinfo/${fd}`, INFO_MAX_BYTES, true);
  return { fd: Number(fd), target, ...(info.kind === 'read' ? { info: latin1(info.bytes) } : {}) };
}

/** Files may be locked or deleted; watches are in fdinfo only. */
function tellsMore(target: string): boolean {
  if (target.startsWith('/')) return !/^\/dev\/(?:null|zero|u?random|pts\/\d+)$/.test(target);
  return target === 'anon_inode:inotify' || target === 'anon_inode:[fanotify]';
}
