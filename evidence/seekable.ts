import { ExhibitError } from './error.ts';
import { readTableFooter, SKIPPABLE_MAGIC, TABLE_ENTRY_BYTES, TABLE_FOOTER_BYTES, tableBytes } from './seek-table.ts';
import { decompressFrame, MAX_FRAME_CONTENT_BYTES, MAX_FRAME_STORED_BYTES } from './zstd.ts';

/** Random access to a frame stream's content: a read decompresses only the frames it touches. */
export interface Seekable {
  readonly contentBytes: number;
  readonly frames: number;
  /** What was read of the object so far, the seek table included; a frame counts each time it is read. */
  readonly cost: { readonly framesRead: number; readonly bytesRead: number; readonly requests: number };
  /**
   * The content from `offset`, at most `length` bytes, fewer where the content ends. All of it is held in memory.
   * `aheadBytes` says how much after it will be wanted next: those frames are begun, as far as the cache has room.
   * Throws ExhibitError `bundle-corrupt`. What it returns is checked by the frame's checksum only: `verify` is the judge.
   */
  read(offset: number, length: number, aheadBytes?: number): Promise<Uint8Array>;
}

export interface SeekableOptions {
  /** Content of frames that is kept for the next read; the frame that was read last is always kept. None by default. */
  readonly cacheBytes?: number;
}

/** The stored bytes from `start` up to, not including, `end`; a file or a ranged GET. */
export type ReadRange = (start: number, end: number) => Promise<Uint8Array>;

/** The table is held in memory with 16 bytes a frame: 4 million frames of 1 MiB are 4 TiB. */
export const MAX_SEEKABLE_FRAMES = 4 * 1024 * 1024;

interface Frames {
  /** One more than there are frames; the last is where everything ends. */
  readonly storedAt: Float64Array;
  readonly contentAt: Float64Array;
}

/** Reads the seek table of a stream of `sizeBytes`. Throws ExhibitError `bundle-corrupt` when there is none that fits. */
export async function openSeekable(
  readRange: ReadRange,
  sizeBytes: number,
  options: SeekableOptions = {},
): Promise<Seekable> {
  const cost = { framesRead: 0, bytesRead: 0, requests: 0 };
  const counted: ReadRange = async (start, end) => {
    cost.requests += 1;
    const bytes = await readRange(start, end);
    cost.bytesRead += bytes.length;
    return bytes;
  };
  const { storedAt, contentAt } = await readTable(counted, sizeBytes);
  const frames = storedAt.length - 1;
  const contentBytes = contentAt[frames] ?? 0;

  const load = async (index: number): Promise<Uint8Array> => {
    cost.framesRead += 1;
    const [start = 0, end = 0] = storedAt.subarray(index, index + 2);
    const [from = 0, to = 0] = contentAt.subarray(index, index + 2);
    return decompressFrame(await exactly(counted, start, end), to - from);
  };
  const bytesOf = (index: number) => (contentAt[index + 1] ?? 0) - (contentAt[index] ?? 0);
  const cache = createCache(load, bytesOf, options.cacheBytes ?? 0);

  return {
    contentBytes,
    frames,
    cost,
    async read(offset, length, aheadBytes = 0) {
      const end = Math.min(offset + length, contentBytes);
      const parts: Uint8Array[] = [];
      for (let at = offset, index = frameAt(contentAt, offset); at < end; index += 1) {
        const content = cache.get(index);
        const aheadTo = Math.min(end + aheadBytes, contentBytes);
        for (let next = index + 1; (contentAt[next] ?? aheadTo) < aheadTo && cache.hasRoom(next); next += 1) {
          cache.begin(next);
        }
        const frameStart = contentAt[index] ?? 0;
        const part = (await content).subarray(at - frameStart, end - frameStart);
        parts.push(part);
        at += part.length;
      }
      return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    },
  };
}

