import { type Expression, type SqlBool, sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import { appendAudit } from './audit-log.ts';
import { captureColumns, captureOf, changedColumns } from './capture-row.ts';
import { EXPIRABLE } from './migrations.ts';
import { pageLimit, pageOf, positionOf } from './pages.ts';
import { type Database, type Dialect, type Sql, sameText } from './sql.ts';
import { type CaptureFilter, type CaptureRow, OPEN_STATES, type Store, type StoredRequest } from './store.ts';
import { afterPrefix, isKey } from './text.ts';
import { visibleTo } from './visible.ts';

/** Rows of one insert: a few sizes of statement, so that they stay prepared. */
const INSERT_ROWS = 20;

type CaptureCalls = Pick<
  Store,
  | 'addCaptures'
  | 'adoptCapture'
  | 'capture'
  | 'capturesByPrefix'
  | 'captures'
  | 'changeCapture'
  | 'openCaptures'
  | 'countOpen'
  | 'expiredCaptures'
>;

export function captureCalls({ read, write, writeAudited, dialect }: Sql): CaptureCalls {
  return {
    addCaptures: (request, audit) =>
      (audit.length === 0 ? write : writeAudited)(async (tx) => {
        const there = await claimRequest(tx, request);
        if (there !== undefined) return { captures: there, created: false };
        await requireOpenCases(tx, request.captures, dialect);
        const captures = await insertCaptures(tx, request);
        await appendAudit(tx, audit);
        return { captures, created: true };
      }),

    adoptCapture: (capture) =>
      write(async (tx) => {
        await tx
          .insertInto('captures')
          .values(captureColumns(capture))
          .onConflict((conflict) => conflict.column('capture_id').doNothing())
          .execute();
      }),

    capture: (captureId) => read((db) => findCapture(db, captureId)),
    capturesByPrefix: (prefix, limit) => read((db) => capturesByPrefix(db, prefix, limit)),
    captures: (filter, page) =>
      read(async (db) => {
        const limit = pageLimit(page);
        const after = positionOf('captures', page.token, 'number');
        const found = await listed(db, filter, dialect)
          .$if(after !== undefined, (query) =>
            query.where(sql<SqlBool>`(created_at_ms, capture_id) < (${after?.[0]}, ${after?.[1]})`),
          )
          .orderBy('created_at_ms', 'desc')
          .orderBy('capture_id', 'desc')
          .limit(limit + 1)
          .execute();
        return pageOf(found, limit, 'captures', {
          row: captureOf,
          position: (row) => [row.created_at_ms, row.capture_id],
        });
      }),

    async changeCapture(captureId, from, change, audit) {
      if (from.length === 0) return undefined;
      return await (audit === undefined ? write : writeAudited)(async (tx) => {
        const before = await tx
          .selectFrom('captures')
          .selectAll()
          .where('capture_id', '=', captureId)
          .where('state', 'in', from)
          .$if(dialect.concurrentWrites, (query) => query.forUpdate())
          .executeTakeFirst();
        if (before === undefined) return undefined;
        const columns = changedColumns(captureOf(before), change);
        if (columns === undefined) return captureOf(before);
        const after = await tx
          .updateTable('captures')
          .set(columns)
          .where('capture_id', '=', captureId)
          .returningAll()
          .executeTakeFirstOrThrow();
        if (audit !== undefined) await appendAudit(tx, [audit]);
        return captureOf(after);
      });
    },

    openCaptures: ({ cluster, node }) =>
      read(async (db) => {
        const found = await db
          .selectFrom('captures')
          .selectAll()
          .where(sql<SqlBool>`pending = 1`)
          .where('cluster', '=', cluster)
          .where('node', '=', node)
          .orderBy('created_at_ms')
          .orderBy('capture_id')
          .execute();
        return found.map(captureOf);
      }),

    countOpen: () =>
      read(async (db) => {
        const found = await db
          .selectFrom('captures')
          .select(['state', (of) => of.fn.countAll().as('captures')])
          .where('state', 'in', [...OPEN_STATES])
          .groupBy('state')
          .execute();
        return new Map(found.map(({ state, captures }) => [state, Number(captures)]));
      }),

    expiredCaptures: (nowMs, limit) =>
      read(async (db) => {
        const found = await db
          .selectFrom('captures')
          .selectAll()
          .where(sql<SqlBool>`${sql.raw(EXPIRABLE)}`)
          .where('expires_at_ms', '<=', nowMs)
          .orderBy('expires_at_ms')
          .limit(limit)
          .execute();
        return found.map(captureOf);
      }),
  };
}

/** Undefined for a request that is new; its row is then there. */
async function claimRequest(tx: Database, request: StoredRequest): Promise<readonly CaptureRow[] | undefined> {
  if (!isKey(request.requestId)) throw new ExhibitError('usage', 'the id of the request is none that can be stored');
  const claimed = await tx
    .insertInto('requests')
    .values({ request_id: request.requestId, request_key: request.requestKey })
    .onConflict((conflict) => conflict.column('request_id').doNothing())
    .returning('request_id')
    .executeTakeFirst();
  if (claimed !== undefined) return undefined;
  const there = await tx
    .selectFrom('requests')
    .select('request_key')
    .where('request_id', '=', request.requestId)
    .executeTakeFirstOrThrow();
  if (there.request_key !== request.requestKey) {
    const message = 'a request with this id was made before, and asked for something else';
    throw new ExhibitError('capture-conflict', message);
  }
  return await capturesOfRequest(tx, request.requestId);
}

/** Holds the cases open until the captures are in: closing one waits, or comes first. */
async function requireOpenCases(tx: Database, captures: readonly CaptureRow[], dialect: Dialect): Promise<void> {
  const wanted = [...new Set(captures.map(({ caseId }) => caseId))].filter((caseId) => caseId !== '').sort();
  for (const caseId of wanted) {
    const open = await tx
      .selectFrom('cases')
      .select('case_id')
      .where('case_id', '=', caseId)
      .where('state', '=', 'open')
      .$if(dialect.concurrentWrites, (query) => query.forShare())
      .executeTakeFirst();
    if (open === undefined) throw new ExhibitError('case-not-found', 'there is no open case of this id');
  }
}

async function insertCaptures(tx: Database, { requestId, captures }: StoredRequest): Promise<readonly CaptureRow[]> {
  const all: CaptureRow[] = [];
  const rows = captures.map((capture) => captureColumns({ ...capture, requestId }));
  for (let at = 0; at < rows.length; at += INSERT_ROWS) {
    const some = rows.slice(at, at + INSERT_ROWS);
    const inserted = await tx
      .insertInto('captures')
      .values(some)
      .onConflict((conflict) => conflict.column('capture_id').doNothing())
      .returningAll()
      .execute();
    if (inserted.length !== some.length)
      throw new ExhibitError('capture-conflict', 'a capture of this id is there already');
    all.push(...inserted.map(captureOf));
  }
  return all.sort((one, other) => Buffer.compare(Buffer.from(one.captureId), Buffer.from(other.captureId)));
}

async function capturesOfRequest(db: Database, requestId: string): Promise<readonly CaptureRow[]> {
  const query = db.selectFrom('captures').selectAll().where('request_id', '=', requestId).orderBy('capture_id');
  return (await query.execute()).map(captureOf);
}

async function findCapture(db: Database, captureId: string): Promise<CaptureRow | undefined> {
  const found = await db.selectFrom('captures').selectAll().where('capture_id', '=', captureId).executeTakeFirst();
  return found === undefined ? undefined : captureOf(found);
}

async function capturesByPrefix(db: Database, prefix: string, limit: number): Promise<readonly CaptureRow[]> {
  if (!isKey(prefix)) return [];
  const end = afterPrefix(prefix);
  const found = await db
    .selectFrom('captures')
    .selectAll()
    .where('capture_id', '>=', prefix)
    .$if(end !== undefined, (query) => query.where('capture_id', '<', end ?? ''))
    .orderBy('capture_id')
    .limit(limit)
    .execute();
  return found.map(captureOf);
}

/** Of a filter, what is given. */
function listed(db: Database, filter: CaptureFilter, dialect: Dialect) {
  const wanted: Expression<SqlBool>[] = [];
  for (const [column, value] of [
    ['cluster', filter.cluster],
    ['node', filter.node],
    ['request_id', filter.requestId],
  ] as const)
    if (value !== undefined) wanted.push(sql<SqlBool>`${sql.ref(column)} = ${value}`);
  for (const [column, value] of [
    ['namespace', filter.namespace],
    ['case_id', filter.caseId],
    ['requested_by', filter.requestedBy],
  ] as const)
    if (value !== undefined) wanted.push(sameText(column, value));
  if (filter.states !== undefined)
    wanted.push(filter.states.length === 0 ? sql`1 = 0` : sql`state in (${sql.join([...filter.states])})`);
  if (filter.sinceMs !== undefined) wanted.push(sql`created_at_ms >= ${filter.sinceMs}`);
  if (filter.untilMs !== undefined) wanted.push(sql`created_at_ms <= ${filter.untilMs}`);
  if (filter.visible !== undefined) wanted.push(visibleTo(filter.visible, dialect));
  return db
    .selectFrom('captures')
    .selectAll()
    .where((of) => of.and(wanted));
}

/** How many captures a case has. */
export async function countOfCase(db: Database, caseId: string): Promise<number> {
  const found = await db
    .selectFrom('captures')
    .select((of) => of.fn.countAll().as('captures'))
    .where(sameText('case_id', caseId))
    .executeTakeFirstOrThrow();
  return Number(found.captures);
}
