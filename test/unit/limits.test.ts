import { describe, expect, test } from 'vitest';
import { HEAVY_ARTIFACTS, limitsSchema } from '../../agent/limits.ts';
import { ARTIFACTS } from '../../evidence/layout.ts';

describe('the limits', () => {
  test.each([
    [
      'less than 1 MiB/s from disks, which would hold one piece up for more than a second',
      { readBytesPerSecond: 2 ** 20 - 1 },
    ],
    [
      'less than 64 KiB/s to S3, at which a part takes longer than its connection',
      { uploadBytesPerSecond: 2 ** 16 - 1 },
    ],
    ['a line of more than 64', { queue: { length: 65 } }],
    ['a wait of less than a second', { queue: { waitMs: 999 } }],
    ['a wait of more than a day', { queue: { waitMs: 86_400_001 } }],
    ['less than nothing of a core', { cpuPercent: -1 }],
    ['more of a disk than there is', { disk: { minFreePercent: 101 } }],
    ['a trigger that there is not', { override: ['anybody'] }],
    ['a key that is none', { cpuPercents: 50 }],
  ])('refuse %s', (_what, limits) => {
    expect(limitsSchema.safeParse(limits).success).toBe(false);
  });

  test('take the least and the most of each', () => {
    for (const least of [
      { readBytesPerSecond: 2 ** 20, uploadBytesPerSecond: 2 ** 16, queue: { length: 0, waitMs: 1000 }, cpuPercent: 1 },
      {
        readBytesPerSecond: 0,
        cpuPercent: 0,
        queue: { length: 64, waitMs: 86_400_000 },
        disk: { minFreePercent: 100 },
      },
    ])
      expect(limitsSchema.parse(least)).toMatchObject(least);
  });

  test('let nobody pass them who was not named', () => {
    expect(limitsSchema.parse({}).override).toEqual([]);
  });

  test('hold back everything but what is small and gone first', () => {
    expect(ARTIFACTS.filter((one) => !HEAVY_ARTIFACTS.includes(one)).sort()).toEqual([
      'network',
      'node',
      'processes',
      'spec',
    ]);
  });
});
