import { createHash } from 'node:crypto';
import { AgeCut } from './age-format.ts';
import type { ByteSource } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import {
  readTableFooter,
  SKIPPABLE_MAGIC,
  TABLE_ENTRY_BYTES,
  TABLE_FOOTER_BYTES,
  TABLE_HEADER_BYTES,
  tableBytes,
  tableEntry,
} from './seek-table.ts';
import { decompressFrame, scanFrame } from './zstd.ts';

/**
 * Reads a frame stream from its first byte to its last, trusting nothing: frames are cut by their own headers, bounded in
 * size, and must hold exactly what they declare; the seek table must be there, say the same, and be the last thing.
 *
 * Memory: FRAMES_AHEAD frames of at most MAX_FRAME_CONTENT_BYTES and their stored form, usually 1 MiB each. The table is
 * compared by a running digest of its entries, so that billions of tiny frames cost nothing.
 */

/** Frames decompressed ahead of the one being read: the number of threads of libuv's pool. */
const FRAMES_AHEAD = 4;

/** The stream ends too early: after `frames` whole frames, all of which were good. */
export class StreamCut extends ExhibitError {
  readonly frames: number;

  constructor(frames: number, message: string) {
    super('bundle-corrupt', message);
    this.frames = frames;
  }
}

/** The stream ends before its frames do, by its own end or because the age file around it was cut. */
export function endsEarly(error: unknown): error is StreamCut | AgeCut {
  return error instanceof StreamCut || error instanceof AgeCut;
}

/**
 * Yields the content, a frame at a time. Throws ExhibitError `bundle-corrupt` at the first byte that is not as it should be,
 * and `StreamCut` for one that is missing, or the source's own `AgeCut`, when every frame before it was yielded.
 */
export async function* decodeFrames(chunks: ByteSource): AsyncGenerator<Uint8Array> {
  const ahead: Promise<Uint8Array>[] = [];
  let cut: StreamCut | AgeCut | undefined;
  try {
    for await (const { frame, contentBytes } of splitFrames(chunks)) {
      const content = decompressFrame(frame, contentBytes);
      content.catch(() => undefined);
      ahead.push(content);
      // Large frames are not read ahead: a hostile stream would make four of them.
      while (ahead.length > (contentBytes > 1024 * 1024 ? 0 : FRAMES_AHEAD)) yield* oldest(ahead);
    }
  } catch (error) {
    if (!endsEarly(error)) throw error;
    cut = error;
  }
  while (ahead.length > 0) yield* oldest(ahead);
  if (cut !== undefined) throw cut;
}

/** What the headers of a stream's frames say, without decompressing any. `cut` is absent when the stream is whole. */
export async function measureFrames(
  chunks: ByteSource,
): Promise<{ readonly frames: number; readonly contentBytes: number; readonly cut?: StreamCut | AgeCut }> {
  let frames = 0;
  let contentBytes = 0;
  try {
    for await (const frame of splitFrames(chunks)) {
      frames += 1;
      contentBytes += frame.contentBytes;
    }
  } catch (error) {
    if (endsEarly(error)) return { frames, contentBytes, cut: error };
    throw error;
  }
  return { frames, contentBytes };
}

async function* oldest(ahead: Promise<Uint8Array>[]): AsyncGenerator<Uint8Array> {
  const content = await ahead.shift();
  if (content !== undefined && content.length > 0) yield content;
}

interface CutFrame {
  readonly frame: Uint8Array;
  readonly contentBytes: number;
}

/** The frames of a stream, still compressed; checks the seek table after the last one. */
async function* splitFrames(chunks: ByteSource): AsyncGenerator<CutFrame> {
  const input = new Window(chunks);
  const seen = createHash('sha256');
  let frames = 0;
  try {
    while (await input.fill(4)) {
      if (input.bytes.readUInt32LE(0) === SKIPPABLE_MAGIC) {
        await checkTable(input, frames, seen.digest());
        return;
      }
      const cut = await cutFrame(input, frames);
      seen.update(tableEntry(cut.frame.length, cut.contentBytes));
      frames += 1;
      yield cut;
    }
  } finally {
    await input.close();
  }
  throw new StreamCut(frames, `the stream ends after ${frames} frames, before its seek table`);
}

async function cutFrame(input: Window, index: number): Promise<CutFrame> {
  for (let resumeAt = 0; ; ) {
    const scan = scanFrame(input.bytes, resumeAt);
    if (scan.kind === 'bad') throw new ExhibitError('bundle-corrupt', `frame ${index}: ${scan.why}`);
    if (scan.kind === 'frame') {
      if (await input.fill(scan.storedBytes)) {
        return { frame: input.take(scan.storedBytes), contentBytes: scan.contentBytes };
      }
    } else if (await input.fill(scan.needBytes)) {
      resumeAt = scan.resumeAt;
      continue;
    }
    throw new StreamCut(index, `frame ${index}: the stream ends inside it`);
  }
}

async function checkTable(input: Window, frames: number, seen: Buffer): Promise<void> {
  const inconsistent = new ExhibitError('bundle-corrupt', 'the seek table does not agree with the frames before it');
  const cut = new StreamCut(frames, `the stream ends after ${frames} frames, inside its seek table`);
  if (!(await input.fill(TABLE_HEADER_BYTES))) throw cut;
  const declared = input.take(TABLE_HEADER_BYTES).readUInt32LE(4);
  if (declared !== tableBytes(frames) - TABLE_HEADER_BYTES) throw inconsistent;
  const entries = createHash('sha256');
  for (let left = frames * TABLE_ENTRY_BYTES; left > 0; ) {
    const part = Math.min(left, 64 * 1024);
    if (!(await input.fill(part))) throw cut;
    entries.update(input.take(part));
    left -= part;
  }
  if (!(await input.fill(TABLE_FOOTER_BYTES))) throw cut;
  if (readTableFooter(input.take(TABLE_FOOTER_BYTES)) !== frames || !entries.digest().equals(seen)) throw inconsistent;
  if (await input.fill(1)) throw new ExhibitError('bundle-corrupt', 'there are bytes after the seek table');
}

/** A moving view of a byte source: `fill` makes sure of so many bytes, `take` cuts them off. */
export class Window {
  readonly #source: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  constructor(chunks: ByteSource) {
    this.#source = Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  /** False when the source ends before there are `bytes`, which are bounded by the caller. */
  async fill(bytes: number): Promise<boolean> {
    while (this.#end - this.#start < bytes) {
      const next = await this.#source.next();
      if (next.done === true) return false;
      this.#append(next.value);
    }
    return true;
  }

  /** Lets go of the source, be it at its end or not. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  /** The bytes are the caller's: they are copied out of the window. */
  take(bytes: number): Buffer {
    const taken = Buffer.from(this.#buffer.subarray(this.#start, this.#start + bytes));
    this.#start += bytes;
    return taken;
  }

  /** Lets go of bytes that were looked at in `bytes`. */
  skip(bytes: number): void {
    this.#start += bytes;
  }

  #append(chunk: Uint8Array): void {
    const held = this.#end - this.#start;
    if (this.#end + chunk.length > this.#buffer.length) {
      const needed = held + chunk.length;
      // Doubling, so that a frame that comes byte by byte is not copied byte by byte.
      const grown = needed * 2 <= this.#buffer.length ? this.#buffer : Buffer.alloc(Math.max(needed * 2, 64 * 1024));
      this.#buffer.copy(grown, 0, this.#start, this.#end);
      this.#buffer = grown;
      this.#start = 0;
      this.#end = held;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }
}
