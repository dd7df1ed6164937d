import { createHash, type Hash } from 'node:crypto';
import type { ByteSink } from './byte-sink.ts';
import { chooseEngine, type PackEngine, type Packing, startPacking } from './engine.ts';
import { ExhibitError } from './error.ts';
import type { ContentDigest, Digest } from './manifest.ts';
import { createSeekTable } from './seek-table.ts';
import { frameBound, MAX_FRAME_CONTENT_BYTES, RawFrame } from './zstd.ts';

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
  readonly content: ContentDigest;
  readonly stored: Digest;
  readonly frames: number;
}

export interface FrameOptions {
  /** Content bytes of every frame but the last: what a ranged read costs at least. */
  readonly frameBytes?: number;
  /** zstd's level, 1 to 22, or negative for less work. 0 stores the bytes as they are, in raw blocks. */
  readonly level?: number;
  /** Frames being compressed and hashed at one moment. */
  readonly inFlight?: number;
  /** With level 0: only what is stored is hashed, which is the content but for the frames' headers. */
  readonly storedDigestOnly?: boolean;
  /** For tests; without it, the length of the first frame decides. */
  readonly engine?: PackEngine;
}

/** Large enough that zstd loses nothing worth naming, small enough for a ranged read of one page. */
export const DEFAULT_FRAME_BYTES = 1024 * 1024;
/** libuv starts four threads (UV_THREADPOOL_SIZE); two more keep them busy while the oldest is written. */
export const DEFAULT_IN_FLIGHT = 6;
const DEFAULT_LEVEL = 1;

/** Each frame in flight holds its content, room for its stored form and zstd's own tables (below 1 MiB up to level 1). */
export function memoryBound(options: FrameOptions = {}): number {
  const frameBytes = options.frameBytes ?? DEFAULT_FRAME_BYTES;
  const inFlight = options.inFlight ?? DEFAULT_IN_FLIGHT;
  return (inFlight + 1) * (frameBytes + frameBound(frameBytes) + 1024 * 1024);
}

/** `out` may not keep a chunk whose write has resolved: its memory is that of a later frame. */
export function createFrameWriter(out: ByteSink, options: FrameOptions = {}): FrameWriter {
  return new Frames(out, options);
}

/** The memory of one frame: used again when the frame was written, so that no frame pays for faulting it in. */
interface FrameRoom {
  /** Set to 0 to begin again. */
  contentBytes: number;
  add(content: Uint8Array): void;
  /** The frame. What was added, unless a later frame is begun, is at `content`. */
  end(): Promise<Uint8Array>;
  readonly content: Uint8Array | undefined;
}

/** Gathers content, then compresses it into memory of its own. */
class CompressedRoom implements FrameRoom {
  readonly #gathered: Buffer;
  readonly #engine: () => PackEngine;
  readonly #level: number;
  #stored: Buffer | undefined;
  contentBytes = 0;

  constructor(frameBytes: number, level: number, engine: () => PackEngine) {
    this.#gathered = Buffer.allocUnsafeSlow(frameBytes);
    this.#engine = engine;
    this.#level = level;
  }

  get content(): Uint8Array {
    return this.#gathered.subarray(0, this.contentBytes);
  }

  add(content: Uint8Array): void {
    this.#gathered.set(content, this.contentBytes);
    this.contentBytes += content.length;
  }

  end(): Promise<Uint8Array> {
    const room = (): Buffer => {
      this.#stored ??= Buffer.allocUnsafeSlow(frameBound(this.#gathered.length));
      return this.#stored;
    };
    return this.#engine().compress(this.content, room, this.#level);
  }
}

/** Level 0: the frame is made as the content comes. */
class RawRoom implements FrameRoom {
  readonly #frame: RawFrame;
  /** Only for its digest. */
  readonly #gathered: Buffer | undefined;
  contentBytes = 0;

  constructor(frameBytes: number, keepContent: boolean) {
    this.#frame = new RawFrame(Buffer.allocUnsafeSlow(frameBound(frameBytes)));
    this.#gathered = keepContent ? Buffer.allocUnsafeSlow(frameBytes) : undefined;
  }

  get content(): Uint8Array | undefined {
    return this.#gathered?.subarray(0, this.contentBytes);
  }

  add(content: Uint8Array): void {
    this.#frame.add(content);
    this.#gathered?.set(content, this.contentBytes);
    this.contentBytes += content.length;
  }

