import type { AuditRow } from '../../evidence/audit-log.ts';
import type { ArtifactName } from '../../evidence/layout.ts';
import type { Capture__Output } from '../../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';

/**
 * What the controller knows, kept durably: a call that resolved is there after a SIGKILL. Implementations: SQLite in one file,
 * PostgreSQL for several replicas; one contract suite for both. Every change of what people did stands in one transaction with
 * its entry of the audit log. Fails with `store-failed`: then nothing of the call was done. Milliseconds are since the epoch. Text
 * may be anything and comes back as it was; ids and names of clusters and nodes that are no text of at most 1,024 bytes
 * without NUL, and numbers that are not whole, fail with `usage`.
 */
export interface Store extends AsyncDisposable {
  /**
   * All captures of one request, or none. A request id that is there with the same `requestKey` answers its captures and creates
   * nothing; with another key, or a capture id that is there, it fails with `capture-conflict`. A case that is not open fails with `case-not-found`.
   */
  addCaptures(request: StoredRequest, audit: readonly NewAudit[]): Promise<Added>;
  /** Of a trigger on the node: known from what its agent tells. Does nothing where the capture is there. */
  adoptCapture(capture: CaptureRow): Promise<void>;
  capture(captureId: string): Promise<CaptureRow | undefined>;
  /** Up to `limit` captures whose id begins so; for prefixes that people type. */
  capturesByPrefix(prefix: string, limit: number): Promise<readonly CaptureRow[]>;
  captures(filter: CaptureFilter, page: PageRequest): Promise<Page<CaptureRow>>;
  /**
   * Changes the capture only while it is in one of the states `from`: the row after it, undefined when it was in another or is
   * not there. Two that race: one wins. `approval` is added to those that are there; a second of the same person does nothing. What
   * changes nothing writes no audit entry.
   */
  changeCapture(
    captureId: string,
    from: readonly CaptureState[],
    change: CaptureChange,
    audit?: NewAudit,
  ): Promise<CaptureRow | undefined>;
  /** What has to be told to this node: all that is queued, sent or running there, and what has ended but waits for a sink. Oldest first. */
  openCaptures(node: NodeName): Promise<readonly CaptureRow[]>;
  /** How many there are in each open state; those without one are left out. */
  countOpen(): Promise<ReadonlyMap<CaptureState, number>>;
  /** Queued or awaiting approval, and their time is over. Up to `limit`. */
  expiredCaptures(nowMs: number, limit: number): Promise<readonly CaptureRow[]>;

  putNode(node: NodeRow): Promise<void>;
  /** Only while `sessionId` is still the node's: a stream that was replaced says nothing of its successor. */
  nodeGone(node: NodeName, sessionId: string, lastSeenMs: number): Promise<void>;
  /** Many at once: that they live, and how much they do. */
  touchNodes(touched: readonly NodeTouch[]): Promise<void>;
  node(node: NodeName): Promise<NodeRow | undefined>;
  nodes(
    filter: { readonly cluster?: string; readonly connectedOnly?: boolean },
    page: PageRequest,
  ): Promise<Page<NodeRow>>;

  /** Fails with `usage` when the case is there already. */
  openCase(newCase: NewCase, audit: NewAudit): Promise<CaseRow>;
  case(caseId: string): Promise<CaseRow | undefined>;
  cases(filter: { readonly state?: 'open' | 'closed' }, page: PageRequest): Promise<Page<Omit<CaseRow, 'notes'>>>;
  /** Fails with `case-not-found` for one that is not there or, but for a note, not open. */
  noteCase(caseId: string, note: CaseNoteRow, audit: NewAudit): Promise<CaseRow>;
  /** Its text is the last note, unless it is empty. */
  closeCase(caseId: string, closed: CaseNoteRow, audit: NewAudit): Promise<CaseRow>;

  /** For what changes nothing else: a refusal, a login that failed, a rule of an alert that did not fire. */
  appendAudit(audit: readonly NewAudit[]): Promise<void>;
  /** Oldest first, at most 1,000. */
  audit(filter: AuditFilter, page: { readonly afterSeq: number; readonly limit: number }): Promise<readonly AuditRow[]>;

  /**
   * True for the first who claims the key within the window, for one replica of all: so an alert that comes twice is one. Old
   * claims go by themselves.
   */
  claim(key: string, nowMs: number, windowMs: number): Promise<boolean>;
  /**
   * Takes `amount` of a budget of `most` in every `windowMs`, over all replicas: false, and nothing taken, when less is left. The
   * window slides.
   */
  spend(
    budget: string,
    amount: number,
    limit: { readonly most: number; readonly windowMs: number },
    nowMs: number,
  ): Promise<boolean>;

  /** Messages to all replicas, this one too; see bus.ts. */
  readonly bus: Bus;
}

/**
 * Tells every replica, itself included, what has changed. At most once: whoever was away looks into the store. Within one process for
 * SQLite, LISTEN/NOTIFY for PostgreSQL; messages up to 1 MiB.
 */
export interface Bus {
  publish(topic: Topic, message: string): Promise<void>;
  /** Handlers never throw. */
  subscribe(topic: Topic, handler: (message: string) => void): Disposable;
  /** Called when messages may have been missed (a connection was lost and is back): look into the store. */
  onGap(handler: () => void): Disposable;
  /** Of this process; another one a start. */
  readonly replicaId: string;
  /** Replicas that live now, this one too. */
  replicas(): Promise<readonly string[]>;
}

