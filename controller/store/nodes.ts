import { type Insertable, type Selectable, type SqlBool, sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import { pageLimit, pageOf, positionOf } from './pages.ts';
import type { Schema } from './schema.ts';
import { type Sql, whole } from './sql.ts';
import type { NodeRow, NodeTouch, Store } from './store.ts';
import { isKey } from './text.ts';

/** Nodes of one statement; it always has as many, so that it stays prepared. */
const TOUCHED_ROWS = 50;

type NodeCalls = Pick<Store, 'putNode' | 'nodeGone' | 'touchNodes' | 'node' | 'nodes'>;

/** Agents say it all again when they connect, so that no disk is waited for. */
export function nodeCalls({ read, writeLightly }: Sql): NodeCalls {
  return {
    putNode: (node) =>
      writeLightly(async (tx) => {
        const { cluster, node: name, ...columns } = columnsOf(node);
        await tx
          .insertInto('nodes')
          .values({ cluster, node: name, ...columns })
          .onConflict((conflict) => conflict.columns(['cluster', 'node']).doUpdateSet(columns))
          .execute();
      }),

    nodeGone: ({ cluster, node }, sessionId, lastSeenMs) =>
      writeLightly(async (tx) => {
        await tx
          .updateTable('nodes')
          .set({ replica_id: '', last_seen_ms: whole(lastSeenMs, 'lastSeenMs') })
          .where('cluster', '=', cluster)
          .where('node', '=', node)
          .where('session_id', '=', sessionId)
          .execute();
      }),

    async touchNodes(touched) {
      const last = [
        ...new Map(
          touched.map((touch) => [JSON.stringify([touch.cluster, touch.node, touch.sessionId]), touch]),
        ).values(),
      ];
      if (last.length === 0) return;
      await writeLightly(async (tx) => {
        for (let at = 0; at < last.length; at += TOUCHED_ROWS)
          await touchStatement(last.slice(at, at + TOUCHED_ROWS)).execute(tx);
      });
    },

    node: ({ cluster, node }) =>
      read(async (db) => {
        const query = db.selectFrom('nodes').selectAll().where('cluster', '=', cluster).where('node', '=', node);
        const found = await query.executeTakeFirst();
        return found === undefined ? undefined : nodeOf(found);
      }),

    nodes: ({ cluster, connectedOnly }, page) =>
      read(async (db) => {
        const limit = pageLimit(page);
        const after = positionOf('nodes', page.token, 'string');
        const found = await db
          .selectFrom('nodes')
          .selectAll()
          .$if(cluster !== undefined, (query) => query.where('cluster', '=', cluster ?? ''))
          .$if(connectedOnly === true, (query) => query.where('replica_id', '<>', ''))
          .$if(after !== undefined, (query) =>
            query.where(sql<SqlBool>`(cluster, node) > (${after?.[0]}, ${after?.[1]})`),
          )
          .orderBy('cluster')
          .orderBy('node')
          .limit(limit + 1)
          .execute();
        return pageOf(found, limit, 'nodes', { row: nodeOf, position: (row) => [row.cluster, row.node] });
      }),
  };
}

/** One statement for many nodes: with 3,000 agents, one each would be 3,000 round trips to PostgreSQL. */
function touchStatement(touched: readonly NodeTouch[]) {
  const padded = Array.from({ length: TOUCHED_ROWS }, (_, at) => touched[at] ?? touched[0]).filter(
    (touch) => touch !== undefined,
  );
  const rows = padded.map(
    ({ cluster, node, sessionId, lastSeenMs, running, waiting }) =>
      sql`(cast(${cluster} as text), cast(${node} as text), cast(${sessionId} as text), cast(${whole(lastSeenMs, 'lastSeenMs')} as bigint),
        cast(${whole(running, 'running')} as bigint), cast(${whole(waiting, 'waiting')} as bigint))`,
  );
  return sql`with touched (cluster, node, session_id, last_seen_ms, running, waiting) as (values ${sql.join(rows)})
    update nodes set last_seen_ms = touched.last_seen_ms, running = touched.running, waiting = touched.waiting
    from touched where nodes.cluster = touched.cluster and nodes.node = touched.node and nodes.session_id = touched.session_id`;
}

function columnsOf(node: NodeRow): Insertable<Schema['nodes']> {
  if (!isKey(node.cluster) || !isKey(node.node))
    throw new ExhibitError('usage', 'the name of the node is none that can be stored');
  return {
    cluster: node.cluster,
    node: node.node,
    session_id: node.sessionId,
    replica_id: node.replicaId,
    connected_at_ms: whole(node.connectedAtMs, 'connectedAtMs'),
    last_seen_ms: whole(node.lastSeenMs, 'lastSeenMs'),
    agent_version: node.agentVersion,
    boot_id: node.bootId,
    runtime_name: node.runtimeName,
    runtime_version: node.runtimeVersion,
    artifacts: JSON.stringify(node.artifacts),
    sinks: JSON.stringify(node.sinks),
    clock_ahead_ms: whole(node.clockAheadMs, 'clockAheadMs'),
    running: whole(node.running, 'running'),
    waiting: whole(node.waiting, 'waiting'),
    pod: node.pod,
  };
}

function nodeOf(row: Selectable<Schema['nodes']>): NodeRow {
  return {
    cluster: row.cluster,
    node: row.node,
    sessionId: row.session_id,
    replicaId: row.replica_id,
    connectedAtMs: row.connected_at_ms,
    lastSeenMs: row.last_seen_ms,
    agentVersion: row.agent_version,
    bootId: row.boot_id,
    runtimeName: row.runtime_name,
    runtimeVersion: row.runtime_version,
    artifacts: JSON.parse(row.artifacts) as string[],
    sinks: JSON.parse(row.sinks) as string[],
    clockAheadMs: row.clock_ahead_ms,
    running: row.running,
    waiting: row.waiting,
    pod: row.pod,
  };
}
