import { sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import { beginning, type Database, type Dialect } from './sql.ts';

/** One step of the schema; never changed once it was released. Its statements run in one transaction. */
interface Migration {
  readonly version: number;
  statements(dialect: Dialect): readonly string[];
}

interface Types {
  /** Sorted by code points in both. */
  readonly text: string;
  readonly whole: string;
  /** What ends a table: SQLite checks the types of columns only where it is asked to. */
  readonly end: string;
}

const TYPES: Record<Dialect['kind'], Types> = {
  sqlite: { text: 'text not null', whole: 'integer not null', end: ') strict' },
  postgres: { text: 'text collate "C" not null', whole: 'bigint not null', end: ')' },
};

/** In these words in queries too: SQLite takes a partial index only where a query repeats its condition. */
export const EXPIRABLE = "state in ('awaiting-approval', 'queued')";

function captureTables({ text, whole, end }: Types): string[] {
  const maybe = text.replace(' not null', '');
  return [
    `create table requests (request_id ${text} primary key, request_key ${text} ${end}`,
    `create table captures (
      capture_id ${text} primary key, request_id ${text}, cluster ${text}, node ${text}, namespace ${text},
      selector ${text}, state ${text}, case_id ${text}, reason ${text}, artifacts ${text}, requested_by ${text},
      trigger_name ${text}, created_at_ms ${whole}, sent_at_ms ${whole}, accepted_at_ms ${whole}, ended_at_ms ${whole},
      expires_at_ms ${whole}, error ${text}, approvals ${text}, cancel_requested ${whole}, command ${maybe}, told ${maybe},
      waits ${whole},
      pending ${whole.replace(' not null', '')} generated always as
        (case when state in ('queued', 'sent', 'running') or waits = 1 then 1 else 0 end) stored ${end}`,
    'create index captures_newest on captures (created_at_ms, capture_id)',
    'create index captures_of_node on captures (cluster, node, created_at_ms, capture_id)',
    `create index captures_of_namespace on captures (${beginning('namespace')}, created_at_ms, capture_id)`,
    `create index captures_of_requester on captures (${beginning('requested_by')}, created_at_ms, capture_id)`,
    `create index captures_of_case on captures (${beginning('case_id')}, created_at_ms, capture_id)`,
    'create index captures_of_request on captures (request_id)',
    'create index captures_of_state on captures (state, created_at_ms, capture_id)',
    'create index captures_pending on captures (cluster, node, created_at_ms, capture_id) where pending = 1',
    `create index captures_expirable on captures (expires_at_ms) where ${EXPIRABLE}`,
  ];
}

function otherTables({ text, whole, end }: Types): string[] {
  return [
    `create table nodes (
      cluster ${text}, node ${text}, session_id ${text}, replica_id ${text}, connected_at_ms ${whole}, last_seen_ms ${whole},
      agent_version ${text}, boot_id ${text}, runtime_name ${text}, runtime_version ${text}, artifacts ${text}, sinks ${text},
      clock_ahead_ms ${whole}, running ${whole}, waiting ${whole}, pod ${text}, primary key (cluster, node) ${end}`,
    `create table cases (
      case_id ${text} primary key, title ${text}, opened_by ${text}, opened_at_ms ${whole}, state ${text},
      closed_by ${text}, closed_at_ms ${whole} ${end}`,
    'create index cases_newest on cases (opened_at_ms, case_id)',
    `create table case_notes (
      case_id ${text} references cases (case_id), ordinal ${whole}, written_by ${text}, at_ms ${whole}, note ${text},
      primary key (case_id, ordinal) ${end}`,
    `create table audit (
      seq ${whole} primary key, at_ms ${whole}, actor ${text}, action ${text}, capture_id ${text}, case_id ${text},
      details ${text}, previous ${text}, digest ${text} ${end}`,
    `create index audit_of_capture on audit (${beginning('capture_id')}, seq)`,
    `create index audit_of_case on audit (${beginning('case_id')}, seq)`,
    `create table claims (claim ${text} primary key, until_ms ${whole} ${end}`,
    'create index claims_over on claims (until_ms)',
    `create table budgets (budget ${text} primary key ${end}`,
    `create table spends (
      budget ${text}, at_ms ${whole}, amount ${whole}, until_ms ${whole}, primary key (budget, at_ms) ${end}`,
    'create index spends_over on spends (until_ms)',
  ];
}

const APPEND_ONLY = "'the audit log is only ever added to'";

const AUDIT_GUARD: Record<Dialect['kind'], readonly string[]> = {
  sqlite: ['update', 'delete'].map(
    (change) =>
      `create trigger audit_no_${change} before ${change} on audit begin select raise(abort, ${APPEND_ONLY}); end`,
  ),
  postgres: [
    `create function audit_refuses() returns trigger language plpgsql as $$ begin raise exception ${APPEND_ONLY}; end $$`,
    'create trigger audit_no_change before update or delete on audit for each row execute function audit_refuses()',
    'create trigger audit_no_truncate before truncate on audit for each statement execute function audit_refuses()',
  ],
};

/** What replicas tell each other, see postgres-bus.ts and postgres.ts. Messages need no durability: who was away looks into the store. */
const BUS_TABLES: Record<Dialect['kind'], readonly string[]> = {
  sqlite: [],
  postgres: [
    `create unlogged table bus_messages (
      id bigint generated always as identity primary key, message text not null, at_ms bigint not null)`,
    'create index bus_messages_old on bus_messages (at_ms)',
    'create table write_marks (writer text primary key, mark text not null, at_ms bigint not null) with (fillfactor = 50)',
    'create table replicas (replica_id text collate "C" primary key, seen_at_ms bigint not null)',
  ],
};

const MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    statements: ({ kind }) => [
      ...captureTables(TYPES[kind]),
      ...otherTables(TYPES[kind]),
      ...AUDIT_GUARD[kind],
      ...BUS_TABLES[kind],
    ],
  },
];

export const SCHEMA_VERSION = Math.max(...MIGRATIONS.map(({ version }) => version));

/**
 * The next step that `tx` lacks, in this transaction: false when there was none. Whoever calls holds a lock, so that replicas that
 * start together do not all begin.
 * @throws ExhibitError `config` for a database of a newer exhibit
 */
export async function migrateOnce(tx: Database, dialect: Dialect, nowMs: number): Promise<boolean> {
  const { text: _, whole, end } = TYPES[dialect.kind];
  await sql`create table if not exists exhibit_schema
    (version ${sql.raw(whole)} primary key, applied_at_ms ${sql.raw(whole)} ${sql.raw(end)}`.execute(tx);
  const latest = await tx
    .selectFrom('exhibit_schema')
    .select((of) => of.fn.max('version').as('version'))
    .executeTakeFirst();
  const version = Number(latest?.version ?? 0);
  if (version > SCHEMA_VERSION) {
    throw new ExhibitError(
      'config',
      `the store was written by a newer controller: its schema is version ${version}, and this one knows ${SCHEMA_VERSION}. Run the newer controller, or restore a backup from before`,
    );
  }
  const next = MIGRATIONS.find((migration) => migration.version === version + 1);
  if (next === undefined) return false;
  for (const statement of next.statements(dialect)) await sql.raw(statement).execute(tx);
  await tx.insertInto('exhibit_schema').values({ version: next.version, applied_at_ms: nowMs }).execute();
  return true;
}
