/** A rung that leaves CRIU's own files: they go to a tmpfs of the agent's, and from there into an archive as CRI makes it. */
import { parseDumpStats } from '../../evidence/criu-stats.ts';
import type { DumpStats, PlannedRung } from '../../evidence/dump.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { type DumpRoom, dumpNames, makeDumpRoom, readDumpFile, touchRoom } from '../host/dump-folder.ts';
import type { CheckpointRung } from '../runtime/runtime.ts';
import { DUMP_LOG, storeDump } from './checkpoint-archive.ts';
import {
  type Attempt,
  type AttemptOptions,
  atMostAfterAbort,
  CHECKPOINT_OBJECT,
  dump,
  stallOf,
  watchOver,
} from './checkpoint-attempt.ts';
import { criuLog } from './checkpoint-criu.ts';
import { STATS_MEMBER } from './checkpoint-tap.ts';
import type { Archive, CollectContext } from './collector.ts';

type ImagesRung = Extract<CheckpointRung, { delivers: 'images' }>;

/** The image that every dump has, and that is written last but one. */
const INVENTORY = 'inventory.img';
/** CRIU's log and statistics are read whole; its log of a large tree has some megabytes. */
const MOST_WORDS_BYTES = 64 * 1024 * 1024;

export async function attemptImages(
  context: CollectContext,
  rung: ImagesRung,
  planned: PlannedRung,
  options: AttemptOptions,
): Promise<Attempt> {
  // The object first: a sink that cannot be written must not cost the container a pause.
  await using archive = await context.archive(CHECKPOINT_OBJECT, { estimatedBytes: options.expectedBytes });
  const { runDir, tmpfsBytes: imagesBytes, hugePages } = options;
  const wanted = { id: context.captureId, imagesBytes, hugePages, makeFolder: rung.makesFolder !== true };
  const room = await makeDumpRoom(context.host, runDir, wanted);
  // Owns the room from here on, also when nobody waits for that any more: the runtime may still write there.
  const transfer = dumpAndStore(room, archive, { context, rung, planned, options });
  // Awaited here, or the archive would be given up at once.
  return await atMostAfterAbort(transfer, context.signal, options.abortWaitMs);
}

interface Transfer {
  readonly context: CollectContext;
  readonly rung: ImagesRung;
  readonly planned: PlannedRung;
  readonly options: AttemptOptions;
}

async function dumpAndStore(room: DumpRoom, archive: Archive, transfer: Transfer): Promise<Attempt> {
  const { context, rung, planned, options } = transfer;
  const { target, host, signal } = context;
  // Ends after the room, which it would give back in the agent's place.
  await using watch = await watchOver(context, options, { tmpfs: room.mounts });
  await using _ = room;
  await touchRoom(room, options.expectedBytes, signal);
  const dumped = await dump(context, rung, watch, () => rung.checkpoint(target, room.folders, planned.options));
  const { failure, wallMs } = dumped;
  const { log, stats, problem } = await criuWords(room, host, failure);
  if (problem !== undefined) context.note(problem);
  const attempt = { failure, wallMs, stallMs: stallOf(dumped, stats), log, stats };
  if (failure !== undefined) return attempt;
  if (!(await dumpNames(room.images)).includes(INVENTORY)) {
    const what = `the runtime reported a checkpoint but left no CRIU image in ${room.folders.images}: it sees another folder there`;
    return { ...attempt, failure: new ExhibitError('runtime-failed', what) };
  }
  signal.throwIfAborted();
  if (rung.name === 'docker')
    context.note(
      'Docker wrote the checkpoint to /tmp and to its content store on the node first, and removed it there',
    );
  await storeDump(context, archive, room);
  await archive.commit();
  return attempt;
}

/** In the folder that the runtime was given, else where it says it left the log. */
async function criuWords(
  { work }: DumpRoom,
  host: CollectContext['host'],
  failure: unknown,
): Promise<{ log: Buffer | undefined; stats: DumpStats | undefined; problem?: string }> {
  const [log, statsFile] = [DUMP_LOG, STATS_MEMBER].map((name) => readDumpFile(work, name, MOST_WORDS_BYTES));
  const stats = statsFile === undefined ? undefined : parseDumpStats(statsFile);
  if (log !== undefined || failure === undefined || isExhibitError(failure, 'runtime-unsupported'))
    return { log, stats };
  return { ...(await criuLog(host, failure)), stats };
}
