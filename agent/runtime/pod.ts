/**
 * Scope pod: a runtime whose targets are whole pods, so that every container of one is stopped and read together and the
 * pictures agree. Built on the port alone, it fits every runtime that knows pods.
 *
 * Together are the freeze and every process, with its sockets and memory. What there is once a container (OF_ONE_CONTAINER)
 * stays that of one of them, `ownTarget`. The sandbox's pause process is left out and left running.
 */
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { type ArtifactName, DEFAULT_ARTIFACTS } from '../../evidence/layout.ts';
import type { TargetRecord } from '../../evidence/manifest.ts';
import { isNaming, noPod, type PodPick, pickPod, podOf } from './pick.ts';
import type { ContainerSummary, FreezeSpec, Pid, Runtime, Selector, SingleFreezeSpec, Target } from './runtime.ts';
import { selectorText } from './select.ts';

/** Artifacts of which a pod has one for each container. */
export const OF_ONE_CONTAINER: readonly ArtifactName[] = ['checkpoint', 'volumes', 'rootfs', 'logs', 'spec', 'image'];

/** A runtime for one capture: it remembers in which container each process was seen. */
export interface PodRuntime extends Runtime {
  /**
   * The target's record at the end of the capture: `pids` of everybody seen meanwhile, and notes on containers that came or
   * went. What could not be asked is a note.
   */
  conclude(target: Target, signal: AbortSignal): Promise<TargetRecord>;
}

/** Every container of the target, its own first. */
export const wholeOf = (target: Target): readonly Target[] => [ownTarget(target), ...target.companions];

/** The target without its companions: the one container whose files, log and spec it has. */
export function ownTarget(target: Target): Target {
  const { freeze } = target;
  return { ...target, companions: [], freeze: freeze?.kind === 'group' ? freeze.members[0] : freeze };
}

