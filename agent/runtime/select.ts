/**
 * What a person types to point at something, as data and back. `parseSelector(selectorText(s))` is `s` again, because the
 * journal and `request.json` keep the text.
 */
import { isDeepStrictEqual } from 'node:util';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { Selector__Output, Selector as SelectorInput } from '../../proto/gen/exhibit/v1/Selector.ts';
import { asPid, type Runtime, type Selector, type Target } from './runtime.ts';

const FORMS =
  'say NAMESPACE/POD, NAMESPACE/POD/CONTAINER, a container id (4 or more of its hex digits), name:CONTAINER, LABEL=VALUE[,LABEL=VALUE], ' +
  'pid:NUMBER, cgroup:/PATH or unit:NAME.service';

/** Kubernetes names are DNS labels or subdomains; kubelet's static pods and other runtimes add `_` and capitals. */
const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;
/** A prefix shorter than this names too many. */
const ID_PREFIX = /^[0-9a-f]{4,64}$/;
/** As `kubectl get pod -o yaml` shows ids. The scheme also lets ids that are no hex digits be named. */
const ID_WITH_SCHEME = /^(?:containerd|docker|cri-o):\/\/([A-Za-z0-9][A-Za-z0-9._-]{0,127})$/;
/** Docker's own rule for the names of containers. nerdctl's is the same. */
const CONTAINER_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/;
/** pid_max is at most 2^22: proc(5). */
const MAX_PID = 2 ** 22;
const LABEL_KEY = /^([A-Za-z0-9.-]{1,253}\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;

const usage = (message: string): ExhibitError => new ExhibitError('usage', message);

/** Words of a person, so that a message never carries control characters or pages of text. */
const quote = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);

/** Fails with `usage`, naming the forms. */
export function parseSelector(input: string): Selector {
  const text = input.trim();
  if (text === '') throw usage(`No target is named: ${FORMS}`);
  const prefixed = /^(name|pid|cgroup|unit):(.*)$/s.exec(text);
  if (prefixed !== null) return parsePrefixed(prefixed[1] ?? '', prefixed[2] ?? '');
  const id = ID_WITH_SCHEME.exec(text)?.[1];
  if (id !== undefined) return { kind: 'container', id };
  if (text.includes('=')) return parseLabels(text);
  if (text.includes('/')) return parsePod(text);
  if (ID_PREFIX.test(text)) return { kind: 'container', id: text };
  if (/^[0-9a-f]{1,3}$/.test(text))
    throw usage(`${quote(text)} is too short for a container id: give at least 4 hex digits`);
  const hint = CONTAINER_NAME.test(text) ? ` (a container of this name, outside Kubernetes, is name:${text})` : '';
  throw usage(`${quote(text)} does not say which namespace or what kind of thing it is${hint}: ${FORMS}`);
}

function parsePrefixed(kind: string, rest: string): Selector {
  if (kind === 'name') {
    if (!CONTAINER_NAME.test(rest))
      throw usage(`${quote(`name:${rest}`)} is no container's name: say name: and a name such as shop-web-1`);
    return { kind: 'name', name: rest };
  }
  if (kind === 'pid') {
    const pid = /^\d{1,7}$/.test(rest) ? Number(rest) : 0;
    if (pid < 1 || pid > MAX_PID)
      throw usage(`${quote(`pid:${rest}`)} is no process id: say pid: and a number from 1 to ${MAX_PID}`);
    return { kind: 'pid', pid: asPid(pid) };
  }
  if (kind === 'cgroup') {
    const unsafe =
      !rest.startsWith('/') || rest.includes('\0') || rest.split('/').some((part) => part === '..' || part === '.');
    const path = rest.replaceAll(/\/+/g, '/').replace(/(?<=.)\/$/, '');
    if (unsafe || rest.length > 4096)
      throw usage(
        `${quote(`cgroup:${rest}`)} is no cgroup: say cgroup: and its path below /sys/fs/cgroup, from its first slash on`,
      );
    if (path === '/') throw usage('cgroup:/ is the whole node: name a cgroup below it (systemd-cgls shows them)');
    return { kind: 'cgroup', path };
  }
  if (!/^[A-Za-z0-9:_.\\@-]{1,255}$/.test(rest))
    throw usage(`${quote(`unit:${rest}`)} is no systemd unit: say unit: and a name such as nginx.service`);
  // As systemctl does it.
  return { kind: 'unit', unit: /\.(service|scope|slice|socket|mount|swap)$/.test(rest) ? rest : `${rest}.service` };
}

/** `app=web,tier=api`, and `app=web:CONTAINER`: no key or value can hold a colon. */
function parseLabels(text: string): Selector {
  const [pairs = '', container, ...more] = text.replace(/^-l\s*/, '').split(':');
  const labels = new Map<string, string>();
  for (const pair of pairs.split(',')) {
    const [key = '', value = '', ...rest] = pair.trim().replace('==', '=').split('=');
    if (!LABEL_KEY.test(key) || !LABEL_VALUE.test(value) || rest.length > 0) {
      throw usage(`${quote(pair.trim())} is no label: say LABEL=VALUE, several with commas between them`);
    }
    if (labels.has(key) && labels.get(key) !== value) throw usage(`The label ${quote(key)} cannot have two values`);
    labels.set(key, value);
  }
  if (more.length > 0 || (container !== undefined && !NAME.test(container))) {
    throw usage(`${quote(text)}: behind the colon stands the name of one container`);
  }
  return { kind: 'labels', labels, ...(container === undefined ? {} : { container }) };
}

