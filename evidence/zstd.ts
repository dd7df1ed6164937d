import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { ExhibitError } from './error.ts';

/**
 * One zstd frame at a time (RFC 8878), compressed and decompressed on the thread pool. One-shot calls of independent
 * frames run in parallel and avoid two faults of Node's zstd streams (nodejs/node#59899, and an empty frame after `end`).
 */

/** RFC 8878, 3.1.1: the magic number that starts a frame. */
export const FRAME_MAGIC = 0xfd2fb528;
/** A frame with more content than this is not ours; it bounds what a reader holds in memory. */
export const MAX_FRAME_CONTENT_BYTES = 16 * 1024 * 1024;
/** What a reader accepts of one frame. */
export const MAX_FRAME_STORED_BYTES = frameBound(MAX_FRAME_CONTENT_BYTES);
/** RFC 8878, 3.1.1.2.4: a block never holds more. */
const MAX_BLOCK_BYTES = 128 * 1024;

const compressAsync = promisify(zstdCompress);
const decompressAsync = promisify(zstdDecompress);

/** The longest a frame of so much content can get: ZSTD_compressBound, or raw blocks with their headers, rounded up. */
export function frameBound(contentBytes: number): number {
  return contentBytes + (contentBytes >>> 7) + 1024;
}

/**
 * One frame with its content size and checksum. `level` is zstd's: 1 to 22, or negative for less work (-1 to -131072).
 * `content` may be reused after the promise settles, not before.
 */
export async function compressFrame(content: Uint8Array, level: number): Promise<Uint8Array> {
  return compressAsync(content, {
    // Room for the worst case, so that the call makes one trip to the thread pool.
    chunkSize: frameBound(content.length),
    pledgedSrcSize: content.length,
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 },
  });
}

/**
 * A frame of raw blocks: zstd's framing around content as it is, made while it is copied into `room`, so that no byte is
 * copied twice; a run of zeros that fills a block is stored as its length. No checksum; the bundle's SHA-256 covers it.
 * RFC 8878, 3.1.1: descriptor 0xA0 is a single segment with a content size of four bytes.
 */
export class RawFrame {
  readonly #room: Buffer;
  /** Where the header of the block that is being filled begins. */
  #blockAt = RAW_HEADER_BYTES;
  #blockBytes = 0;
  #contentBytes = 0;

  /** `room` has `frameBound` bytes of the content to come. */
  constructor(room: Uint8Array) {
    this.#room = Buffer.from(room.buffer, room.byteOffset, room.length);
  }

  get contentBytes(): number {
    return this.#contentBytes;
  }

