import { describe, expect, test } from 'vitest';
import { findShortages, type RoomFacts } from '../../../agent/capture/room.ts';
import { LEAST_CAPTURE_BYTES, LEAST_HEAVY_BYTES } from '../../../agent/host/memory-room.ts';
import { limitsSchema } from '../../../agent/limits.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const limits = limitsSchema.parse({});
const disk = { folder: '/evidence', freeBytes: 50 * GIB, totalBytes: 100 * GIB, isWatched: true };

const facts = (over: Partial<RoomFacts> = {}): RoomFacts => ({
  memory: { availableBytes: 4 * GIB, cgroupRoomBytes: undefined },
  pressurePercent: 0,
  disks: [],
  ...over,
});
const memory = (availableBytes: number, cgroupRoomBytes?: number) =>
  facts({ memory: { availableBytes, cgroupRoomBytes } });

describe('a node', () => {
  test('with room for everything lacks nothing', () => {
    expect(findShortages(limits, ['memory', 'rootfs'], facts({ disks: [disk] }))).toEqual([]);
  });

  test.each([
    [
      '64 MiB left',
      memory(64 * MIB),
      'memory',
      '64 MiB of memory are available on the node, and limits.memory.minAvailableBytes is 256 MiB',
    ],
    [
      'an agent at its limit',
      memory(4 * GIB, 100 * MIB),
      'memory',
      "the agent's memory limit leaves it 100 MiB, and it needs 128 MiB; what is taken without it: everything but memory",
    ],
    [
      'everything waiting for memory',
      facts({ pressurePercent: 35.2 }),
      'pressure',
      'waits for memory 35.2 % of the time',
    ],
  ])('with %s refuses a heavy capture in words that say the limit, and lets a light one pass', (_, short, of, why) => {
    expect(findShortages(limits, ['processes', 'memory'], short)).toEqual([{ of, why: expect.stringContaining(why) }]);
    expect(findShortages(limits, ['processes', 'network', 'node', 'spec'], short)).toEqual([]);
  });

  test('whose agent has too little for any capture refuses a light one as well, and promises nothing lighter', () => {
    const short = memory(4 * GIB, 27 * MIB);
    expect(findShortages(limits, ['processes'], short)).toEqual([
      { of: 'memory', why: "the agent's memory limit leaves it 27 MiB, and it needs 56 MiB" },
    ]);
    expect(findShortages(limits, ['memory'], short)).toEqual([
      { of: 'memory', why: "the agent's memory limit leaves it 27 MiB, and it needs 128 MiB" },
    ]);
    expect(findShortages(limits, ['processes'], memory(4 * GIB, LEAST_CAPTURE_BYTES))).toEqual([]);
    const unlimited = limitsSchema.parse({ memory: { minAvailableBytes: 0 } });
    expect(findShortages(unlimited, ['processes'], short)).toEqual([]);
  });

  test('exactly at its limits is not short', () => {
    const at = facts({
      memory: { availableBytes: 256 * MIB, cgroupRoomBytes: LEAST_HEAVY_BYTES },
      pressurePercent: 20,
      disks: [{ ...disk, freeBytes: 15 * GIB }],
    });
    expect(findShortages(limits, ['memory'], at)).toEqual([]);
  });

  test('whose kernel does not count pressure is judged by the rest', () => {
    expect(findShortages(limits, ['memory'], facts({ pressurePercent: undefined }))).toEqual([]);
  });

  test.each([
    [
      'a disk with little left',
      { ...disk, freeBytes: 500 * MIB, isWatched: false },
      'has 500 MiB free, and limits.disk.minFreeBytes is 1024 MiB',
    ],
    [
      "the kubelet's disk nearly full",
      { ...disk, freeBytes: 9 * GIB },
      'has 9.0 % free, and limits.disk.minFreePercent is 15: the kubelet would evict pods',
    ],
  ])('refuses even a light capture that would be written to %s', (_, full, why) => {
    const found = findShortages(limits, ['processes'], facts({ disks: [full] }));
    expect(found).toEqual([
      { of: 'disk', why: expect.stringContaining(`/evidence, where the capture would be written, `) },
    ]);
    expect(found[0]?.why).toContain(why);
  });

  test('may fill a disk of its own to the last GiB', () => {
    expect(
      findShortages(limits, ['memory'], facts({ disks: [{ ...disk, freeBytes: 2 * GIB, isWatched: false }] })),
    ).toEqual([]);
  });

  test('is exactly at the least that is to stay free, and not below it', () => {
    const at = { ...disk, freeBytes: 1 * GIB, isWatched: false };
    expect(findShortages(limits, ['memory'], facts({ disks: [at] }))).toEqual([]);
    expect(findShortages(limits, ['memory'], facts({ disks: [{ ...at, freeBytes: GIB - 1 }] }))).toHaveLength(1);
  });

  test('is not called full where its size is not known', () => {
    const unsized = { ...disk, freeBytes: 2 * GIB, totalBytes: 0 };
    expect(findShortages(limits, ['memory'], facts({ disks: [unsized] }))).toEqual([]);
  });

  test('is not asked where the limits say so', () => {
    const none = limitsSchema.parse({
      memory: { minAvailableBytes: 0, maxPressurePercent: 100 },
      disk: { minFreeBytes: 0, minFreePercent: 0 },
    });
    const nothing = facts({
      memory: { availableBytes: 0, cgroupRoomBytes: 0 },
      pressurePercent: 100,
      disks: [{ ...disk, freeBytes: 0 }],
    });
    expect(findShortages(none, ['memory'], nothing)).toEqual([]);
  });
});
