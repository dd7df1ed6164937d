import type { Unreached } from '../../proto/gen/exhibit/controller/v1/Unreached.ts';
import type { Container__Output } from '../../proto/gen/exhibit/v1/Container.ts';
import type { Domain } from '../domain.ts';
import type { Question } from '../link/link.ts';
import type { NodeName, NodeRow } from '../store/store.ts';
import { type FoundContainer, runs } from './targets.ts';

/** Questions to agents, and who could not be asked. */

/** A runtime answers in some 50 ms; one that hangs must not keep a responder from the others' answers. */
const LOOKUP_TIMEOUT_MS = 8_000;
/** A node that was not seen for longer was most likely taken away. */
const NODE_MEMORY_MS = 60 * 60_000;
/** Rows of nodes at a time. */
const NODES_A_PAGE = 1_000;

/** Whose agents are asked. */
export interface Reach {
  /** Patterns with `*`. */
  readonly clusters: readonly string[];
  /** Empty: every node. */
  readonly node: string;
  /** The same, exactly: patterns alone say too much. */
  readonly isWanted: (node: NodeName) => boolean;
}

export interface Asking {
  readonly reach: Reach;
  readonly question: Question;
  /** What an agent answers beside the question is passed over: it is looked at, not believed. */
  readonly fits: (container: Container__Output) => boolean;
  /** `cluster`: a running container that is found answers for its cluster, `all`: for every one. */
  readonly isSettledBy: 'all' | 'cluster' | 'nothing';
}

export interface Unanswered {
  readonly unreached: readonly Unreached[];
}

export interface Answered extends Unanswered {
  readonly found: readonly FoundContainer[];
}

/** Everything that came within the time, or until it was settled. */
export async function ask(domain: Domain, asking: Asking, signal: AbortSignal): Promise<Answered> {
  const { reach, question, fits, isSettledBy } = asking;
  const clusters = isSettledBy === 'cluster' ? await connectedClusters(domain, reach) : undefined;
  const wanted = { clusters: reach.clusters, node: reach.node };
  const found: FoundContainer[] = [];
  const unreached: Unreached[] = [];
  const timeout = AbortSignal.timeout(LOOKUP_TIMEOUT_MS);
  try {
    for await (const answer of domain.lookups.lookup(wanted, question, AbortSignal.any([signal, timeout]))) {
      const { cluster, node } = answer.node;
      if (!reach.isWanted(answer.node)) continue;
      if (answer.kind === 'unreached') {
        unreached.push({ cluster, node, reason: answer.reason });
        continue;
      }
      const here = answer.containers.filter(fits).map((container) => ({ cluster, node, container }));
      found.push(...here);
      if (isSettledBy === 'nothing' || !here.some(runs)) continue;
      clusters?.delete(cluster);
      if (isSettledBy === 'all' || clusters?.size === 0) return { found, unreached: [] };
    }
  } catch (error) {
    if (!timeout.aborted || signal.aborted) throw error;
  }
  signal.throwIfAborted();
  return { found, unreached };
}

/** Clusters that have an agent to ask, over all replicas. */
async function connectedClusters(domain: Domain, { isWanted }: Reach): Promise<Set<string>> {
  const { links, store } = domain;
  const clusters = new Set(
    links
      .connected()
      .filter(isWanted)
      .map(({ cluster }) => cluster),
  );
  if ((await store.bus.replicas()).length > 1) {
    for await (const row of nodesOf(domain, { connectedOnly: true })) if (isWanted(row)) clusters.add(row.cluster);
  }
  return clusters;
}

/** Every node that ever connected, or that is connected now to any replica. */
export async function* nodesOf({ store }: Domain, filter: { readonly connectedOnly: boolean }): AsyncIterable<NodeRow> {
  let token: string | undefined;
  do {
    const page = await store.nodes(filter, { limit: NODES_A_PAGE, ...(token === undefined ? {} : { token }) });
    yield* page.rows;
    token = page.next;
  } while (token !== undefined);
}

/** Known agents that were to be asked and are not connected: they may have a target too. */
export async function unconnected(domain: Domain, reach: Reach): Promise<Unreached[]> {
  const { isWanted } = reach;
  const away: Unreached[] = [];
  const sinceMs = domain.now() - NODE_MEMORY_MS;
  const { links, store } = domain;
  const here = new Set(links.connected().map(({ cluster, node }) => `${cluster}/${node}`));
  /** A stream that ended here a moment ago: the store hears of it behind everybody else. */
  const hasJustGone = ({ replicaId, cluster, node }: NodeRow) =>
    replicaId === store.bus.replicaId && !here.has(`${cluster}/${node}`);
  for await (const row of knownNodes(domain, reach)) {
    if ((row.replicaId !== '' && !hasJustGone(row)) || row.lastSeenMs < sinceMs || !isWanted(row)) continue;
    const { cluster, node, lastSeenMs } = row;
    away.push({ cluster, node, reason: `not connected since ${new Date(lastSeenMs).toISOString()}` });
  }
  return away;
}

/** At least those that may be wanted; a node that is named by its whole name is not looked for among thousands. */
async function* knownNodes(domain: Domain, { clusters, node }: Reach): AsyncIterable<NodeRow> {
  if (node === '' || clusters.some((cluster) => cluster.includes('*'))) {
    yield* nodesOf(domain, { connectedOnly: false });
    return;
  }
  for (const cluster of clusters) {
    const row = await domain.store.node({ cluster, node });
    if (row !== undefined) yield row;
  }
}
