import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chained } from '../../../../controller/store/audit.ts';
import {
  type AuditRow,
  auditLine,
  CHAIN_START,
  digestOf,
  readAuditLines,
  verifyAudit,
} from '../../../../evidence/audit-log.ts';
import { isExhibitError } from '../../../../evidence/error.ts';
import { anEntry } from '../../../contract/store-rows.ts';

function chain(count: number): AuditRow[] {
  const rows: AuditRow[] = [];
  for (let at = 0; at < count; at += 1)
    rows.push(chained(rows.at(-1) ?? CHAIN_START, anEntry({ action: `a${at}`, atMs: at })));
  return rows;
}

const at = (rows: readonly AuditRow[], index: number): AuditRow => rows[index] ?? chained(CHAIN_START, anEntry());
const problems = (rows: Iterable<AuditRow>, options = {}) => verifyAudit(rows, options).problems;

describe('the chain of the audit log', () => {
  test('is whole as it was written, and its export reads back the same', () => {
    const rows = chain(20);
    expect(problems(rows)).toEqual([]);
    const lines = rows.map(auditLine);
    expect(lines.every((line) => !line.includes('\n'))).toBe(true);
    expect([...readAuditLines([...lines, ''])]).toEqual(rows);
    expect(problems(rows.slice(5), { after: { seq: 5, digest: at(rows, 4).digest } })).toEqual([]);
  });

  test('shows an entry that was altered in any field, also one whose digest was made again', () => {
    const rows = chain(6);
    const forged: Partial<AuditRow>[] = [
      { atMs: 99 },
      { actor: 'mallory' },
      { action: 'x' },
      { captureId: 'x' },
      { caseId: 'x' },
      { details: '{}\n' },
      { previous: 'f'.repeat(64) },
      { digest: 'f'.repeat(64) },
    ];
    for (const change of forged) {
      const altered = { ...at(rows, 2), ...change };
      expect(problems(rows.with(2, altered))[0]).toMatch(/entry 3 was altered/);
      if (change.digest === undefined) {
        const sealed = { ...altered, digest: digestOf(altered) };
        expect(problems(rows.with(2, sealed))[0]).toMatch(/entry (3|4) does not follow/);
      }
    }
  });

  test('shows every entry that was taken out, put in or moved', () => {
    const rows = chain(12);
    fc.assert(
      fc.property(fc.nat(11), fc.nat(11), (from, to) => {
        const without = rows.toSpliced(from, 1);
        if (from < 11) expect(problems(without)).toContain(`entries ${from + 1} to ${from + 1} are missing`);
        if (from !== to) expect(problems(without.toSpliced(to, 0, at(rows, from)))).not.toEqual([]);
        expect(problems(rows.toSpliced(to, 0, at(rows, from)))).not.toEqual([]);
      }),
    );
  });

  test('shows what was cut off at the end, or rewritten whole, only against an end that was kept elsewhere', () => {
    const rows = chain(8);
    const { end } = verifyAudit(rows);
    expect(problems(rows.slice(0, 5))).toEqual([]);
    expect(problems(rows.slice(0, 5), { known: end })).toEqual([
      'the log ends at entry 5; it had 8 before: entries were cut off',
    ]);
    const rewritten: AuditRow[] = [];
    for (const row of rows)
      rewritten.push(chained(rewritten.at(-1) ?? CHAIN_START, anEntry({ action: row.action, actor: 'mallory' })));
    expect(problems(rewritten)).toEqual([]);
    expect(problems(rewritten, { known: end })).toEqual([
      `entry 8 is not the one that was there before: its digest was ${end.digest}`,
    ]);
  });

  test('reads no line that is no entry', () => {
    const line = auditLine(at(chain(1), 0));
    for (const wrong of [
      '{',
      '[]',
      'null',
      line.slice(1),
      line.replace('"seq":1', '"seq":"1"'),
      line.replace('{', '{"more":1,'),
    ]) {
      const read = () => [...readAuditLines([line, wrong])];
      expect(read).toThrow(/^line 2 of the audit log is no entry$/);
      try {
        read();
      } catch (error) {
        expect(isExhibitError(error, 'bundle-corrupt')).toBe(true);
      }
    }
  });
});
