import type { Selector } from '../../agent/runtime/runtime.ts';
import { selectorText, selectorToProto } from '../../agent/runtime/select.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { Unreached } from '../../proto/gen/exhibit/controller/v1/Unreached.ts';
import type { Container__Output } from '../../proto/gen/exhibit/v1/Container.ts';
import type { Selector__Output } from '../../proto/gen/exhibit/v1/Selector.ts';
import type { CallContext } from '../api/api.ts';
import { ANY_NAMESPACE, clustersOf, type Domain, denyQuietly, forbidden, mayIn } from '../domain.ts';
import type { Caller } from '../identity/identity.ts';
import { may, maySomewhere } from '../identity/rights.ts';
import type { NodeName, NodeRow } from '../store/store.ts';
import { ask, nodesOf, type Reach, type Unanswered, unconnected } from './ask.ts';
import { type Asked, isProcess } from './asked.ts';
import { type CaptureTarget, chooseTargets, endedOnes, type FoundContainer, fits, listed, runs } from './targets.ts';

export interface Targets {
  readonly targets: readonly CaptureTarget[];
  /** Agents that may have one, and could not be asked. */
  readonly unreached: readonly Unreached[];
}

/**
 * Asks the agents who has what was asked for, and chooses among what the caller may capture.
 * @throws ExhibitError `target-not-found`, `target-not-running`, `target-ambiguous`, `forbidden`, `node-not-found`, `agent-unreachable`
 */
export async function findTargets(domain: Domain, asked: Asked, context: CallContext): Promise<Targets> {
  if (isProcess(asked.selector)) return { targets: [await findProcess(domain, asked, context)], unreached: [] };
  checkReach(domain, asked, context.caller);
  const reach = reachOf(asked, context.caller);
  const question = { selector: selectorMessage(asked.selector), namespace: asked.namespace };
  const asking = {
    ...{ reach, question },
    fits: (one: Container__Output) => fits(asked.selector, asked.namespace, one),
    isSettledBy: settling(asked),
  };
  const { found, unreached } = await ask(domain, asking, context.signal);
  const mine = ofCaller(domain, found, context.caller);
  const running = mine.filter(runs);
  const chosen = running.length > 0 ? running : endedOnes(asked, mine);
  if (chosen.length > 0) {
    // What runs is enough where one is meant; of what has ended, an agent that is away may have the successor.
    const isOne = asked.selector.kind !== 'labels' && running.length > 0;
    const away = isOne ? [] : await unconnected(domain, reach);
    return { targets: chooseTargets(asked, chosen), unreached: [...unreached, ...away] };
  }
  throw await nothingFound(domain, { asked, reach, ended: mine, unreached });
}

/** The selector as a message all of whose fields are there, as the wire gives it. */
export function selectorMessage(selector: Selector): Selector__Output {
  const { pod, labels, by: _, ...rest } = selectorToProto(selector);
  return {
    ...rest,
    ...(pod ? { pod: { namespace: pod.namespace ?? '', pod: pod.pod ?? '', container: pod.container ?? '' } } : {}),
    ...(labels ? { labels: { labels: labels.labels ?? {}, container: labels.container ?? '' } } : {}),
  };
}

/** Before anybody is asked. */
function checkReach(domain: Domain, { selector, clusters, namespace }: Asked, caller: Caller): void {
  const known = selector.kind === 'pod' ? selector.namespace : namespace;
  const mayThere = (cluster?: string) =>
    known === ''
      ? cluster === undefined
        ? maySomewhere(caller, 'capture')
        : mayIn(caller, 'capture', cluster)
      : mayCaptureNamespace(caller, known, cluster);
  const where = known === '' ? '' : ` in the namespace ${known}`;
  const call = 'CreateCapture';
  if (clusters.length === 0 && !mayThere())
    throw forbidden(domain, {
      caller,
      call,
      why: `You may not capture${where}: nobody gave you the role responder there`,
    });
  const closed = clusters.find((cluster) => !mayThere(cluster));
  if (closed !== undefined) {
    const why = `You may not capture in the cluster ${closed}${where}: nobody gave you the role responder there`;
    throw forbidden(domain, { caller, call, why });
  }
}

function mayCaptureNamespace(caller: Caller, namespace: string, cluster?: string): boolean {
  if (cluster !== undefined) return may(caller, 'capture', { cluster, namespace });
  const anywhere = caller.grants.map((grant) => ({ ...grant, clusters: ['*'] }));
  return may({ ...caller, grants: anywhere }, 'capture', { cluster: '', namespace });
}

function reachOf({ selector, clusters, node, namespace }: Asked, caller: Caller): Reach {
  const known = selector.kind === 'pod' ? selector.namespace : namespace;
  const isWanted = (name: NodeName) => {
    if (clusters.length > 0 && !clusters.includes(name.cluster)) return false;
    if (node !== '' && node !== name.node) return false;
    return known === ''
      ? mayIn(caller, 'capture', name.cluster)
      : may(caller, 'capture', { cluster: name.cluster, namespace: known });
  };
  return { clusters: clusters.length > 0 ? clusters : clustersOf(caller, 'capture'), node, isWanted };
}

