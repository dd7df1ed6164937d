import type { DumpStats } from '../../evidence/dump.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { freezerFileOf, stands, watchFreezer } from '../host/freezer-watch.ts';
import { codeCacheOf } from '../host/small-process.ts';
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
  /** What is expected to be written of it, and made ready before the target is stopped. */
  readonly expectedBytes: number;
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

/** What watches over a dump from outside the agent, and how the target was found. Disposal says that all is over. */
export interface Watch extends AsyncDisposable {
  /** The target stood already, paused by somebody else: it is left so. */
  readonly stoodBefore: boolean;
  /** The target is known to run again. */
  dumped(): void;
}

/** Starts the guard, which ends what `parts` name, should the agent die before disposal. */
export async function watchOver(
  context: CollectContext,
  { runDir }: AttemptOptions,
  parts: Pick<DumpParts, 'fifo' | 'tmpfs'>,
): Promise<Watch> {
  const { host, runtime, target, note } = context;
  const file = target.freeze === undefined ? undefined : freezerFileOf(target.freeze);
  const stoodBefore = file !== undefined && stands(file);
  if (stoodBefore) note('the container had been paused by somebody else before the checkpoint');
  const pause = stoodBefore ? undefined : runtime.pauseOf(target);
  const guard = await startDumpGuard({ ...parts, host, pause }, { codeCache: codeCacheOf(host, runDir) });
  if (!guard.started) note('no guard watched over the checkpoint: it did not start');
  return { stoodBefore, dumped: guard.dumped, [Symbol.asyncDispose]: () => guard[Symbol.asyncDispose]() };
}

/**
 * Asks for a dump and sees to it that the target runs afterwards. The journal knows of it meanwhile. Never throws for what
 * the runtime does.
 */
export async function dump(
  context: CollectContext,
  rung: CheckpointRung,
  { stoodBefore, dumped }: Watch,
  ask: () => Promise<void>,
): Promise<Dumped> {
  const { target } = context;
  await context.dumping({ rung: rung.name, resume: !stoodBefore });
  const since = context.now();
  const startedAt = performance.now();
  const file = target.freeze === undefined ? undefined : freezerFileOf(target.freeze);
  const watch = file === undefined ? undefined : watchFreezer(file);
  const failure = await ask().then(
    () => undefined,
    (error: unknown) => error ?? new ExhibitError('runtime-failed', 'the runtime gave no reason'),
  );
  const stoodMs = watch?.stop();
  const wallMs = performance.now() - startedAt;
  const runs = failure === undefined || stoodBefore || (await resumed(context, failure));
  if (runs) dumped();
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
  if (rung.clean === undefined || isExhibitError(failure, 'runtime-unsupported')) return true;
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

/**
 * For how long the target stood because of the dump: what CRIU counted, or what was seen at the freezer, whichever is more. CRIU
 * holds the tasks by ptrace(2) where the cgroup is thawed.
 */
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
