import { type AuditRow, type ChainEnd, digestOf } from '../../evidence/audit-log.ts';
import { canonicalJson } from '../../evidence/json.ts';
import type { NewAudit } from './store.ts';

/** The next entry of the audit log, without a database; evidence/audit-log.ts checks what this makes. */
export function chained(previous: ChainEnd, entry: NewAudit): AuditRow {
  const unsealed: AuditRow = {
    seq: previous.seq + 1,
    atMs: entry.atMs,
    actor: entry.actor,
    action: entry.action,
    captureId: entry.captureId ?? '',
    caseId: entry.caseId ?? '',
    details: Buffer.from(canonicalJson(entry.details)).toString(),
    previous: previous.digest,
    digest: '',
  };
  return { ...unsealed, digest: digestOf(unsealed) };
}
