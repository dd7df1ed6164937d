import { sql } from 'kysely';
import { CHAIN_START, type ChainEnd, chained } from './audit.ts';
import { MAX_PAGE_ROWS } from './pages.ts';
import { type Database, type Dialect, type Sql, sameText, whole } from './sql.ts';
import type { AuditRow, NewAudit, Store } from './store.ts';

/** Of PostgreSQL's advisory locks, which are one number space a database: ours begin with the bytes `exh`. */
export const AUDIT_LOCK = 0x657868_01;

export function auditCalls({ read, write, dialect }: Sql): Pick<Store, 'appendAudit' | 'audit'> {
  return {
    appendAudit: (audit) => write((tx) => appendAudit(tx, dialect, audit)),
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

/**
 * Adds to the end of the chain. The last thing of a transaction: from here to its commit every other writer of the log waits, in
 * all replicas.
 */
export async function appendAudit(tx: Database, dialect: Dialect, entries: readonly NewAudit[]): Promise<void> {
  if (entries.length === 0) return;
  if (dialect.concurrentWrites) await sql`select pg_advisory_xact_lock(${AUDIT_LOCK})`.execute(tx);
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