function parsePod(text: string): Selector {
  const [namespace = '', pod = '', container, ...more] = text.split('/');
  const names = [namespace, pod, ...(container === undefined ? [] : [container])];
  if (more.length > 0 || !names.every((name) => NAME.test(name))) {
    throw usage(`${quote(text)} is not NAMESPACE/POD or NAMESPACE/POD/CONTAINER: ${FORMS}`);
  }
  return { kind: 'pod', namespace, pod, ...(container === undefined ? {} : { container }) };
}

/** True for names that `name:` takes; other runtimes allow more. */
export const isContainerName = (name: string): boolean => CONTAINER_NAME.test(name);

/** What to type for this selector. */
export function selectorText(selector: Selector): string {
  switch (selector.kind) {
    case 'pod':
      return [selector.namespace, selector.pod, ...(selector.container === undefined ? [] : [selector.container])].join(
        '/',
      );
    case 'container':
      return ID_PREFIX.test(selector.id) ? selector.id : `containerd://${selector.id}`;
    case 'name':
      return `name:${selector.name}`;
    case 'labels': {
      const pairs = [...selector.labels].map(([key, value]) => `${key}=${value}`).join(',');
      return selector.container === undefined ? pairs : `${pairs}:${selector.container}`;
    }
    case 'pid':
      return `pid:${selector.pid}`;
    case 'cgroup':
      return `cgroup:${selector.path}`;
    case 'unit':
      return `unit:${selector.unit}`;
    default:
      return selector satisfies never;
  }
}

export function selectorToProto(selector: Selector): SelectorInput {
  switch (selector.kind) {
    case 'pod': {
      const { namespace, pod, container = '' } = selector;
      return { pod: { namespace, pod, container } };
    }
    case 'container':
      return { containerId: selector.id };
    case 'name':
      return { containerName: selector.name };
    case 'labels':
      return { labels: { labels: Object.fromEntries(selector.labels), container: selector.container ?? '' } };
    case 'pid':
      return { pid: selector.pid };
    case 'cgroup':
      return { cgroup: selector.path };
    case 'unit':
      return { unit: selector.unit };
    default:
      return selector satisfies never;
  }
}

/**
 * Checks as strictly as `parseSelector`, by way of the text: a message is input like any other. Fails with `usage` when
 * none of the forms is set or one holds nonsense.
 */
export function selectorFromProto(message: Selector__Output): Selector {
  const given = fromMessage(message);
  const text = selectorText(given);
  const parsed = parseSelector(text);
  // A namespace `a/b` would read as another pod. Cgroups and units are only tidied.
  const same = isDeepStrictEqual(parsed, given) || parsed.kind === 'cgroup' || parsed.kind === 'unit';
  if (!same || parsed.kind !== given.kind) throw usage(`${quote(text)} cannot be the name of a target: ${FORMS}`);
  return parsed;
}

function fromMessage({ pod, containerId, labels, pid, cgroup, unit, containerName }: Selector__Output): Selector {
  if (pod) return { kind: 'pod', namespace: pod.namespace, pod: pod.pod, ...named(pod.container) };
  if (containerId) return { kind: 'container', id: containerId };
  if (containerName) return { kind: 'name', name: containerName };
  if (labels) return { kind: 'labels', labels: new Map(Object.entries(labels.labels)), ...named(labels.container) };
  if (pid) return { kind: 'pid', pid: asPid(pid) };
  if (cgroup) return { kind: 'cgroup', path: cgroup };
  if (unit) return { kind: 'unit', unit };
  throw usage(`No target is named: ${FORMS}`);
}

const named = (container: string) => (container === '' ? {} : { container });

export interface Resolved<Of extends Runtime> {
  readonly runtime: Of;
  readonly target: Target;
}

/**
 * The first runtime that knows the target, asked in order: a process that belongs to a container is found as that container
 * before `host` would show it as a process tree. When a runtime that did not answer was passed over, the target says so in its
 * notes. When none knows it: the error of the one that did not answer, for it may have known, else the first one's for what
 * is named as a container, and the last one's, the host's, for a process, a cgroup or a unit.
 */
export async function resolveTarget<Of extends Runtime>(
  selector: Selector,
  runtimes: readonly Of[],
  signal: AbortSignal,
): Promise<Resolved<Of>> {
  const silent: unknown[] = [];
  const ofHost = selector.kind === 'pid' || selector.kind === 'cgroup' || selector.kind === 'unit';
  let missing: unknown;
  for (const runtime of runtimes) {
    try {
      const target = await runtime.resolve(selector, signal);
      const notes = [
        ...target.notes,
        ...silent.map((error) => `a runtime could not be asked about this target: ${explain(error)}`),
      ];
      return { runtime, target: { ...target, notes } };
    } catch (error) {
      if (isExhibitError(error, 'target-not-found')) missing = ofHost ? error : (missing ?? error);
      else if (isExhibitError(error, 'runtime-unreachable')) silent.push(error);
      else throw error;
    }
  }
  throw (
    silent[0] ??
    missing ??
    new ExhibitError('target-not-found', `No runtime is configured that could find ${selectorText(selector)}`)
  );
}