/** `commands`: a node has something to be told, `CLUSTER/NODE`. `captures`: JSON of CaptureMessage. `ask` and `answer`: lookups over replicas. */
export type Topic = 'commands' | 'captures' | 'ask' | 'answer';

export interface NodeName {
  readonly cluster: string;
  readonly node: string;
}

export const OPEN_STATES = ['awaiting-approval', 'queued', 'sent', 'running'] as const;
export const END_STATES = [
  'complete',
  'partial',
  'cancelled',
  'truncated',
  'failed',
  'interrupted',
  /** By the agent, for its policy or because it could not begin. */
  'refused',
  /** By the second person. */
  'denied',
  /** Never sent in time. */
  'expired',
  /** The agent had it, and knows nothing of it any more: the node was restarted. */
  'lost',
] as const;
export type CaptureState = (typeof OPEN_STATES)[number] | (typeof END_STATES)[number];

export interface CaptureRow extends NodeName {
  readonly captureId: string;
  readonly requestId: string;
  /** Empty outside Kubernetes. */
  readonly namespace: string;
  /** As text, see selectorText in agent/runtime/select.ts. */
  readonly selector: string;
  readonly state: CaptureState;
  readonly caseId: string;
  readonly reason: string;
  readonly artifacts: readonly ArtifactName[];
  readonly requestedBy: string;
  /** api, alert, or the trigger on the node. */
  readonly trigger: string;
  readonly createdAtMs: number;
  readonly sentAtMs: number;
  readonly acceptedAtMs: number;
  readonly endedAtMs: number;
  readonly expiresAtMs: number;
  readonly error: string;
  readonly approvals: readonly { readonly by: string; readonly atMs: number }[];
  readonly cancelRequested: boolean;
  /** What is sent to the agent, whole; null for a capture that was not asked for here. */
  readonly command: CaptureRequest__Output | null;
  /** As the agent last told it. */
  readonly told: Capture__Output | null;
  /** It has ended and is not sealed everywhere yet. */
  readonly waits: boolean;
}

export type CaptureChange = Partial<
  Pick<
    CaptureRow,
    | 'state'
    | 'sentAtMs'
    | 'acceptedAtMs'
    | 'endedAtMs'
    | 'expiresAtMs'
    | 'error'
    | 'cancelRequested'
    | 'told'
    | 'waits'
    | 'namespace'
  >
> & { readonly approval?: { readonly by: string; readonly atMs: number } };

export interface StoredRequest {
  readonly requestId: string;
  /** SHA-256 in hex over what was asked. */
  readonly requestKey: string;
  readonly captures: readonly CaptureRow[];
}

export interface Added {
  readonly captures: readonly CaptureRow[];
  /** False when the request was there already. */
  readonly created: boolean;
}

export interface CaptureFilter {
  readonly states?: readonly CaptureState[];
  readonly cluster?: string;
  readonly node?: string;
  readonly namespace?: string;
  readonly caseId?: string;
  readonly requestedBy?: string;
  readonly requestId?: string;
  /** Both included. */
  readonly sinceMs?: number;
  readonly untilMs?: number;
  /** What the caller may see: one of these. Absent: everything. Patterns with `*`. */
  readonly visible?: readonly { readonly clusters: readonly string[]; readonly namespaces: readonly string[] }[];
}

export interface PageRequest {
  /** At least 1; more than 1,000 are 1,000. */
  readonly limit: number;
  /** Of the page before; opaque. Fails with `usage` when it is none of ours. */
  readonly token?: string;
}

export interface Page<Row> {
  readonly rows: readonly Row[];
  /** Absent on the last page. */
  readonly next?: string;
}

export interface NodeRow extends NodeName {
  readonly sessionId: string;
  /** Which replica holds the stream; empty: none does. */
  readonly replicaId: string;
  readonly connectedAtMs: number;
  readonly lastSeenMs: number;
  readonly agentVersion: string;
  readonly bootId: string;
  readonly runtimeName: string;
  readonly runtimeVersion: string;
  readonly artifacts: readonly string[];
  readonly sinks: readonly string[];
  readonly clockAheadMs: number;
  readonly running: number;
  readonly waiting: number;
  readonly pod: string;
}

export interface NodeTouch extends NodeName {
  readonly sessionId: string;
  readonly lastSeenMs: number;
  readonly running: number;
  readonly waiting: number;
}

export interface NewCase {
  readonly caseId: string;
  readonly title: string;
  readonly openedBy: string;
  readonly openedAtMs: number;
}

export interface CaseNoteRow {
  readonly by: string;
  readonly atMs: number;
  readonly text: string;
}

export interface CaseRow extends NewCase {
  readonly state: 'open' | 'closed';
  readonly closedBy: string;
  readonly closedAtMs: number;
  readonly notes: readonly CaseNoteRow[];
  readonly captureCount: number;
}

export interface NewAudit {
  readonly atMs: number;
  /** The operator, `controller`, `agent CLUSTER/NODE` or `alert RULE`. */
  readonly actor: string;
  /** `capture.created`, `case.opened`, `access.denied`; listed in docs/controller.md. */
  readonly action: string;
  readonly captureId?: string;
  readonly caseId?: string;
  /** JSON values only; no evidence, no secrets. */
  readonly details: Readonly<Record<string, unknown>>;
}

export interface AuditFilter {
  readonly captureId?: string;
  readonly caseId?: string;
}
