import type { ElfMachine } from '../../evidence/elfheader.ts';
import { explain } from '../../evidence/error.ts';
import type { Frozen, Registers } from '../capture/freeze.ts';
import { sharesPids } from '../host/cgroup.ts';
import { CopyRoom } from '../host/copy-room.ts';
import { type CopyThreads, type CopyThreadsOptions, startCopyThreads } from '../host/copy-threads.ts';
import { kernelPageBytes } from '../host/memory.ts';
import { type MemoryRoom, memoryRoom } from '../host/memory-room.ts';
import { hasSoftDirty } from '../host/pagemap.ts';
import type { Pid } from '../runtime/runtime.ts';
import type { Archive, CollectContext, Collector } from './collector.ts';
import type { Includable, WhenLarger } from './memory-choices.ts';
import { leaveLater, type Standing, type Taken, takeFrozen } from './memory-frozen.ts';
import { type LiveReader, liveReader } from './memory-live.ts';
import type { Extent, PictureOptions, ProcessPicture, Region } from './memory-picture.ts';
import { type PreCopied, preCopyAll } from './memory-precopy.ts';
import { pictureAll, rehearse, type Surveys, surveyTarget } from './memory-processes.ts';
import { reportPictures, reportProcess, reportThreads } from './memory-report.ts';
import { keyOf, sharedKeys } from './memory-shared.ts';
import { type StoreOptions, storeProcess, storeShared } from './memory-store.ts';
import { affordBuffer, chooseStrategy, type Strategy } from './memory-strategy.ts';

/**
 * The `memory` artifact: for each process of the target an ELF core of everything that is in memory, and a record of every
 * mapping. docs/memory.md tells how and why. The order, when it fits into the buffer:
 *
 *     survey live, touch the buffer | freeze: maps, page maps, copy, thaw | lay out, compress, store from the buffer
 */
export function memoryCollector(options: Partial<MemoryOptions> = {}): Collector {
  const full: MemoryOptions = {
    machine: process.arch === 'arm64' ? 'arm64' : 'x86-64',
    pageBytes: kernelPageBytes(),
    whenLarger: 'pre-copy',
    include: undefined,
    room: memoryRoom,
    ...options,
  };
  return { artifact: 'memory', collect: (context) => collect(context, full) };
}

export interface MemoryOptions {
  /** Of the target's processes, which is the agent's own. */
  readonly machine: ElfMachine;
  readonly pageBytes: number;
  /** `memory.whenLarger` and `memory.include` of the configuration. */
  readonly whenLarger: WhenLarger;
  readonly include?: readonly Includable[] | undefined;
  readonly room: () => Promise<MemoryRoom>;
  /** See BufferBudget. */
  readonly keptBytes?: number | undefined;
  /** Threads that have started already, see openThreadReserve; new ones unless told. */
  readonly takeThread?: CopyThreadsOptions['take'];
}

/** One capture of memory: what is the same from its beginning to its end. */
interface Session {
  readonly context: CollectContext;
  readonly options: MemoryOptions;
  readonly strategy: Strategy;
  readonly surveys: Surveys;
  readonly picture: PictureOptions;
  readonly live: LiveReader;
  readonly mtimeNs: bigint;
  readonly progress: (bytes: number, ofBytes?: number) => void;
}

/**
 * Every SHA-256 of memory takes as long as a third of compressing it. A core has none of its own: the archive's content
 * digest covers it; without compression the stored bytes' digest covers all. docs/decisions/0008.
 */
const LEAN = { digestMembersUpTo: 16 * 1024 * 1024, storedDigestOnly: true };

async function collect(context: CollectContext, options: MemoryOptions): Promise<void> {
  const surveys = await surveyTarget(context);
  const expected = [...surveys.values()].reduce((sum, survey) => sum + (survey?.memoryBytes ?? 0), 0);
  const bufferBytes = await bufferFor(context, options);
  const hasDirty = hasSoftDirty(options.pageBytes);
  const { consistency } = context;
  const { whenLarger } = options;
  const needs = { neededBytes: withSlack(expected), bufferBytes, hasSoftDirty: hasDirty };
  const strategy = chooseStrategy({ consistency, whenLarger, ...needs });
  context.fact('strategy', strategy);
  const session: Session = {
    ...{ context, options, strategy, surveys },
    picture: {
      pageBytes: options.pageBytes,
      ownPids: await sharesPids(context.host),
      dirty: strategy.changes === 'soft-dirty',
      include: options.include === undefined ? undefined : new Set(options.include),
    },
    live: liveReader(options.pageBytes, context.signal),
    mtimeNs: BigInt(context.now()) * 1_000_000n,
    progress: progressOf(context, expected),
  };
  await using archive = await context.archive('memory.tar.zst', { estimatedBytes: expected, ...LEAN });
  using opened = new DisposableStack();
  if (strategy.kind === 'live' && consistency === 'live') return await storeLive(session, archive, opened);
  const room = new CopyRoom(Math.min(bufferBytes, needs.neededBytes), options.pageBytes);
  context.fact('roomBytes', room.limitBytes);
  await using threads = await startCopyThreads(room, options.pageBytes, { take: options.takeThread });
  await threads.touch(strategy.kind === 'pre-copy' ? room.limitBytes / 2 : room.limitBytes);
  await rehearse(context, session.picture, surveys);
  const preCopied = strategy.kind === 'pre-copy' ? await preCopyNow(session, archive, threads) : new Map();
  const frozen = await freezeOrNote(context);
  if (frozen === undefined) return await storeLive(session, archive, opened);
  await storeFrozen(session, archive, { frozen, room, threads, preCopied, opened });
}

