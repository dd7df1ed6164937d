import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PartBuffer } from '../../../agent/sink/s3-part-buffer.ts';
import {
  DEFAULT_PART_BYTES,
  MAX_PART_BYTES,
  MAX_PARTS,
  nextPartBytes,
  partBytesUnderCap,
  partsInFlight,
  partsUnderCap,
} from '../../../agent/sink/s3-parts.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;

/** Cuts an object into parts; undefined when 10,000 of them are not enough. */
function cut(sizeBytes: number, estimatedBytes: number): { parts: number; largestBytes: number } | undefined {
  let parts = 0;
  let largestBytes = 0;
  for (let sent = 0; sent < sizeBytes; parts += 1) {
    if (parts === MAX_PARTS) return undefined;
    const next = nextPartBytes(sent, estimatedBytes, DEFAULT_PART_BYTES);
    largestBytes = Math.max(largestBytes, next);
    sent += next;
  }
  return { parts, largestBytes };
}

describe('parts', () => {
  test('of an object of unknown length reach 5 TiB, S3’s limit until December 2025', () => {
    expect(cut(5 * TIB, 0)).toBeDefined();
  });

  test('of an object that was estimated reach 48.8 TiB, S3’s limit since', () => {
    expect(cut(MAX_PARTS * MAX_PART_BYTES, MAX_PARTS * MAX_PART_BYTES)).toEqual({
      parts: MAX_PARTS,
      largestBytes: MAX_PART_BYTES,
    });
  });

  test('of an estimate of 48 TiB are no more than 10,000, and no more when it was 1% too low', () => {
    expect(cut(48 * TIB, 48 * TIB)?.parts).toBe(9831);
    expect(cut(48.48 * TIB, 48 * TIB)?.parts).toBeLessThanOrEqual(MAX_PARTS);
  });

  test('of an unknown length grow as the docs say', () => {
    expect(cut(9.7 * GIB, 0)?.largestBytes).toBe(8 * MIB);
    expect(cut(9.9 * GIB, 0)?.largestBytes).toBe(9 * MIB);
    expect(cut(100 * GIB, 0)?.largestBytes).toBe(82 * MIB);
    expect(cut(9.7 * TIB, 0)?.parts).toBeLessThanOrEqual(MAX_PARTS);
    expect(cut(9.8 * TIB, 0)).toBeUndefined();
  });

  test('under a bandwidth cap are small, and on their way for a second together', () => {
    expect([undefined, 10 * MIB, MIB].map(partBytesUnderCap)).toEqual([8 * MIB, 8 * MIB, 5 * MIB]);
    expect(partsUnderCap(8 * MIB, 4, undefined)).toBe(4);
    expect(partsUnderCap(8 * MIB, 4, 1000 * MIB)).toBe(4);
    expect(partsUnderCap(8 * MIB, 4, 20 * MIB)).toBe(2);
    expect(partsUnderCap(5 * MIB, 4, MIB)).toBe(1);
  });

  test('stay as small as memory likes it for what a node holds', () => {
    expect(cut(9 * GIB, 0)?.largestBytes).toBe(8 * MIB);
    expect(cut(100 * GIB, 0)?.largestBytes).toBeLessThanOrEqual(82 * MIB);
    expect(cut(100 * GIB, 100 * GIB)?.largestBytes).toBe(21 * MIB);
  });

  test('suffice where the estimate was too low by a factor of fifty, or far too high', () => {
    for (const estimate of [1, GIB, 100 * GIB, TIB / 10]) {
      expect(cut(estimate * 50, estimate)).toBeDefined();
      expect(cut(1, estimate)).toBeDefined();
    }
  });

  test('are within S3’s limits whatever the numbers are', () => {
    const size = fc.double({ min: 0, max: 50 * TIB, noNaN: true });
    fc.assert(
      fc.property(size, size, (sent, estimate) => {
        const next = nextPartBytes(Math.floor(sent), Math.floor(estimate), DEFAULT_PART_BYTES);
        expect(next).toBeGreaterThanOrEqual(5 * MIB);
        expect(next).toBeLessThanOrEqual(5 * GIB);
        expect(Number.isInteger(next)).toBe(true);
      }),
    );
  });

  test('go one by one once they are large, so that memory stays at two of them', () => {
    expect(partsInFlight(8 * MIB, 4)).toBe(4);
    expect(partsInFlight(32 * MIB, 4)).toBe(2);
    expect(partsInFlight(5 * GIB, 32)).toBe(1);
  });
});

describe('a part being filled', () => {
  test('holds what was put in, up to its limit, and gives back the rest', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 300_000 }), { maxLength: 6 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 400_000 }), (chunks, limit) => {
        const part = new PartBuffer(limit);
        const whole = Buffer.concat(chunks.map((size, index) => Buffer.alloc(size, index + 1)));
        let rest: Uint8Array = whole;
        let at = 0;
        for (const size of chunks) {
          rest = part.take(whole.subarray(at, at + size));
          at += size - rest.length;
          if (rest.length > 0) break;
        }
        expect(part.bytes.equals(whole.subarray(0, Math.min(limit, whole.length)))).toBe(true);
        expect(part.full).toBe(whole.length >= limit);
      }),
      { numRuns: 50 },
    );
  });
});
