/** Which of the node's containers a selector means, or the sentence that says what to type instead. */
import { ExhibitError } from '../../evidence/error.ts';
import type { ContainerSummary, Selector } from './runtime.ts';
import { isContainerName, selectorText } from './select.ts';

/** A message with more candidates than this is not read. */
const CANDIDATES = 20;

/** Kinds of selectors that name a container by itself, not by its processes. */
export type NamingSelector = Extract<Selector, { kind: 'pod' | 'container' | 'name' | 'labels' }>;

export const isNaming = (selector: Selector): selector is NamingSelector =>
  selector.kind === 'pod' || selector.kind === 'container' || selector.kind === 'name' || selector.kind === 'labels';

/** Every container that the selector fits, in any state. */
export function matching(selector: NamingSelector, containers: readonly ContainerSummary[]): ContainerSummary[] {
  switch (selector.kind) {
    case 'pod':
      return containers.filter(({ pod, name }) => {
        const inPod = pod?.namespace === selector.namespace && pod.name === selector.pod;
        return inPod && (selector.container === undefined || selector.container === name);
      });
    case 'container': {
      const whole = containers.filter(({ id }) => id === selector.id);
      return whole.length > 0 ? whole : containers.filter(({ id }) => id.startsWith(selector.id));
    }
    case 'name':
      return containers.filter(({ name }) => name === selector.name);
    case 'labels': {
      const wanted = [...selector.labels];
      return containers.filter(({ labels, name }) => {
        const fits = wanted.every(([key, value]) => labels.get(key) === value);
        return fits && (selector.container === undefined || selector.container === name);
      });
    }
    default:
      return selector satisfies never;
  }
}

/** Of how many ended containers that fit a selector the end is looked up. */
const ENDED_LOOKUPS = 8;

/** Adds when containers that fit the selector ended, for runtimes whose list does not say it. */
export async function withEnds(
  selector: Selector,
  containers: readonly ContainerSummary[],
  endOf: (id: string) => Promise<string | undefined>,
): Promise<readonly ContainerSummary[]> {
  if (!isNaming(selector)) return containers;
  const ended = matching(selector, containers).filter(({ state }) => state === 'exited');
  const known = new Map<string, ContainerSummary>();
  for (const one of ended.slice(0, ENDED_LOOKUPS)) {
    const finishedAt = await endOf(one.id);
    if (finishedAt !== undefined) known.set(one.id, { ...one, finishedAt });
  }
  return containers.map((one) => known.get(one.id) ?? one);
}

const runs = ({ state }: ContainerSummary): boolean => state === 'running' || state === 'paused' || state === 'unknown';

/**
 * The one running container that is meant. A container that ended and was started again by kubelet is listed twice; the
 * running one is meant then. Fails with `target-not-found`, `target-ambiguous` or `target-not-running`.
 */
export function pickContainer(selector: NamingSelector, containers: readonly ContainerSummary[]): ContainerSummary {
  const fitting = matching(selector, containers);
  const running = fitting.filter(runs);
  const [first] = running;
  if (first !== undefined && running.length === 1) return first;
  if (running.length > 1) throw ambiguous(selector, running);
  if (fitting.length > 0) throw notRunning(selector, fitting);
  throw notFound(selector, containers);
}

/**
 * The container that ended last among those that fit, for when none runs. Several that are not each other's successors are
 * `target-ambiguous`. What is listed as running may have ended a moment ago.
 */
export function pickEnded(selector: NamingSelector, containers: readonly ContainerSummary[]): ContainerSummary {
  const fitting = matching(selector, containers);
  const ended = fitting.filter(({ state }) => state !== 'created').sort((a, b) => byEnd(b, a));
  const latest = [...Map.groupBy(ended, typedName).values()].flatMap(([one]) => (one === undefined ? [] : [one]));
  const [first, ...more] = selector.kind === 'container' ? ended.slice(0, 1) : latest;
  if (first !== undefined && more.length === 0) return first;
  if (first !== undefined) throw ambiguous(selector, latest);
  throw fitting.length > 0 ? notRunning(selector, fitting) : notFound(selector, containers);
}

const byEnd = (a: ContainerSummary, b: ContainerSummary): number =>
  (a.finishedAt ?? a.createdAt).localeCompare(b.finishedAt ?? b.createdAt);

/** What a selector means when the whole pod is asked for. */
export interface PodPick {
  /** The pod's running containers, the one that was meant first, else in the order in which they were created. */
  readonly running: readonly [ContainerSummary, ...ContainerSummary[]];
  /** Those that do not run and have no running successor of the same name. */
  readonly idle: readonly ContainerSummary[];
  /** False when the selector left open which container is meant. */
  readonly named: boolean;
}

/**
 * The pod that is meant. A selector that names a container means its pod, and that container first. Fails as
 * `pickContainer` does, with `target-ambiguous` when several pods fit, and with `usage` when what fits is in no pod.
 */
