import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { folderOf, parseHierarchies, parseMemberships } from './cgroup.ts';

/** How much memory the agent may still take: of the node, and of its own cgroups. */
export interface MemoryRoom {
  readonly availableBytes: number;
  /** The smallest of limit less usage, over the agent's cgroup and all above it; undefined where none has a limit. */
  readonly cgroupRoomBytes: number | undefined;
}

/**
 * Of the smallest capture beyond an agent at rest: 53 MiB were measured, the children that read for it included; with 27 left the kernel
 * ended the agent in it. docs/doctor.md#memory.
 */
export const LEAST_CAPTURE_BYTES = 56 * 2 ** 20;
/** Of one that also copies memory or reads layers, and of the `exhibit` that asks for it inside the pod. */
export const LEAST_HEAVY_BYTES = 128 * 2 ** 20;

/** What the node or the agent's own limit allows, whichever is less. */
export const leastRoomBytes = ({ availableBytes, cgroupRoomBytes }: MemoryRoom): number =>
  Math.min(availableBytes, cgroupRoomBytes ?? Number.POSITIVE_INFINITY);

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

/**
 * cgroup-v2.rst memory.max and memory.current; cgroup-v1/memory.rst memory.limit_in_bytes and memory.usage_in_bytes. `cold`: a line of
 * memory.stat, see below.
 */
const FILES = {
  2: { limit: 'memory.max', usage: 'memory.current', cold: /^inactive_file (\d+)$/m },
  1: { limit: 'memory.limit_in_bytes', usage: 'memory.usage_in_bytes', cold: /^total_inactive_file (\d+)$/m },
} as const;
/** v1 says "no limit" with a number near 2^63. */
const NO_LIMIT = 2 ** 60;

/**
 * Pages of files that were read some time ago are the cgroup's too, and the kernel takes them back before it lacks anything: an agent
 * that has read a large layer seems to be at its limit, and is not. kubelet counts the same way (its working set).
 */
async function roomOf(folder: string, version: 1 | 2): Promise<number | undefined> {
  const files = FILES[version];
  const at = (name: string) => path.posix.join(folder, name);
  const [limit, usage] = await Promise.all([numberIn(at(files.limit)), numberIn(at(files.usage))]);
  if (limit === undefined || usage === undefined || limit >= NO_LIMIT) return undefined;
  const stat = await readFile(at('memory.stat'), 'latin1').catch(() => '');
  const coldBytes = Math.min(usage, Number(files.cold.exec(stat)?.[1] ?? 0));
  return Math.max(0, limit - (usage - coldBytes));
}

async function numberIn(file: string): Promise<number | undefined> {
  const text = await readFile(file, 'latin1').catch(() => '');
  return /^\d+\n?$/.test(text) ? Number(text) : undefined;
}
