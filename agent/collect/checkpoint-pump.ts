import { ExhibitError } from '../../evidence/error.ts';
import type { ForeignArchive } from './collector.ts';

/** A tar record; an archive is a multiple of it and ends with two that are all zero (POSIX pax, "ustar Interchange Format"). */
const RECORD_BYTES = 512;
const END_BYTES = 2 * RECORD_BYTES;

/** What came through a FIFO. `failure` when storing it stopped; the rest was read and dropped. */
export interface Pumped {
  readonly bytes: number;
  readonly failure: unknown;
  /** The stream ended as a tar archive ends. */
  readonly whole: boolean;
}

/**
 * Stores what comes until the writer has closed its end. It never stops reading: a runtime whose FIFO nobody reads
 * blocks for ever, so after a failure or an abort the rest is read and dropped.
 */
export async function pump(
  from: AsyncIterable<Uint8Array>,
  to: Pick<ForeignArchive, 'write'>,
  signal: AbortSignal,
  onChunk: (chunk: Uint8Array) => void,
): Promise<Pumped> {
  const end = new TailWatch();
  let failure: unknown;
  for await (const chunk of from) {
    end.take(chunk);
    onChunk(chunk);
    if (failure !== undefined) continue;
    try {
      signal.throwIfAborted();
      await to.write(chunk);
    } catch (error) {
      failure = error ?? new ExhibitError('internal', 'storing failed without a reason');
    }
  }
  return { bytes: end.bytes, failure, whole: end.whole };
}

/** Counts a stream's bytes and the zeros at its end. */
class TailWatch {
  bytes = 0;
  #zeros = 0;

  get whole(): boolean {
    return this.bytes > END_BYTES && this.bytes % RECORD_BYTES === 0 && this.#zeros >= END_BYTES;
  }

  take(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    const last = Math.max(0, chunk.length - END_BYTES);
    let at = chunk.length;
    while (at > last && chunk[at - 1] === 0) at -= 1;
    const zeros = chunk.length - at;
    this.#zeros = zeros === chunk.length ? Math.min(this.#zeros + zeros, END_BYTES) : zeros;
  }
}
