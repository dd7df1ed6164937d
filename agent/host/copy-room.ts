import { vmCalls } from './vm.ts';

/**
 * Room in the agent's memory that several threads write while a target stands still. It is reserved at once and costs
 * nothing until it is touched; places are given away from its beginning on, by any thread, and never twice; what was taken is
 * given back to the kernel bit by bit.
 */
export interface RoomShare {
  readonly shared: SharedArrayBuffer;
  /** Byte of `shared` at which the room begins: on a boundary of huge pages. */
  readonly base: number;
  readonly limitBytes: number;
  /** One BigInt64: how many bytes were given away. */
  readonly cursor: SharedArrayBuffer;
}

/** x86-64's huge page; arm64's with pages of 4 KiB. Copies to addresses on this boundary have the fewest page faults. */
const HUGE_PAGE_BYTES = 2 * 1024 * 1024;
/** Given back in pieces of this size. */
const CHUNK_BYTES = 16 * 1024 * 1024;

/** Takes a place of `bytes`, or as many of them in whole pages as are left; undefined when there is no room. */
export function reserve(
  room: RoomShare,
  bytes: number,
  pageBytes: number,
): { readonly at: number; readonly bytes: number } | undefined {
  const cursor = new BigInt64Array(room.cursor);
  for (;;) {
    const at = Atomics.load(cursor, 0);
    const left = room.limitBytes - Number(at);
    const given = Math.min(bytes, left - (left % pageBytes));
    if (given <= 0) return undefined;
    if (Atomics.compareExchange(cursor, 0, at, at + BigInt(given)) === at) return { at: Number(at), bytes: given };
  }
}

export class CopyRoom {
  readonly share: RoomShare;
  readonly #bytes: Uint8Array;
  readonly #vm = vmCalls();
  readonly #address: bigint;
  /** Bytes of each chunk that were given away and not yet taken. */
  readonly #pending: number[] = [];
  #droppedEarly: { readonly at: number; readonly bytes: number }[] = [];
  #sealed = false;

  /** `limitBytes` is cut to whole pages. */
  constructor(limitBytes: number, pageBytes: number) {
    const limit = Math.floor(Math.max(0, limitBytes) / pageBytes) * pageBytes;
    const shared = new SharedArrayBuffer(limit === 0 ? 0 : limit + HUGE_PAGE_BYTES);
    const whole = new Uint8Array(shared);
    const start = limit === 0 ? 0n : (this.#vm?.addressOf(whole) ?? 0n);
    const base = Number(-start & BigInt(HUGE_PAGE_BYTES - 1));
    this.share = { shared, base, limitBytes: limit, cursor: new SharedArrayBuffer(8) };
    this.#address = start + BigInt(base);
    const isPlain = limit > 0 && this.#vm !== undefined;
    this.#bytes = isPlain ? this.#vm.viewOf(this.#address, limit) : whole.subarray(base, base + limit);
    if (limit === 0) return;
    this.#vm?.advise(this.#address, limit, 'noDump');
    this.#vm?.advise(this.#address, limit, 'hugePages');
  }

  get limitBytes(): number {
    return this.share.limitBytes;
  }

  get givenBytes(): number {
    return Number(Atomics.load(new BigInt64Array(this.share.cursor), 0));
  }

  /** No more places will be asked for: what was touched beyond them is given back, and `take` may give back the rest. */
  seal(): void {
    if (this.#sealed) return;
    this.#sealed = true;
    const given = this.givenBytes;
    for (let at = 0; at < given; at += CHUNK_BYTES) this.#pending.push(Math.min(CHUNK_BYTES, given - at));
    for (const { at, bytes } of this.#droppedEarly) this.drop(at, bytes);
    this.#droppedEarly = [];
    const used = Math.ceil(given / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
    if (used < this.limitBytes) this.#giveBack(used, this.limitBytes - used);
  }

  /** The bytes at `at`, once, in pieces: a chunk whose bytes were all taken is given back when the next piece is asked for. */
  *take(at: number, bytes: number): Generator<Uint8Array, void, undefined> {
    for (let done = 0; done < bytes; ) {
      const index = Math.floor((at + done) / CHUNK_BYTES);
      const size = Math.min(bytes - done, (index + 1) * CHUNK_BYTES - (at + done));
      yield this.#bytes.subarray(at + done, at + done + size);
      this.drop(at + done, size);
      done += size;
    }
  }

  /** Bytes that nobody will take. */
  drop(at: number, bytes: number): void {
    if (!this.#sealed) {
      this.#droppedEarly.push({ at, bytes });
      return;
    }
    for (let from = at; from < at + bytes; ) {
      const index = Math.floor(from / CHUNK_BYTES);
      const size = Math.min(at + bytes - from, (index + 1) * CHUNK_BYTES - from);
      const pending = (this.#pending[index] ?? 0) - size;
      this.#pending[index] = pending;
      const end = Math.min((index + 1) * CHUNK_BYTES, this.limitBytes);
      if (pending === 0) this.#giveBack(index * CHUNK_BYTES, end - index * CHUNK_BYTES);
      from += size;
    }
  }

  #giveBack(at: number, bytes: number): void {
    this.#vm?.advise(this.#address + BigInt(at), bytes, 'giveBack');
  }
}
