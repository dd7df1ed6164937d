import { type AuditRow, CHAIN_START, type ChainEnd } from '../../evidence/audit-log.ts';
import { chained } from './audit.ts';
import { MAX_PAGE_ROWS } from './pages.ts';
import { type Database, type Sql, sameText, whole } from './sql.ts';
import type { NewAudit, Store } from './store.ts';

export function auditCalls({ read, writeAudited }: Sql): Pick<Store, 'appendAudit' | 'audit'> {
  return {
    appendAudit: (audit) => writeAudited((tx) => appendAudit(tx, audit)),
    audit: (filter, { afterSeq, limit }) =>
      read(async (db) => {
        const { captureId, caseId } = filter;
        const found = await db
          .selectFrom('audit')
          .selectAll()
          .where('seq', '>', afterSeq)
          .$if(captureId !== undefined, (query) => query.where(sameText('capture_id', captureId ?? '')))
          .$if(caseId !== undefined, (query) => query.where(sameText('case_id', caseId ?? '')))
          .orderBy('seq')
          .limit(Math.min(limit, MAX_PAGE_ROWS))
          .execute();
        return found.map(
          (row): AuditRow => ({
            seq: row.seq,
            atMs: row.at_ms,
            actor: row.actor,
            action: row.action,
            captureId: row.capture_id,
            caseId: row.case_id,
            details: row.details,
            previous: row.previous,
            digest: row.digest,
          }),
        );
      }),
  };
}

/** Adds to the end of the chain; in a transaction of `writeAudited`. */
export async function appendAudit(tx: Database, entries: readonly NewAudit[]): Promise<void> {
  if (entries.length === 0) return;
  let end = await chainEnd(tx);
  for (const entry of entries) {
    const row = chained(end, { ...entry, atMs: whole(entry.atMs, 'atMs') });
    await tx
      .insertInto('audit')
      .values({
        seq: row.seq,
        at_ms: row.atMs,
        actor: row.actor,
        action: row.action,
        capture_id: row.captureId,
        case_id: row.caseId,
        details: row.details,
        previous: row.previous,
        digest: row.digest,
      })
      .execute();
    end = row;
  }
}

async function chainEnd(tx: Database): Promise<ChainEnd> {
  const last = await tx
    .selectFrom('audit')
    .select(['seq', 'digest'])
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst();
  return last ?? CHAIN_START;
}
