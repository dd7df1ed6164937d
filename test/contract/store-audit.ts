import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../controller/store/store.ts';
import { type AuditRow, NO_ENTRY, verifyAudit } from '../../evidence/audit-log.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { aCapture, anEntry, NOW_MS, stored } from './store-rows.ts';

export function auditContract(start: StartStore): void {
  describe('the audit log', () => {
    let under: StoreUnderTest;
    let store: Store;
    let other: Store;
    beforeAll(async () => {
      under = await start();
      [store, other] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());

    async function everything(): Promise<AuditRow[]> {
      const rows: AuditRow[] = [];
      for (;;) {
        const some = await store.audit({}, { afterSeq: rows.at(-1)?.seq ?? 0, limit: 7 });
        rows.push(...some);
        if (some.length === 0) return rows;
      }
    }

    test('is one chain over all replicas, whole after they wrote at once', async () => {
      const writers = Array.from({ length: 60 }, (_, at) =>
        (at % 2 === 0 ? store : other).appendAudit([
          anEntry({ action: `a${at}`, captureId: `c${at % 3}`, details: { z: 1, a: [at, null, 'x'] } }),
          anEntry({ action: `b${at}`, caseId: `k${at % 2}` }),
        ]),
      );
      await Promise.all(writers);
      const rows = await everything();
      expect(rows).toHaveLength(120);
      expect(rows[0]?.previous).toBe(NO_ENTRY);
      const { problems, end } = verifyAudit(rows);
      expect(problems).toEqual([]);
      expect(end).toEqual({ seq: 120, digest: rows.at(-1)?.digest });
      for (const [at, row] of rows.entries())
        if (row.action.startsWith('a')) expect(rows[at + 1]?.action).toBe(row.action.replace('a', 'b'));
      expect(
        (await store.audit({ captureId: 'c1' }, { afterSeq: 0, limit: 500 })).map(({ captureId }) => captureId),
      ).toEqual(Array(20).fill('c1'));
      expect(await store.audit({ caseId: 'k1', captureId: 'c1' }, { afterSeq: 0, limit: 500 })).toEqual([]);
      expect(await store.audit({ caseId: 'k1' }, { afterSeq: 119, limit: 500 })).toHaveLength(
        rows.at(-1)?.caseId === 'k1' ? 1 : 0,
      );
    });

    test('goes on where it was after the store was closed', async () => {
      const before = await everything();
      [store, other] = await under.reopen();
      await stored(store, aCapture());
      const after = await everything();
      expect(after.slice(0, before.length)).toEqual(before);
      expect(after).toHaveLength(before.length + 1);
      expect(
        verifyAudit(after, { known: { seq: before.length, digest: before.at(-1)?.digest ?? '' } }).problems,
      ).toEqual([]);
    });

    test('takes nothing back: the database itself refuses', async () => {
      await store.appendAudit([anEntry({ atMs: NOW_MS })]);
      const before = await everything();
      const attempts = ["update audit set actor = 'nobody'", 'delete from audit where seq = 1', 'delete from audit'];
      for (const attempt of attempts) await expect(under.raw(attempt)).rejects.toThrow(/only ever added to|truncate/);
      expect(await everything()).toEqual(before);
    });
  });
}