/** The target goes on between survey and freeze: room for a sixteenth more, and for small processes that may appear. */
function withSlack(bytes: number): number {
  return Math.ceil(bytes + bytes / 16 + 16 * 1024 * 1024);
}

/** What was asked for, or less where the node or the agent's own limit does not allow it. */
async function bufferFor(context: CollectContext, options: MemoryOptions): Promise<number> {
  if (context.consistency === 'live') return 0;
  const given = affordBuffer({
    ...{ askedBytes: context.bufferBytes, keptBytes: options.keptBytes ?? 0 },
    ...(await options.room()),
  });
  if (given.why !== undefined) {
    context.note(
      `the buffer is ${given.bytes} bytes in place of the ${context.bufferBytes} that were asked for: ${given.why}`,
    );
  }
  context.fact('bufferBytes', given.bytes);
  return given.bytes;
}

function progressOf(context: CollectContext, expectedBytes: number): Session['progress'] {
  let doneBytes = 0;
  let totalBytes = expectedBytes;
  return (bytes, ofBytes) => {
    doneBytes += bytes;
    totalBytes = Math.max(ofBytes ?? totalBytes, doneBytes);
    context.progress(doneBytes, totalBytes);
  };
}

function preCopyNow(session: Session, archive: Archive, threads: CopyThreads): Promise<Map<Pid, PreCopied>> {
  const { context, live, mtimeNs, progress, strategy, surveys, picture } = session;
  const shared = sharedKeys(surveys);
  const isShared = ({ vma }: Region): boolean => {
    const key = keyOf(vma);
    return key !== undefined && shared.has(key);
  };
  const changes = strategy.changes ?? 'fingerprints';
  const parts = { archive, live, key: threads.key, changes, isShared, mtimeNs, progress };
  return preCopyAll(context, surveys, { ...parts, picture: { ...picture, dirty: false } });
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

interface FrozenSession {
  readonly frozen: Frozen;
  readonly room: CopyRoom;
  readonly threads: CopyThreads;
  readonly preCopied: ReadonlyMap<Pid, PreCopied>;
  readonly opened: DisposableStack;
}

async function storeFrozen(session: Session, archive: Archive, parts: FrozenSession): Promise<void> {
  const { context, strategy, surveys } = session;
  const { room, threads, preCopied } = parts;
  await using frozen = parts.frozen;
  const pictures = { ...session.picture, opened: parts.opened };
  const taken = await takeFrozen(context, { strategy, surveys, pictures, threads, room, preCopied }, frozen);
  context.fact('bufferedBytes', room.givenBytes);
  context.read(room.givenBytes);
  room.seal();
  await store(session, archive, taken, room);
}

async function storeLive(session: Session, archive: Archive, opened: DisposableStack): Promise<void> {
  const { context, surveys } = session;
  const pictures = await pictureAll(context, { ...session.picture, opened }, surveys);
  leaveLater(pictures, true);
  const registers: Registers = { threads: new Map(), note: 'the target ran' };
  await store(session, archive, { pictures, objects: [], registers }, new CopyRoom(0, session.options.pageBytes));
}

async function store(session: Session, archive: Archive, taken: Taken, room: CopyRoom): Promise<void> {
  const { context, live, mtimeNs, options, progress } = session;
  const { pictures, objects, registers, standing } = taken;
  const storingAt = performance.now();
  const extents = [...pictures.flatMap((picture) => picture.regions), ...objects].flatMap((one) => one.extents);
  progress(
    0,
    extents.reduce((sum, extent) => sum + extent.bytes, 0),
  );
  const stored: StoreOptions = {
    ...{ machine: options.machine, pageBytes: options.pageBytes, registers, room, live, mtimeNs, progress },
    ...(standing === undefined ? {} : whileStanding(standing)),
  };
  // What the target still stands for comes first.
  const unread = (picture: ProcessPicture): number =>
    picture.regions
      .flatMap((region) => region.extents)
      .reduce((sum, { at, bytes }) => sum + (at === undefined ? bytes : 0), 0);
  const order = standing === undefined ? pictures : pictures.toSorted((a, b) => unread(b) - unread(a));
  for (const picture of order) {
    await storeProcess(archive, picture, stored);
    reportProcess(context, picture);
  }
  await storeShared(archive, objects, stored);
  await standing?.thaw();
  await archive.commit();
  context.fact('storeMs', Math.round(performance.now() - storingAt));
  context.read(live.bytesRead);
  reportPictures(context, pictures, objects);
  reportThreads(context, pictures, registers.threads, registers.note);
}

/** `stream-frozen`: an extent that is read before the thaw is of the moment; after the last of them, the target goes on. */
function whileStanding(standing: Standing): Pick<StoreOptions, 'beforeRead' | 'afterRead'> {
  let unreadBytes = standing.unreadBytes;
  return {
    beforeRead: async (extent: Extent) => {
      extent.isLive = standing.moment.isOver();
      unreadBytes -= extent.bytes;
    },
    afterRead: (extent) => {
      if (standing.moment.isOver()) extent.isLive = true;
      if (unreadBytes <= 0) void standing.thaw();
    },
  };
}
