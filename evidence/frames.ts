import { createHash, type Hash } from 'node:crypto';
import type { AgeStream, StoredBytes } from './age-writer.ts';
import type { ByteSink } from './byte-sink.ts';
import { chooseEngine, type PackEngine, type Packing, startPacking } from './engine.ts';
import { ExhibitError } from './error.ts';
import type { ContentDigest, Digest } from './manifest.ts';
import { createSeekTable } from './seek-table.ts';
import { copyBytes, frameBound, MAX_FRAME_CONTENT_BYTES, RawFrame } from './zstd.ts';

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
  /** The stream is stored in this age file, and `stored` is of that. */
  readonly encryption?: AgeStream;
  /** Told of the frames as they are before encryption, in their order, and of the seek table; it copies what it keeps. */
  readonly onFrames?: ((bytes: Uint8Array) => void) | undefined;
  /** For tests; without it, the length of the first frame decides. */
  readonly engine?: PackEngine;
}

/** Large enough that zstd loses nothing worth naming, small enough for a ranged read of one page. */
export const DEFAULT_FRAME_BYTES = 1024 * 1024;
/** libuv starts four threads (UV_THREADPOOL_SIZE); two more keep them busy while the oldest is written. */
export const DEFAULT_IN_FLIGHT = 6;
const DEFAULT_LEVEL = 1;

/**
 * Each frame in flight holds its content, room for its stored form and zstd's own tables (below 1 MiB up to level 1); with
 * encryption, once more its stored form.
 */
export function memoryBound(options: FrameOptions = {}): number {
  const frameBytes = options.frameBytes ?? DEFAULT_FRAME_BYTES;
  const inFlight = options.inFlight ?? DEFAULT_IN_FLIGHT;
  const stored = frameBound(frameBytes) * (options.encryption === undefined ? 1 : 2);
  return (inFlight + 1) * (frameBytes + stored + 1024 * 1024);
}

/** `out` may not keep a chunk whose write has resolved: its memory is that of a later frame. */
export function createFrameWriter(out: ByteSink, options: FrameOptions = {}): FrameWriter {
  return new Frames(out, options);
}

/** What a room became: bytes to store, and how they divide into frames. */
interface Packed {
  readonly bytes: Uint8Array;
  readonly frames: readonly { readonly storedBytes: number; readonly contentBytes: number }[];
}

/** The memory of a frame or a few: used again when they were written, so that no frame pays for faulting it in. */
interface FrameRoom {
  readonly contentBytes: number;
  /** How much more content it takes. */
  readonly leftBytes: number;
  add(content: Uint8Array): void;
  /** What was added, for its digest; undefined: it is not kept. */
  readonly content: Uint8Array | undefined;
  end(): Promise<Packed>;
  /** Empty again, when nobody needs what it became. */
  clear(): void;
}

/** Gathers the content of one frame, then compresses it into memory of its own. */
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

  get leftBytes(): number {
    return this.#gathered.length - this.contentBytes;
  }

  get content(): Uint8Array {
    return this.#gathered.subarray(0, this.contentBytes);
  }

  add(content: Uint8Array): void {
    copyBytes(content, this.#gathered, this.contentBytes);
    this.contentBytes += content.length;
  }

  async end(): Promise<Packed> {
    const { contentBytes } = this;
    const room = (): Buffer => {
      this.#stored ??= Buffer.allocUnsafeSlow(frameBound(this.#gathered.length));
      return this.#stored;
    };
    const bytes = await this.#engine().compress(this.content, room, this.#level);
    return { bytes, frames: [{ storedBytes: bytes.length, contentBytes }] };
  }

  clear(): void {
    this.contentBytes = 0;
  }
}

/** Frames that are hashed and written in one go with level 0: each goes to a thread and back, which costs as much as 0.1 MiB. */
const RAW_FRAMES = 4;

/** Level 0: the frames are made as the content comes, one behind the other. */
class RawRoom implements FrameRoom {
  readonly #frameBytes: number;
  readonly #room: Buffer;
  /** Only for its digest. */
  readonly #gathered: Buffer | undefined;
  #frames: { storedBytes: number; contentBytes: number }[] = [];
  #storedBytes = 0;
  #frame: RawFrame;
  contentBytes = 0;

  constructor(frameBytes: number, keepContent: boolean) {
    this.#frameBytes = frameBytes;
    this.#room = Buffer.allocUnsafeSlow(RAW_FRAMES * frameBound(frameBytes));
    this.#gathered = keepContent ? Buffer.allocUnsafeSlow(RAW_FRAMES * frameBytes) : undefined;
    this.#frame = new RawFrame(this.#room);
  }

  get leftBytes(): number {
    return RAW_FRAMES * this.#frameBytes - this.contentBytes;
  }

  get content(): Uint8Array | undefined {
    return this.#gathered?.subarray(0, this.contentBytes);
  }

