import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chooseVictims, spoolLimit, type Waiting } from '../../../agent/sink/spool-room.ts';

const GIB = 2 ** 30;
const part = (volatility: number, startedAtMs: number, folder: string, number: number, sizeBytes = 10): Waiting => ({
  volatility,
  startedAtMs,
  folder,
  number,
  sizeBytes,
});

describe('what is given up for room', () => {
  test('is the least volatile first, then the newest capture’s, and of an object its end', () => {
    const waiting = [
      part(4, 1, 'old rootfs', 1),
      part(4, 1, 'old rootfs', 2),
      part(4, 2, 'new rootfs', 1),
      part(5, 1, 'logs', 1),
      part(2, 9, 'memory', 1),
    ];
    const order = chooseVictims(waiting, { volatility: 2 }, 40)?.map(({ folder, number }) => `${folder} ${number}`);
    expect(order).toEqual(['logs 1', 'new rootfs 1', 'old rootfs 2', 'old rootfs 1']);
  });

  test('is nothing where all that is less volatile would still be too little', () => {
    const waiting = [part(4, 1, 'rootfs', 1), part(2, 1, 'memory', 1)];
    expect(chooseVictims(waiting, { volatility: 2 }, 11)).toBeUndefined();
    expect(chooseVictims(waiting, { volatility: 2 }, 10)).toHaveLength(1);
    expect(chooseVictims(waiting, { volatility: 4 }, 1)).toBeUndefined();
  });

  test('is never as volatile as what needs the room, and never more than is needed', () => {
    const any = fc.record({
      volatility: fc.integer({ min: 0, max: 7 }),
      startedAtMs: fc.integer({ min: 0, max: 3 }),
      folder: fc.constantFrom('a', 'b', 'c'),
      number: fc.integer({ min: 1, max: 9 }),
      sizeBytes: fc.integer({ min: 1, max: 100 }),
    });
    fc.assert(
      fc.property(
        fc.array(any),
        fc.integer({ min: 0, max: 7 }),
        fc.integer({ min: 1, max: 300 }),
        (waiting, own, needed) => {
          const victims = chooseVictims(waiting, { volatility: own }, needed) ?? [];
          const sum = (all: readonly Waiting[]) => all.reduce((total, one) => total + one.sizeBytes, 0);
          const least = Math.max(...waiting.map(({ volatility }) => volatility), 0);
          if (victims.length > 0) {
            expect(victims.every(({ volatility }) => volatility > own)).toBe(true);
            expect(victims[0]?.volatility).toBe(least);
            expect(sum(victims)).toBeGreaterThanOrEqual(needed);
            expect(sum(victims.slice(0, -1))).toBeLessThan(needed);
          } else {
            expect(sum(waiting.filter(({ volatility }) => volatility > own))).toBeLessThan(needed);
          }
        },
      ),
    );
  });
});

describe('the bound on the spool', () => {
  test('is the configured one on a disk', () => {
    expect(spoolLimit(GIB, 0, undefined)).toBe(GIB);
  });

  test('leaves half of the memory that is free, to the node and in the agent’s own cgroup', () => {
    expect(spoolLimit(GIB, 0, { availableBytes: 8 * GIB, cgroupRoomBytes: undefined })).toBe(GIB);
    expect(spoolLimit(GIB, 0, { availableBytes: GIB, cgroupRoomBytes: undefined })).toBe(GIB / 2);
    expect(spoolLimit(GIB, 100, { availableBytes: 8 * GIB, cgroupRoomBytes: 1000 })).toBe(600);
    expect(spoolLimit(GIB, 100, { availableBytes: 0, cgroupRoomBytes: undefined })).toBe(100);
  });
});
