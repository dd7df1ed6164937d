import { v7 as uuidv7 } from 'uuid';
import type { CaptureRow, NewAudit, NodeRow, Store, StoredRequest } from '../../controller/store/store.ts';

/** Rows as the controller makes them. */

export const NOW_MS = 1_760_000_000_000;

export function aCapture(changes: Partial<CaptureRow> = {}): CaptureRow {
  return {
    captureId: uuidv7(),
    requestId: 'request',
    cluster: 'prod-eu',
    node: 'ip-10-0-0-1',
    namespace: 'shop',
    selector: 'pod/shop/web-0',
    state: 'queued',
    caseId: '',
    reason: 'a shell in a web server',
    artifacts: ['processes', 'memory'],
    requestedBy: 'alice',
    trigger: 'api',
    createdAtMs: NOW_MS,
    sentAtMs: 0,
    acceptedAtMs: 0,
    endedAtMs: 0,
    expiresAtMs: NOW_MS + 60_000,
    error: '',
    approvals: [],
    cancelRequested: false,
    command: null,
    told: null,
    waits: false,
    ...changes,
  };
}

export function aRequest(captures: readonly CaptureRow[], changes: Partial<StoredRequest> = {}): StoredRequest {
  const requestId = changes.requestId ?? uuidv7();
  return {
    requestId,
    requestKey: 'a'.repeat(64),
    ...changes,
    captures: captures.map((capture) => ({ ...capture, requestId })),
  };
}

/** Stored, and as the store answered them. */
export async function stored(store: Store, ...captures: CaptureRow[]): Promise<readonly CaptureRow[]> {
  const added = await store.addCaptures(aRequest(captures), [anEntry()]);
  return captures.map(({ captureId }) => {
    const row = added.captures.find((one) => one.captureId === captureId);
    if (row === undefined) throw new Error('not stored');
    return row;
  });
}

export const anEntry = (changes: Partial<NewAudit> = {}): NewAudit => ({
  atMs: NOW_MS,
  actor: 'alice',
  action: 'capture.created',
  details: { peer: '10.0.0.7:4711' },
  ...changes,
});

export function aNode(changes: Partial<NodeRow> = {}): NodeRow {
  return {
    cluster: 'prod-eu',
    node: 'ip-10-0-0-1',
    sessionId: 'session-1',
    replicaId: 'replica-1',
    connectedAtMs: NOW_MS,
    lastSeenMs: NOW_MS,
    agentVersion: '0.1.0',
    bootId: '3c2c1f62',
    runtimeName: 'containerd',
    runtimeVersion: '2.1.9',
    artifacts: ['processes', 'memory'],
    sinks: ['s3'],
    clockAheadMs: -12,
    running: 0,
    waiting: 0,
    pod: 'exhibit/exhibit-x7x2p',
    ...changes,
  };
}
