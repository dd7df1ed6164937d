import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  createStringFinder,
  type FoundString,
  MAX_STRING_CHARACTERS,
  type StringEncoding,
} from '../../../evidence/printable.ts';
import { pieces } from './memory-sink.ts';
import { requireProgram, run } from './programs.ts';
import { fc } from './properties.ts';

function find(
  bytes: Uint8Array,
  encodings: readonly StringEncoding[],
  minLength: number,
  ...sizes: number[]
): FoundString[] {
  const finder = createStringFinder(minLength, encodings);
  const found: FoundString[] = [];
  let address = 0x1000n;
  for (const piece of pieces(bytes, ...sizes)) {
    found.push(...finder.push(address, piece));
    address += BigInt(piece.length);
  }
  return [...found, ...finder.end()];
}

const shown = (found: readonly FoundString[]) => found.map(({ address, text }) => `${address - 0x1000n} ${text}`);
const wide = (text: string) => Buffer.from(text, 'utf16le');

/** Bytes in which strings of either encoding are likely, broken off and run together in all ways. */
const memory = fc
  .array(
    fc.oneof(
      fc.string({ minLength: 1, maxLength: 12 }).map((text) => Buffer.from(text)),
      fc.string({ minLength: 1, maxLength: 12 }).map(wide),
      fc.uint8Array({ maxLength: 5 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(Buffer.from([0]), Buffer.from([0, 0]), Buffer.from('\t'), Buffer.from([0x41, 0])),
    ),
    { maxLength: 20 },
  )
  .map((parts) => Buffer.concat(parts));

describe('strings in memory', () => {
  it('are the same however the memory is cut into pieces', () => {
    fc.assert(
      fc.property(
        memory,
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
        (bytes, min, sizes) => {
          const order = (found: FoundString[]) => shown(found).sort();
          const whole = find(bytes, ['ascii', 'utf16le'], min);
          expect(order(find(bytes, ['ascii', 'utf16le'], min, ...sizes))).toEqual(order(whole));
        },
      ),
    );
  });

  for (const [encoding, letter] of [
    ['ascii', 's'],
    ['utf16le', 'l'],
  ] as const) {
    it(`in ${encoding} are those that binutils finds`, (context) => {
      requireProgram(context, 'strings');
      const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-strings-'));
      try {
        const file = path.join(folder, 'memory');
        const odd = Buffer.concat([Buffer.from([1]), wide('at an odd address'), Buffer.from([7, 7])]);
        const given = [
          randomBytes(300_000),
          Buffer.from('plain text\twith a tab\0next'),
          odd,
          wide('first'),
          wide('second, which follows at once'),
          randomBytes(5001),
          Buffer.from('the last one'),
        ];
        writeFileSync(file, Buffer.concat(given));
        const judge = run(['strings', '-a', '-n', '6', '-t', 'd', '-e', letter, file]).stdout.toString('latin1');
        const expected = judge
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => line.trimStart());
        expect(shown(find(Buffer.concat(given), [encoding], 6, 4096, 777))).toEqual(expected);
        expect(expected.length).toBeGreaterThan(1);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }

  it('end where memory is missing', () => {
    const finder = createStringFinder(4, ['ascii', 'utf16le']);
    expect(finder.push(0x1000n, Buffer.concat([Buffer.from('left')]))).toEqual([]);
    expect(finder.push(0x3000n, Buffer.from('right')).map(({ text }) => text)).toEqual(['left']);
    expect(finder.end().map(({ text, address }) => [text, address])).toEqual([['right', 0x3000n]]);
  });

  it('of any length take bounded memory: what is longer comes in parts that follow one another', () => {
    const length = 3 * MAX_STRING_CHARACTERS + 5;
    const found = find(Buffer.alloc(length, 'A'), ['ascii'], 6, 100_000);
    expect(found.reduce((sum, { text }) => sum + text.length, 0)).toBe(length);
    expect(found.slice(0, -1).every(({ cut }) => cut)).toBe(true);
    expect(found.at(-1)?.cut).toBe(false);
    let next = 0x1000n;
    for (const { address, text } of found) {
      expect(address).toBe(next);
      expect(text.length).toBeLessThanOrEqual(MAX_STRING_CHARACTERS + 100_000);
      next += BigInt(text.length);
    }
  });
});
