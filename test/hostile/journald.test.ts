import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exportEntry } from '../../agent/host/journald-export.ts';
import { JournaldFile } from '../../agent/host/journald-file.ts';
import { ARRAY_ITEMS_AT, OBJECT, parseHeader } from '../../agent/host/journald-format.ts';
import { WindowedFile } from '../../agent/host/windowed-file.ts';
import { judge, requireLogJudges } from '../lab/log-judges.ts';
import { SAMPLE_ENTRIES, type SampleJournal, sampleJournal } from '../unit/fixtures/journal/journals.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-journald-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Reading {
  readonly entries: number;
  readonly fields: number;
  readonly damage: readonly string[];
  /** Latin-1. */
  readonly exported: string;
}

/** All that can be read, or why nothing can; it must come to its end. */
function readAll(bytes: Uint8Array): Reading | string {
  const file = path.join(folder, 'some.journal');
  writeFileSync(file, bytes);
  const fd = openSync(file, 'r');
  try {
    return readFile(fd, bytes.length);
  } finally {
    closeSync(fd);
  }
}

function readFile(fd: number, sizeBytes: number): Reading | string {
  const journal = JournaldFile.open(new WindowedFile(fd, sizeBytes));
  if (typeof journal === 'string') return journal;
  let [entries, fields] = [0, 0];
  const exported: Buffer[] = [];
  for (let index = journal.firstSince(0n); index < journal.count; index += 1) {
    const entry = journal.entry(index);
    if (entry === undefined) continue;
    entries += 1;
    const read = entry.items.flatMap((offset) => {
      const reading = journal.field(offset);
      return reading.kind === 'read' ? [reading.bytes] : [];
    });
    fields += read.length;
    exported.push(exportEntry(entry, journal.header.seqnumId, read));
  }
  return { entries, fields, damage: [...journal.damage], exported: Buffer.concat(exported).toString('latin1') };
}

/** What is not zeros lies in the header, and from the first object after the hash tables on. */
function arrayOffset(bytes: Buffer): number {
  const header = parseHeader(bytes);
  if (typeof header === 'string') throw new Error(header);
  return header.entryArrayOffset;
}

const FLAVOURS: readonly SampleJournal[] = ['regular', 'compact'];

test('flipped bits give fewer entries, damage or a reason, and never an error or no end', () => {
  for (const flavour of FLAVOURS) {
    const whole = sampleJournal(flavour);
    const array = arrayOffset(whole);
    // The objects of the entries lie around their array; the header decides over all of them.
    const place = fc.oneof(fc.nat(271), fc.integer({ min: array - 4000, max: array + 6000 }));
    const flips = fc.array(fc.tuple(place, fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 6 });
    const file = path.join(folder, `${flavour}.journal`);
    writeFileSync(file, whole);
    const fd = openSync(file, 'r+');
    fc.assert(
      fc.property(flips, (chosen) => {
        for (const [at, mask] of chosen) writeSync(fd, Uint8Array.of(whole.readUInt8(at) ^ mask), 0, 1, at);
        const reading = readFile(fd, whole.length);
        if (typeof reading !== 'string') expect(reading.entries).toBeLessThanOrEqual(whole.length / 4);
        for (const [at] of chosen) writeSync(fd, whole, at, 1, at);
      }),
      { numRuns: 300 },
    );
    closeSync(fd);
  }
});

test('a journal that is cut anywhere is read as far as it goes', () => {
  const whole = sampleJournal('regular');
  const array = arrayOffset(whole);
  for (const sizeBytes of [0, 7, 8, 207, 208, 271, 272, array - 1, array, array + 23, array + 24, array + 3000]) {
    const reading = readAll(whole.subarray(0, sizeBytes));
    if (sizeBytes < 208) expect(reading).toBe('it is too short for a journal');
    else expect(typeof reading === 'object' ? reading.entries : 0).toBeLessThan(SAMPLE_ENTRIES);
  }
});

test('a list of entries that leads back to itself ends, and is damage', () => {
  const bytes = sampleJournal('regular');
  const array = arrayOffset(bytes);
  bytes.writeBigUInt64LE(BigInt(array), array + 16);
  // As if there were more than fit.
  bytes.writeBigUInt64LE(1_000_000n, 152);
  expect(readAll(bytes)).toMatchObject({
    damage: [expect.stringMatching(/^the list of entries leads backwards after \d+ of/)],
  });
});

test('offsets at the end of what numbers can say are no offsets', () => {
  for (const offset of [1n, 8n, 0xffff_ffff_ffff_fff8n, 0x1f_ffff_ffff_fff8n, 0x7fff_fff8n]) {
    const bytes = sampleJournal('regular');
    bytes.writeBigUInt64LE(offset, arrayOffset(bytes) + ARRAY_ITEMS_AT);
    expect(readAll(bytes)).toMatchObject({ entries: SAMPLE_ENTRIES - 1 });
  }
});

test('an object whose size is nothing, or all, is damage', () => {
  for (const size of [0n, 15n, 0xffff_ffff_ffff_ffffn, 1n << 40n]) {
    const bytes = sampleJournal('regular');
    const first = Number(bytes.readBigUInt64LE(arrayOffset(bytes) + ARRAY_ITEMS_AT));
    expect(bytes.readUInt8(first)).toBe(OBJECT.entry);
    bytes.writeBigUInt64LE(size, first + 8);
    expect(readAll(bytes)).toMatchObject({ entries: SAMPLE_ENTRIES - 1, damage: ['an entry is damaged'] });
  }
});

test('a file of a format that is not known yet is not read', () => {
  const bytes = sampleJournal('regular');
  bytes.writeUInt32LE(1 << 20, 12);
  expect(readAll(bytes)).toBe('it is of a newer format (incompatible flags 0x100000)');
});

test('noise is no journal', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      expect(typeof readAll(bytes)).toBe('string');
    }),
  );
});

test('what journalctl verifies is read without damage and as journalctl reads it, whichever bits were flipped', (context) => {
  requireLogJudges(context);
  const whole = sampleJournal('regular');
  const array = arrayOffset(whole);
  const flip = fc.tuple(fc.integer({ min: array - 3000, max: array + 5000 }), fc.integer({ min: 1, max: 255 }));
  let verified = 0;
  fc.assert(
    fc.property(flip, ([at, mask]) => {
      const bytes = Buffer.from(whole);
      bytes.writeUInt8(bytes.readUInt8(at) ^ mask, at);
      const file = path.join(folder, 'some.journal');
      const reading = readAll(bytes);
      if (judge('journalctl', ['--verify', '--file', file]).status !== 0) return;
      verified += 1;
      const told = judge('journalctl', ['--file', file, '-o', 'export', '--no-pager']).stdout.toString('latin1');
      expect(reading).toMatchObject({ damage: [], exported: told.replaceAll(/^__SEQNUM(_ID)?=.*\n/gm, '') });
    }),
    { numRuns: 40, examples: [[[whole.length - 1, 1]]] },
  );
  expect(verified).toBeGreaterThan(0);
}, 60_000);
