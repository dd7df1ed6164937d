import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { exportEntry } from '../../../agent/host/journald-export.ts';
import { JournaldFile, MAX_FIELD_BYTES } from '../../../agent/host/journald-file.ts';
import { payloadAt } from '../../../agent/host/journald-format.ts';
import { WINDOW_BYTES, WindowedFile } from '../../../agent/host/windowed-file.ts';
import { judge, makeJournal, requireLogJudges } from '../../lab/log-judges.ts';
import {
  exported,
  SAMPLE_BEGIN_US,
  SAMPLE_ENTRIES,
  sampleExport,
  sampleJournal,
} from '../fixtures/journal/journals.ts';

let folder = '';
const opened: number[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-journald-'));
});
afterEach(() => {
  for (const fd of opened.splice(0)) closeSync(fd);
  rmSync(folder, { recursive: true, force: true });
});

function windowed(bytes: Uint8Array | string): WindowedFile {
  const file = typeof bytes === 'string' ? bytes : path.join(folder, 'some.journal');
  if (typeof bytes !== 'string') writeFileSync(file, bytes);
  const fd = openSync(file, 'r');
  opened.push(fd);
  return new WindowedFile(fd, readFileSync(file).length);
}

function open(bytes: Uint8Array | string): JournaldFile {
  const journal = JournaldFile.open(windowed(bytes));
  if (typeof journal === 'string') throw new Error(journal);
  return journal;
}

/** As a capture writes it, all of it. */
function exportAll(journal: JournaldFile): Buffer {
  const entries = Array.from({ length: journal.count }, (_, index) => {
    const entry = journal.entry(index);
    if (entry === undefined) throw new Error(`entry ${index} cannot be read`);
    const fields = entry.items.map((offset) => {
      const reading = journal.field(offset);
      if (reading.kind === 'missing') throw new Error(`a field is missing: ${reading.why}`);
      return reading.bytes;
    });
    return exportEntry(entry, journal.header.seqnumId, fields);
  });
  return Buffer.concat(entries);
}

/** Newer journalctl adds two lines to each entry that are no fields. */
const journalctl = (file: string): Buffer => {
  const told = judge('journalctl', ['--file', file, '-o', 'export', '--no-pager']);
  expect(told.status, told.stderr).toBe(0);
  const text = told.stdout.toString('latin1').replaceAll(/^__SEQNUM(_ID)?=.*\n/gm, '');
  return Buffer.from(text, 'latin1');
};

describe('a journal that systemd wrote', () => {
  for (const compact of [false, true]) {
    for (const keyedHash of [true, false]) {
      const name = `${compact ? 'compact' : 'regular'}, with ${keyedHash ? 'keyed' : 'plain'} hashes`;
      test(`is exported byte for byte as journalctl does: ${name}`, (context) => {
        requireLogJudges(context);
        const file = path.join(folder, 'made.journal');
        makeJournal(file, sampleExport(3000), { compact, keyedHash });
        const journal = open(file);
        expect(journal.header).toMatchObject({ compact, entries: 3000 });
        expect(exportAll(journal).equals(journalctl(file))).toBe(true);
        expect([...journal.damage]).toEqual([]);
      });
    }
  }

  test('is exported so whatever its fields hold', (context) => {
    requireLogJudges(context);
    const value = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 80 }),
      fc.uint8Array({ maxLength: 80 }),
      fc.string({
        unit: fc.constantFrom('a', '\n', '\t', '\0', '\x7f', '\x80', '\ufffe', '\ufeff', 'é'),
        maxLength: 9,
      }),
      fc.nat(200_000).map((length) => 'z'.repeat(length)),
    );
    let run = 0;
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 60 }), (values) => {
        run += 1;
        const file = path.join(folder, `${run}.journal`);
        const entries = values.map((MESSAGE, index) =>
          exported(SAMPLE_BEGIN_US + BigInt(index), { MESSAGE, N: `${index}` }),
        );
        makeJournal(file, Buffer.concat(entries));
        expect(exportAll(open(file)).equals(journalctl(file))).toBe(true);
      }),
      { numRuns: 4 },
    );
  }, 60_000);

  test('becomes a journal again from what is exported', (context) => {
    requireLogJudges(context);
    const first = path.join(folder, 'first.journal');
    const again = path.join(folder, 'again.journal');
    makeJournal(first, sampleExport(200));
    makeJournal(again, exportAll(open(first)));
    const lines = (file: string) =>
      judge('journalctl', ['--file', file, '-o', 'short-iso-precise', '--no-pager', '--utc', '-a']).stdout;
    expect(lines(again).length).toBeGreaterThan(200 * 20);
    expect(lines(again).equals(lines(first))).toBe(true);
  });

  test('verifies, and is read in small pieces', (context) => {
    requireLogJudges(context);
    const file = path.join(folder, 'made.journal');
    makeJournal(file, sampleExport(20_000), { compact: true });
    expect(judge('journalctl', ['--verify', '--file', file]).status).toBe(0);
    const source = windowed(file);
    const journal = JournaldFile.open(source);
    if (typeof journal === 'string') throw new Error(journal);
    const last = journal.firstSince(SAMPLE_BEGIN_US + 19_990n * 1_000_000n);
    expect(last).toBe(19_990);
    // Bisecting reads a window or two a step, and not the file.
    expect(source.bytesRead).toBeLessThan(40 * WINDOW_BYTES);
    expect(source.sizeBytes).toBeGreaterThanOrEqual(8 * 1024 * 1024);
  });
});

