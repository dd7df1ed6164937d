import { floorDivide } from './moment.ts';

/**
 * A line on its way through the sort: what it is sorted by, then its bytes. Little endian: i32 and u32, the upper and lower half of the
 * seconds since the epoch, u32 nanoseconds, u32 bytes that follow.
 */
export const RECORD_HEADER_BYTES = 16;

/** Puts a record into `into` at `at`, if there is room: the number of bytes, 0 for none. */
export type Encode = (record: Buffer, into: Buffer, at: number) => number;

const NS_PER_SECOND = 1_000_000_000n;
/** What stat(2) can say; a time beyond, which only a forged bundle has, is sorted as the last of these. */
const LAST_SECOND = (1n << 63n) - 1n;
const FIRST_SECOND = -(1n << 63n);

export interface SortKey {
  readonly high: number;
  readonly low: number;
  readonly nanos: number;
}

export function sortKeyOf(ns: bigint): SortKey {
  const seconds = floorDivide(ns, NS_PER_SECOND);
  const nanos = Number(ns - seconds * NS_PER_SECOND);
  const bounded = seconds > LAST_SECOND ? LAST_SECOND : seconds < FIRST_SECOND ? FIRST_SECOND : seconds;
  return { high: Number(bounded >> 32n), low: Number(bounded & 0xffffffffn), nanos };
}

export function readMoment(record: Buffer): bigint {
  const seconds = (BigInt(record.readInt32LE(0)) << 32n) | BigInt(record.readUInt32LE(4));
  return seconds * NS_PER_SECOND + BigInt(record.readUInt32LE(8));
}

export const copyRecord: Encode = (record, into, at) => {
  if (record.length > into.length - at) return 0;
  return record.copy(into, at);
};

/** How a line is shown: `head` of its time, its own bytes, `tail`. */
export interface LineShape {
  /** ASCII, of at most MAX_HEAD_BYTES. */
  head(ns: bigint): string;
  readonly tail: string;
}

/** A date, two numbers and their names. */
const MAX_HEAD_BYTES = 1024;

export function lineEncoder(shape: LineShape): Encode {
  const tail = Buffer.from(shape.tail);
  return (record, into, at) => {
    if (record.length + MAX_HEAD_BYTES + tail.length > into.length - at) return 0;
    let end = at + into.write(shape.head(readMoment(record)), at, 'latin1');
    end += record.copy(into, end, RECORD_HEADER_BYTES);
    end += tail.copy(into, end);
    return end - at;
  };
}

/** Output of encoded records; it grows for a record that needs more. */
export class Chunk {
  #bytes: Buffer;
  #used = 0;

  constructor(sizeBytes: number) {
    this.#bytes = Buffer.allocUnsafe(sizeBytes);
  }

  /** False when the chunk has to be taken first. */
  add(record: Buffer, encode: Encode): boolean {
    for (;;) {
      const bytes = encode(record, this.#bytes, this.#used);
      this.#used += bytes;
      if (bytes > 0) return true;
      if (this.#used > 0) return false;
      this.#bytes = Buffer.allocUnsafe(this.#bytes.length * 2);
    }
  }

  /** A view that holds until the next `add`. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#used);
    this.#used = 0;
    return taken;
  }
}
