/** A rung that writes a whole archive: the runtime is given a FIFO, so that no final copy lands on the node's disk. */
import type { DumpStats } from '../../evidence/dump.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { type Fifo, makeFifo } from '../host/fifo.ts';
import type { CheckpointRung } from '../runtime/runtime.ts';
import {
  type Attempt,
  type AttemptOptions,
  atMostAfterAbort,
  CHECKPOINT_OBJECT,
  type Dumped,
  dump,
  stallOf,
  stopped,
  watchOver,
} from './checkpoint-attempt.ts';
import { criuLog } from './checkpoint-criu.ts';
import { type Pumped, pump } from './checkpoint-pump.ts';
import { tapArchive } from './checkpoint-tap.ts';
import type { CollectContext, ForeignArchive } from './collector.ts';

type ArchiveRung = Extract<CheckpointRung, { delivers: 'archive' }>;

export async function attemptArchive(
  context: CollectContext,
  rung: ArchiveRung,
  options: AttemptOptions,
): Promise<Attempt> {
  // The object first: a sink that cannot be written must not cost the container a pause.
  await using archive = await context.foreignArchive(CHECKPOINT_OBJECT);
  const fifo = await makeFifo(context.host, options.runDir, 'checkpoint', context.captureId);
  // Owns the FIFO from here on and removes it at its end, also when nobody waits for that any more.
  const transfer = transferThrough(fifo, archive, { context, rung, options });
  const { pumped, dumped, stats } = await atMostAfterAbort(transfer, context.signal, options.abortWaitMs);
  if (pumped.failure !== undefined) throw stopped(pumped.failure, context.signal);
  const { wallMs } = dumped;
  const attempt = { wallMs, stallMs: stallOf(dumped, stats), stats, log: undefined };
  if (dumped.failure !== undefined) {
    const { log, problem } = await criuLog(context.host, dumped.failure);
    if (problem !== undefined) context.note(problem);
    return { ...attempt, failure: dumped.failure, log };
  }
  if (!pumped.whole) {
    const what = `the runtime reported a checkpoint but its archive ended early, after ${pumped.bytes} bytes`;
    return { ...attempt, failure: new ExhibitError('runtime-failed', what) };
  }
  context.note(
    'the runtime wrote the checkpoint to its own folders on the node before it sent it here, and removed it there',
  );
  await archive.commit();
  return { ...attempt, failure: undefined };
}

interface Transfer {
  readonly context: CollectContext;
  readonly rung: ArchiveRung;
  readonly options: AttemptOptions;
}

/** Runs the checkpoint and reads the FIFO to its end, whatever happens on the way. */
async function transferThrough(
  fifo: Fifo,
  archive: ForeignArchive,
  { context, rung, options }: Transfer,
): Promise<{ pumped: Pumped; dumped: Dumped; stats: DumpStats | undefined }> {
  await using watch = await watchOver(context, options, { fifo: fifo.path });
  await using _ = fifo;
  const tap = tapArchive();
  let doneBytes = 0;
  const pumping = pump(fifo.bytes, archive, context.signal, (chunk) => {
    tap.take(chunk);
    doneBytes += chunk.length;
    context.read(chunk.length);
    context.progress(doneBytes);
  });
  pumping.catch(() => {}); // Told where it is awaited, below.
  const dumped = await dump(context, rung, watch, () => rung.checkpoint(context.target, fifo.path));
  await fifo.noMoreWriters();
  const pumped = await pumping;
  return { pumped, dumped, stats: tap.stats() };
}
