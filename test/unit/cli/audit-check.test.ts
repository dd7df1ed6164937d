import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { custodyView } from '../../../cli/controller/view.ts';
import { toJson } from '../../../cli/print.ts';
import { chained } from '../../../controller/store/audit.ts';
import { type AuditRow, CHAIN_START } from '../../../evidence/audit-log.ts';
import { anEntry } from '../../contract/store-rows.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

/** `exhibit audit --check`: what an auditor does with an exported log, and no controller. */

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-audit-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Words that JSON writes in more than one way. */
const WORDS = ['plain', 'two\nlines', '\u2028 \u202e turned', 'é and \ud83d\udd0d', 'a "quote" \\ slash', '\u0000'];
const rows: AuditRow[] = [];
beforeAll(() => {
  for (const [at, word] of WORDS.entries()) {
    const entry = anEntry({ action: `case.noted`, actor: word, atMs: at, details: { text: word } });
    rows.push(chained(rows.at(-1) ?? CHAIN_START, entry));
  }
});

/** As `exhibit audit --json` prints what came over the wire. */
const printed = (row: AuditRow): string =>
  toJson(custodyView({ ...row, seq: String(row.seq), atMs: String(row.atMs) }));
const written = (lines: readonly string[]): string => {
  const file = path.join(folder, 'log.jsonl');
  writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
  return file;
};
const lines = () => rows.map(printed);
const endOf = (row: AuditRow | undefined) => `${row?.seq}:${row?.digest}`;
const check = (given: readonly string[], ...more: string[]) => exhibit(['audit', '--check', written(given), ...more]);

describe('the check of an exported audit log', () => {
  test('says that it is whole, and which end to keep', async () => {
    const ran = await check(lines());
    expect(ran.stderr).toBe('');
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toContain(`6 entries, unaltered`);
    expect(ran.stdout.toString()).toContain(`\n${endOf(rows.at(-1))}\n`);
    const json = await check(lines(), '--json');
    const { seq, digest } = rows.at(-1) ?? CHAIN_START;
    expect(JSON.parse(json.stdout.toString())).toEqual({
      intact: true,
      entries: 6,
      end: { seq, digest },
      problems: [],
    });
  });

  test.each<[string, (all: string[]) => string[], string]>([
    ['was altered', (all) => all.map((line) => line.replace('plain', 'plane')), 'entry 1 was altered'],
    ['was taken out', (all) => all.toSpliced(2, 1), 'entries 3 to 3 are missing'],
    ['was moved', (all) => all.toSpliced(1, 0, ...all.splice(3, 1)), 'entries 2 to 3 are missing'],
    ['stands there twice', (all) => all.toSpliced(2, 0, all[1] ?? ''), 'entry 2 comes after entry 2'],
    ['was taken off the beginning', (all) => all.slice(2), 'entries 1 to 2 are missing'],
    ['was cut in the middle', (all) => all.with(-1, (all.at(-1) ?? '').slice(0, 40)), 'line 6 of the audit log is no'],
    ['is no entry', (all) => [...all, '{"seq":7}'], 'line 7 of the audit log is no entry'],
  ])('fails with 1 and the place where one %s', async (_how, change, words) => {
    const ran = await check(change(lines()));
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toBe('');
    expect(ran.stderr).toContain('is not intact');
    expect(ran.stderr).toContain(words);
    const json = await check(change(lines()), '--json');
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout.toString())).toMatchObject({ intact: false });
  });

  test('finds entries cut off at the end, and a log written anew, against an end that was kept', async () => {
    const known = ['--known', endOf(rows.at(-1))];
    expect((await check(lines().slice(0, 4))).code).toBe(0);
    const cut = await check(lines().slice(0, 4), ...known);
    expect(cut.code).toBe(1);
    expect(cut.stderr).toContain('the log ends at entry 4; it had 6 before: entries were cut off');
    const anew: AuditRow[] = [];
    for (const row of rows) anew.push(chained(anew.at(-1) ?? CHAIN_START, anEntry({ action: row.action })));
    expect((await check(anew.map(printed))).code).toBe(0);
    expect((await check(anew.map(printed), ...known)).code).toBe(1);
    expect((await check(lines(), ...known)).code).toBe(0);
  });

  test('takes up an export that begins behind the end that was kept', async () => {
    const later = lines().slice(3);
    expect((await check(later, '--known', endOf(rows[2]))).code).toBe(0);
    expect((await check(later, '--known', endOf(rows[1]))).code).toBe(1);
    const other = await check(later, '--known', `3:${'f'.repeat(64)}`);
    expect(other.stderr).toContain('entry 4 does not follow the entry 3');
  });

  test.each([
    ['an end that is none', ['--known', '7'], 2, 'NUMBER:DIGEST'],
    ['a part of the log', ['--case', 'IR-1'], 2, 'Only a whole log'],
    ['a file that is not there', ['--check', '/nonexistent/log.jsonl'], 2, 'ENOENT'],
    ['a folder', ['--check', '/'], 2, 'EISDIR'],
    ['nothing', ['--check', '/dev/null'], 1, 'there is no entry'],
  ])('of %s is refused in words', async (_what, more, code, words) => {
    const ran = await exhibit(['audit', '--check', written(lines()), ...more]);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(words);
  });

  test('reads no endless line into memory', async () => {
    const ran = await exhibit(['audit', '--check', '/dev/zero']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('line 1 of the audit log is longer than any entry');
  });
});
