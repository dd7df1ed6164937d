import { fc } from './properties.ts';

/** Raw changes of bytes and of bundles, as data: fast-check shrinks them to the smallest that matters. */

export type ByteChange =
  | { readonly kind: 'flip'; readonly at: number; readonly bit: number }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'delete' | 'duplicate' | 'zero'; readonly at: number; readonly length: number }
  | { readonly kind: 'truncate'; readonly at: number }
  /** The beginning of this one and the end of another. */
  | { readonly kind: 'splice'; readonly at: number; readonly other: number; readonly from: number };

/** Places are fractions of the length, so that one change fits any bytes. */
const place = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const length = fc.integer({ min: 1, max: 64 });

export const byteChange: fc.Arbitrary<ByteChange> = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: place, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('insert' as const), at: place, bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }) }),
  fc.record({ kind: fc.constantFrom('delete' as const, 'duplicate' as const, 'zero' as const), at: place, length }),
  fc.record({ kind: fc.constant('truncate' as const), at: place }),
  fc.record({ kind: fc.constant('splice' as const), at: place, other: place, from: place }),
);

/** `bytes` changed; `others` are what a splice takes its end from. */
export function changeBytes(bytes: Buffer, change: ByteChange, others: readonly Buffer[]): Buffer {
  const at = Math.floor(change.at * bytes.length);
  const before = bytes.subarray(0, at);
  switch (change.kind) {
    case 'flip': {
      const flipped = Buffer.from(bytes);
      if (flipped.length > 0) flipped[at] = (flipped[at] ?? 0) ^ (1 << change.bit);
      return flipped;
    }
    case 'insert':
      return Buffer.concat([before, change.bytes, bytes.subarray(at)]);
    case 'delete':
      return Buffer.concat([before, bytes.subarray(at + change.length)]);
    case 'duplicate':
      return Buffer.concat([bytes.subarray(0, at + change.length), bytes.subarray(at)]);
    case 'zero':
      return Buffer.concat([before, Buffer.alloc(change.length), bytes.subarray(at + change.length)]);
    case 'truncate':
      return before;
    case 'splice': {
      const other = others[Math.floor(change.other * others.length)] ?? bytes;
      return Buffer.concat([before, other.subarray(Math.floor(change.from * other.length))]);
    }
    default:
      return change satisfies never;
  }
}

/**
 * Runs and seed of the fuzz tests: few and always the same, so that what fails here fails everywhere. To look longer:
 * `EXHIBIT_FUZZ_RUNS=100000`, and another `EXHIBIT_FUZZ_SEED`.
 */
export function fuzzing(runs: number): fc.Parameters<unknown> & { timeout: number } {
  const wanted = Number(process.env.EXHIBIT_FUZZ_RUNS ?? runs);
  const seed = Number(process.env.EXHIBIT_FUZZ_SEED ?? 20261127);
  // A test that is asked for more runs may take as long as they do: ten a second were seen on busy cores.
  return { numRuns: wanted, seed, interruptAfterTimeLimit: 100_000 + wanted * 100, timeout: 120_000 + wanted * 100 };
}
