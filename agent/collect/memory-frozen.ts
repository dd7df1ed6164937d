import { setTimeout as sleep } from 'node:timers/promises';
import { explain } from '../../evidence/error.ts';
import type { FreezeRecord } from '../../evidence/manifest.ts';
import type { Frozen, Registers } from '../capture/freeze.ts';
import type { CopyRoom } from '../host/copy-room.ts';
import type { CopyThreads } from '../host/copy-threads.ts';
import { isSameProgram, readPosition, readStatSync } from '../host/memory.ts';
import type { Pid } from '../runtime/runtime.ts';
import type { CollectContext } from './collector.ts';
import { Copier, jobSize, leaveForLater, type Moment } from './memory-copy.ts';
import type { ProcessPicture, Region } from './memory-picture.ts';
import { copyOrder, isRead } from './memory-plan.ts';
import { copyChanges, type PreCopied, tidy } from './memory-precopy.ts';
import { type PicturesOptions, pictureAll, type Surveys } from './memory-processes.ts';
import { copyHidden, copyObject, keyOf, refer, type SharedObject, sharedKeys, sharedObjects } from './memory-shared.ts';
import type { Strategy } from './memory-strategy.ts';

/** What is done while the target stands still. Everything in here costs it time. */

export interface FrozenParts {
  readonly strategy: Strategy;
  readonly surveys: Surveys;
  readonly pictures: PicturesOptions;
  readonly threads: CopyThreads;
  readonly room: CopyRoom;
  readonly preCopied: ReadonlyMap<Pid, PreCopied>;
}

export interface Taken {
  readonly pictures: readonly ProcessPicture[];
  readonly objects: readonly SharedObject[];
  readonly registers: Registers;
  /** Only of `stream-frozen`: what is still to be read stands still. */
  readonly standing?: Standing;
}

/** A target that stands still until what the room does not hold is stored. */
export interface Standing extends AsyncDisposable {
  /** Still to be read, and not in the room. */
  readonly unreadBytes: number;
  readonly moment: Moment;
  thaw(): Promise<void>;
}

export async function takeFrozen(context: CollectContext, parts: FrozenParts, frozen: Frozen): Promise<Taken> {
  const frozenAt = performance.now();
  const moment: Moment = { isOver: () => frozen.expired || performance.now() >= frozen.deadline };
  const { threads, room, strategy } = parts;
  const { pageBytes } = parts.pictures;
  const copier = new Copier({ threads, room, moment, pageBytes, jobBytes: jobSize(room.limitBytes, threads.count) });
  const { pictures, objects, picturedAt } = await copyAll(context, parts, copier);
  const copiedAt = performance.now();
  const early = await Promise.race([frozen.registers, sleep(REGISTERS_MS, undefined)]);
  readPositions(context, pictures, early);
  checkPrograms(context, pictures);
  const standing = standingOf(context, { copier, moment, frozen, room, strategy });
  const isStreaming = strategy.kind === 'stream-frozen';
  if (!isStreaming || standing.unreadBytes === 0) await standing.thaw();
  context.fact('pictureMs', round(picturedAt - frozenAt));
  context.fact('copyMs', round(copiedAt - frozenAt));
  for (const object of objects) refer(object);
  for (const region of pictures.flatMap((picture) => picture.regions)) tidy(region);
  if (isStreaming) giveUpLater(pictures);
  else leaveLater(pictures);
  // At the thaw at the latest the guard says what it has read.
  const registers = early ?? (await Promise.race([frozen.registers, sleep(LATE_REGISTERS_MS, NO_REGISTERS)]));
  return { pictures, objects, registers, ...(isStreaming ? { standing } : {}) };
}

interface Copied extends Pick<Taken, 'pictures' | 'objects'> {
  /** performance.now() when all pages had been looked up. */
  readonly picturedAt: number;
}

/** Resolves when everything that the strategy copies in the freeze is in the room, or known not to fit. */
async function copyAll(context: CollectContext, parts: FrozenParts, copier: Copier): Promise<Copied> {
  const options = parts.pictures;
  const shared = sharedKeys(parts.surveys);
  const onPages: PicturesOptions['onPages'] = (region, start, end, state) => {
    if (!isOwn(region, shared) || !isRead(region.disposition, state)) return;
    copier.add(region, { start, end }, region.origin);
  };
  const atOnce = parts.strategy.kind === 'buffered' ? { onPages, onPicture: () => copier.flush() } : {};
  const pictures = await pictureAll(context, { ...options, ...atOnce }, parts.surveys);
  const picturedAt = performance.now();
  const objects = sharedObjects(pictures, shared);
  const own = pictures.map((picture) => picture.regions.filter((region) => isOwn(region, shared)));
  copyOwn(parts, pictures, own, copier);
  const access = { host: context.host, opened: options.opened };
  pictures.forEach(({ survey }, index) => {
    for (const region of own[index] ?? []) copyHidden(survey.pid, region, copier, access);
  });
  for (const object of objects) copyObject(object, copier, access);
  await copier.settle(context.signal);
  return { pictures, objects, picturedAt };
}

