import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeLz4Block } from '../../../agent/host/lz4-block.ts';

/** The encoder of these tests: matches wherever the last four bytes were seen, as the format's description has it. */
function encode(bytes: Uint8Array): Buffer {
  const out: number[] = [];
  const seen = new Map<string, number>();
  const length = (value: number): void => {
    let left = value - 15;
    for (; left >= 255; left -= 255) out.push(255);
    if (left >= 0) out.push(left);
  };
  let [from, at] = [0, 0];
  const sequence = (until: number, match: { distance: number; length: number } | undefined): void => {
    const literals = until - from;
    const beyond = match === undefined ? 0 : match.length - 4;
    out.push((Math.min(literals, 15) << 4) | Math.min(beyond, 15));
    length(literals);
    out.push(...bytes.subarray(from, until));
    if (match === undefined) return;
    out.push(match.distance & 255, match.distance >> 8);
    length(beyond);
  };
  while (at + 4 <= bytes.length - 5) {
    const key = bytes.subarray(at, at + 4).join();
    const before = seen.get(key);
    seen.set(key, at);
    if (before === undefined || at - before > 65_535) {
      at += 1;
      continue;
    }
    let size = 4;
    while (at + size < bytes.length - 5 && bytes[before + size] === bytes[at + size]) size += 1;
    sequence(at, { distance: at - before, length: size });
    at += size;
    from = at;
  }
  sequence(bytes.length, undefined);
  return Buffer.from(out);
}

const repetitive = fc.array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.nat(90)), { maxLength: 12 });

test('a block gives back what was packed, however it repeats itself', () => {
  fc.assert(
    fc.property(repetitive, (runs) => {
      const bytes = Buffer.concat(runs.flatMap(([piece, times]) => Array.from({ length: times }, () => piece)));
      expect(decodeLz4Block(encode(bytes), bytes.length)).toEqual(bytes);
    }),
  );
});

test('a match that reaches into itself repeats it', () => {
  // One literal, a match of nine at distance one, then five literals.
  const block = Buffer.from([0x15, 0x61, 1, 0, 0x50, ...Buffer.from('bcdef')]);
  expect(decodeLz4Block(block, 15)?.toString()).toBe('aaaaaaaaaabcdef');
});

test('a damaged block gives nothing, and nothing is read or written beyond the buffers', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(200), (block, size) => {
      const decoded = decodeLz4Block(block, size);
      expect(decoded === undefined || decoded.length === size).toBe(true);
    }),
  );
  expect(decodeLz4Block(Buffer.from([0x00, 5, 0]), 4)).toBeUndefined();
  expect(decodeLz4Block(Buffer.from([0xf0, 255, 255]), 4)).toBeUndefined();
});
