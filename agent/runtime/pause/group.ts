/**
 * Several targets stopped as one: the containers of a pod. All are told at once and let go at once. One that has ended is
 * gone on without; one that cannot be stopped ends the freeze for all, and the caller's `thaw` lets the others go.
 */
import { existsSync } from 'node:fs';
import { ExhibitError, explain } from '../../../evidence/error.ts';
import { type ProcessStat, processStat } from '../process-tree.ts';
import type { FreezeSpec, SingleFreezeSpec } from '../runtime.ts';
import { type Pause, type Paused, preparePause, type Thawed, thawIfFrozen } from './pause.ts';

type GroupSpec = Extract<FreezeSpec, { kind: 'group' }>;

interface Member {
  readonly spec: SingleFreezeSpec;
  readonly pause: Pause;
}

/** Fails when a member cannot be prepared, unless it has ended, and when all have. */
export async function prepareGroup({ members }: GroupSpec, signal: AbortSignal): Promise<Pause> {
  const asked = await Promise.allSettled(members.map((spec) => preparePause(spec, signal)));
  const ready: Member[] = [];
  const ended: string[] = [];
  const failures: unknown[] = [];
  for (const [index, spec] of members.entries()) {
    const one = asked[index];
    if (one?.status === 'fulfilled') ready.push({ spec, pause: one.value });
    else if (await hasEnded(spec)) ended.push(`${nameOf(spec)} had ended before the freeze`);
    else failures.push(one?.reason);
  }
  const [first] = failures;
  if (first === undefined && ready.length > 0) return new GroupPause(ready, ended);
  await Promise.allSettled(ready.map(({ pause }) => pause[Symbol.asyncDispose]()));
  throw first ?? new ExhibitError('freeze-failed', `nothing is left to freeze: ${ended.join('; ')}`);
}

/** What came of telling one member to stop; `at`: performance.now() when it was known to stand. */
type Told =
  | { kind: 'stands'; spec: SingleFreezeSpec; paused: Paused; at: number }
  | { kind: 'ended'; spec: SingleFreezeSpec }
  | { kind: 'failed'; spec: SingleFreezeSpec; error: unknown };

class GroupPause implements Pause {
  readonly #members: readonly Member[];
  /** Notes on those that had ended before. */
  readonly #ended: readonly string[];

  constructor(members: readonly Member[], ended: readonly string[]) {
    this.#members = members;
    this.#ended = ended;
  }