export function pickPod(selector: NamingSelector, containers: readonly ContainerSummary[]): PodPick {
  const named = selector.kind === 'container' || selector.kind === 'name' || selector.container !== undefined;
  const fitting = matching(selector, containers).filter(runs).sort(byCreation);
  const first = named || fitting[0] === undefined ? pickContainer(selector, containers) : fitting[0];
  const key = podKey(first);
  const elsewhere = named ? undefined : fitting.find((one) => podKey(one) !== key);
  if (elsewhere !== undefined) {
    const message = `${selectorText(selector)} fits several pods: say which one, ${listed(fitting.map(typedName))}`;
    throw new ExhibitError('target-ambiguous', message);
  }
  return { ...podOf(first, containers), named };
}

/** Names a pod for good: a new pod of the same name has another uid. Fails with `usage` outside a pod. */
function podKey(one: ContainerSummary): string {
  if (one.pod === undefined) throw noPod(`the container ${typedName(one)}`);
  return JSON.stringify([one.pod.namespace, one.pod.name, one.pod.uid]);
}

/** Every container of the pod that `first` is in. Fails with `usage` when it is in none. */
export function podOf(first: ContainerSummary, containers: readonly ContainerSummary[]): Omit<PodPick, 'named'> {
  const key = podKey(first);
  const inPod = containers.filter((one) => one.pod !== undefined && podKey(one) === key);
  const others = inPod.filter(({ id }) => id !== first.id).sort(byCreation);
  const running: PodPick['running'] = [first, ...others.filter(runs)];
  const names = new Set(running.map(({ name }) => name));
  return { running, idle: others.filter((one) => !runs(one) && !names.has(one.name)) };
}

const byCreation = (a: ContainerSummary, b: ContainerSummary): number =>
  a.createdAt.localeCompare(b.createdAt) || a.name.localeCompare(b.name);

export const noPod = (what: string): ExhibitError =>
  new ExhibitError('usage', `The scope pod needs a pod, and ${what} is in none: say --scope container`);

/** Exactly what to type for one container. */
export function typedName({ pod, name, id }: ContainerSummary): string {
  if (pod !== undefined) return selectorText({ kind: 'pod', namespace: pod.namespace, pod: pod.name, container: name });
  if (name !== id && isContainerName(name)) return selectorText({ kind: 'name', name });
  return selectorText({ kind: 'container', id: /^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id });
}

function listed(names: readonly string[]): string {
  const unique = [...new Set(names)].sort();
  const more = unique.length > CANDIDATES ? ` and ${unique.length - CANDIDATES} more` : '';
  return unique.slice(0, CANDIDATES).join(', ') + more;
}

function ambiguous(selector: NamingSelector, running: readonly ContainerSummary[]): ExhibitError {
  const names = running.map(typedName);
  // Two containers of one name in one pod: only their ids tell them apart.
  const texts =
    new Set(names).size === names.length ? names : running.map(({ id }) => selectorText({ kind: 'container', id }));
  return new ExhibitError(
    'target-ambiguous',
    `${selectorText(selector)} fits ${running.length} containers: say which one, ${listed(texts)}`,
  );
}

function notRunning(selector: NamingSelector, fitting: readonly ContainerSummary[]): ExhibitError {
  const [last] = [...fitting].sort((a, b) => (b.finishedAt ?? b.createdAt).localeCompare(a.finishedAt ?? a.createdAt));
  const what = last === undefined ? selectorText(selector) : `${typedName(last)} (${last.id.slice(0, 12)})`;
  if (last?.state === 'created') {
    return new ExhibitError(
      'target-not-running',
      `${what} has been created and not started: there is nothing to capture yet`,
    );
  }
  const when = last?.finishedAt === undefined ? '' : ` at ${last.finishedAt}`;
  const where =
    last !== undefined && last.pod === undefined ? 'kept by the runtime' : 'below /var/log/pods on the node';
  return new ExhibitError(
    'target-not-running',
    `${what} exited${when}: its processes and memory are gone; its log may still be ${where}`,
  );
}

function notFound(selector: NamingSelector, containers: readonly ContainerSummary[]): ExhibitError {
  return new ExhibitError('target-not-found', `${why(selector, containers)}. ${here(containers)}`);
}

function why(selector: NamingSelector, containers: readonly ContainerSummary[]): string {
  if (selector.kind === 'container') return `No container on this node has an id that begins with ${selector.id}`;
  if (selector.kind === 'name') return `No container on this node is named ${selector.name}`;
  if (selector.kind === 'labels') return `No container on this node has the labels ${selectorText(selector)}`;
  const { namespace, pod, container } = selector;
  const inPod = containers.filter((one) => one.pod?.namespace === namespace && one.pod.name === pod);
  if (container !== undefined && inPod.length > 0) {
    return `The pod ${namespace}/${pod} has no container ${container}, only ${listed(inPod.map(typedName))}`;
  }
  const asked = `\`kubectl get pod -n ${namespace} ${pod} -o wide\``;
  return `There is no pod ${namespace}/${pod} on this node: ${asked} shows its node, and the agent there must be asked`;
}

function here(containers: readonly ContainerSummary[]): string {
  const running = containers.filter(runs).map(typedName);
  return running.length === 0 ? 'No container runs here' : `Running here: ${listed(running)}`;
}