/** What was not copied as it was found: the strategy wants to see all of it first. */
function copyOwn(
  { strategy, preCopied }: FrozenParts,
  pictures: readonly ProcessPicture[],
  own: readonly (readonly Region[])[],
  copier: Copier,
): void {
  switch (strategy.kind) {
    case 'buffered':
      return;
    case 'pre-copy':
      pictures.forEach((picture, index) => {
        copyChanges(picture, own[index] ?? [], preCopied.get(picture.survey.pid), copier);
      });
      return;
    case 'stream-frozen':
    case 'live':
      for (const region of copyOrder(own)) {
        for (const range of region.plan.ranges) copier.add(region, range, region.origin);
      }
      return;
    default:
      strategy.kind satisfies never;
  }
}

/** Copied in the moment, and for this process alone. */
function isOwn(region: Region, shared: ReadonlySet<string>): boolean {
  const key = keyOf(region.vma);
  return region.isReadIn('moment') && !(key !== undefined && shared.has(key));
}

/** What could wait for somebody else is read after the thaw. */
export function leaveLater(pictures: readonly ProcessPicture[], all = false): void {
  for (const region of pictures.flatMap((picture) => picture.regions)) {
    if (!region.isReadIn('later') && !(all && region.isReadIn('moment'))) continue;
    for (const range of region.plan.ranges) leaveForLater(region, range, region.origin);
  }
}

/** With `stream-frozen` there is no time after the thaw, and while the target stands nobody may wait for it. */
function giveUpLater(pictures: readonly ProcessPicture[]): void {
  const why = 'reading it may wait for another program, which cannot be risked while the target stands still';
  for (const region of pictures.flatMap((picture) => picture.regions)) {
    if (!region.isReadIn('later')) continue;
    for (const range of region.plan.ranges) region.gaps.push({ ...range, why });
  }
}

/** The guard reads them on another core while memory is copied; waiting longer than this would be a stall of its own. */
const REGISTERS_MS = 20;
/** The guard ends its reading within milliseconds of the thaw. */
const LATE_REGISTERS_MS = 1000;
const NO_REGISTERS: Registers = { threads: new Map(), note: 'the guard did not say what it had read' };

/** Of the threads whose registers have not come yet: where they stand, in case they never come. */
function readPositions(
  context: CollectContext,
  pictures: readonly ProcessPicture[],
  registers: Registers | undefined,
): void {
  for (const { survey, threads } of pictures) {
    for (const thread of threads) {
      if (registers?.threads.has(thread.tid) === true) continue;
      thread.position = readPosition(context.host, survey.pid, thread.tid);
    }
  }
}

/** A pid is not a process: whoever was killed in the freeze may have been followed by another of its number. */
function checkPrograms(context: CollectContext, pictures: readonly ProcessPicture[]): void {
  for (const { survey, stat } of pictures) {
    let now: typeof stat | undefined;
    try {
      now = readStatSync(context.host, survey.pid);
    } catch {
      now = undefined;
    }
    if (now !== undefined && isSameProgram(now, stat) && now.state !== 'Z' && now.state !== 'X') continue;
    context.note(`pid ${survey.pid}: it ended while it stood still; its core is what was read until then`);
  }
}

interface StandingParts extends Pick<FrozenParts, 'room' | 'strategy'> {
  readonly copier: Copier;
  readonly moment: Moment;
  readonly frozen: Frozen;
}

function standingOf(context: CollectContext, parts: StandingParts): Standing {
  const { copier, frozen, moment, strategy } = parts;
  let ended: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    let record: FreezeRecord | undefined;
    try {
      record = await frozen.thaw();
    } catch (error) {
      context.note(`the thaw reported: ${explain(error)}; what was copied before it is kept`);
    }
    judge(context, copier, record);
    const buffer = `the buffer of ${parts.room.limitBytes} bytes was full`;
    if (copier.stoppedBy === 'buffer' && strategy.kind !== 'stream-frozen')
      context.note(`${buffer}; ${copier.leftBytes} bytes were read after the thaw`);
  };
  const thaw = (): Promise<void> => {
    ended ??= end();
    return ended;
  };
  return { unreadBytes: copier.leftBytes, moment, thaw, [Symbol.asyncDispose]: thaw };
}

/** The guard's clock and the threads' are the same, to the millisecond. */
const CLOCK_MS = 2;

/** What was copied after the guard let the target go by itself was copied from a target that ran. */
function judge(context: CollectContext, copier: Copier, record: FreezeRecord | undefined): void {
  if (record?.thawedBy === 'guard' && record.thawedAt !== undefined) {
    copier.callLiveSince(Date.parse(record.thawedAt) - CLOCK_MS);
  }
  if (copier.stoppedBy !== 'moment') return;
  const { copiedBytes, leftBytes } = copier;
  context.note(`the freeze ended before the copy: of ${copiedBytes + leftBytes} bytes ${leftBytes} were read live`);
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
