import { v7 as uuidv7 } from 'uuid';
import { selectorText } from '../../agent/runtime/select.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { CreateCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/CreateCaptureRequest.ts';
import type { CreateCaptureResponse } from '../../proto/gen/exhibit/controller/v1/CreateCaptureResponse.ts';
import type { CallContext } from '../api/api.ts';
import { checkCaseFor } from '../cases.ts';
import { ANY_NAMESPACE, type Domain, forbidden } from '../domain.ts';
import type { Caller } from '../identity/identity.ts';
import { may } from '../identity/rights.ts';
import type { CaptureRow, NewAudit } from '../store/store.ts';
import { approvalFor } from './approval.ts';
import { type Asked, isProcess, readAsked } from './asked.ts';
import { findTargets, selectorMessage } from './find.ts';
import { publishStored } from './publish.ts';
import type { CaptureTarget } from './targets.ts';
import { wireCapture } from './wire.ts';

/**
 * Finds the targets, stores one command for each, and has them sent. When it resolves, the commands survive everything but the
 * loss of the store. The same request again answers what it made the first time, without asking anybody.
 */
export async function createCapture(
  domain: Domain,
  request: CreateCaptureRequest__Output,
  context: CallContext,
): Promise<CreateCaptureResponse> {
  const asked = readAsked(request, context.caller);
  const before = await madeBefore(domain, asked);
  if (before !== undefined) return { requestId: asked.requestId, captures: before.map(wireCapture), unreached: [] };
  if (asked.caseId !== '') await checkCaseFor(domain, asked.caseId, context.caller);
  const { targets, unreached } = await findTargets(domain, asked, context);
  if (asked.force) mustAdminister(domain, targets, context.caller);
  if (targets.length > asked.maxTargets) {
    const hint = 'nothing was created. Ask for less, or say that so many are meant (max targets)';
    throw new ExhibitError('usage', `${targets.length} targets match, more than ${asked.maxTargets}: ${hint}`);
  }
  const rows = targets.map((target) => rowOf(domain, asked, target, context.caller));
  const answer = { requestId: asked.requestId, unreached: [...unreached] };
  if (asked.dryRun) return { ...answer, captures: rows.map((row) => ({ ...wireCapture(row), captureId: '' })) };

  const { requestId, requestKey } = asked;
  const audit = rows.map((row) => createdAudit(row, asked, context.caller));
  const { captures } = await domain.store.addCaptures({ requestId, requestKey, captures: rows }, audit);
  await announce(domain, captures);
  return { ...answer, captures: captures.map(wireCapture) };
}

/** Has every node told that has something to do. */
export async function announce(domain: Domain, rows: readonly CaptureRow[]): Promise<void> {
  const nodes = new Set(
    rows.filter(({ state }) => state !== 'awaiting-approval').map((row) => `${row.cluster}/${row.node}`),
  );
  await Promise.all([...nodes].map((node) => publishStored(domain, 'commands', node)));
}

/** What is short on a node may be what keeps its other work alive: who passes that answers for the place, not for the evidence alone. */
function mustAdminister(domain: Domain, targets: readonly CaptureTarget[], caller: Caller): void {
  for (const { cluster, namespace, selector, text } of targets) {
    const place = { cluster, namespace: isProcess(selector) ? ANY_NAMESPACE : namespace };
    if (may(caller, 'administer', place)) continue;
    const why = `You may capture ${text}, and not pass the limits of its node (force): nobody gave you the role admin there`;
    throw forbidden(domain, { caller, call: 'CreateCapture', place, why });
  }
}

/** What this request has made already. Fails with `capture-conflict` when the id is another request's. */
async function madeBefore({ store }: Domain, { requestId, requestKey, dryRun }: Asked) {
  if (dryRun) return undefined;
  const { rows } = await store.captures({ requestId }, { limit: 1 });
  if (rows.length === 0) return undefined;
  return (await store.addCaptures({ requestId, requestKey, captures: [] }, [])).captures;
}

function rowOf({ rules, now }: Domain, asked: Asked, target: CaptureTarget, caller: Caller): CaptureRow {
  const captureId = uuidv7();
  const { requestId, artifacts, caseId, reason } = asked;
  const { cluster, node, namespace, selector } = target;
  const approval = approvalFor(rules.approvals, { cluster, namespace }, isProcess(selector));
  const createdAtMs = now();
  return {
    ...{ captureId, requestId, cluster, node, namespace, caseId, reason, artifacts, createdAtMs },
    selector: target.text,
    state: approval === undefined ? 'queued' : 'awaiting-approval',
    requestedBy: caller.name,
    trigger: caller.by === 'alert' ? 'alert' : 'api',
    sentAtMs: 0,
    acceptedAtMs: 0,
    endedAtMs: 0,
    expiresAtMs: createdAtMs + (approval ?? rules).expiresMs,
    error: '',
    approvals: [],
    cancelRequested: false,
    command: {
      ...{ captureId, caseId, reason },
      selector: selectorMessage(selector),
      artifacts: [...artifacts],
      consistency: asked.consistency,
      scope: asked.scope,
      sinks: [...asked.sinks],
      exhibitNumber: asked.exhibitNumber,
      acquirer: asked.acquirer,
      force: asked.force,
    },
    told: null,
    waits: false,
  };
}

function createdAudit(row: CaptureRow, asked: Asked, caller: Caller): NewAudit {
  const { captureId, requestId, caseId, cluster, node, namespace, selector, state, artifacts, reason } = row;
  const { consistency, scope, sinks, exhibitNumber, acquirer, force } = asked;
  const target = { cluster, node, namespace, selector };
  const words = { artifacts, consistency, scope, sinks, reason, exhibitNumber, acquirer, ...(force ? { force } : {}) };
  return {
    atMs: row.createdAtMs,
    actor: caller.name,
    action: 'capture.created',
    captureId,
    ...(caseId === '' ? {} : { caseId }),
    details: { requestId, by: caller.by, asked: selectorText(asked.selector), state, ...target, ...words },
  };
}
