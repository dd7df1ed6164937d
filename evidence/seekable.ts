import { ExhibitError } from './error.ts';
import { readTableFooter, SKIPPABLE_MAGIC, TABLE_ENTRY_BYTES, TABLE_FOOTER_BYTES, tableBytes } from './seek-table.ts';
import { decompressFrame, MAX_FRAME_CONTENT_BYTES, MAX_FRAME_STORED_BYTES } from './zstd.ts';

/** Random access to a frame stream's content: a read decompresses only the frames it touches. */
export interface Seekable {
  readonly contentBytes: number;
  readonly frames: number;
  /**
   * The content from `offset`, at most `length` bytes, fewer where the content ends. All of it is held in memory.
   * Throws ExhibitError `bundle-corrupt`. What it returns is checked by the frame's checksum only: `verify` is the judge.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
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
export async function openSeekable(readRange: ReadRange, sizeBytes: number): Promise<Seekable> {
  const { storedAt, contentAt } = await readTable(readRange, sizeBytes);
  const frames = storedAt.length - 1;
  const contentBytes = contentAt[frames] ?? 0;
  let last: { readonly index: number; readonly content: Uint8Array } | undefined;

  const frame = async (index: number): Promise<Uint8Array> => {
    if (last?.index === index) return last.content;
    const [start = 0, end = 0] = storedAt.subarray(index, index + 2);
    const [from = 0, to = 0] = contentAt.subarray(index, index + 2);
    const content = await decompressFrame(await exactly(readRange, start, end), to - from);
    last = { index, content };
    return content;
  };

  return {
    contentBytes,
    frames,
    async read(offset, length) {
      const end = Math.min(offset + length, contentBytes);
      const parts: Uint8Array[] = [];
      for (let at = offset, index = frameAt(contentAt, offset); at < end; index += 1) {
        const frameStart = contentAt[index] ?? 0;
        const part = (await frame(index)).subarray(at - frameStart, end - frameStart);
        parts.push(part);
        at += part.length;
      }
      return Buffer.concat(parts);
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
