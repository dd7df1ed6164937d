import type { ArtifactName } from '../../evidence/layout.ts';
import type { DiskRoom } from '../host/disk-room.ts';
import type { MemoryRoom } from '../host/memory-room.ts';
import { HEAVY_ARTIFACTS, isHeavy, type Limits, type Scarce } from '../limits.ts';

/** Whether the node has room for a capture. Pure; capture/neighbour.ts asks the node. */

export interface RoomFacts {
  readonly memory: MemoryRoom;
  /** Undefined: the kernel does not count it. */
  readonly pressurePercent: number | undefined;
  /** Of every folder on a disk that the capture would write to. */
  readonly disks: readonly DiskRoom[];
}

export interface Shortage {
  readonly of: Exclude<Scarce, 'queue'>;
  readonly why: string;
}

/**
 * What the agent's own memory must have left in its cgroup: without a buffer a heavy capture takes some 100 MiB (docs/bench.md),
 * and a killed one has taken nothing.
 */
export const LEAST_OWN_BYTES = 96 * 2 ** 20;

const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;

/** Everything that is short, in words that say the number, the limit and its key. */
export function findShortages(limits: Limits, artifacts: readonly ArtifactName[], facts: RoomFacts): Shortage[] {
  const ofMemory = artifacts.some(isHeavy) ? memoryShortages(limits.memory, facts) : [];
  return [...ofMemory, ...facts.disks.flatMap((disk) => diskShortages(limits.disk, disk))];
}

function memoryShortages(limits: Limits['memory'], { memory, pressurePercent }: RoomFacts): Shortage[] {
  const found: Shortage[] = [];
  const { minAvailableBytes, maxPressurePercent } = limits;
  const lighter = `what is taken without it: ${lightWords()}`;
  if (memory.availableBytes < minAvailableBytes)
    found.push({
      of: 'memory',
      why: `${mib(memory.availableBytes)} of memory are available on the node, and limits.memory.minAvailableBytes is ${mib(minAvailableBytes)}; ${lighter}`,
    });
  const own = memory.cgroupRoomBytes;
  if (own !== undefined && own < LEAST_OWN_BYTES && minAvailableBytes > 0)
    found.push({
      of: 'memory',
      why: `the agent's memory limit leaves it ${mib(own)}, and it needs ${mib(LEAST_OWN_BYTES)}; ${lighter}`,
    });
  if (pressurePercent !== undefined && maxPressurePercent < 100 && pressurePercent > maxPressurePercent)
    found.push({
      of: 'pressure',
      why: `the node waits for memory ${pressurePercent} % of the time (full avg10 of /proc/pressure/memory), and limits.memory.maxPressurePercent is ${maxPressurePercent}; ${lighter}`,
    });
  return found;
}

const lightWords = (): string => `everything but ${HEAVY_ARTIFACTS.join(', ')}`;

function diskShortages({ minFreeBytes, minFreePercent }: Limits['disk'], disk: DiskRoom): Shortage[] {
  const { folder, freeBytes, totalBytes, isWatched } = disk;
  const where = `the disk of ${folder}, where the capture would be written,`;
  const freePercent = totalBytes === 0 ? 100 : (freeBytes / totalBytes) * 100;
  if (freeBytes < minFreeBytes)
    return [
      { of: 'disk', why: `${where} has ${mib(freeBytes)} free, and limits.disk.minFreeBytes is ${mib(minFreeBytes)}` },
    ];
  if (!isWatched || freePercent >= minFreePercent) return [];
  return [
    {
      of: 'disk',
      why: `${where} is the node's and has ${freePercent.toFixed(1)} % free, and limits.disk.minFreePercent is ${minFreePercent}: the kubelet would evict pods`,
    },
  ];
}
