import { setTimeout } from 'node:timers/promises';
import { addGap, ENDED, reasonOf } from './memory-copy.ts';
import type { Captured, Extent, Origin } from './memory-picture.ts';

/**
 * Reads memory of a process that runs, for a core whose layout is already written: exactly as many bytes as planned come,
 * and what cannot be read any more is zeros in the file and a gap in the record.
 */
export interface LiveReader {
  read(into: Captured, extent: LiveExtent): AsyncGenerator<Uint8Array, void, undefined>;
  /** Bytes that really came from processes. */
  readonly bytesRead: number;
}

export type LiveExtent = Pick<Extent, 'start' | 'bytes' | 'origin'>;

/** Large enough for speed, small enough that a few on the way to the sink do not count. */
const READ_BYTES = 1024 * 1024;
/**
 * A read that takes longer waits for somebody: a page went away and a FUSE server or a userfaultfd handler is to bring it.
 */
const READ_TIMEOUT_MS = 5_000;
/** Node's pool has four threads and compression needs some; after so many stuck ones no more waiting is risked. */
const STUCK_READS_MAX = 2;
/** Failing pages tried one by one in one mapping, 30 us each; beyond it the rest of the range is given up. */
const FAILED_PAGES_MAX = 16 * 1024;

const GIVEN_UP = `more than ${FAILED_PAGES_MAX} pages of this mapping could not be read`;
const STUCK = 'reading waits for another program (a FUSE server, a userfaultfd handler) that did not answer in 5 s';

export function liveReader(pageBytes: number, signal: AbortSignal): LiveReader {
  const stuck = new Set<Origin['memory']>();
  const state = { bytesRead: 0 };

  async function attempt(origin: Origin, address: bigint, into: Uint8Array): Promise<ReadOutcome> {
    if (stuck.has(origin.memory) || (stuck.size >= STUCK_READS_MAX && origin.mayWait)) {
      return { kind: 'hopeless', why: STUCK };
    }
    const timer = new AbortController();
    try {
      const late = setTimeout(READ_TIMEOUT_MS, 'late' as const, { signal: AbortSignal.any([signal, timer.signal]) });
      const got = await Promise.race([origin.memory.read(address + origin.delta, into), late]);
      if (got === 'late') {
        stuck.add(origin.memory);
        return { kind: 'hopeless', why: STUCK };
      }
      if (got === 0) return { kind: 'hopeless', why: ENDED };
      const whole = got - (got % pageBytes);
      return whole === 0 ? { kind: 'failed', why: 'a page came only in part' } : { kind: 'read', bytes: whole };
    } catch (error) {
      signal.throwIfAborted();
      return { kind: 'failed', ...reasonOf(error) };
    } finally {
      timer.abort();
    }
  }

  async function* read(captured: Captured, extent: LiveExtent): AsyncGenerator<Uint8Array, void, undefined> {
    const end = extent.start + BigInt(extent.bytes);
    let failures = 0;
    for (let at = extent.start; at < end; ) {
      const wanted = Math.min(Number(end - at), READ_BYTES);
      const into = Buffer.allocUnsafeSlow(wanted);
      const outcome: ReadOutcome =
        failures < FAILED_PAGES_MAX ? await attempt(extent.origin, at, into) : { kind: 'hopeless', why: GIVEN_UP };
      if (outcome.kind === 'read') {
        state.bytesRead += outcome.bytes;
        yield into.subarray(0, outcome.bytes);
        at += BigInt(outcome.bytes);
        continue;
      }
      const { kind, ...reason } = outcome;
      failures += 1;
      const lost = kind === 'failed' ? pageBytes : Number(end - at);
      addGap(captured, { start: at, end: at + BigInt(lost), zerosInCore: true, ...reason });
      yield* zeros(lost);
      at += BigInt(lost);
    }
  }

  return {
    read,
    get bytesRead() {
      return state.bytesRead;
    },
  };
}

type ReadOutcome =
  | { kind: 'read'; bytes: number }
  /** The first page cannot be read; the next may be. */
  | { kind: 'failed'; errno?: string; why: string }
  /** No use in going on with this range. */
  | { kind: 'hopeless'; why: string };

const ZEROS = new Uint8Array(READ_BYTES);

function* zeros(bytes: number): Generator<Uint8Array, void, undefined> {
  for (let left = bytes; left > 0; left -= ZEROS.byteLength) yield ZEROS.subarray(0, Math.min(left, ZEROS.byteLength));
}
