import type { Insertable, Selectable, Updateable } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import type { CapturesTable } from './schema.ts';
import { whole } from './sql.ts';
import type { CaptureChange, CaptureRow } from './store.ts';
import { isKey } from './text.ts';

export function captureOf(row: Selectable<CapturesTable>): CaptureRow {
  return {
    captureId: row.capture_id,
    requestId: row.request_id,
    cluster: row.cluster,
    node: row.node,
    namespace: row.namespace,
    selector: row.selector,
    state: row.state,
    caseId: row.case_id,
    reason: row.reason,
    artifacts: ofJson(row.artifacts),
    requestedBy: row.requested_by,
    trigger: row.trigger_name,
    createdAtMs: row.created_at_ms,
    sentAtMs: row.sent_at_ms,
    acceptedAtMs: row.accepted_at_ms,
    endedAtMs: row.ended_at_ms,
    expiresAtMs: row.expires_at_ms,
    error: row.error,
    approvals: ofJson(row.approvals),
    cancelRequested: row.cancel_requested === 1,
    command: row.command === null ? null : ofJson(row.command),
    told: row.told === null ? null : ofJson(row.told),
    waits: row.waits === 1,
  };
}

/** JSON that this file wrote. */
const ofJson = <T>(text: string): T => JSON.parse(text) as T;

const orNull = (value: object | null): string | null => (value === null ? null : JSON.stringify(value));

/** @throws ExhibitError `usage` for ids and times that neither database can hold */
export function captureColumns(capture: CaptureRow): Insertable<CapturesTable> {
  const { captureId, requestId, cluster, node } = capture;
  for (const [what, key] of Object.entries({ captureId, requestId, cluster, node }))
    if (!isKey(key)) throw new ExhibitError('usage', `the ${what} of the capture is none that can be stored`);
  return {
    capture_id: captureId,
    request_id: requestId,
    cluster,
    node,
    namespace: capture.namespace,
    selector: capture.selector,
    state: capture.state,
    case_id: capture.caseId,
    reason: capture.reason,
    artifacts: JSON.stringify(capture.artifacts),
    requested_by: capture.requestedBy,
    trigger_name: capture.trigger,
    created_at_ms: whole(capture.createdAtMs, 'createdAtMs'),
    sent_at_ms: whole(capture.sentAtMs, 'sentAtMs'),
    accepted_at_ms: whole(capture.acceptedAtMs, 'acceptedAtMs'),
    ended_at_ms: whole(capture.endedAtMs, 'endedAtMs'),
    expires_at_ms: whole(capture.expiresAtMs, 'expiresAtMs'),
    error: capture.error,
    approvals: JSON.stringify(capture.approvals),
    cancel_requested: Number(capture.cancelRequested),
    command: orNull(capture.command),
    told: orNull(capture.told),
    waits: Number(capture.waits),
  };
}

/** What the change sets, undefined when that is nothing: an approval by somebody who gave theirs before. */
export function changedColumns(before: CaptureRow, change: CaptureChange): Updateable<CapturesTable> | undefined {
  const columns: Updateable<CapturesTable> = {};
  if (change.state !== undefined) columns.state = change.state;
  if (change.sentAtMs !== undefined) columns.sent_at_ms = whole(change.sentAtMs, 'sentAtMs');
  if (change.acceptedAtMs !== undefined) columns.accepted_at_ms = whole(change.acceptedAtMs, 'acceptedAtMs');
  if (change.endedAtMs !== undefined) columns.ended_at_ms = whole(change.endedAtMs, 'endedAtMs');
  if (change.expiresAtMs !== undefined) columns.expires_at_ms = whole(change.expiresAtMs, 'expiresAtMs');
  if (change.error !== undefined) columns.error = change.error;
  if (change.cancelRequested !== undefined) columns.cancel_requested = Number(change.cancelRequested);
  if (change.told !== undefined) columns.told = orNull(change.told);
  if (change.waits !== undefined) columns.waits = Number(change.waits);
  if (change.namespace !== undefined) columns.namespace = change.namespace;
  const { approval } = change;
  if (approval !== undefined && !before.approvals.some(({ by }) => by === approval.by)) {
    columns.approvals = JSON.stringify([...before.approvals, { by: approval.by, atMs: whole(approval.atMs, 'atMs') }]);
  }
  return Object.keys(columns).length === 0 ? undefined : columns;
}
