import { setImmediate } from 'node:timers/promises';
import type { AddressRange } from '../../evidence/elfcore.ts';
import { errnoOf, explain } from '../../evidence/error.ts';
import { type CopyRoom, reserve } from '../host/copy-room.ts';
import type { Source, ThreadAnswer } from '../host/copy-thread.ts';
import type { CopyThreads } from '../host/copy-threads.ts';
import type { Captured, Extent, Origin, RangeGap } from './memory-picture.ts';
import { overlap } from './memory-words.ts';

/** When to stop believing that the target stands still. */
export interface Moment {
  /** True when the target may have run on by now. */
  isOver(): boolean;
}

export interface CopyParts {
  readonly threads: CopyThreads;
  readonly room: CopyRoom;
  readonly moment: Moment;
  readonly pageBytes: number;
  readonly jobBytes: number;
}

/** Enough to be worth a message (a thread copies a MiB in 0.3 ms), few enough to be spread over the threads. */
const JOB_BYTES = { least: 2 * 1024 * 1024, most: 16 * 1024 * 1024 } as const;
/** Jobs a thread gets of all there is to copy: with fewer the last one is waited for. */
const JOBS_A_THREAD = 8;

export function jobSize(totalBytes: number, threads: number): number {
  return Math.min(JOB_BYTES.most, Math.max(JOB_BYTES.least, Math.floor(totalBytes / threads / JOBS_A_THREAD)));
}

/** Ranges of one job; see RANGES_A_CALL in host/copy-thread.ts. */
const JOB_RANGES = 1024;
/** Bytes of the longest range handed over in one piece. */
const RANGE_BYTES = 2 * 1024 * 1024;

/** One range of a job, and where it belongs. `start` is in the target's own addresses. */
interface Part {
  readonly into: Captured;
  readonly origin: Origin;
  readonly start: bigint;
  readonly bytes: number;
}

/** Blocks that were read before, to be compared: a block that is as it was is not copied. */
export interface KnownBlock extends Part {
  readonly tag: Uint8Array;
  readonly onSame: () => void;
}

/**
 * Hands ranges to the copying threads while the target stands still, and writes into each region what became of them. What
 * does not fit into the room, or comes after the moment, becomes an extent to be read live.
 */
export class Copier {
  readonly #parts: CopyParts;
  #open: Part[] = [];
  #openBytes = 0;
  #known: KnownBlock[] = [];
  #knownBytes = 0;
  readonly #jobs: Promise<void>[] = [];
  /** What was copied, and when at the latest: to be called live if the target ran by then. */
  readonly #copied: { readonly extents: readonly Extent[]; readonly endedAtMs: number }[] = [];
  #copiedBytes = 0;
  #comparedBytes = 0;
  #leftBytes = 0;
  #stoppedBy: 'nothing' | 'buffer' | 'moment' = 'nothing';

  constructor(parts: CopyParts) {
    this.#parts = parts;
  }

  get stoppedBy(): 'nothing' | 'buffer' | 'moment' {
    return this.#stoppedBy;
  }
  /** Copied into the room. */
  get copiedBytes(): number {
    return this.#copiedBytes;
  }
  /** Read and found as they were before. */
  get comparedBytes(): number {
    return this.#comparedBytes;
  }
  /** Planned, and left to be read live. */
  get leftBytes(): number {
    return this.#leftBytes;
  }

  /** Whole pages. */
  add(into: Captured, range: AddressRange, origin: Origin): void {
    for (let start = range.start; start < range.end; ) {
      const bytes = Math.min(Number(range.end - start), RANGE_BYTES);
      this.#append({ into, origin, start, bytes });
      start += BigInt(bytes);
    }
  }

