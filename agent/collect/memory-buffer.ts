import { setImmediate } from 'node:timers/promises';

/**
 * Where memory goes while the target stands still. Its chunks are touched before the freeze, so that the copy does not pay
 * for the agent's own page faults, and are let go one by one as their bytes are stored.
 */
export class CopyBuffer {
  readonly limitBytes: number;
  readonly #pageBytes: number;
  readonly #chunks: (Uint8Array | undefined)[] = [];
  /** Bytes of each chunk that were written and not yet taken. */
  readonly #pending: number[] = [];
  #writtenBytes = 0;

  /** `limitBytes` is cut to whole pages: copies are whole pages. */
  constructor(limitBytes: number, pageBytes: number) {
    this.#pageBytes = pageBytes;
    this.limitBytes = Math.floor(Math.max(0, limitBytes) / pageBytes) * pageBytes;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Allocates and touches room for `bytes`, at most the limit; lets the agent breathe between chunks. */
  async touch(bytes: number, signal: AbortSignal): Promise<void> {
    const wanted = Math.min(bytes, this.limitBytes);
    while (this.#allocatedBytes < wanted) {
      signal.throwIfAborted();
      const chunk = this.#grow();
      // One byte a page is enough: it is the page fault that costs, not the byte.
      for (let at = 0; chunk !== undefined && at < chunk.length; at += this.#pageBytes) chunk[at] = 1;
      await setImmediate();
    }
  }

  /** Room for the next copy, at most to the end of a chunk; undefined when the limit is reached. */
  tail(): Uint8Array | undefined {
    if (this.#writtenBytes >= this.limitBytes) return undefined;
    const index = Math.floor(this.#writtenBytes / CHUNK_BYTES);
    const chunk = this.#chunks[index] ?? this.#grow();
    return chunk?.subarray(this.#writtenBytes - index * CHUNK_BYTES);
  }

  /** Keeps the first `bytes` of the tail and returns their position. */
  keep(bytes: number): number {
    const at = this.#writtenBytes;
    const index = Math.floor(at / CHUNK_BYTES);
    this.#pending[index] = (this.#pending[index] ?? 0) + bytes;
    this.#writtenBytes += bytes;
    return at;
  }

  /** No more copies will come: what is left of the room is given back. */
  seal(): void {
    const used = Math.ceil(this.#writtenBytes / CHUNK_BYTES);
    this.#chunks.length = Math.min(this.#chunks.length, used);
  }

  /** The bytes kept at `at`, once: a chunk whose bytes were all taken is let go. */
  *take(at: number, bytes: number): Generator<Uint8Array, void, undefined> {
    for (let done = 0; done < bytes; ) {
      const index = Math.floor((at + done) / CHUNK_BYTES);
      const from = at + done - index * CHUNK_BYTES;
      const chunk = this.#chunks[index];
      if (chunk === undefined) throw new RangeError('these bytes of the copy buffer were taken before');
      const size = Math.min(bytes - done, CHUNK_BYTES - from);
      const pending = (this.#pending[index] ?? 0) - size;
      this.#pending[index] = pending;
      if (pending <= 0) this.#chunks[index] = undefined;
      yield chunk.subarray(from, from + size);
      done += size;
    }
  }

  get #allocatedBytes(): number {
    return Math.min(this.#chunks.length * CHUNK_BYTES, this.limitBytes);
  }

  #grow(): Uint8Array | undefined {
    const size = Math.min(CHUNK_BYTES, this.limitBytes - this.#chunks.length * CHUNK_BYTES);
    if (size <= 0) return undefined;
    const chunk = Buffer.allocUnsafeSlow(size);
    this.#chunks.push(chunk);
    return chunk;
  }
}

/** Large enough for 4 MiB reads to be rarely cut, small enough to be given back early. */
const CHUNK_BYTES = 16 * 1024 * 1024;
