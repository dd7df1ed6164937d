import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { createHexDump } from '../../../cli/hexdump.ts';
import { requireProgram } from '../evidence/programs.ts';
import { fc } from '../evidence/properties.ts';

describe('a hex dump', () => {
  test('of zeros is the same whether they are bytes or only known', () => {
    fc.assert(
      fc.property(
        fc.nat(100),
        fc.integer({ min: 1, max: 700 }),
        fc.uint8Array({ maxLength: 40 }),
        (start, length, after) => {
          const [known, bytes] = [createHexDump(), createHexDump()];
          const end = BigInt(start + length);
          const one = known.zeros(BigInt(start), end) + known.bytes(end, after) + known.end();
          const all = new Uint8Array(length + after.length);
          all.set(after, length);
          expect(one).toBe(bytes.bytes(BigInt(start), all) + bytes.end());
        },
      ),
    );
  });

  test('of a terabyte of zeros is short', () => {
    const dump = createHexDump();
    expect((dump.zeros(0x1008n, 1n << 40n) + dump.end()).split('\n').length).toBeLessThan(6);
  });

  test('has the cells that xxd has', (context) => {
    requireProgram(context, 'xxd');
    const bytes = Buffer.from(Array.from({ length: 256 + 7 }, (_, index) => (index * 7) & 0xff));
    const judge = spawnSync('xxd', ['-g', '1', '-o', '0x555500000000'], { input: bytes }).stdout.toString();
    const dump = createHexDump();
    const lines = dump.bytes(0x5555_0000_0000n, bytes) + dump.end();
    const cells = (text: string) =>
      text
        .trim()
        .split('\n')
        .map((line) => line.replace(/^[0-9a-f]+:? +/, '').trimEnd());
    expect(cells(lines)).toEqual(cells(judge));
  });

  test('marks a hole in a line of its own, in the middle of a row as well', () => {
    const dump = createHexDump();
    const words =
      dump.bytes(0n, Buffer.from('abc')) + dump.mark(3n, 5n, 'gone') + dump.bytes(5n, Buffer.from('f')) + dump.end();
    expect(words.split('\n').map((line) => line.slice(0, 28).trimEnd())).toEqual([
      '0000000000000000  61 62 63',
      '0000000000000003  -- gone (u',
      '0000000000000005  66',
      '',
    ]);
  });
});
