import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  clampMoment,
  decimalSeconds,
  floorDivide,
  isoMicroseconds,
  parseMoment,
} from '../../../../evidence/timeline/moment.ts';

describe('parseMoment', () => {
  test.each([
    ['2026-03-01T12:00:00Z', 1_772_366_400_000_000_000n],
    ['2026-03-01T12:00:00.123456789Z', 1_772_366_400_123_456_789n],
    ['2026-03-01T12:00:00.5+01:00', 1_772_362_800_500_000_000n],
    ['2026-03-01 12:00:00-0530', 1_772_386_200_000_000_000n],
    ['1969-12-31T23:59:59.999999999Z', -1n],
    ['0001-01-01T00:00:00Z', -62_135_596_800_000_000_000n],
  ])('reads %s', (text, ns) => {
    expect(parseMoment(text)).toBe(ns);
  });

  test.each(['', 'now', '2026-03-01', '2026-13-01T00:00:00Z', '2026-03-01T12:00:00', '12026-03-01T12:00:00Z', '١٢'])(
    'refuses %j',
    (text) => {
      expect(parseMoment(text)).toBeUndefined();
    },
  );

  test('reads back what isoMicroseconds writes, rounded down to the microsecond', () => {
    fc.assert(
      fc.property(fc.bigInt(-62_135_596_800_000_000_000n, 253_402_300_799_999_999_999n), (ns) => {
        const text = isoMicroseconds(ns);
        expect(text).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/);
        expect(parseMoment(text)).toBe(floorDivide(ns, 1000n) * 1000n);
      }),
    );
  });
});

describe('isoMicroseconds', () => {
  test.each([
    [-(10n ** 27n), '0001-01-01T00:00:00.000000+00:00'],
    [-1n, '1969-12-31T23:59:59.999999+00:00'],
    [0n, '1970-01-01T00:00:00.000000+00:00'],
    [2n ** 31n * 1_000_000_000n, '2038-01-19T03:14:08.000000+00:00'],
    [2n ** 63n * 1_000_000_000n, '9999-12-31T23:59:59.999999+00:00'],
  ])('shows %d ns as %s', (ns, text) => {
    expect(isoMicroseconds(ns)).toBe(text);
  });

  test('keeps the order of the times', () => {
    const beyond = 2n ** 63n * 1_000_000_000n;
    fc.assert(
      fc.property(fc.bigInt(-beyond, beyond), fc.bigInt(-beyond, beyond), (a, b) => {
        const [first, second] = a < b ? [a, b] : [b, a];
        expect(isoMicroseconds(first) <= isoMicroseconds(second)).toBe(true);
        expect(clampMoment(first) <= clampMoment(second)).toBe(true);
      }),
    );
  });
});

describe('decimalSeconds', () => {
  test.each([
    [1_500_000_000n, '1.500000000'],
    [-1n, '-0.000000001'],
    [0n, '0.000000000'],
  ])('shows %d ns as %s', (ns, text) => {
    expect(decimalSeconds(ns)).toBe(text);
  });
});