interface FrameCache {
  get(index: number): Promise<Uint8Array>;
  /** Starts reading a frame that will be asked for. */
  begin(index: number): void;
  /** Whether a frame can be begun without pushing out another. */
  hasRoom(index: number): boolean;
}

/** Frames by index, the one used last at the end; those used longest ago leave first. */
function createCache(
  load: (index: number) => Promise<Uint8Array>,
  bytesOf: (index: number) => number,
  limitBytes: number,
): FrameCache {
  const held = new Map<number, Promise<Uint8Array>>();
  /** Begun ahead and not asked for yet: half of the cache at most, so that they do not push out one another. */
  const ahead = new Set<number>();
  let heldBytes = 0;
  let aheadBytes = 0;

  const drop = (index: number): void => {
    if (!held.delete(index)) return;
    heldBytes -= bytesOf(index);
    if (ahead.delete(index)) aheadBytes -= bytesOf(index);
  };
  const start = (index: number): Promise<Uint8Array> => {
    const frame = load(index);
    // Whoever asks for it is told; nobody may.
    frame.catch(() => drop(index));
    held.set(index, frame);
    heldBytes += bytesOf(index);
    for (const oldest of held.keys()) {
      if (heldBytes <= limitBytes || oldest === index) break;
      drop(oldest);
    }
    return frame;
  };
  return {
    get(index) {
      const frame = held.get(index);
      if (frame === undefined) return start(index);
      if (ahead.delete(index)) aheadBytes -= bytesOf(index);
      held.delete(index);
      held.set(index, frame);
      return frame;
    },
    hasRoom: (index) => held.has(index) || aheadBytes + bytesOf(index) <= limitBytes / 2,
    begin(index) {
      if (held.has(index)) return;
      ahead.add(index);
      aheadBytes += bytesOf(index);
      void start(index);
    },
  };
}

async function readTable(readRange: ReadRange, sizeBytes: number): Promise<Frames> {
  const damaged = new ExhibitError('bundle-corrupt', 'the seek table does not fit the object');
  if (sizeBytes < tableBytes(0)) throw damaged;
  const frames = readTableFooter(await exactly(readRange, sizeBytes - TABLE_FOOTER_BYTES, sizeBytes));
  const tableAt = sizeBytes - tableBytes(frames);
  if (frames > MAX_SEEKABLE_FRAMES || tableAt < 0) throw damaged;
  const table = Buffer.from(await exactly(readRange, tableAt, sizeBytes - TABLE_FOOTER_BYTES));
  if (table.readUInt32LE(0) !== SKIPPABLE_MAGIC) throw damaged;
  const storedAt = new Float64Array(frames + 1);
  const contentAt = new Float64Array(frames + 1);
  for (let index = 0; index < frames; index += 1) {
    const stored = table.readUInt32LE(8 + index * TABLE_ENTRY_BYTES);
    const content = table.readUInt32LE(8 + index * TABLE_ENTRY_BYTES + 4);
    if (stored > MAX_FRAME_STORED_BYTES || content > MAX_FRAME_CONTENT_BYTES) throw damaged;
    storedAt[index + 1] = (storedAt[index] ?? 0) + stored;
    contentAt[index + 1] = (contentAt[index] ?? 0) + content;
  }
  if (storedAt[frames] !== tableAt) throw damaged;
  return { storedAt, contentAt };
}

/** The last frame that starts at or before `offset`. */
function frameAt(contentAt: Float64Array, offset: number): number {
  let low = 0;
  let high = contentAt.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((contentAt[middle] ?? 0) <= offset) low = middle;
    else high = middle;
  }
  return low;
}

async function exactly(readRange: ReadRange, start: number, end: number): Promise<Uint8Array> {
  const bytes = await readRange(start, end);
  if (bytes.length === end - start) return bytes;
  throw new ExhibitError('bundle-corrupt', `the object gave ${bytes.length} bytes of the ${end - start} from ${start}`);
}
