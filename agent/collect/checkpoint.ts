import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { type Fifo, makeFifo } from '../host/fifo.ts';
import { freezerFileOf, watchFreezer } from '../host/freezer-watch.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import { criuReason, criuWhy } from './checkpoint-criu.ts';
import { type Pumped, pump } from './checkpoint-pump.ts';
import type { CollectContext, Collector } from './collector.ts';

/** The object's name in a bundle. */
export const CHECKPOINT_OBJECT = 'checkpoint.tar.zst';
const DEFAULT_RUN_DIR = asHostPath('/run/exhibit');
/**
 * How long a cancelled capture waits for the runtime to finish. It cannot be told to stop: that kills runc in the middle and
 * can leave the task paused. Below the agent's own grace at shutdown; the reading goes on in the background after it.
 */
export const ABORT_WAIT_MS = 15_000;

export interface CheckpointOptions {
  /** Where the FIFO is made: on a tmpfs, seen under this path by the runtime too. `/run/exhibit` unless told. */
  readonly runDir?: HostPath;
  readonly abortWaitMs?: number;
}

/** One way of making a checkpoint that was tried, for the artifact's facts. */
interface Rung {
  readonly rung: 'cri';
  readonly ok: boolean;
  readonly wallMs: number;
  readonly error?: string;
  /** CRIU's own words, from its log on the node. */
  readonly criu?: readonly string[];
}

interface Outcome {
  readonly pumped: Pumped;
  readonly rung: Rung;
  /** Why the runtime failed. */
  readonly failure: unknown;
}

/**
 * A CRIU checkpoint made by the runtime, streamed through a FIFO so that no final copy lands on the node's disk. Facts:
 * `rungs`. A failed one leaves the container running and no object behind.
 */
export function createCheckpointCollector(options: CheckpointOptions = {}): Collector {
  return { artifact: 'checkpoint', collect: (context) => collect(context, options) };
}

async function collect(context: CollectContext, options: CheckpointOptions): Promise<void> {
  const { runDir = DEFAULT_RUN_DIR, abortWaitMs = ABORT_WAIT_MS } = options;
  context.signal.throwIfAborted();
  // The object first: a sink that cannot be written must not cost the container a pause.
  await using archive = await context.foreignArchive(CHECKPOINT_OBJECT);
  const fifo = await makeFifo(context.host, runDir, 'checkpoint', context.captureId);
  // Owns the FIFO from here on and removes it at its end, also when nobody waits for that any more.
  const transfer = transferThrough(fifo, archive, context);
  const { pumped, rung, failure } = await atMostAfterAbort(transfer, context.signal, abortWaitMs);
  context.fact('rungs', [rung]);
  if (pumped.failure !== undefined) throw stopped(pumped.failure, context.signal);
  if (failure !== undefined) throw explained(failure, rung);
  if (!pumped.whole) {
    throw new ExhibitError(
      'runtime-failed',
      `the runtime reported a checkpoint but its archive ended early, after ${pumped.bytes} bytes`,
    );
  }
  context.note(
    'the runtime wrote the checkpoint to its own folders on the node before it sent it here, and removed it there',
  );
  await archive.commit();
}

/** Runs the checkpoint and reads the FIFO to its end, whatever happens on the way. */
async function transferThrough(
  fifo: Fifo,
  archive: Parameters<typeof pump>[1],
  context: CollectContext,
): Promise<Outcome> {
  await using _ = fifo;
  const { runtime, target, signal } = context;
  const startedAt = performance.now();
  let doneBytes = 0;
  const pumping = pump(fifo.bytes, archive, signal, (sizeBytes) => {
    doneBytes += sizeBytes;
    context.read(sizeBytes);
    context.progress(doneBytes);
  });
  pumping.catch(() => {}); // Told where it is awaited, below.
  const watch = watchPause(context);
  const rung = runtime.rungs.find(({ delivers }) => delivers === 'archive');
  const asked =
    rung?.delivers === 'archive'
      ? rung.checkpoint(target, fifo.path)
      : Promise.reject(new ExhibitError('runtime-unsupported', `the ${runtime.kind} runtime has no checkpoint`));
  const failure = await asked.then(
    () => undefined,
    (error: unknown) => error ?? new ExhibitError('runtime-failed', 'the runtime gave no reason'),
  );
  watch();
  await fifo.noMoreWriters();
  const pumped = await pumping;
  const wallMs = Math.round(performance.now() - startedAt);
  if (failure === undefined) return { pumped, failure, rung: { rung: 'cri', ok: true, wallMs } };
  await resume(context, failure);
  const { errors, problem } = await criuReason(context.host, failure);
  if (problem !== undefined) context.note(problem);
  const criu = errors.length === 0 ? {} : { criu: errors };
  return { pumped, failure, rung: { rung: 'cri', ok: false, wallMs, error: messageOf(failure), ...criu } };
}

/** The runtime stops the target by itself: how long is seen at the target's freezer. The function returned ends the watch. */
function watchPause({ target, paused, note }: CollectContext): () => void {
  const file = target.freeze === undefined ? undefined : freezerFileOf(target.freeze);
  const watch = file === undefined ? undefined : watchFreezer(file);
  return () => {
    const pausedMs = watch?.stop();
    if (pausedMs === undefined)
      note('how long the runtime stopped the target for the checkpoint could not be measured');
    else paused(pausedMs);
  };
}

/** A runtime that fails in the middle may leave the task paused. */
async function resume({ runtime, target, note, log }: CollectContext, failure: unknown): Promise<void> {
  if (isExhibitError(failure, 'runtime-unsupported')) return;
  try {
    if (await runtime.resumeIfPaused(target))
      note('the runtime left the container paused after the failure; the agent resumed it');
  } catch (error) {
    log.error({ err: error }, 'container may still be paused');
    note(`whether the container runs again could not be learned: ${explain(error)}`);
  }
}

/** Why storing stopped: the sink's own error, or the abort. */
function stopped(failure: unknown, signal: AbortSignal): unknown {
  if (isExhibitError(failure) || !signal.aborted) return failure;
  return new ExhibitError('cancelled', 'cancelled while the checkpoint was stored; the container runs on', {
    cause: signal.reason,
  });
}

function explained(failure: unknown, rung: Rung): ExhibitError {
  const code = isExhibitError(failure) ? failure.code : 'runtime-failed';
  const reason = criuWhy(rung.criu ?? []);
  const why = reason === undefined ? messageOf(failure) : `CRIU says: ${reason}`;
  return new ExhibitError(code, `no checkpoint: ${why}`, { cause: failure });
}

/** The outcome, or `cancelled` when it is still out `waitMs` after the signal's abort. */
async function atMostAfterAbort<T>(outcome: Promise<T>, signal: AbortSignal, waitMs: number): Promise<T> {
  const late = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const start = () => {
    timer = setTimeout(() => {
      late.reject(
        new ExhibitError(
          'cancelled',
          'cancelled while the runtime still makes its checkpoint; the agent reads and drops the rest',
          {
            cause: signal.reason,
          },
        ),
      );
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

/** Without the causes, which repeat the runtime's words. */
function messageOf(error: unknown): string {
  return isExhibitError(error) ? error.message : explain(error);
}
