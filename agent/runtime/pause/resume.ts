/**
 * The end of a runtime's pause, whatever has happened meanwhile. Who is asked, in this order: the runtime, containerd or
 * Docker; the container's shim, which outlives both and owns the state; the cgroup's freezer, as the last resort.
 *
 * A thaw by the freezer alone leaves the shim at PAUSED: it refuses every exec, and its Resume fails with "container not
 * paused" (tried with containerd 2.1.9). So its view is corrected afterwards, by freezing for the moment of a Resume.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ExhibitError, isErrno, isExhibitError } from '../../../evidence/error.ts';
import { awaitFreezer, type FreezerFile, readFreezer, writeFreezer } from '../../host/cgroup.ts';
import type { FreezeSpec } from '../runtime.ts';
import type { Task } from '../tasks.ts';
import { byHand, RETRY_MS, THAW_BOUND_MS, type Thawed } from './pause.ts';

export type ContainerdSpec = Extract<FreezeSpec, { kind: 'containerd' }>;
export type DockerSpec = Extract<FreezeSpec, { kind: 'docker' }>;
/** What a runtime pauses, and resumes. */
export type RuntimeSpec = ContainerdSpec | DockerSpec;

/** A resume takes tens of milliseconds; after this one the shim is asked instead, while the target still stands. */
export const RESUME_TIMEOUT_MS = 1_000;

/** A pause whose answer was lost may still be carried out: the target has to be seen running for this long. */
const SETTLE_MS = 2_000;
const SETTLE_POLL_MS = 100;

/** What one try of a thaw came to; `stuck` when the runtime says PAUSED and the kernel says otherwise. */
type Try = 'thawed' | 'gone' | 'was-thawed' | 'stuck';

/** Somebody who can resume the container: the runtime, or its shim. Each call is bounded by RESUME_TIMEOUT_MS. */
export interface Route {
  readonly name: string;
  status(): Promise<Task['status'] | undefined>;
  resume(): Promise<void>;
}

/** The parts of one container's pause. */
export interface Parts {
  readonly spec: RuntimeSpec;
  /** The runtime first. */
  readonly routes: readonly Route[];
  readonly freezer: FreezerFile | undefined;
}

export const freezerOf = ({ cgroup }: RuntimeSpec): FreezerFile | undefined =>
  cgroup === undefined ? undefined : { version: cgroup.version, folder: cgroup.path };