describe('the sample journals', () => {
  for (const flavour of ['regular', 'compact', 'lz4'] as const) {
    test(`have their entries in order: ${flavour}`, () => {
      const journal = open(sampleJournal(flavour));
      expect(journal.count).toBe(SAMPLE_ENTRIES);
      const times = Array.from({ length: journal.count }, (_, index) => journal.entry(index)?.realtimeUs);
      expect(times).toEqual(
        Array.from({ length: SAMPLE_ENTRIES }, (_, index) => SAMPLE_BEGIN_US + BigInt(index) * 1_000_000n),
      );
      expect(exportAll(journal).includes('MESSAGE=plain\n')).toBe(true);
    });
  }

  test('are unpacked where systemd packed a field with LZ4, as journalctl unpacks it', (context) => {
    requireLogJudges(context);
    const file = path.join(folder, 'lz4.journal');
    writeFileSync(file, sampleJournal('lz4'));
    expect(exportAll(open(file)).equals(journalctl(file))).toBe(true);
  });

  test('have a missing field where systemd packed it with XZ', () => {
    const journal = open(sampleJournal('xz'));
    const items = Array.from({ length: journal.count }, (_, index) => journal.entry(index)?.items ?? []).flat();
    const missing = items.map((offset) => journal.field(offset)).filter(({ kind }) => kind === 'missing');
    expect(missing).toEqual(Array.from({ length: 3 }, () => ({ kind: 'missing', name: undefined, why: 'xz' })));
    expect([...journal.damage]).toEqual([]);
  });

  test('are bisected to the first entry that is not from before a time', () => {
    const journal = open(sampleJournal('regular'));
    expect(journal.firstSince(0n)).toBe(0);
    expect(journal.firstSince(SAMPLE_BEGIN_US + 1n)).toBe(1);
    expect(journal.firstSince(SAMPLE_BEGIN_US + 5_000_000n)).toBe(5);
    expect(journal.firstSince(SAMPLE_BEGIN_US + 60_000_000n)).toBe(SAMPLE_ENTRIES);
  });

  test('are read as far as they were when they were opened, while they grow and are cut', () => {
    const file = path.join(folder, 'live.journal');
    const bytes = sampleJournal('regular');
    // STATE_ONLINE: journald is at it.
    bytes.writeUInt8(1, 16);
    writeFileSync(file, bytes);
    const source = windowed(file);
    const journal = JournaldFile.open(source);
    if (typeof journal === 'string') throw new Error(journal);
    expect(journal.header.state).toBe('online');
    expect(journal.entry(SAMPLE_ENTRIES - 1)).toBeDefined();
    source.drop();
    const fd = openSync(file, 'r+');
    ftruncateSync(fd, 4096);
    closeSync(fd);
    const read = Array.from({ length: journal.count }, (_, index) => journal.entry(index)).filter(
      (entry) => entry !== undefined,
    );
    expect(read).toEqual([]);
  });
});

describe('a field', () => {
  const first = (journal: JournaldFile): number => journal.entry(0)?.items[0] ?? 0;
  const withFlags = (flags: number): JournaldFile => {
    const bytes = sampleJournal('regular');
    bytes.writeUInt8(flags, first(open(bytes)) + 1);
    return open(bytes);
  };

  test('that is packed with XZ is missing, and is called so', () => {
    const journal = withFlags(1);
    expect(journal.field(first(journal))).toEqual({ kind: 'missing', name: undefined, why: 'xz' });
  });

  test('that is packed with LZ4 is unpacked', () => {
    const bytes = sampleJournal('regular');
    const offset = first(open(bytes));
    const at = offset + payloadAt(false);
    // Its payload becomes a length, and one sequence of as many literals: `M=abc`.
    bytes.writeBigUInt64LE(BigInt(payloadAt(false) + 14), offset + 8);
    bytes.writeUInt8(2, offset + 1);
    bytes.writeBigUInt64LE(5n, at);
    bytes.set([0x50, ...Buffer.from('M=abc')], at + 8);
    const journal = open(bytes);
    expect(journal.field(offset)).toEqual({ kind: 'read', bytes: Buffer.from('M=abc') });
  });

  test('that says it is packed and is not is damage', () => {
    for (const flags of [2, 4, 6]) {
      const journal = withFlags(flags);
      expect(journal.field(first(journal))).toMatchObject({ kind: 'missing', why: 'damaged' });
      expect(journal.damage.size).toBe(1);
    }
  });

  test('larger than the bound is missing with its name', (context) => {
    requireLogJudges(context);
    const file = path.join(folder, 'large.journal');
    const noise = Buffer.from(Array.from({ length: MAX_FIELD_BYTES + 10 }, (_, index) => (index * 7919) % 251));
    makeJournal(file, exported(SAMPLE_BEGIN_US, { COREDUMP: noise, N: '1' }));
    const journal = open(file);
    const readings = journal.entry(0)?.items.map((offset) => journal.field(offset)) ?? [];
    expect(readings.filter(({ kind }) => kind === 'missing')).toMatchObject([{ why: 'large' }]);
  });
});
