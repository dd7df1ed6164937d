import type { DumpStats } from '../../evidence/dump.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { freezerFileOf, stands, watchFreezer } from '../host/freezer-watch.ts';
import type { DumpParts } from '../runtime/dump-guard.ts';
import { startDumpGuard } from '../runtime/dump-guard-link.ts';
import type { CheckpointRung, HostPath } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';

/** The object's name in a bundle. */
export const CHECKPOINT_OBJECT = 'checkpoint.tar.zst';

export interface AttemptOptions {
  /** Where FIFOs and the tmpfs are made: on a tmpfs, seen under this path by the runtime too. */
  readonly runDir: HostPath;
  readonly tmpfsBytes: number;
  readonly hugePages: boolean;
  /** Of that memory, what is made ready before the target is stopped. */
  readonly touchBytes: number;
  /** How long a cancelled capture waits for the runtime to finish. */
  readonly abortWaitMs: number;
}

/** What one try of a rung came to. A sink that failed and a cancelled capture are thrown instead. */
export interface Attempt {
  /** Undefined when the checkpoint is stored. */
  readonly failure: unknown;
  readonly wallMs: number;
  /** How long the target stood still; undefined where it was not seen. */
  readonly stallMs: number | undefined;
  /** CRIU's log, or its end. */
  readonly log: Buffer | undefined;
  readonly stats: DumpStats | undefined;
}

/** A dump that has been asked for: `failure` is the runtime's, undefined when it was content. */
export interface Dumped {
  readonly failure: unknown;
  readonly wallMs: number;
  /** Seen at its freezer. */
  readonly stoodMs: number | undefined;
  /** It had been paused before, by somebody else. */
  readonly stoodBefore: boolean;
}

export interface DumpOrder extends Pick<DumpParts, 'fifo' | 'tmpfs'> {
  /** Right before the dump, while the target still runs. */
  readonly prepare?: () => Promise<void>;
  readonly ask: () => Promise<void>;
}

/**
 * Asks for a dump and sees to it that the target runs afterwards. The journal knows of it meanwhile. Never throws for what
 * the runtime does.
 */
export async function dump(
  context: CollectContext,
  rung: CheckpointRung,
  { prepare, ask, ...parts }: DumpOrder,
): Promise<Dumped> {
  const { host, runtime, target } = context;
  await using guard = await startDumpGuard({ ...parts, host, pause: runtime.pauseOf(target) });
  if (!guard.started) context.note('no guard watched over the checkpoint: it did not start');
  await prepare?.();
  const file = target.freeze === undefined ? undefined : freezerFileOf(target.freeze);
  // What somebody else had paused is left paused.
  const stoodBefore = file !== undefined && stands(file);
  await context.dumping(rung.name);
  const since = context.now();
  const startedAt = performance.now();
  const watch = file === undefined ? undefined : watchFreezer(file);
  const failure = await ask().then(
    () => undefined,
    (error: unknown) => error ?? new ExhibitError('runtime-failed', 'the runtime gave no reason'),
  );
  const stoodMs = watch?.stop();
  const wallMs = performance.now() - startedAt;
  if (stoodBefore) context.note('the container had been paused by somebody else before the checkpoint');
  const runs = failure === undefined || stoodBefore || (await resumed(context, failure));
  const clean = await cleaned(context, rung, since, failure);
  if (runs && clean) await context.dumping(undefined);
  return { failure, wallMs, stoodMs, stoodBefore };
}

/** Whatever the runtime itself should have removed. False when something may be left: the next agent looks again. */
async function cleaned(
  { target, note }: CollectContext,
  rung: CheckpointRung,
  sinceMs: number,
  failure: unknown,
): Promise<boolean> {
  if (rung.delivers !== 'archive' || isExhibitError(failure, 'runtime-unsupported')) return true;
  try {
    for (const what of await rung.clean(target.record.id, sinceMs))
      note(`removed what the runtime left of the checkpoint: ${what}`);
    return true;
  } catch (error) {
    note(`whether the runtime left something of the checkpoint could not be learned: ${explain(error)}`);
    return false;
  }
}

/** A runtime that fails in the middle may leave the task paused. False when it may still be. */
async function resumed({ runtime, target, note, log }: CollectContext, failure: unknown): Promise<boolean> {
  if (isExhibitError(failure, 'runtime-unsupported')) return true;
  try {
    if (await runtime.resumeIfPaused(target))
      note('the runtime left the container paused after the failure; the agent resumed it');
    return true;
  } catch (error) {
    log.error({ err: error }, 'container may still be paused');
    note(`whether the container runs again could not be learned: ${explain(error)}`);
    return false;
  }
}

/** For how long the target stood because of the dump: what CRIU counted, or what was seen at the freezer, whichever is more. CRIU holds tasks by ptrace(2) where the cgroup is thawed. */
export function stallOf({ stoodMs, stoodBefore }: Dumped, stats: DumpStats | undefined): number | undefined {
  if (stoodBefore) return undefined;
  const counted = stats === undefined ? undefined : (stats.freezingTimeUs + stats.frozenTimeUs) / 1000;
  if (stoodMs === undefined || counted === undefined) return stoodMs ?? counted;
  return Math.max(stoodMs, counted);
}

/** The outcome, or `cancelled` when it is still out `waitMs` after the signal's abort. */
export async function atMostAfterAbort<T>(outcome: Promise<T>, signal: AbortSignal, waitMs: number): Promise<T> {
  const late = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const start = () => {
    timer = setTimeout(() => {
      const what = 'cancelled while the runtime still makes its checkpoint; the agent reads and drops the rest';
      late.reject(new ExhibitError('cancelled', what, { cause: signal.reason }));
    }, waitMs);
  };
  if (signal.aborted) start();
  else signal.addEventListener('abort', start, { once: true });
  outcome.catch(() => {}); // Told to the race while it lasts; afterwards nobody is left to tell.
  try {
    return await Promise.race([outcome, late.promise]);
  } finally {
    signal.removeEventListener('abort', start);
    clearTimeout(timer);
  }
}

/** Why storing stopped: the sink's own error, or the abort. */
export function stopped(failure: unknown, signal: AbortSignal): unknown {
  if (isExhibitError(failure) || !signal.aborted) return failure;
  return new ExhibitError('cancelled', 'cancelled while the checkpoint was stored; the container runs on', {
    cause: signal.reason,
  });
}