/** Route after route, then the kernel; again until one works. */
export async function thawParts(parts: Parts): Promise<Thawed> {
  const bound = performance.now() + THAW_BOUND_MS;
  for (let waitMs: number = RETRY_MS.first; ; waitMs = Math.min(waitMs * 2, RETRY_MS.last)) {
    const failures: string[] = [];
    for (const route of parts.routes) {
      try {
        const outcome = await tryRoute(parts, route);
        return { outcome, notes: notesOf(outcome, route, failures) };
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    const direct = await thawDirectly(parts, failures);
    if (direct !== undefined) return direct;
    if (performance.now() > bound) {
      const what = `container ${parts.spec.containerId} cannot be resumed: ${failures.join('; ')}`;
      throw new ExhibitError('freeze-failed', `${what}. By hand: ${byHand(parts.spec)}`);
    }
    await sleep(waitMs);
  }
}

function notesOf(outcome: Exclude<Try, 'stuck'>, route: Route, failures: readonly string[]): string[] {
  const around = failures.length === 0 ? [] : [`resumed through ${route.name}: ${failures.join('; ')}`];
  switch (outcome) {
    case 'thawed':
      return around;
    case 'gone':
      return [...around, 'the container ended while it was paused'];
    case 'was-thawed':
      return [...around, 'the container had been resumed by somebody else'];
    default:
      return outcome satisfies never;
  }
}

/** Resume first, questions only when it fails: every millisecond counts. Fails when this route cannot tell or do. */
async function tryRoute(parts: Parts, route: Route): Promise<Exclude<Try, 'stuck'>> {
  try {
    await route.resume();
    return 'thawed';
  } catch (error) {
    if (isExhibitError(error, 'runtime-unreachable')) throw error;
    const outcome = outcomeOf(await route.status(), kernelState(parts.freezer));
    if (outcome === 'stuck') {
      await correct(parts, route);
      return 'was-thawed';
    }
    if (outcome === undefined) throw error;
    return outcome;
  }
}

/** Pure: what a failed resume means, from what the runtime and the kernel say. Undefined: the container is still paused. */
export function outcomeOf(
  status: Task['status'] | undefined,
  kernel: 'thawed' | 'frozen' | 'gone' | 'unknown',
): Try | undefined {
  if (status === undefined || status === 'STOPPED' || kernel === 'gone') return 'gone';
  if (status === 'RUNNING' || status === 'CREATED') return kernel === 'frozen' ? undefined : 'was-thawed';
  return kernel === 'thawed' ? 'stuck' : undefined;
}

export function kernelState(freezer: FreezerFile | undefined): 'thawed' | 'frozen' | 'gone' | 'unknown' {
  if (freezer === undefined) return 'unknown';
  try {
    return readFreezer(freezer) === 'thawed' ? 'thawed' : 'frozen';
  } catch (error) {
    return isErrno(error, 'ENOENT', 'ENODEV') ? 'gone' : 'unknown';
  }
}

/** The runtime believes in a pause that the kernel has ended: make it true for the moment that the resume needs. */
async function correct({ freezer }: Parts, route: Route): Promise<void> {
  if (freezer === undefined) return;
  try {
    writeFreezer(freezer, 'frozen');
    await awaitFreezer(freezer, 'frozen', AbortSignal.timeout(RESUME_TIMEOUT_MS));
    await route.resume();
  } finally {
    await thawKernel(freezer);
  }
}

/** The kernel thaws whatever the runtime says. Undefined when there is no freezer to tell, or it fails. */
async function thawDirectly(parts: Parts, failures: readonly string[]): Promise<Thawed | undefined> {
  const done = await thawKernel(parts.freezer);
  if (done === undefined) return undefined;
  if (done === 'gone') return { outcome: 'gone', notes: ['the container ended while it was paused'] };
  const why = `thawed by its cgroup's freezer, because nobody else answered: ${failures.join('; ')}`;
  return { outcome: 'thawed', notes: [why], settled: correctLater(parts) };
}

async function thawKernel(freezer: FreezerFile | undefined): Promise<'thawed' | 'gone' | undefined> {
  if (freezer === undefined) return undefined;
  try {
    writeFreezer(freezer, 'thawed');
    await awaitFreezer(freezer, 'thawed', AbortSignal.timeout(RESUME_TIMEOUT_MS));
    return 'thawed';
  } catch (error) {
    return isErrno(error, 'ENOENT', 'ENODEV') ? 'gone' : undefined;
  }
}

/** Until somebody answers: the runtime's view is corrected where it needs to be. */
async function correctLater(parts: Parts): Promise<void> {
  const bound = performance.now() + THAW_BOUND_MS;
  while (performance.now() < bound) {
    for (const route of parts.routes) {
      try {
        const outcome = outcomeOf(await route.status(), kernelState(parts.freezer));
        if (outcome === 'stuck') await correct(parts, route);
        return;
      } catch {
        // Nobody there yet; the target runs, so this can wait.
      }
    }
    await sleep(RETRY_MS.last);
  }
}

/**
 * After a pause whose answer was lost. The runtime may have it still in its queue, so the container has to be seen running,
 * by a runtime that answers, for SETTLE_MS; whatever pauses it meanwhile is undone.
 */
export async function settle(parts: Parts, signal: AbortSignal): Promise<void> {
  const bound = performance.now() + THAW_BOUND_MS;
  const [runtime] = parts.routes;
  let runningSince: number | undefined;
  while (runtime !== undefined && performance.now() < bound && !signal.aborted) {
    const status = await runtime.status().catch(() => 'UNKNOWN' as const);
    const kernel = kernelState(parts.freezer);
    if (status === undefined || status === 'STOPPED' || kernel === 'gone') return;
    const stands = status === 'PAUSED' || status === 'PAUSING' || kernel === 'frozen';
    if (stands) await thawParts(parts).catch(() => undefined);
    if (status !== 'RUNNING' || stands) runningSince = undefined;
    else runningSince ??= performance.now();
    if (runningSince !== undefined && performance.now() - runningSince >= SETTLE_MS) return;
    await sleep(SETTLE_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** For recovery: resumes the container if it is paused, whoever paused it. */
export async function thawPaused(spec: RuntimeSpec, boundMs: number): Promise<Thawed> {
  using pauser =
    spec.kind === 'docker'
      ? await (await import('./docker.ts')).openPauser(spec)
      : await (await import('./containerd.ts')).openPauser(spec);
  return await thawIfPaused(pauser.parts, boundMs);
}

async function thawIfPaused(parts: Parts, boundMs: number): Promise<Thawed> {
  const bound = performance.now() + boundMs;
  for (;;) {
    for (const route of parts.routes) {
      const asked = await route.status().then(
        (status) => ({ status }),
        () => undefined,
      );
      if (asked === undefined) continue;
      const kernel = kernelState(parts.freezer);
      if (asked.status === 'RUNNING' && kernel !== 'frozen') return { outcome: 'was-thawed', notes: [] };
      if (asked.status === undefined || asked.status === 'STOPPED' || kernel === 'gone')
        return { outcome: 'gone', notes: [] };
      return thawParts(parts);
    }
    if (parts.freezer !== undefined && kernelState(parts.freezer) === 'frozen') {
      const direct = await thawDirectly(parts, [
        `neither ${parts.routes.map(({ name }) => name).join(' nor ')} answered`,
      ]);
      if (direct !== undefined) return direct;
    }
    if (performance.now() > bound) {
      const what = `nobody says whether container ${parts.spec.containerId} is still paused`;
      throw new ExhibitError('freeze-failed', `${what}. By hand: ${byHand(parts.spec)}`);
    }
    await sleep(RETRY_MS.last);
  }
}