/** `runtime` stays its opener's to close. */
export function podScoped(runtime: Runtime): PodRuntime {
  const seen = new Map<string, Set<number>>();
  const pidsOf = async (one: Target, signal: AbortSignal): Promise<Pid[]> => {
    const pids = await runtime.pids(one, signal);
    seen.set(one.record.id, new Set([...(seen.get(one.record.id) ?? one.record.pids), ...pids]));
    return pids;
  };
  const withSeen = (record: TargetRecord): TargetRecord => ({
    ...record,
    pids: [...(seen.get(record.id) ?? record.pids)],
    ...(record.companions === undefined ? {} : { companions: record.companions.map(withSeen) }),
  });
  return {
    ...runtime,
    resolve: (selector, signal) => resolvePod(runtime, selector, signal),
    async pids(target, signal) {
      const each = await Promise.all(wholeOf(target).map((one) => pidsOf(one, signal)));
      return [...new Set(each.flat())];
    },
    async conclude(target, signal) {
      const changes = await changesOf(runtime, target, signal);
      const record = withSeen(target.record);
      return changes.length === 0 ? record : { ...record, notes: [...(record.notes ?? []), ...changes] };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

async function resolvePod(runtime: Runtime, selector: Selector, signal: AbortSignal): Promise<Target> {
  const pick = await pickWith(runtime, selector, signal);
  const [first, ...rest] = pick.running;
  const looked = await Promise.allSettled(
    [first, ...rest].map(({ id }) => runtime.resolve({ kind: 'container', id }, signal)),
  );
  const found: Target[] = [];
  const notes: string[] = [];
  for (const [index, one] of looked.entries()) {
    if (one.status === 'fulfilled') found.push(one.value);
    else if (!hasEnded(one.reason) || (index === 0 && pick.named)) throw one.reason;
    else notes.push(`the container ${pick.running[index]?.name} ended before it could be looked at`);
  }
  const [own, ...companions] = found;
  if (own === undefined) throw looked[0]?.status === 'rejected' ? looked[0].reason : noPod(selectorText(selector));
  return together(own, companions, [...notes, ...notesOn(pick, own, companions)]);
}

const hasEnded = (error: unknown): boolean =>
  isExhibitError(error, 'target-not-running') || isExhibitError(error, 'target-not-found');

/** What is named as a container is looked for in the list; a process, by the runtime, then its pod in the list. */
async function pickWith(runtime: Runtime, selector: Selector, signal: AbortSignal): Promise<PodPick> {
  if (isNaming(selector) && runtime.kind !== 'host') return pickPod(selector, await runtime.list(signal));
  const { record } = await runtime.resolve(selector, signal);
  if (record.pod === undefined) throw noPod(selectorText(selector));
  const containers = await runtime.list(signal);
  const first = containers.find(({ id }) => id === record.id);
  if (first === undefined) throw new ExhibitError('target-not-running', `${record.name} has just been removed`);
  return { ...podOf(first, containers), named: true };
}

/** Pure: one target of several. One that cannot be stopped keeps all from being stopped: half a freeze is none. */
function together(own: Target, companions: readonly Target[], notes: readonly string[]): Target {
  if (companions.length === 0) return { ...own, notes: [...own.notes, ...notes] };
  const all = [own, ...companions];
  const free = all.filter(({ freeze }) => freeze === undefined).map(({ record }) => record.name);
  const members = all.flatMap(({ freeze }) => singles(freeze));
  const live = `the pod is captured live: it cannot be stopped as a whole, because ${free.join(', ')} cannot be stopped`;
  return {
    ...own,
    record: { ...own.record, companions: companions.map(recordWithNotes) },
    freeze: free.length === 0 ? { kind: 'group', members } : undefined,
    companions,
    notes: [...own.notes, ...notes, ...(free.length === 0 ? [] : [live])],
  };
}

function singles(freeze: FreezeSpec | undefined): SingleFreezeSpec[] {
  if (freeze === undefined) return [];
  return freeze.kind === 'group' ? freeze.members : [freeze];
}

const recordWithNotes = ({ record, notes }: Target): TargetRecord =>
  notes.length === 0 ? record : { ...record, notes: [...notes] };

/** What is not in the bundle, and how to get it. */
function notesOn(pick: PodPick, { record }: Target, companions: readonly Target[]): string[] {
  const notes = ['the pod’s sandbox (its pause process) is neither stopped nor read: it only holds the namespaces'];
  if (companions.length > 0) {
    const which = pick.named ? '' : ', the first that was created';
    notes.push(`${OF_ONE_CONTAINER.join(', ')} are those of the container ${record.name}${which}`);
  }
  for (const { record: other } of companions) notes.push(`those of ${other.name}: ${commandFor(other)}`);
  if (pick.idle.length > 0) {
    const idle = pick.idle.map(({ name, state }) => `${name} (${state})`);
    notes.push(`containers of the pod that do not run: ${[...new Set(idle)].join(', ')}`);
  }
  return notes;
}

function commandFor({ id, name, pod }: TargetRecord): string {
  const text = pod && selectorText({ kind: 'pod', namespace: pod.namespace, pod: pod.name, container: name });
  // It will be pasted into a shell, and names outside Kubernetes can be anything.
  const typed = text !== undefined && /^[\w./-]+$/.test(text) ? text : selectorText({ kind: 'container', id });
  return `exhibit capture ${typed} --scope container --artifacts ${OF_ONE_CONTAINER.filter((one) => DEFAULT_ARTIFACTS.includes(one)).join(',')}`;
}

/** Containers that came after the target was looked up, and those that went. */
async function changesOf(runtime: Runtime, target: Target, signal: AbortSignal): Promise<string[]> {
  let containers: readonly ContainerSummary[];
  try {
    containers = await runtime.list(signal);
  } catch (error) {
    return [`whether containers of the pod came or went during the capture is not known: ${explain(error)}`];
  }
  const known = wholeOf(target).map(({ record }) => record);
  const inPod = containers.filter(
    ({ pod }) => pod?.uid === target.record.pod?.uid && pod?.name === target.record.pod?.name,
  );
  const running = inPod.filter(({ state }) => state !== 'exited' && state !== 'created');
  const came = running.filter(({ id }) => !known.some((one) => one.id === id));
  const went = known.filter(({ id }) => !running.some((one) => one.id === id));
  return [
    ...came.map(
      ({ name, id, createdAt }) =>
        `the container ${name} (${id.slice(0, 12)}, created at ${createdAt}) came during the capture and was neither stopped nor read with the others`,
    ),
    ...went.map(({ name, id }) => `the container ${name} (${id.slice(0, 12)}) ended during the capture`),
  ];
}
