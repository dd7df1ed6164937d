import type { ContainerSummary } from '../runtime/runtime.ts';
import { selectorText } from '../runtime/select.ts';
import type { ScheduleSelector } from './schedule-options.ts';

/** What a run captures: the text of a selector, and a name that stays when the container is another one. Pure. */
export interface ScheduledTarget {
  readonly selector: string;
  /** `prod/web-0/web`. */
  readonly name: string;
}

export interface ChosenTargets {
  readonly targets: readonly ScheduledTarget[];
  /** How many more there were than may be taken. */
  readonly leftOut: number;
}

/** The running containers that every given part of the selector matches, by name. */
export function chooseTargets(
  selector: ScheduleSelector,
  containers: readonly ContainerSummary[],
  most: number,
): ChosenTargets {
  if (selector.target !== undefined) {
    return { targets: [{ selector: selector.target, name: selector.target }], leftOut: 0 };
  }
  const found = containers
    .filter((one) => one.state === 'running' && matches(selector, one))
    .map((one) => ({ selector: selectorText({ kind: 'container', id: one.id }), name: nameOf(one) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return { targets: found.slice(0, most), leftOut: Math.max(0, found.length - most) };
}

const nameOf = ({ pod, name }: ContainerSummary): string =>
  pod === undefined ? name : `${pod.namespace}/${pod.name}/${name}`;

function matches({ namespaces, pods, containers, labels = {} }: ScheduleSelector, one: ContainerSummary): boolean {
  const isOne = (patterns: readonly string[] | undefined, name: string | undefined) =>
    patterns === undefined || (name !== undefined && patterns.some((pattern) => matchesPattern(pattern, name)));
  return (
    isOne(namespaces, one.pod?.namespace) &&
    isOne(pods, one.pod?.name) &&
    isOne(containers, one.name) &&
    Object.entries(labels).every(([key, value]) => one.labels.get(key) === value)
  );
}

/** `*` is any run of characters. By hand, for a regular expression of many stars takes for ever. */
export function matchesPattern(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return at <= name.length - last.length;
}
