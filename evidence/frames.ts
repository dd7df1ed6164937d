import { createHash, type Hash } from 'node:crypto';
import type { ByteSink } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import type { Digest } from './manifest.ts';
import { createSeekTable } from './seek-table.ts';
import { compressFrame, MAX_FRAME_CONTENT_BYTES, rawFrame } from './zstd.ts';

/**
 * Writes a stream as independent zstd frames with a seek table at its end: `zstd -d` reads it like any other file, and a
 * reader that knows the table decompresses only the frames it needs. Both digests are made on the way.
 *
 * Memory: `memoryBound(options)` bytes, whatever the length of the stream, plus eight bytes a frame for the seek table.
 */
export interface FrameWriter extends ByteSink {
  /** Copies `chunk` before it resolves, so that callers may reuse their buffer then. One write at a time. */
  write(chunk: Uint8Array): Promise<void>;
  /** Writes what is left and the seek table. `content` is of what was written here, `stored` of what `out` got. */
  end(): Promise<FrameTotals>;
}

export interface FrameTotals {
  readonly content: Digest;
  readonly stored: Digest;
  readonly frames: number;
}

export interface FrameOptions {
  /** Content bytes of every frame but the last: what a ranged read costs at least. */
  readonly frameBytes?: number;
  /** zstd's level, 1 to 22, or negative for less work. 0 stores the bytes as they are, in raw blocks. */
  readonly level?: number;
  /** Frames being compressed at one moment. */
  readonly inFlight?: number;
}

/** Large enough that zstd loses nothing worth naming, small enough for a ranged read of one page. */
export const DEFAULT_FRAME_BYTES = 1024 * 1024;
/** libuv starts four threads (UV_THREADPOOL_SIZE); two more keep them busy while the oldest is written. */
export const DEFAULT_IN_FLIGHT = 6;
const DEFAULT_LEVEL = 1;

/** Each frame in flight holds its content, room for its compressed form and zstd's own tables of up to 4 MiB (level 1). */
export function memoryBound(options: FrameOptions = {}): number {
  const frameBytes = options.frameBytes ?? DEFAULT_FRAME_BYTES;
  const inFlight = options.inFlight ?? DEFAULT_IN_FLIGHT;
  return (inFlight + 1) * (2 * frameBytes + (frameBytes >>> 7) + 4 * 1024 * 1024);
}

export function createFrameWriter(out: ByteSink, options: FrameOptions = {}): FrameWriter {
  return new Frames(out, options);
}

interface PendingFrame {
  readonly content: Buffer;
  readonly contentBytes: number;
  readonly stored: Promise<Uint8Array>;
}

class Frames implements FrameWriter {
  readonly #out: ByteSink;
  readonly #frameBytes: number;
  readonly #level: number;
  readonly #inFlight: number;
  readonly #table = createSeekTable();
  readonly #content = new RunningDigest();
  readonly #stored = new RunningDigest();
  /** In the order of the stream; the first is the next to be written. */
  readonly #pending: PendingFrame[] = [];
  /** Content buffers of frames that were written; at most one more than may be in flight. */
  readonly #free: Buffer[] = [];
  #frame: Buffer;
  #filled = 0;
  #state: 'open' | 'busy' | 'ended' | 'failed' = 'open';

  constructor(out: ByteSink, options: FrameOptions) {
    this.#out = out;
    this.#frameBytes = options.frameBytes ?? DEFAULT_FRAME_BYTES;
    this.#level = options.level ?? DEFAULT_LEVEL;
    this.#inFlight = options.inFlight ?? DEFAULT_IN_FLIGHT;
    if (this.#frameBytes < 1 || this.#frameBytes > MAX_FRAME_CONTENT_BYTES) {
      throw new ExhibitError('internal', `a frame holds 1 to ${MAX_FRAME_CONTENT_BYTES} bytes`);
    }
    this.#frame = Buffer.allocUnsafeSlow(this.#frameBytes);
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#alone('open', async () => {
      for (let at = 0; at < chunk.length; ) {
        const part = chunk.subarray(at, at + this.#frameBytes - this.#filled);
        this.#frame.set(part, this.#filled);
        this.#filled += part.length;
        at += part.length;
        if (this.#filled === this.#frameBytes) await this.#finishFrame();
      }
    });
  }

  async end(): Promise<FrameTotals> {
    await this.#alone('ended', async () => {
      if (this.#filled > 0) await this.#finishFrame();
      while (this.#pending.length > 0) await this.#writeOldest();
      await this.#store(this.#table.encode());
    });
    return { content: this.#content.digest(), stored: this.#stored.digest(), frames: this.#table.frames };
  }

  /** A stream with a hole is worse than none: after an error nothing more is taken. */
  async #alone(next: 'open' | 'ended', work: () => Promise<void>): Promise<void> {
    if (this.#state !== 'open') throw new ExhibitError('internal', `the frame writer is ${this.#state}`);
    this.#state = 'busy';
    try {
      await work();
      this.#state = next;
    } catch (error) {
      this.#state = 'failed';
      throw error;
    }
  }

  async #finishFrame(): Promise<void> {
    const frame = { content: this.#frame, contentBytes: this.#filled };
    const bytes = frame.content.subarray(0, frame.contentBytes);
    const stored = this.#level === 0 ? Promise.resolve(rawFrame(bytes)) : compressFrame(bytes, this.#level);
    // Its failure is reported when its turn comes; until then nobody awaits it.
    stored.catch(() => undefined);
    this.#pending.push({ ...frame, stored });
    // On this thread, while the pool compresses.
    this.#content.update(bytes);
    while (this.#pending.length > this.#inFlight) await this.#writeOldest();
    this.#frame = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#frameBytes);
    this.#filled = 0;
  }

  async #writeOldest(): Promise<void> {
    const oldest = this.#pending.shift();
    if (oldest === undefined) return;
    const stored = await oldest.stored;
    this.#free.push(oldest.content);
    this.#table.add(stored.length, oldest.contentBytes);
    await this.#store(stored);
  }

  async #store(bytes: Uint8Array): Promise<void> {
    this.#stored.update(bytes);
    await this.#out.write(bytes);
  }
}

/** SHA-256 and length of bytes as they pass. */
export class RunningDigest {
  readonly #hash: Hash = createHash('sha256');
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  update(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#sizeBytes += chunk.length;
  }

  /** Once. */
  digest(): Digest {
    return { sha256: this.#hash.digest('hex'), sizeBytes: this.#sizeBytes };
  }
}
