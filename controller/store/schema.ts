import type { ColumnType } from 'kysely';
import type { CaptureState } from './store.ts';

/** The tables as kysely knows them; migrations.ts makes them. Milliseconds since the epoch; 0 and 1 for no and yes. */
export interface Schema {
  captures: CapturesTable;
  requests: { request_id: string; request_key: string };
  nodes: NodesTable;
  cases: CasesTable;
  case_notes: { case_id: string; ordinal: number; written_by: string; at_ms: number; note: string };
  audit: AuditTable;
  claims: { claim: string; until_ms: number };
  budgets: { budget: string };
  spends: { budget: string; at_ms: number; amount: number; until_ms: number };
  /** Which versions were applied. */
  exhibit_schema: { version: number; applied_at_ms: number };
  /** PostgreSQL only: messages that are too long for NOTIFY, and who lives. */
  bus_messages: { id: ColumnType<string, never, never>; message: string; at_ms: number };
  replicas: { replica_id: string; seen_at_ms: number };
}

export interface CapturesTable {
  capture_id: string;
  request_id: string;
  cluster: string;
  node: string;
  namespace: string;
  selector: string;
  state: CaptureState;
  case_id: string;
  reason: string;
  /** JSON, as `approvals`, `command` and `told`. */
  artifacts: string;
  requested_by: string;
  trigger_name: string;
  created_at_ms: number;
  sent_at_ms: number;
  accepted_at_ms: number;
  ended_at_ms: number;
  expires_at_ms: number;
  error: string;
  approvals: string;
  cancel_requested: number;
  command: string | null;
  told: string | null;
  waits: number;
  /** 1 while its node has something to be told of it; the database computes it. */
  pending: ColumnType<number, never, never>;
}

interface NodesTable {
  cluster: string;
  node: string;
  session_id: string;
  replica_id: string;
  connected_at_ms: number;
  last_seen_ms: number;
  agent_version: string;
  boot_id: string;
  runtime_name: string;
  runtime_version: string;
  artifacts: string;
  sinks: string;
  clock_ahead_ms: number;
  running: number;
  waiting: number;
  pod: string;
}

interface CasesTable {
  case_id: string;
  title: string;
  opened_by: string;
  opened_at_ms: number;
  state: 'open' | 'closed';
  closed_by: string;
  closed_at_ms: number;
}

interface AuditTable {
  seq: number;
  at_ms: number;
  actor: string;
  action: string;
  capture_id: string;
  case_id: string;
  details: string;
  previous: string;
  digest: string;
}