  async freeze(signal: AbortSignal): Promise<Paused> {
    const failure = new AbortController();
    const until = AbortSignal.any([signal, failure.signal]);
    const tell = async ({ spec, pause }: Member): Promise<Told> => {
      try {
        const paused = await pause.freeze(until);
        return { kind: 'stands', spec, paused, at: performance.now() };
      } catch (error) {
        if (!until.aborted && (await hasEnded(spec))) return { kind: 'ended', spec };
        // The others need not stand while the rest is waited for.
        failure.abort(error);
        return { kind: 'failed', spec, error };
      }
    };
    const told = await Promise.all(this.#members.map(tell));
    signal.throwIfAborted();
    if (failure.signal.aborted) throw notAll(told, failure.signal.reason);
    return pausedTogether(told, this.#ended);
  }

  /** Everybody is let go, also when one of them fails. */
  async thaw(): Promise<Thawed> {
    return thawAll(this.#members.map(({ spec, pause }) => ({ spec, thawing: pause.thaw() })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map(({ pause }) => pause[Symbol.asyncDispose]()));
  }
}

function notAll(told: readonly Told[], cause: unknown): ExhibitError {
  const failed = told.find((one) => one.kind === 'failed' && one.error === cause);
  const which = failed === undefined ? 'one of them' : nameOf(failed.spec);
  return new ExhibitError('freeze-failed', `the freeze of ${told.length} together was given up over ${which}`, {
    cause,
  });
}

/** Pure. Fails when nobody is left. */
function pausedTogether(told: readonly Told[], ended: readonly string[]): Paused {
  const standing = told.filter((one) => one.kind === 'stands');
  const held = standing.filter(({ paused }) => paused.by === 'held');
  const endedNow = told
    .filter((one) => one.kind === 'ended')
    .map(({ spec }) => `${nameOf(spec)} ended while it was being stopped`);
  const gone = [...ended, ...endedNow];
  if (standing.length === 0) {
    throw new ExhibitError('freeze-failed', `nothing was left to freeze: ${gone.join('; ')}`);
  }
  const ours = held.length > 0 ? held : standing;
  const toldAt = Math.min(...ours.map(({ paused }) => paused.toldAt));
  const pids = standing.flatMap(({ paused }) => paused.pids ?? []);
  const broken = standing.map(({ paused }) => paused.broken).filter((signal) => signal !== undefined);
  return {
    by: held.length > 0 ? 'held' : 'found',
    toldAt,
    notes: [
      ...gone,
      ...standing.flatMap(({ spec, paused }) => paused.notes.map((note) => `${nameOf(spec)}: ${note}`)),
      ...spread(held.map(({ at }) => at - toldAt)),
    ],
    ...(pids.length === 0 ? {} : { pids }),
    ...(broken.length === 0 ? {} : { broken: AbortSignal.any(broken) }),
  };
}

/** How far from one moment the pictures of several are; `standMs`: when each stood, from when the first was told. */
function spread(standMs: readonly number[]): string[] {
  if (standMs.length < 2) return [];
  const last = Math.max(...standMs);
  const betweenMs = (last - Math.min(...standMs)).toFixed(1);
  return [
    `${standMs.length} stopped together: the last was seen to stand ${betweenMs} ms after the first, and ${last.toFixed(1)} ms after the first was told`,
  ];
}

async function thawAll(all: readonly { spec: SingleFreezeSpec; thawing: Promise<Thawed> }[]): Promise<Thawed> {
  const settled = await Promise.allSettled(all.map(({ thawing }) => thawing));
  const failures: unknown[] = [];
  const thawed: Thawed[] = [];
  for (const [index, one] of settled.entries()) {
    if (one.status === 'rejected') failures.push(one.reason);
    else {
      const name = nameOf(all[index]?.spec);
      thawed.push({ ...one.value, notes: one.value.notes.map((note) => `${name}: ${note}`) });
    }
  }
  if (failures.length > 0) {
    const words = failures.map(explain).join('; ');
    throw new ExhibitError('freeze-failed', `${failures.length} of ${all.length} may still be frozen: ${words}`);
  }
  const leftovers = thawed.map((one) => one.settled).filter((one) => one !== undefined);
  return {
    outcome: outcomeOf(thawed.map(({ outcome }) => outcome)),
    notes: thawed.flatMap(({ notes }) => notes),
    ...(leftovers.length === 0 ? {} : { settled: Promise.all(leftovers).then(() => undefined) }),
  };
}

/** Pure: one word for all of them, by what matters most to who reads it. */
export function outcomeOf(outcomes: readonly Thawed['outcome'][]): Thawed['outcome'] {
  const order = ['thawed', 'was-thawed', 'left'] as const;
  return order.find((one) => outcomes.includes(one)) ?? 'gone';
}

/** For what a dead agent left behind; see thawIfFrozen. */
export const thawGroupIfFrozen = ({ members }: GroupSpec): Promise<Thawed> =>
  thawAll(members.map((spec) => ({ spec, thawing: thawIfFrozen(spec) })));

/** An answer to a question of one task takes milliseconds. */
const ASK_MS = 1_000;

/** Asks only; changes nothing. Who cannot be asked has not ended as far as we know. */
async function hasEnded(spec: SingleFreezeSpec): Promise<boolean> {
  switch (spec.kind) {
    case 'containerd':
      return taskHasEnded(spec);
    case 'docker':
      return (await import('./docker.ts')).hasEnded(spec, AbortSignal.timeout(ASK_MS));
    case 'cgroup-v1':
    case 'cgroup-v2':
      return !existsSync(spec.path);
    case 'signal':
      return spec.pids.every(
        (pid, index) => !isStill(processStat(spec.procRoot ?? '/proc', pid), spec.startTicks?.[index]),
      );
    default:
      return spec satisfies never;
  }
}

/** The process that was meant, and not another that was given its pid. */
const isStill = (stat: ProcessStat | undefined, startTicks: number | undefined): boolean =>
  stat !== undefined && (startTicks === undefined || stat.startTicks === startTicks);

async function taskHasEnded(spec: Extract<SingleFreezeSpec, { kind: 'containerd' }>): Promise<boolean> {
  const { openNamespace, tasksClient } = await import('../tasks.ts');
  const endpoint = openNamespace(spec.socket, spec.namespace);
  try {
    const task = await tasksClient(endpoint).get(spec.containerId, { timeoutMs: ASK_MS });
    return task === undefined || task.status === 'STOPPED';
  } catch {
    return false;
  } finally {
    endpoint.client.close();
  }
}

/** As short as it can be found by in the record of the target. */
function nameOf(spec: SingleFreezeSpec | undefined): string {
  switch (spec?.kind) {
    case 'containerd':
    case 'docker':
      return `container ${spec.containerId.slice(0, 12)}`;
    case 'cgroup-v1':
    case 'cgroup-v2':
      return `cgroup ${spec.path}`;
    case 'signal':
      return `pid ${spec.pids[0]}`;
    case undefined:
      return 'one of them';
    default:
      return spec satisfies never;
  }
}
