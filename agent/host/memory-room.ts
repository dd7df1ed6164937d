import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { folderOf, parseHierarchies, parseMemberships } from './cgroup.ts';

/** How much memory the agent may still take: of the node, and of its own cgroups. */
export interface MemoryRoom {
  readonly availableBytes: number;
  /** The smallest of limit less working set (usage without what of the page cache the kernel drops first, as the kubelet counts), over the agent's cgroup and all above it; undefined where none has a limit. */
  readonly cgroupRoomBytes: number | undefined;
}

/** `procRoot`: a /proc in which `self` is the agent. */
export async function memoryRoom(procRoot = '/proc'): Promise<MemoryRoom> {
  const textOf = (...names: string[]) => readFile(path.posix.join(procRoot, ...names), 'latin1').catch(() => '');
  const meminfo = await textOf('meminfo');
  const rooms: number[] = [];
  const mounted = parseHierarchies(await textOf('self', 'mountinfo'));
  for (const { version, controllers, path: own } of parseMemberships(await textOf('self', 'cgroup'))) {
    if (version === 1 && !controllers.includes('memory')) continue;
    const hierarchy = mounted.find(
      (one) => one.version === version && (version === 2 || one.controllers.includes('memory')),
    );
    const folder = hierarchy === undefined ? undefined : folderOf(hierarchy, own);
    if (hierarchy !== undefined && folder !== undefined)
      rooms.push(...(await roomsUpTo(hierarchy.folder, folder, version)));
  }
  return {
    availableBytes: Number(/^MemAvailable:\s+(\d+) kB/m.exec(meminfo)?.[1] ?? 0) * 1024,
    cgroupRoomBytes: rooms.length === 0 ? undefined : Math.min(...rooms),
  };
}

/** Of the cgroup at `folder` and of all above it, as far as the mount at `top` shows them. */
async function roomsUpTo(top: string, folder: string, version: 1 | 2): Promise<number[]> {
  const rooms: number[] = [];
  for (let at = folder; at.length >= top.length; at = path.posix.dirname(at)) {
    const room = await roomOf(at, version);
    if (room !== undefined) rooms.push(room);
    if (at === '/') break;
  }
  return rooms;
}

/** cgroup-v2.rst memory.max and memory.current; cgroup-v1/memory.rst memory.limit_in_bytes and memory.usage_in_bytes. */
const FILES = { 2: ['memory.max', 'memory.current'], 1: ['memory.limit_in_bytes', 'memory.usage_in_bytes'] } as const;
/** memory.stat of either: pages of files that were not used lately. */
const DROPPABLE = { 2: /^inactive_file (\d+)$/m, 1: /^total_inactive_file (\d+)$/m } as const;
/** v1 says "no limit" with a number near 2^63. */
const NO_LIMIT = 2 ** 60;

async function roomOf(folder: string, version: 1 | 2): Promise<number | undefined> {
  const [limit, usage] = await Promise.all(FILES[version].map((file) => numberIn(path.posix.join(folder, file))));
  if (limit === undefined || usage === undefined || limit >= NO_LIMIT) return undefined;
  const stat = await readFile(path.posix.join(folder, 'memory.stat'), 'latin1').catch(() => '');
  const droppable = Number(DROPPABLE[version].exec(stat)?.[1] ?? 0);
  return Math.max(0, limit - Math.max(0, usage - droppable));
}

async function numberIn(file: string): Promise<number | undefined> {
  const text = await readFile(file, 'latin1').catch(() => '');
  return /^\d+\n?$/.test(text) ? Number(text) : undefined;
}
