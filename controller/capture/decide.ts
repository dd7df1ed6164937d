import { ExhibitError } from '../../evidence/error.ts';
import type { ControlledCapture } from '../../proto/gen/exhibit/controller/v1/ControlledCapture.ts';
import type { DenyCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/DenyCaptureRequest.ts';
import type { CallContext } from '../api/api.ts';
import { type Domain, forbidden } from '../domain.ts';
import type { Caller } from '../identity/identity.ts';
import { may } from '../identity/rights.ts';
import type { CaptureChange, CaptureRow, CaptureState, NewAudit } from '../store/store.ts';
import { readReason } from '../text.ts';
import { announce } from './create.ts';
import { findCapture } from './get.ts';
import { publishStored } from './publish.ts';
import { hasEnded, wireCapture } from './wire.ts';

/** What people decide about a capture that is there: cancel, approve, deny. Each is one change of the row, so of two at once one wins. */

/** The state may change between a look and a change; that often in a row it does not. */
const TRIES = 4;

export async function cancelCapture(
  domain: Domain,
  { captureId }: { readonly captureId: string },
  { caller }: CallContext,
): Promise<ControlledCapture> {
  let row = await findFor(domain, 'CancelCapture', captureId, caller);
  for (let tried = 0; tried < TRIES; tried += 1) {
    if (hasEnded(row.state) || row.cancelRequested) return wireCapture(row);
    const changed = await domain.store.changeCapture(row.captureId, ...cancelling(domain, row, caller));
    if (changed !== undefined) {
      await tell(domain, changed);
      return wireCapture(changed);
    }
    row = (await domain.store.capture(row.captureId)) ?? row;
  }
  throw new ExhibitError('capture-conflict', `The capture ${row.captureId} changes all the time; try again`);
}

/** Nobody has it yet: it ends here. Else its agent is told. */
function cancelling(
  { now }: Domain,
  row: CaptureRow,
  caller: Caller,
): [readonly CaptureState[], CaptureChange, NewAudit] {
  const atMs = now();
  const audit = auditOf(row, caller, 'capture.cancelled', atMs, { state: row.state });
  return row.state === 'awaiting-approval' || row.state === 'queued'
    ? [[row.state], { state: 'cancelled', endedAtMs: atMs, cancelRequested: true }, audit]
    : [['sent', 'running'], { cancelRequested: true }, audit];
}

export async function approveCapture(
  domain: Domain,
  { captureId }: { readonly captureId: string },
  { caller }: CallContext,
): Promise<ControlledCapture> {
  const call = 'ApproveCapture';
  const row = await findFor(domain, call, captureId, caller);
  checkSecond(domain, call, row, caller);
  const atMs = domain.now();
  // The store's next round ends it.
  if (row.state === 'awaiting-approval' && row.expiresAtMs <= atMs) {
    throw new ExhibitError(
      'capture-conflict',
      `The time to approve the capture ${row.captureId} is over; ask for it anew`,
    );
  }
  const change = {
    state: 'queued',
    approval: { by: caller.name, atMs },
    expiresAtMs: atMs + domain.rules.expiresMs,
  } as const;
  const audit = auditOf(row, caller, 'capture.approved', atMs, { requestedBy: row.requestedBy });
  return await decided(domain, row, change, audit);
}

export async function denyCapture(
  domain: Domain,
  request: DenyCaptureRequest__Output,
  { caller }: CallContext,
): Promise<ControlledCapture> {
  const call = 'DenyCapture';
  const reason = readReason(request.reason);
  const row = await findFor(domain, call, request.captureId, caller);
  checkSecond(domain, call, row, caller);
  const atMs = domain.now();
  const error = reason === '' ? `Denied by ${caller.name}` : `Denied by ${caller.name}: ${reason}`;
  const audit = auditOf(row, caller, 'capture.denied', atMs, { requestedBy: row.requestedBy, reason });
  return await decided(domain, row, { state: 'denied', endedAtMs: atMs, error }, audit);
}

async function decided(
  domain: Domain,
  row: CaptureRow,
  change: CaptureChange,
  audit: NewAudit,
): Promise<ControlledCapture> {
  const changed = await domain.store.changeCapture(row.captureId, ['awaiting-approval'], change, audit);
  if (changed === undefined) {
    const now = (await domain.store.capture(row.captureId)) ?? row;
    throw new ExhibitError(
      'capture-conflict',
      `The capture ${row.captureId} does not wait for an approval: it is ${now.state}`,
    );
  }
  await tell(domain, changed);
  return wireCapture(changed);
}

/** Its node, where it has something to do, and those who watch. */
async function tell(domain: Domain, row: CaptureRow): Promise<void> {
  const watched = publishStored(domain, 'captures', JSON.stringify({ captureId: row.captureId }));
  await Promise.all([hasEnded(row.state) ? undefined : announce(domain, [row]), watched]);
}

/** One that the caller sees and may do something about. */
async function findFor(domain: Domain, call: string, text: string, caller: Caller): Promise<CaptureRow> {
  const row = await findCapture(domain, call, text, caller);
  const { captureId, cluster, namespace } = row;
  if (may(caller, 'capture', row)) return row;
  const why = `You may see the capture ${captureId} and not decide about it: that needs the role responder there`;
  throw forbidden(domain, { caller, call, captureId, place: { cluster, namespace }, why });
}

/** Another person, and a person. */
function checkSecond(domain: Domain, call: string, row: CaptureRow, caller: Caller): void {
  const { captureId } = row;
  if (caller.by === 'alert')
    throw forbidden(domain, { caller, call, captureId, why: 'An alert approves and denies nothing' });
  if (![caller.name, ...(caller.aliases ?? [])].includes(row.requestedBy)) return;
  const why = 'You asked for this capture: another person has to decide about it (you may cancel it)';
  throw forbidden(domain, { caller, call, captureId, why });
}

const placeInLog = ({ captureId, caseId }: CaptureRow) => ({ captureId, ...(caseId === '' ? {} : { caseId }) });

function auditOf(
  row: CaptureRow,
  caller: Caller,
  action: string,
  atMs: number,
  details: NewAudit['details'],
): NewAudit {
  return { ...placeInLog(row), atMs, actor: caller.name, action, details: { by: caller.by, ...details } };
}
