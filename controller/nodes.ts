import { parseSelector, selectorText } from '../agent/runtime/select.ts';
import { ExhibitError } from '../evidence/error.ts';
import type { ListContainersRequest__Output } from '../proto/gen/exhibit/controller/v1/ListContainersRequest.ts';
import type { ListContainersResponse } from '../proto/gen/exhibit/controller/v1/ListContainersResponse.ts';
import type { ListNodesRequest__Output } from '../proto/gen/exhibit/controller/v1/ListNodesRequest.ts';
import type { ListNodesResponse } from '../proto/gen/exhibit/controller/v1/ListNodesResponse.ts';
import type { Node } from '../proto/gen/exhibit/controller/v1/Node.ts';
import type { Container__Output } from '../proto/gen/exhibit/v1/Container.ts';
import type { CallContext } from './api/api.ts';
import { ask, unconnected } from './capture/ask.ts';
import { selectorMessage } from './capture/find.ts';
import { type FoundContainer, fits } from './capture/targets.ts';
import { clustersOf, type Domain, mayIn } from './domain.ts';
import { may } from './identity/rights.ts';
import { pageSize, visiblePage } from './page.ts';
import type { NodeName, NodeRow } from './store/store.ts';
import { readName } from './text.ts';

const NODES = { usual: 100, most: 1_000 };
const CONTAINERS = { usual: 1_000, most: 10_000 };
/** As for a capture: an organisation's clusters. */
const MOST_CLUSTERS = 200;
/** More labels than that on one selector are no selector. */
const MOST_LABELS = 50;

/** Nodes of clusters where the caller may see something. */
export async function listNodes(
  { store, version }: Domain,
  request: ListNodesRequest__Output,
  { caller }: CallContext,
): Promise<ListNodesResponse> {
  const cluster = readName('cluster', request.cluster);
  const { connectedOnly } = request;
  const filter = { ...(cluster === '' ? {} : { cluster }), ...(connectedOnly ? { connectedOnly } : {}) };
  const token = request.pageToken === '' ? {} : { token: request.pageToken };
  const { rows, next } = await visiblePage(
    (page) => store.nodes(filter, page),
    (row) => mayIn(caller, 'see', row.cluster),
    { limit: pageSize(request.pageSize, NODES), ...token },
  );
  return { nodes: rows.map(wireNode), nextPageToken: next ?? '', controllerVersion: version };
}

function wireNode({ sessionId: _, replicaId, bootId: __, artifacts, sinks, ...row }: NodeRow): Node {
  return { ...row, artifacts: [...artifacts], sinks: [...sinks], connected: replicaId !== '' };
}

/** Asks the agents now; ended containers are listed too. */
export async function listContainers(
  domain: Domain,
  request: ListContainersRequest__Output,
  { caller, signal }: CallContext,
): Promise<ListContainersResponse> {
  const { clusters, node, namespace, selector } = readQuestion(request);
  const isWanted = (name: NodeName) =>
    (clusters.length === 0 || clusters.includes(name.cluster)) &&
    (node === '' || node === name.node) &&
    (namespace === '' ? mayIn(caller, 'see', name.cluster) : may(caller, 'see', { cluster: name.cluster, namespace }));
  const question = { namespace, ...(selector === undefined ? {} : { selector: selectorMessage(selector) }) };
  const isAsked = (container: Container__Output) =>
    selector === undefined
      ? namespace === '' || container.namespace === namespace
      : fits(selector, namespace, container);
  const reach = { clusters: clusters.length > 0 ? clusters : clustersOf(caller, 'see'), node, isWanted };
  const asking = { reach, question, fits: isAsked, isSettledBy: 'nothing' } as const;
  const { found, unreached } = await ask(domain, asking, signal);
  const visible = found
    .filter((one) => may(caller, 'see', { cluster: one.cluster, namespace: one.container.namespace }))
    .sort(byName);
  const limit = pageSize(request.limit, CONTAINERS);
  const away = await unconnected(domain, reach);
  return { containers: visible.slice(0, limit), unreached: [...unreached, ...away], cut: visible.length > limit };
}

function readQuestion(request: ListContainersRequest__Output) {
  if (request.clusters.length > MOST_CLUSTERS)
    throw new ExhibitError(
      'usage',
      `The request names ${request.clusters.length} clusters; ${MOST_CLUSTERS} is the most`,
    );
  const pairs = Object.entries(request.labels);
  if (pairs.length > MOST_LABELS)
    throw new ExhibitError('usage', `The request names ${pairs.length} labels; ${MOST_LABELS} is the most`);
  return {
    clusters: request.clusters.map((cluster) => readName("cluster's name", cluster)),
    node: readName('node', request.node),
    namespace: readName('namespace', request.namespace),
    // By way of the text, which checks each name.
    selector: pairs.length === 0 ? undefined : parseSelector(selectorText({ kind: 'labels', labels: new Map(pairs) })),
  };
}

const sortKey = ({ cluster, node, container: { namespace, pod, name, id } }: FoundContainer): string =>
  [cluster, node, namespace, pod, name, id].join('\0');

const byName = (a: FoundContainer, b: FoundContainer): number => (sortKey(a) < sortKey(b) ? -1 : 1);
