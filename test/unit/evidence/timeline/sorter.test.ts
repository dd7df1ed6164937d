import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LineShape } from '../../../../evidence/timeline/record.ts';
import { createSorter } from '../../../../evidence/timeline/sorter.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-sorter-'));
});
afterAll(async () => rm(folder, { recursive: true }));

const PLAIN: LineShape = { head: () => '', tail: '\n' };

type Line = readonly [ns: bigint, text: string];

async function sorted(lines: readonly Line[], arenaBytes: number, shape = PLAIN): Promise<string> {
  await using sorter = createSorter({ folder, arenaBytes });
  for (const [ns, text] of lines) await sorter.add(ns, text);
  const chunks: Buffer[] = [];
  for await (const chunk of sorter.sorted(shape)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

const stable = (lines: readonly Line[]): string =>
  lines
    .map(([ns, text], index) => ({ ns, text, index }))
    .sort((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : a.index - b.index))
    .map(({ text }) => `${text}\n`)
    .join('');

const seconds = fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n);
const moment = fc.oneof(
  fc.bigInt(0n, 20n),
  fc.tuple(seconds, fc.bigInt(0n, 999_999_999n)).map(([whole, nanos]) => whole * 1_000_000_000n + nanos),
);

describe('the sorter', () => {
  test.each([
    ['in memory', 1 << 20],
    ['with runs on disk', 256],
  ])('sorts by time and keeps the order of equal times, %s', async (_, arenaBytes) => {
    const lines = fc.array(fc.tuple(moment, fc.string({ unit: 'grapheme', maxLength: 30 })), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(lines, async (input) => {
        expect(await sorted(input, arenaBytes)).toBe(stable(input));
      }),
      { numRuns: 60 },
    );
  });

  test('merges more runs than it keeps, and stays in order', async () => {
    const lines = Array.from({ length: 3000 }, (_, index): Line => [BigInt((index * 7919) % 100), `line ${index}`]);
    expect(await sorted(lines, 256)).toBe(stable(lines));
  });

  test('takes lines that are larger than a window and a chunk', async () => {
    const lines: Line[] = [
      [3n, 'c'.repeat(700_000)],
      [1n, 'a'],
      [2n, 'b'.repeat(300_000)],
    ];
    expect(await sorted(lines, 1_000_000)).toBe(stable(lines));
    expect(await sorted(lines, 710_000)).toBe(stable(lines));
  });

  test('puts the head of its time before each line and the tail after it', async () => {
    const shape = { head: (ns: bigint) => `<${ns}>`, tail: '</>\n' };
    const ns = -(2n ** 63n) * 1_000_000_000n + 5n;
    expect(
      await sorted(
        [
          [7n, 'x'],
          [ns, 'é'],
        ],
        1 << 20,
        shape,
      ),
    ).toBe(`<${ns}>é</>\n<7>x</>\n`);
  });

  test('agrees with sort(1)', async () => {
    const lines = Array.from({ length: 5000 }, (_, index): Line => {
      const ns = BigInt((index * 48_271) % 9973) + 10_000n;
      return [ns, `${ns} ${index}`];
    });
    const input = lines.map(([, text]) => `${text}\n`).join('');
    const judged = execFileSync('sort', ['-s', '-n', '-k1,1'], {
      input,
      env: { LC_ALL: 'C', PATH: process.env.PATH ?? '' },
    });
    expect(await sorted(lines, 4096)).toBe(judged.toString());
  });

  test('leaves no name in the folder, not even while it works', async () => {
    await using sorter = createSorter({ folder, arenaBytes: 256 });
    for (let index = 0; index < 100; index += 1) await sorter.add(BigInt(index), 'some evidence of some length');
    expect(await readdir(folder)).toEqual([]);
    if (process.platform !== 'linux') return;
    const open = await Promise.all(
      (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
    );
    expect(open.filter((name) => name.startsWith(folder))).toEqual([expect.stringMatching(/runs \(deleted\)$/)]);
  });

  test('says what to do where the folder cannot be used', async () => {
    await using sorter = createSorter({ folder: path.join(folder, 'missing'), arenaBytes: 256 });
    const fill = async () => {
      for (let index = 0; index < 100; index += 1) await sorter.add(0n, 'some evidence of some length');
    };
    await expect(fill()).rejects.toMatchObject({ code: 'usage', message: expect.stringContaining('--temp') });
  });
});
