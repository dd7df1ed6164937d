import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { auditLine, CHAIN_START, chained } from '../../../controller/store/audit.ts';
import type { AuditRow } from '../../../controller/store/store.ts';
import { anEntry } from '../../contract/store-rows.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

let folder: string;
let rows: AuditRow[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-audit-'));
  rows = [];
  for (let at = 0; at < 2_000; at += 1)
    rows.push(chained(rows.at(-1) ?? CHAIN_START, anEntry({ atMs: at, details: { text: `größer\n${at}` } })));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const check = async (lines: readonly string[], ...more: string[]) => {
  const file = path.join(folder, 'audit.jsonl');
  writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
  const { code, stdout, stderr } = await exhibit(['audit', '--check', file, '--json', ...more]);
  return { code, stderr, ...(stdout.length === 0 ? {} : JSON.parse(stdout.toString())) };
};

describe('audit --check', () => {
  test('finds an exported log whole, and says where it ends', async () => {
    const last = rows.at(-1);
    expect(await check(rows.map(auditLine))).toMatchObject({
      ...{ code: 0, whole: true, entries: 2_000, problems: [] },
      end: { seq: 2_000, digest: last?.digest },
    });
  });

  test('names what was altered and what is missing', async () => {
    const forged = rows.map((row, index) => auditLine(index === 6 ? { ...row, actor: 'mallory' } : row));
    const found = await check(forged.filter((_, index) => index !== 1_500));
    expect(found).toMatchObject({ code: 1, whole: false, entries: 1_999 });
    expect(found.problems).toEqual(['entry 7 was altered: its digest is another', 'entries 1501 to 1501 are missing']);
  });

  test('holds the log against an end that was written down before', async () => {
    const end = `2000:${rows.at(-1)?.digest}`;
    const found = await check(rows.slice(0, 1_990).map(auditLine), '--end', end);
    expect(found).toMatchObject({ code: 1, whole: false });
    expect(found.problems).toEqual(['the log ends at entry 1990; it had 2000 before: entries were cut off']);
    expect(await check(rows.map(auditLine), '--end', end)).toMatchObject({ code: 0, whole: true });
  });

  test.each([
    [['{"seq":1}'], [], 1, 'line 1 of the audit log is no entry'],
    [['x'.repeat(3 * 2 ** 20)], [], 1, 'has a line that is no entry'],
    [[], ['--end', 'yesterday'], 2, '--end is NUMBER:DIGEST'],
  ])('refuses in a sentence what is none (%#)', async (lines, more, code, words) => {
    const found = await check(lines, ...more);
    expect(found.code).toBe(code);
    expect(found.stderr).toContain(words);
  });
});
