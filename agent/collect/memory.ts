import type { ElfMachine } from '../../evidence/elfheader.ts';
import { explain } from '../../evidence/error.ts';
import type { Frozen } from '../capture/freeze.ts';
import { kernelPageBytes } from '../host/memory.ts';
import type { CollectContext, Collector } from './collector.ts';
import { CopyBuffer } from './memory-buffer.ts';
import { copyMoment, leaveForLater, type Moment } from './memory-copy.ts';
import { liveReader } from './memory-live.ts';
import type { ProcessPicture } from './memory-picture.ts';
import { copyOrder } from './memory-plan.ts';
import { type PictureOptions, pictureAll, rehearse, type Surveys, surveyTarget } from './memory-processes.ts';
import { reportPictures, reportProcess } from './memory-report.ts';
import { storeProcess } from './memory-store.ts';

/**
 * The `memory` artifact: for each process of the target an ELF core of everything that is in memory, and a record of every
 * mapping. docs/memory.md tells how and why. The order, when the plan says `frozen`:
 *
 *     survey live, touch the buffer | freeze: maps, page maps, copy, thaw | lay out, compress, store from the buffer
 */
export function memoryCollector(options: Partial<MemoryOptions> = {}): Collector {
  const full: MemoryOptions = {
    machine: options.machine ?? (process.arch === 'arm64' ? 'arm64' : 'x86-64'),
    pageBytes: options.pageBytes ?? kernelPageBytes(),
  };
  return { artifact: 'memory', collect: (context) => collect(context, full) };
}

export interface MemoryOptions {
  /** Of the target's processes, which is the agent's own. */
  readonly machine: ElfMachine;
  readonly pageBytes: number;
}

async function collect(context: CollectContext, options: MemoryOptions): Promise<void> {
  const surveys = await surveyTarget(context);
  const expected = [...surveys.values()].reduce((sum, survey) => sum + (survey?.memoryBytes ?? 0), 0);
  const isFrozen = context.consistency === 'frozen';
  const buffer = new CopyBuffer(isFrozen ? context.bufferBytes : 0, options.pageBytes);
  await buffer.touch(withSlack(expected), context.signal);
  if (isFrozen) rehearse(context, options.pageBytes, surveys);
  using opened = new DisposableStack();
  const pictures = await takePictures(context, { ...options, opened }, surveys, buffer);
  await store(context, options, pictures, buffer);
}

/** The target goes on between survey and freeze: room for a sixteenth more, and for small processes that may appear. */
function withSlack(bytes: number): number {
  return bytes + bytes / 16 + 16 * 1024 * 1024;
}

/** Pictures of all processes with their memory copied or, where it could not be, planned to be read live. */
async function takePictures(
  context: CollectContext,
  options: PictureOptions,
  surveys: Surveys,
  buffer: CopyBuffer,
): Promise<ProcessPicture[]> {
  if (context.consistency === 'live') return takeLive(context, options, surveys);
  const frozen = await freezeOrNote(context);
  if (frozen === undefined) return takeLive(context, options, surveys);
  return takeFrozen(context, options, surveys, buffer, frozen);
}

/** A target that cannot be stopped still has memory: it is read live, and the artifact says so. */
async function freezeOrNote(context: CollectContext): Promise<Frozen | undefined> {
  try {
    return await context.freeze();
  } catch (error) {
    context.signal.throwIfAborted();
    context.note(`the target could not be frozen (${explain(error)}); its memory was read while it ran`);
    return undefined;
  }
}

async function takeLive(context: CollectContext, options: PictureOptions, surveys: Surveys): Promise<ProcessPicture[]> {
  const pictures = await pictureAll(context, options, surveys);
  leave(pictures, () => true);
  return pictures;
}

/** The one place where the target stands still. Everything in here costs it time. */
async function takeFrozen(
  context: CollectContext,
  options: PictureOptions,
  surveys: Surveys,
  buffer: CopyBuffer,
  standing: Frozen,
): Promise<ProcessPicture[]> {
  await using frozen = standing;
  const frozenAt = performance.now();
  const moment: Moment = { isOver: () => frozen.expired || performance.now() >= frozen.deadline };
  const pictures = await pictureAll(context, options, surveys);
  const picturedAt = performance.now();
  const order = copyOrder(pictures.map((picture) => picture.regions));
  const { pageBytes } = options;
  const result = await copyMoment(order, buffer, moment, { pageBytes, signal: context.signal });
  const copiedAt = performance.now();
  try {
    await frozen.thaw();
  } catch (error) {
    context.note(`the thaw reported: ${explain(error)}; what was copied before it is kept`);
  }
  leave(pictures, (when) => when === 'later');
  context.fact('pictureMs', round(picturedAt - frozenAt));
  context.fact('copyMs', round(copiedAt - picturedAt));
  if (result.stoppedBy === 'buffer') {
    context.note(
      `the buffer of ${buffer.limitBytes} bytes was full; ${result.leftBytes} bytes were read after the thaw`,
    );
  } else if (result.stoppedBy === 'moment') {
    context.note(`the freeze ended before the copy; what came after ${result.frozenBytes} bytes was read live`);
  }
  return pictures;
}

function leave(pictures: readonly ProcessPicture[], which: (when: 'moment' | 'later') => boolean): void {
  for (const region of pictures.flatMap((picture) => picture.regions)) {
    const { decision, ranges } = region.plan;
    if (decision.kind !== 'read' || !which(decision.when)) continue;
    for (const range of ranges) leaveForLater(region, range);
  }
}

async function store(
  context: CollectContext,
  options: MemoryOptions,
  pictures: ProcessPicture[],
  buffer: CopyBuffer,
): Promise<void> {
  const planned = pictures.flatMap((picture) => picture.regions).flatMap((region) => region.extents);
  const totalBytes = planned.reduce((sum, extent) => sum + extent.bytes, 0);
  buffer.seal();
  context.read(buffer.writtenBytes);
  const live = liveReader(options.pageBytes, context.signal);
  let doneBytes = 0;
  const progress = (bytes: number): void => {
    doneBytes += bytes;
    context.progress(doneBytes, totalBytes);
  };
  await using archive = await context.archive('memory.tar.zst', { estimatedBytes: totalBytes });
  const mtimeNs = BigInt(context.now()) * 1_000_000n;
  for (const picture of pictures) {
    await storeProcess(archive, picture, { ...options, buffer, live, mtimeNs, progress });
    reportProcess(context, picture);
  }
  await archive.commit();
  context.read(live.bytesRead);
  reportPictures(context, pictures, buffer);
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
