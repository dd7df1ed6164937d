import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nextRate, type Progress, type Rate } from '../../../../controller/capture/rate.ts';

const at = (atMs: number, doneBytes: number, totalBytes = 0, stage = 'memory'): Progress => ({
  ...{ stage, doneBytes, totalBytes, atMs },
});

const rateOf = (...all: Progress[]): Rate | undefined =>
  all.reduce<Rate | undefined>((before, one) => nextRate(before, one), undefined);

describe('the rate of a stage', () => {
  test('is not known from one report', () => {
    expect(rateOf(at(0, 500, 1_000))).toMatchObject({ bytesPerSecond: 0, remainingMs: 0 });
  });

  test('of a steady stage is its speed, and the rest takes that long', () => {
    const rate = rateOf(...Array.from({ length: 10 }, (_, second) => at(second * 1_000, second * 100, 2_000)));
    expect(rate?.bytesPerSecond).toBeCloseTo(100);
    expect(rate?.remainingMs).toBe(11_000);
  });

  test('follows a new pace within some seconds, and not at once', () => {
    const slow = [at(0, 0), at(1_000, 100), at(2_000, 200)];
    const fast = Array.from({ length: 20 }, (_, second) => at(3_000 + second * 1_000, 1_200 + second * 1_000));
    expect(rateOf(...slow, ...fast.slice(0, 1))?.bytesPerSecond).toBeLessThan(400);
    expect(rateOf(...slow, ...fast)?.bytesPerSecond).toBeGreaterThan(950);
  });

  test('begins anew with another stage, and where the count goes back', () => {
    expect(rateOf(at(0, 0), at(1_000, 100), at(2_000, 50, 0, 'rootfs'))?.bytesPerSecond).toBe(0);
    expect(rateOf(at(0, 0), at(1_000, 100), at(2_000, 50))?.bytesPerSecond).toBe(0);
  });

  test('is a number that people can read, whatever an agent reports', () => {
    const number = fc.nat(Number.MAX_SAFE_INTEGER);
    const reports = fc.array(
      fc.record({ stage: fc.constantFrom('a', 'b'), doneBytes: number, totalBytes: number, atMs: number }),
    );
    fc.assert(
      fc.property(reports, (all) => {
        const { bytesPerSecond = 0, remainingMs = 0 } = rateOf(...all) ?? {};
        expect(Number.isFinite(bytesPerSecond) && bytesPerSecond >= 0).toBe(true);
        expect(Number.isSafeInteger(remainingMs) && remainingMs >= 0).toBe(true);
      }),
    );
  });
});