/** A whole id is one container's in the world. */
const WHOLE_ID = /^[0-9a-f]{64}$/;

/** Whether the first answer makes the others needless: of its cluster, or of all. */
function settling({ selector, node }: Asked): 'all' | 'cluster' | 'nothing' {
  if (selector.kind === 'container' && WHOLE_ID.test(selector.id)) return 'all';
  // Kubernetes lets a namespace have a pod's name once.
  return selector.kind === 'pod' || node !== '' ? 'cluster' : 'nothing';
}

/** What the caller may capture. Where that is nothing, what they may only see is an error; the rest is not there for them. */
function ofCaller(domain: Domain, found: readonly FoundContainer[], caller: Caller): readonly FoundContainer[] {
  const place = ({ cluster, container }: FoundContainer) => ({ cluster, namespace: container.namespace });
  const mine = found.filter((one) => may(caller, 'capture', place(one)));
  const [first] = found;
  if (mine.length > 0 || first === undefined) return mine;
  const seen = found.filter((one) => may(caller, 'see', place(one)));
  const call = 'CreateCapture';
  if (seen.length > 0)
    throw forbidden(domain, { caller, call, why: `You may see ${listed(seen)}, and not capture it` });
  denyQuietly(domain, { caller, call, place: place(first), why: 'the target is where the caller may see nothing' });
  return mine;
}

async function nothingFound(
  domain: Domain,
  { asked, reach, ended, unreached }: { asked: Asked; reach: Reach; ended: readonly FoundContainer[] } & Unanswered,
): Promise<ExhibitError> {
  const text = selectorText(asked.selector);
  if (ended.length > 0)
    return new ExhibitError(
      'target-not-running',
      `${listed(ended)} ended or has not begun: there is nothing to capture`,
    );
  const away = [...unreached, ...(await unconnected(domain, reach))];
  if (away.length > 0) {
    const message = `${text} was found by no agent that could be asked, and these could not: ${awayWords(away)}`;
    return new ExhibitError(away.length > unreached.length ? 'target-not-found' : 'agent-unreachable', message);
  }
  const where = asked.namespace === '' ? '' : ` in the namespace ${asked.namespace}`;
  return new ExhibitError(
    'target-not-found',
    `No agent that you may ask knows ${text}${where}; list what they know: exhibit containers`,
  );
}

/** More names than that are not read. */
const SHOWN_AWAY = 10;

function awayWords(away: readonly Unreached[]): string {
  const words = away.slice(0, SHOWN_AWAY).map(({ cluster, node, reason }) => `${cluster}/${node} (${reason})`);
  return words.join(', ') + (away.length > SHOWN_AWAY ? ` and ${away.length - SHOWN_AWAY} more` : '');
}

/** A process, a cgroup or a unit is on the node that was named; its agent finds it when it captures. */
async function findProcess(
  domain: Domain,
  { selector, node, clusters }: Asked,
  { caller }: CallContext,
): Promise<CaptureTarget> {
  const open = (cluster: string) => may(caller, 'capture', { cluster, namespace: ANY_NAMESPACE });
  const call = 'CreateCapture';
  const why = `${selectorText(selector)} may be of any namespace: you need the role responder for namespace *`;
  const closed = clusters.find((cluster) => !open(cluster));
  if (closed !== undefined) throw forbidden(domain, { caller, call, place: { cluster: closed, namespace: '*' }, why });
  const rows = (await nodesNamed(domain, node)).filter(
    ({ cluster }) => clusters.length === 0 || clusters.includes(cluster),
  );
  const mine = rows.filter(({ cluster }) => open(cluster));
  const [row] = mine;
  if (row === undefined) {
    if (rows.some(({ cluster }) => mayIn(caller, 'see', cluster))) throw forbidden(domain, { caller, call, why });
    throw new ExhibitError(
      'node-not-found',
      `No agent of a node ${node} has ever connected; list them with: exhibit nodes`,
    );
  }
  if (mine.length > 1)
    throw new ExhibitError(
      'usage',
      `${mine.length} clusters have a node ${node}: say which, ${mine.map(({ cluster }) => cluster).join(', ')}`,
    );
  if (row.replicaId === '')
    throw new ExhibitError('agent-unreachable', `The agent of ${row.cluster}/${node} is not connected`);
  return { cluster: row.cluster, node, namespace: '', text: selectorText(selector), selector };
}

async function nodesNamed(domain: Domain, node: string): Promise<NodeRow[]> {
  const named: NodeRow[] = [];
  for await (const row of nodesOf(domain, { connectedOnly: false })) if (row.node === node) named.push(row);
  return named;
}