  end(): Promise<Uint8Array> {
    return Promise.resolve(this.#frame.end());
  }
}

interface PendingFrame {
  readonly room: FrameRoom;
  readonly contentBytes: number;
  readonly stored: Promise<Uint8Array>;
  readonly hashed: Promise<void>;
}

class Frames implements FrameWriter {
  readonly #out: ByteSink;
  readonly #options: FrameOptions;
  readonly #frameBytes: number;
  readonly #level: number;
  readonly #inFlight: number;
  readonly #table = createSeekTable();
  /** In the order of the stream; the first is the next to be written. */
  readonly #pending: PendingFrame[] = [];
  /** Of frames that were written; at most one more than may be in flight. */
  readonly #free: FrameRoom[] = [];
  #packing: Packing | undefined;
  #room: FrameRoom;
  #contentBytes = 0;
  #state: 'open' | 'busy' | 'ended' | 'failed' = 'open';

  constructor(out: ByteSink, options: FrameOptions) {
    this.#out = out;
    this.#options = options;
    this.#frameBytes = options.frameBytes ?? DEFAULT_FRAME_BYTES;
    this.#level = options.level ?? DEFAULT_LEVEL;
    this.#inFlight = options.inFlight ?? DEFAULT_IN_FLIGHT;
    if (this.#frameBytes < 1 || this.#frameBytes > MAX_FRAME_CONTENT_BYTES) {
      throw new ExhibitError('internal', `a frame holds 1 to ${MAX_FRAME_CONTENT_BYTES} bytes`);
    }
    this.#room = this.#newRoom();
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#alone('open', async () => {
      for (let at = 0; at < chunk.length; ) {
        const part = chunk.subarray(at, at + this.#frameBytes - this.#room.contentBytes);
        this.#room.add(part);
        at += part.length;
        if (this.#room.contentBytes === this.#frameBytes) await this.#finishFrame();
      }
    });
  }

  async end(): Promise<FrameTotals> {
    return await this.#alone('ended', async () => {
      if (this.#room.contentBytes > 0) await this.#finishFrame();
      while (this.#pending.length > 0) await this.#writeOldest();
      const packing = this.#packingFor(0);
      await this.#store(packing, this.#table.encode());
      const hashed = this.#hashesContent ? packing.content.digest() : {};
      const content = { ...hashed, sizeBytes: this.#contentBytes };
      return { content, stored: packing.stored.digest(), frames: this.#table.frames };
    });
  }

  /** A stream with a hole is worse than none: after an error nothing more is taken. */
  async #alone<T>(next: 'open' | 'ended', work: () => Promise<T>): Promise<T> {
    if (this.#state !== 'open') throw new ExhibitError('internal', `the frame writer is ${this.#state}`);
    this.#state = 'busy';
    try {
      const result = await work();
      this.#state = next;
      return result;
    } catch (error) {
      this.#state = 'failed';
      throw error;
    }
  }

  #packingFor(contentBytes: number): Packing {
    this.#packing ??= startPacking(this.#options.engine ?? chooseEngine(contentBytes));
    return this.#packing;
  }

  get #hashesContent(): boolean {
    return this.#level !== 0 || this.#options.storedDigestOnly !== true;
  }

  #newRoom(): FrameRoom {
    if (this.#level === 0) return new RawRoom(this.#frameBytes, this.#hashesContent);
    return new CompressedRoom(this.#frameBytes, this.#level, () => this.#packingFor(0).engine);
  }

  async #finishFrame(): Promise<void> {
    const room = this.#room;
    const { contentBytes, content } = room;
    const packing = this.#packingFor(contentBytes);
    const stored = room.end();
    const hashed = content === undefined ? Promise.resolve() : packing.content.update(content);
    // Their failures are reported when the frame's turn comes; until then nobody awaits them.
    stored.catch(() => undefined);
    hashed.catch(() => undefined);
    this.#pending.push({ room, contentBytes, stored, hashed });
    this.#contentBytes += contentBytes;
    while (this.#pending.length > this.#inFlight) await this.#writeOldest();
    this.#room = this.#free.pop() ?? this.#newRoom();
  }

  async #writeOldest(): Promise<void> {
    const oldest = this.#pending.shift();
    if (oldest === undefined) return;
    const stored = await oldest.stored;
    this.#table.add(stored.length, oldest.contentBytes);
    await this.#store(this.#packingFor(oldest.contentBytes), stored);
    await oldest.hashed;
    oldest.room.contentBytes = 0;
    this.#free.push(oldest.room);
  }

  async #store(packing: Packing, bytes: Uint8Array): Promise<void> {
    await Promise.all([packing.stored.update(bytes), this.#out.write(bytes)]);
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