  compare(block: KnownBlock): void {
    if (this.#knownBytes > 0 && !isOneSource(this.#known[0]?.origin, block.origin)) this.#sendKnown();
    this.#known.push(block);
    this.#knownBytes += block.bytes;
    if (this.#knownBytes >= this.#parts.jobBytes) this.#sendKnown();
  }

  /** Nothing that was added is kept waiting for more. */
  flush(): void {
    this.#send();
    this.#sendKnown();
  }

  /** Resolves when every job is done. */
  async settle(signal: AbortSignal): Promise<void> {
    this.flush();
    const late = setInterval(() => this.#stopIfOver(signal), 5);
    try {
      for (let done = 0; done < this.#jobs.length; done += 1) await this.#jobs[done];
    } finally {
      clearInterval(late);
    }
    await setImmediate();
    signal.throwIfAborted();
  }

  /** What was copied after this time, milliseconds since the epoch, was copied from a target that ran. */
  callLiveSince(atMs: number): number {
    let bytes = 0;
    for (const { extents, endedAtMs } of this.#copied) {
      if (endedAtMs < atMs) continue;
      for (const extent of extents) {
        extent.isLive = true;
        bytes += extent.bytes;
      }
    }
    if (bytes > 0) this.#stoppedBy = 'moment';
    return bytes;
  }

  #stopIfOver(signal: AbortSignal): void {
    if (!signal.aborted && !this.#parts.moment.isOver()) return;
    this.#stoppedBy = 'moment';
    this.#parts.threads.stop();
  }

  #append(part: Part): void {
    if (this.#openBytes > 0 && !isOneSource(this.#open[0]?.origin, part.origin)) this.#send();
    this.#open.push(part);
    this.#openBytes += part.bytes;
    if (this.#openBytes >= this.#parts.jobBytes || this.#open.length >= JOB_RANGES) this.#send();
  }

  #send(): void {
    const parts = this.#open;
    const wanted = this.#openBytes;
    this.#open = [];
    this.#openBytes = 0;
    if (parts.length === 0) return;
    const { moment, room, pageBytes, threads } = this.#parts;
    if (moment.isOver()) this.#stoppedBy = 'moment';
    const place = this.#stoppedBy === 'nothing' ? reserve(room.share, wanted, pageBytes) : undefined;
    if (this.#stoppedBy === 'nothing' && place?.bytes !== wanted) this.#stoppedBy = 'buffer';
    const { fitting, rest } = split(parts, place?.bytes ?? 0);
    for (const part of rest) this.#leave(part);
    if (place === undefined || fitting.length === 0) return;
    const job = threads.copy(sourceOf(fitting), place.at, place.bytes).then((answer) => {
      let at = place.at;
      const extents = fitting.flatMap((part) => {
        const own = this.#settlePart(part, at, answer);
        at += part.bytes;
        return own;
      });
      this.#copied.push({ extents, endedAtMs: answer.endedAtMs });
    });
    this.#track(job);
  }

  #sendKnown(): void {
    const blocks = this.#known;
    const bytes = this.#knownBytes;
    this.#known = [];
    this.#knownBytes = 0;
    if (blocks.length === 0) return;
    if (this.#parts.moment.isOver()) this.#stoppedBy = 'moment';
    if (this.#stoppedBy === 'moment') {
      for (const block of blocks) this.#leave(block);
      return;
    }
    const tags = Buffer.concat(blocks.map((block) => block.tag));
    const job = this.#parts.threads.compare(sourceOf(blocks), tags, bytes).then((answer) => {
      const changed = new Map(answer.changed.map(({ index, at }) => [index, at]));
      const extents = blocks.flatMap((block, index) => {
        if (!changed.has(index)) {
          block.onSame();
          this.#comparedBytes += block.bytes;
          return [];
        }
        const at = changed.get(index);
        if (at !== undefined) return this.#settlePart(block, at, answer);
        if (this.#stoppedBy === 'nothing') this.#stoppedBy = 'buffer';
        this.#leave(block);
        return [];
      });
      this.#copied.push({ extents, endedAtMs: answer.endedAtMs });
    });
    this.#track(job);
  }

  #track(job: Promise<void>): void {
    // Whoever settles sees the failure; until then it is not unhandled.
    job.catch(() => undefined);
    this.#jobs.push(job);
  }

  /** The extents of a part that was copied to `at`, and gaps where a page could not be read. */
  #settlePart(part: Part, at: number, answer: ThreadAnswer): Extent[] {
    const { into, origin } = part;
    const extents: Extent[] = [];
    const end = part.start + BigInt(part.bytes);
    let from = part.start;
    const keepTo = (to: bigint): void => {
      if (to <= from) return;
      const bytes = Number(to - from);
      extents.push({ start: from, bytes, at: at + Number(from - part.start), isLive: false, origin });
      this.#copiedBytes += bytes;
    };
    for (const failure of answer.failures) {
      const lostAt = failure.start - origin.delta;
      const lost = overlap({ start: lostAt, end: lostAt + BigInt(failure.bytes) }, { start: part.start, end });
      if (lost === undefined) continue;
      keepTo(lost.start);
      from = lost.end;
      this.#parts.room.drop(at + Number(lost.start - part.start), Number(lost.end - lost.start));
      if (failure.reason === 'left') this.#leave({ ...part, ...sized(lost) });
      else addGap(into, { ...lost, ...(failure.reason === 'ended' ? { why: ENDED } : wordsFor(failure.reason.errno)) });
    }
    keepTo(end);
    into.extents.push(...extents);
    return extents;
  }

  #leave(part: Part): void {
    leaveForLater(part.into, sizedBack(part), part.origin);
    this.#leftBytes += part.bytes;
  }
}

function isOneSource(a: Origin | undefined, b: Origin): boolean {
  return a?.memory === b.memory && a.pid === b.pid;
}

function sourceOf(parts: readonly Part[]): Source {
  const ranges = new BigUint64Array(parts.length * 2);
  parts.forEach(({ start, bytes, origin }, index) => {
    ranges[index * 2] = start + origin.delta;
    ranges[index * 2 + 1] = BigInt(bytes);
  });
  const origin = parts[0]?.origin;
  return { pid: origin?.pid ?? 0, fd: origin?.memory.fd ?? -1, ranges };
}

/** The first `bytes` of the parts, and the rest. */
function split(parts: readonly Part[], bytes: number): { fitting: Part[]; rest: Part[] } {
  const fitting: Part[] = [];
  const rest: Part[] = [];
  let left = bytes;
  for (const part of parts) {
    const own = Math.min(left, part.bytes);
    left -= own;
    if (own > 0) fitting.push({ ...part, bytes: own });
    if (own < part.bytes) rest.push({ ...part, start: part.start + BigInt(own), bytes: part.bytes - own });
  }
  return { fitting, rest };
}

function sized({ start, end }: AddressRange): { start: bigint; bytes: number } {
  return { start, bytes: Number(end - start) };
}

function sizedBack({ start, bytes }: { start: bigint; bytes: number }): AddressRange {
  return { start, end: start + BigInt(bytes) };
}

/** Plans a range to be read from the running process when the core is written. */
export function leaveForLater(into: Captured, range: AddressRange, origin: Origin): void {
  const bytes = Number(range.end - range.start);
  into.extents.push({ start: range.start, bytes, at: undefined, isLive: true, origin });
}

/** What a read of 0 bytes says: proc(5) does not, mem_rw() in fs/proc/base.c does. */
export const ENDED = 'the process ended, or runs another program by now';

function wordsFor(errno: string | undefined): { errno?: string; why: string } {
  const why = 'the kernel cannot or may not read these pages';
  return errno === undefined ? { why } : { errno, why };
}

/** The errno and words for a failed read of memory. */
export function reasonOf(error: unknown): { errno?: string; why: string } {
  const errno = errnoOf(error);
  return errno === undefined ? { why: explain(error) } : wordsFor(errno);
}

/** Adds a range that could not be read; adjacent ranges of one kind are one gap. */
export function addGap(into: Captured, gap: RangeGap): void {
  const last = into.gaps.at(-1);
  const isSame = last?.errno === gap.errno && last?.why === gap.why && last?.zerosInCore === gap.zerosInCore;
  if (last !== undefined && last.end === gap.start && isSame) {
    into.gaps[into.gaps.length - 1] = { ...last, end: gap.end };
  } else {
    into.gaps.push(gap);
  }
}