  add(content: Uint8Array): void {
    if (this.#gathered !== undefined) copyBytes(content, this.#gathered, this.contentBytes);
    for (let at = 0; at < content.length; ) {
      const part = content.subarray(at, at + this.#frameBytes - this.#frame.contentBytes);
      this.#frame.add(part);
      at += part.length;
      this.contentBytes += part.length;
      if (this.#frame.contentBytes === this.#frameBytes) this.#endFrame();
    }
  }

  #endFrame(): void {
    const { contentBytes } = this.#frame;
    const storedBytes = this.#frame.end().length;
    this.#frames.push({ storedBytes, contentBytes });
    this.#storedBytes += storedBytes;
    this.#frame = new RawFrame(this.#room.subarray(this.#storedBytes));
  }

  end(): Promise<Packed> {
    if (this.#frame.contentBytes > 0) this.#endFrame();
    return Promise.resolve({ bytes: this.#room.subarray(0, this.#storedBytes), frames: this.#frames });
  }

  clear(): void {
    this.#frames = [];
    this.#storedBytes = 0;
    this.#frame = new RawFrame(this.#room);
    this.contentBytes = 0;
  }
}

/** A frame on its way; `done` when nobody needs its room any more. */
interface PendingFrame {
  readonly room: FrameRoom;
  readonly done: Promise<unknown>;
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
  /** Frames go to `out` and into the digests in the order of the stream, each as soon as the one before it allows. */
  #inOrder: Promise<unknown> = Promise.resolve();
  #written: Promise<void> = Promise.resolve();
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
        const part = chunk.subarray(at, at + this.#room.leftBytes);
        this.#room.add(part);
        at += part.length;
        if (this.#room.leftBytes === 0) await this.#finishRoom();
      }
    });
  }

  async end(): Promise<FrameTotals> {
    return await this.#alone('ended', async () => {
      if (this.#room.contentBytes > 0) await this.#finishRoom();
      while (this.#pending.length > 0) await this.#awaitOldest();
      const packing = this.#packingFor(0);
      await Promise.all([...this.#store(packing, this.#table.encode()), ...this.#endEncryption(packing)]);
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

  get #roomsInFlight(): number {
    return this.#level === 0 ? Math.ceil(this.#inFlight / RAW_FRAMES) : this.#inFlight;
  }

  #newRoom(): FrameRoom {
    if (this.#level === 0) return new RawRoom(this.#frameBytes, this.#hashesContent);
    return new CompressedRoom(this.#frameBytes, this.#level, () => this.#packingFor(0).engine);
  }

  async #finishRoom(): Promise<void> {
    const room = this.#room;
    const { contentBytes, content } = room;
    const packing = this.#packingFor(contentBytes);
    const packed = room.end();
    const hashed = content === undefined ? Promise.resolve() : packing.content.update(content);
    const inOrder = Promise.all([packed, this.#inOrder]).then(([{ bytes, frames }]) => {
      for (const frame of frames) this.#table.add(frame.storedBytes, frame.contentBytes);
      return this.#store(packing, bytes);
    });
    const done = Promise.all([inOrder.then((both) => Promise.all(both)), hashed]);
    // A failure is reported when the frame's turn comes; until then nobody awaits it.
    for (const each of [packed, hashed, inOrder, done]) each.catch(() => undefined);
    this.#inOrder = inOrder;
    this.#pending.push({ room, done });
    this.#contentBytes += contentBytes;
    while (this.#pending.length > this.#roomsInFlight) await this.#awaitOldest();
    this.#room = this.#free.pop() ?? this.#newRoom();
  }

  async #awaitOldest(): Promise<void> {
    const oldest = this.#pending.shift();
    if (oldest === undefined) return;
    await oldest.done;
    oldest.room.clear();
    this.#free.push(oldest.room);
  }

  /** One write at a time, one digest update at a time; the two need not wait for each other. */
  #store(packing: Packing, bytes: Uint8Array): [Promise<void>, Promise<void>] {
    const { encryption, onFrames } = this.#options;
    onFrames?.(bytes);
    return encryption === undefined
      ? this.#storeAsIs(packing, bytes)
      : this.#storeOwned(packing, encryption.push(bytes));
  }

  #endEncryption(packing: Packing): Promise<void>[] {
    const { encryption } = this.#options;
    return encryption === undefined ? [] : this.#storeOwned(packing, encryption.end());
  }

  #storeOwned(packing: Packing, { bytes, release }: StoredBytes): [Promise<void>, Promise<void>] {
    if (bytes.length === 0) return [Promise.resolve(), this.#written];
    const both = this.#storeAsIs(packing, bytes);
    Promise.all(both).then(release, () => undefined);
    return both;
  }

  #storeAsIs(packing: Packing, bytes: Uint8Array): [Promise<void>, Promise<void>] {
    const { writeDigested } = this.#out;
    if (writeDigested !== undefined) {
      this.#written = this.#written.then(() => writeDigested(bytes, packing.stored));
      this.#written.catch(() => undefined);
      return [this.#written, this.#written];
    }
    this.#written = this.#written.then(() => this.#out.write(bytes));
    this.#written.catch(() => undefined);
    return [packing.stored.update(bytes), this.#written];
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
