import type { ArtifactName } from '../../evidence/layout.ts';
import type { DiskRoom } from '../host/disk-room.ts';
import { LEAST_CAPTURE_BYTES, LEAST_HEAVY_BYTES, type MemoryRoom } from '../host/memory-room.ts';
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

const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;

/** Everything that is short, in words that say the number, the limit and its key. */
export function findShortages(limits: Limits, artifacts: readonly ArtifactName[], facts: RoomFacts): Shortage[] {
  const isHeavyOne = artifacts.some(isHeavy);
  const ofNode = isHeavyOne ? nodeShortages(limits.memory, facts) : [];
  return [
    ...ofNode,
    ...ownShortages(limits.memory, facts.memory, isHeavyOne),
    ...facts.disks.flatMap((disk) => diskShortages(limits.disk, disk)),
  ];
}

function nodeShortages(limits: Limits['memory'], { memory, pressurePercent }: RoomFacts): Shortage[] {
  const found: Shortage[] = [];
  const { minAvailableBytes, maxPressurePercent } = limits;
  const lighter = `what is taken without it: ${lightWords()}`;
  if (memory.availableBytes < minAvailableBytes)
    found.push({
      of: 'memory',
      why: `${mib(memory.availableBytes)} of memory are available on the node, and limits.memory.minAvailableBytes is ${mib(minAvailableBytes)}; ${lighter}`,
    });
  if (pressurePercent !== undefined && maxPressurePercent < 100 && pressurePercent > maxPressurePercent)
    found.push({
      of: 'pressure',
      why: `the node waits for memory ${pressurePercent} % of the time (full avg10 of /proc/pressure/memory), and limits.memory.maxPressurePercent is ${maxPressurePercent}; ${lighter}`,
    });
  return found;
}

/** A capture that does not fit below the agent's own limit is ended by the kernel, and the agent with it: the light ones too. */
function ownShortages({ minAvailableBytes }: Limits['memory'], memory: MemoryRoom, isHeavyOne: boolean): Shortage[] {
  const own = memory.cgroupRoomBytes;
  const needed = isHeavyOne ? LEAST_HEAVY_BYTES : LEAST_CAPTURE_BYTES;
  if (own === undefined || own >= needed || minAvailableBytes === 0) return [];
  const lighter = isHeavyOne && own >= LEAST_CAPTURE_BYTES ? `; what is taken without it: ${lightWords()}` : '';
  return [
    { of: 'memory', why: `the agent's memory limit leaves it ${mib(own)}, and it needs ${mib(needed)}${lighter}` },
  ];
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