  add(content: Uint8Array): void {
    for (let at = 0; at < content.length; ) {
      if (this.#blockBytes === MAX_BLOCK_BYTES) this.#endBlock(false);
      const part = content.subarray(at, at + MAX_BLOCK_BYTES - this.#blockBytes);
      copyBytes(part, this.#room, this.#blockAt + BLOCK_HEADER_BYTES + this.#blockBytes);
      this.#blockBytes += part.length;
      this.#contentBytes += part.length;
      at += part.length;
    }
  }

  /** The whole frame, in the room; the next one may begin after that. */
  end(): Uint8Array {
    this.#endBlock(true);
    this.#room.writeUInt32LE(FRAME_MAGIC, 0);
    this.#room.writeUInt8(0xa0, 4);
    this.#room.writeUInt32LE(this.#contentBytes, 5);
    const frame = this.#room.subarray(0, this.#blockAt);
    this.#blockAt = RAW_HEADER_BYTES;
    this.#contentBytes = 0;
    return frame;
  }

  #endBlock(isLast: boolean): void {
    const bodyAt = this.#blockAt + BLOCK_HEADER_BYTES;
    const bytes = this.#blockBytes;
    const isRun = bytes > 0 && isZeros(this.#room.subarray(bodyAt, bodyAt + bytes));
    this.#room.writeUIntLE(bytes * 8 + (isRun ? 2 : 0) + (isLast ? 1 : 0), this.#blockAt, BLOCK_HEADER_BYTES);
    this.#blockAt = bodyAt + (isRun ? 1 : bytes);
    this.#blockBytes = 0;
  }
}

/** `TypedArray.set`, but at full speed when either of the two is shared between threads: V8 copies such by the word. */
export function copyBytes(from: Uint8Array, to: Uint8Array, at: number): void {
  Buffer.from(from.buffer, from.byteOffset, from.length).copy(to, at);
}

/** Magic number, descriptor, content size. */
const RAW_HEADER_BYTES = 9;
const BLOCK_HEADER_BYTES = 3;

/** All of `content` as one raw frame. */
export function rawFrame(content: Uint8Array): Uint8Array {
  const frame = new RawFrame(Buffer.allocUnsafe(frameBound(content.length)));
  frame.add(content);
  return frame.end();
}

const ZEROS = Buffer.alloc(MAX_BLOCK_BYTES);

/** At most a block. memcmp(3) stops at the first byte that differs, so what is no zeros costs nothing. */
function isZeros(bytes: Uint8Array): boolean {
  return ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

/** The content of exactly one frame that declares `contentBytes`. Throws ExhibitError `bundle-corrupt` for anything else. */
export async function decompressFrame(frame: Uint8Array, contentBytes: number): Promise<Uint8Array> {
  let content: Uint8Array;
  try {
    content = await decompressAsync(frame, {
      // Node refuses chunks below 64 bytes, and a full chunk costs a second trip to the thread pool. The limit ends a
      // frame that holds more than it declares.
      chunkSize: contentBytes + 64,
      maxOutputLength: Math.max(1, contentBytes),
      params: { [constants.ZSTD_d_windowLogMax]: 24 },
    });
  } catch (cause) {
    throw new ExhibitError('bundle-corrupt', 'a zstd frame does not decompress', { cause });
  }
  if (content.length === contentBytes) return content;
  throw new ExhibitError('bundle-corrupt', `a zstd frame holds ${content.length} bytes, declared are ${contentBytes}`);
}

/** How far a frame's own headers reach: enough to cut it out of a stream without decompressing it. */
export type FrameScan =
  /** Scan again with `resumeAt` once there are `needBytes`; what was scanned is not scanned twice. */
  | { readonly kind: 'short'; readonly needBytes: number; readonly resumeAt: number }
  | { readonly kind: 'bad'; readonly why: string }
  /** `storedBytes` is the whole frame, which may be longer than the input so far. */
  | { readonly kind: 'frame'; readonly storedBytes: number; readonly contentBytes: number };

const TOO_LONG = { kind: 'bad', why: 'the frame is longer than any content of a frame needs' } as const;

/** Scans the frame that starts at the first byte of `bytes`. RFC 8878, 3.1.1.1 and 3.1.1.2. */
export function scanFrame(bytes: Uint8Array, resumeAt = 0): FrameScan {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < 5) return { kind: 'short', needBytes: 5, resumeAt: 0 };
  if (view.readUInt32LE(0) !== FRAME_MAGIC) return { kind: 'bad', why: 'no zstd frame starts here' };
  const descriptor = view.readUInt8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >>> 6;
  if ((descriptor & 0x0b) !== 0) return { kind: 'bad', why: 'the frame has a dictionary or a reserved bit' };
  if (sizeFlag === 0 && !singleSegment) return { kind: 'bad', why: 'the frame does not declare its content size' };
  const sizeAt = 5 + (singleSegment ? 0 : 1);
  const blocksAt = sizeAt + 2 ** sizeFlag;
  if (view.length < blocksAt) return { kind: 'short', needBytes: blocksAt, resumeAt: 0 };
  const contentBytes = readContentSize(view, sizeAt, sizeFlag);
  if (contentBytes > MAX_FRAME_CONTENT_BYTES) return { kind: 'bad', why: `the frame declares ${contentBytes} bytes` };
  const end = scanBlocks(view, Math.max(blocksAt, resumeAt));
  if (typeof end !== 'number') return end;
  const storedBytes = end + ((descriptor & 0x04) === 0 ? 0 : 4);
  return storedBytes > MAX_FRAME_STORED_BYTES ? TOO_LONG : { kind: 'frame', storedBytes, contentBytes };
}

function readContentSize(view: Buffer, at: number, sizeFlag: number): number {
  if (sizeFlag === 0) return view.readUInt8(at);
  if (sizeFlag === 1) return view.readUInt16LE(at) + 256;
  return sizeFlag === 2 ? view.readUInt32LE(at) : Number(view.readBigUInt64LE(at));
}

/** Follows the block headers from the one at `from`; the offset after the last block, or why that is not known. */
function scanBlocks(view: Buffer, from: number): number | FrameScan {
  for (let at = from; ; ) {
    if (at > MAX_FRAME_STORED_BYTES) return TOO_LONG;
    if (view.length < at + 3) return { kind: 'short', needBytes: at + 3, resumeAt: at };
    const header = view.readUIntLE(at, 3);
    const type = (header >>> 1) & 3;
    if (type === 3) return { kind: 'bad', why: 'the frame has a block of the reserved type' };
    // A run-length block stores one byte, however long the run.
    at += 3 + (type === 1 ? 1 : header >>> 3);
    if ((header & 1) === 1) return at;
  }
}
