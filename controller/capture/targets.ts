import type { Selector } from '../../agent/runtime/runtime.ts';
import { isContainerName, parseSelector, selectorText } from '../../agent/runtime/select.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { Container__Output } from '../../proto/gen/exhibit/v1/Container.ts';
import type { NodeName } from '../store/store.ts';
import type { Asked } from './asked.ts';

/** Which of the containers that agents found are captured. Pure. */

export interface FoundContainer extends NodeName {
  readonly container: Container__Output;
}

/** One capture: its selector names this target alone on its node. */
export interface CaptureTarget extends NodeName {
  /** Empty outside Kubernetes. */
  readonly namespace: string;
  /** What people know it by. */
  readonly text: string;
  readonly selector: Selector;
}

/** A message with more candidates than this is not read. */
const CANDIDATES = 20;

/** As agent/runtime/pick.ts has it: what a runtime cannot tell of may still run. */
export const runs = ({ container: { state } }: FoundContainer): boolean =>
  state === 'running' || state === 'paused' || state === 'unknown';

/**
 * What is meant where nothing runs: as on the node, of each container that is named the last one. Labels mean what runs, and a whole
 * pod is one that runs.
 */
export function endedOnes(
  { selector, scope }: Pick<Asked, 'selector' | 'scope'>,
  found: readonly FoundContainer[],
): readonly FoundContainer[] {
  if (selector.kind === 'labels' || scope === 'pod') return [];
  const ended = found.filter(({ container: { state } }) => state === 'exited');
  if (selector.kind === 'container') return ended;
  const newest = ended.toSorted((a, b) => b.container.createdAt.localeCompare(a.container.createdAt));
  return [...Map.groupBy(newest, sameName).values()].flatMap(([last]) => (last === undefined ? [] : [last]));
}

const sameName = ({ cluster, node, container: { namespace, pod, name } }: FoundContainer): string =>
  JSON.stringify([cluster, node, namespace, pod, name]);

/** True when the container is what was asked for: an agent's answer is looked at, not believed. */
export function fits(
  selector: Selector,
  namespace: string,
  { id, name, pod, labels, ...of }: Container__Output,
): boolean {
  if (namespace !== '' && of.namespace !== namespace) return false;
  switch (selector.kind) {
    case 'pod':
      return of.namespace === selector.namespace && pod === selector.pod && named(selector.container, name);
    case 'container':
      return id.startsWith(selector.id);
    case 'name':
      return name === selector.name;
    case 'labels':
      return (
        [...selector.labels].every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value) &&
        named(selector.container, name)
      );
    case 'pid':
    case 'cgroup':
    case 'unit':
      return false;
    default:
      return selector satisfies never;
  }
}

const named = (wanted: string | undefined, name: string): boolean => wanted === undefined || wanted === name;

/**
 * The targets among containers that fit, and run or are endedOnes. Labels mean every pod that has them, each other selector one target.
 * @throws ExhibitError `target-ambiguous` with the candidates, `usage` for the scope pod outside of one
 */
export function chooseTargets(
  { selector, scope }: Pick<Asked, 'selector' | 'scope'>,
  found: readonly FoundContainer[],
) {
  const fitting = wholeIdFirst(selector, found);
  const groups = Object.values(Object.groupBy(fitting, groupOf)).filter((group) => group !== undefined);
  if (selector.kind !== 'labels' && groups.length > 1) throw ambiguous(selector, fitting);
  return groups.map((group): CaptureTarget => {
    const [first] = group;
    if (first === undefined) throw new ExhibitError('internal', 'A group of containers without one');
    const { cluster, node } = first;
    const { namespace, id } = first.container;
    const named = selectorOf(selector, scope, group, first);
    // Who names an id means that container, and not the one that takes its place when it restarts.
    const exact: Selector = selector.kind === 'container' ? { kind: 'container', id } : named;
    return { cluster, node, namespace, text: selectorText(named), selector: exact };
  });
}

function wholeIdFirst(selector: Selector, found: readonly FoundContainer[]): readonly FoundContainer[] {
  if (selector.kind !== 'container') return found;
  const whole = found.filter(({ container }) => container.id === selector.id);
  return whole.length > 0 ? whole : found;
}

/** Containers of one pod, where the pod is what is named. */
const groupOf = ({ cluster, node, container: { namespace, pod, id } }: FoundContainer): string =>
  JSON.stringify(pod === '' ? [cluster, node, id] : [cluster, node, namespace, pod]);

function selectorOf(
  selector: Selector,
  scope: string,
  group: readonly FoundContainer[],
  first: FoundContainer,
): Selector {
  const { pod, namespace, id } = first.container;
  if (scope === 'pod' && pod === '')
    throw new ExhibitError(
      'usage',
      `The scope pod needs a pod, and ${describe(first)} is in none: say scope container`,
    );
  const isOpen = (selector.kind === 'pod' || selector.kind === 'labels') && selector.container === undefined;
  const wholePod: Selector = { kind: 'pod', namespace, pod };
  if (scope === 'pod' && isOpen && isTypable(wholePod)) return wholePod;
  if (group.length > 1) throw ambiguous(selector, group);
  const exact: Selector = { ...wholePod, container: first.container.name };
  return pod !== '' && isTypable(exact) ? exact : { kind: 'container', id };
}

/** Names come from a container's runtime: what no selector can hold is named by its id. */
function isTypable(selector: Selector): boolean {
  try {
    return parseSelector(selectorText(selector)).kind === selector.kind;
  } catch (error) {
    if (isExhibitError(error, 'usage')) return false;
    throw error;
  }
}

/** What to type for it. */
export function typedName({ id, name, namespace, pod }: Container__Output): string {
  if (pod !== '') return `${namespace}/${pod}/${name}`;
  return name !== id && isContainerName(name) ? `name:${name}` : id.slice(0, 12);
}

export const describe = ({ cluster, node, container }: FoundContainer): string =>
  `${typedName(container)} on ${cluster}/${node}`;

export function listed(found: readonly FoundContainer[]): string {
  const names = found.map(typedOnce(found)).sort();
  const more = names.length > CANDIDATES ? ` and ${names.length - CANDIDATES} more` : '';
  return names.slice(0, CANDIDATES).join(', ') + more;
}

/** Two containers of one name in one pod: only their ids tell them apart. */
function typedOnce(found: readonly FoundContainer[]): (one: FoundContainer) => string {
  const texts = found.map(describe);
  return (one) => {
    const text = describe(one);
    const isOnly = texts.indexOf(text) === texts.lastIndexOf(text);
    return isOnly ? text : `${one.container.id.slice(0, 64)} on ${one.cluster}/${one.node}`;
  };
}

/** What tells things of one name apart. */
function apart(found: readonly FoundContainer[]): string {
  const several = (of: (one: FoundContainer) => string) => new Set(found.map(of)).size > 1;
  if (several(({ cluster }) => cluster)) return '; name the cluster';
  return several(({ node }) => node) ? '; name the node' : '';
}

function ambiguous(selector: Selector, found: readonly FoundContainer[]): ExhibitError {
  const fits = `${selectorText(selector)} fits ${found.length} containers`;
  return new ExhibitError('target-ambiguous', `${fits}: say which one, ${listed(found)}${apart(found)}`);
}
