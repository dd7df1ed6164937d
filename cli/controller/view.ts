import type { Case__Output } from '../../proto/gen/exhibit/controller/v1/Case.ts';
import type { ControlledCapture__Output } from '../../proto/gen/exhibit/controller/v1/ControlledCapture.ts';
import type { CustodyEntry__Output } from '../../proto/gen/exhibit/controller/v1/CustodyEntry.ts';
import type { Node__Output } from '../../proto/gen/exhibit/controller/v1/Node.ts';
import { isTime } from '../print.ts';
import { captureView } from '../view.ts';

/** The controller's messages as `--json` shows them: numbers as numbers, times in RFC 3339, what is empty as null. */

const timeView = (epochMs: string): string | null =>
  isTime(Number(epochMs)) ? new Date(Number(epochMs)).toISOString() : null;

export type ControlledView = ReturnType<typeof controlledView>;

export function controlledView(message: ControlledCapture__Output) {
  return {
    captureId: message.captureId,
    requestId: message.requestId,
    cluster: message.cluster,
    node: message.node,
    namespace: message.namespace || null,
    target: message.capture?.target || message.selector,
    state: message.state,
    caseId: message.caseId || null,
    reason: message.reason || null,
    artifacts: message.artifacts,
    requestedBy: message.requestedBy,
    trigger: message.trigger,
    createdAt: timeView(message.createdAtMs),
    sentAt: timeView(message.sentAtMs),
    acceptedAt: timeView(message.acceptedAtMs),
    endedAt: timeView(message.endedAtMs),
    expiresAt: timeView(message.expiresAtMs),
    error: message.error || null,
    approvals: message.approvals.map(({ by, atMs }) => ({ by, at: timeView(atMs) })),
    cancelRequested: message.cancelRequested,
    ...(message.force ? { force: true as const } : {}),
    capture: message.capture === null ? null : captureView(message.capture),
  };
}

const OPEN = ['awaiting-approval', 'queued', 'sent', 'running'];

/** False for a state of a newer controller too, so that nobody waits for ever for one. */
export const isOpen = (state: string): boolean => OPEN.includes(state);

export function nodeView(message: Node__Output) {
  const { cluster, node, connected, agentVersion, runtimeName, runtimeVersion } = message;
  return {
    ...{ cluster, node, connected, agentVersion },
    runtime: { name: runtimeName, version: runtimeVersion },
    connectedAt: timeView(message.connectedAtMs),
    lastSeenAt: timeView(message.lastSeenMs),
    artifacts: message.artifacts,
    sinks: message.sinks,
    clockAheadMs: Number(message.clockAheadMs),
    running: message.running,
    waiting: message.waiting,
    pod: message.pod || null,
  };
}

export function caseView(message: Case__Output) {
  return {
    caseId: message.caseId,
    title: message.title,
    state: message.state,
    openedBy: message.openedBy,
    openedAt: timeView(message.openedAtMs),
    closedBy: message.closedBy || null,
    closedAt: timeView(message.closedAtMs),
    captureCount: message.captureCount,
    notes: message.notes.map(({ by, atMs, text }) => ({ by, at: timeView(atMs), text })),
  };
}

/** With `details` as the bytes that were hashed, so that the chain can be checked. */
export function custodyView(message: CustodyEntry__Output) {
  const { actor, action, captureId, caseId, details, previous, digest } = message;
  return {
    seq: Number(message.seq),
    atMs: Number(message.atMs),
    actor,
    action,
    captureId,
    caseId,
    details,
    previous,
    digest,
  };
}
