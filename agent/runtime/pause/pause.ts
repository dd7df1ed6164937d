/**
 * How a target is stopped and let go, one file a way. The guard process holds one of these; nobody else does.
 *
 * `freeze` resolves when every process stands still. When it fails or is aborted the target may be in any state, and the
 * caller must call `thaw`, which repairs exactly what this Pause did. `thaw` is idempotent, bounded by THAW_BOUND_MS, and
 * leaves alone what somebody else froze. Failures are `ExhibitError`s with `freeze-failed`.
 */
import type { FreezeSpec } from '../runtime.ts';

/** A thaw that has not worked for this long will not: whoever reads the log has to act, and is told how. */
export const THAW_BOUND_MS = 10 * 60_000;

/** After this somebody should know, though it is tried on: with containerd and its shim silent a thaw is four time-outs of 1 s. */
export const STUCK_MS = 10_000;

/** Between two tries of a thaw; grows to the second. */
export const RETRY_MS = { first: 20, last: 500 } as const;

export interface Paused {
  /** `held`: this Pause did it. `found`: somebody else had, and it stays so. */
  readonly by: 'held' | 'found';
  /** performance.now() just before the target was told to stop. */
  readonly toldAt: number;
  readonly notes: readonly string[];
  /** The processes that stand, where no cgroup lists them. */
  readonly pids?: readonly number[];
  /** Aborted, with the reason, when the target should be let go early. */
  readonly broken?: AbortSignal;
}

export interface Thawed {
  /** `gone`: the target ended. `was-thawed`: somebody else let it go before. `left`: it was not ours to thaw. */
  readonly outcome: 'thawed' | 'gone' | 'was-thawed' | 'left';
  readonly notes: readonly string[];
  /** Work that remains although the target runs, such as correcting the runtime's view. Bounded; never rejects. */
  readonly settled?: Promise<void>;
}

export interface Pause extends AsyncDisposable {
  freeze(signal: AbortSignal): Promise<Paused>;
  thaw(): Promise<Thawed>;
}

/**
 * Loads what the spec needs and nothing else, connects, and checks that the target is there: all that can be done while it
 * still runs.
 */
export async function preparePause(spec: FreezeSpec, signal: AbortSignal): Promise<Pause> {
  switch (spec.kind) {
    case 'containerd':
      return (await import('./containerd.ts')).preparePause(spec, signal);
    case 'docker':
      return (await import('./docker.ts')).preparePause(spec, signal);
    case 'cgroup-v1':
    case 'cgroup-v2':
      return (await import('./cgroup.ts')).preparePause(spec);
    case 'signal':
      return (await import('./signal.ts')).preparePause(spec);
    case 'group':
      return (await import('./group.ts')).prepareGroup(spec, signal);
    default:
      return spec satisfies never;
  }
}

/** How long a recovery looks for somebody who can say whether the target is frozen. */
const RECOVERY_MS = 15_000;

/** Lets the target go if it is frozen, whoever froze it: for what a dead agent left behind. */
export async function thawIfFrozen(spec: FreezeSpec): Promise<Thawed> {
  switch (spec.kind) {
    case 'containerd':
    case 'docker':
      return (await import('./resume.ts')).thawPaused(spec, RECOVERY_MS);
    case 'cgroup-v1':
    case 'cgroup-v2':
      return (await import('./cgroup.ts')).thawCgroup({
        version: spec.kind === 'cgroup-v2' ? 2 : 1,
        folder: spec.path,
      });
    case 'signal':
      return (await import('./signal.ts')).thawStopped(spec);
    case 'group':
      return (await import('./group.ts')).thawGroupIfFrozen(spec);
    default:
      return spec satisfies never;
  }
}

/** What a person can do when nothing else thawed the target. */
export function byHand(spec: FreezeSpec): string {
  switch (spec.kind) {
    case 'containerd':
      return `ctr --address ${spec.socket} -n ${spec.namespace} tasks resume ${spec.containerId}`;
    case 'docker':
      return `docker -H unix://${spec.socket} unpause ${spec.containerId}`;
    case 'cgroup-v2':
      return `echo 0 > ${spec.path}/cgroup.freeze`;
    case 'cgroup-v1':
      return `echo THAWED > ${spec.path}/freezer.state`;
    case 'signal':
      return `kill -CONT ${spec.pids.join(' ')}`;
    case 'group':
      return spec.members.map(byHand).join('; ');
    default:
      return spec satisfies never;
  }
}

/** The manifest's word for the way: `containerd`, or `group: containerd x2, cgroup-v2 x1` for several stopped together. */
export function methodOf(spec: FreezeSpec): string {
  if (spec.kind !== 'group') return spec.kind;
  const counts = new Map<string, number>();
  for (const { kind } of spec.members) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return `group: ${[...counts].map(([kind, count]) => `${kind} x${count}`).join(', ')}`;
}
