import { ExhibitError } from './error.ts';

/**
 * The seek table at the end of a frame stream, in the zstd seekable format, version 0.1.0
 * (https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md).
 * A skippable frame, which every decompressor passes over, that says how long each frame is. All numbers little endian:
 *
 *     u32 0x184D2A5E, u32 length of the rest | per frame: u32 stored bytes, u32 content bytes | u32 frames, u8 0, u32 0x8F92EAB1
 */
export const SKIPPABLE_MAGIC = 0x184d2a5e;
const SEEKABLE_MAGIC = 0x8f92eab1;
export const TABLE_HEADER_BYTES = 8;
export const TABLE_FOOTER_BYTES = 9;
/** Two u32 a frame: frames are below 4 GiB, stored and unpacked. Our descriptor byte is 0: no third one, a checksum. */
export const TABLE_ENTRY_BYTES = 8;
/** The format's own limit (ZSTD_SEEKABLE_MAXFRAMES). With frames of 1 MiB that is 128 TiB a stream. */
export const MAX_FRAMES = 0x8000000;

export function tableBytes(frames: number): number {
  return TABLE_HEADER_BYTES + frames * TABLE_ENTRY_BYTES + TABLE_FOOTER_BYTES;
}

export function tableEntry(storedBytes: number, contentBytes: number): Buffer {
  const entry = Buffer.alloc(TABLE_ENTRY_BYTES);
  entry.writeUInt32LE(storedBytes, 0);
  entry.writeUInt32LE(contentBytes, 4);
  return entry;
}

/** The lengths of the frames written so far: eight bytes a frame, all that a stream's writer keeps of its past. */
export interface SeekTable {
  readonly frames: number;
  add(storedBytes: number, contentBytes: number): void;
  encode(): Uint8Array;
}

export function createSeekTable(): SeekTable {
  let entries = Buffer.alloc(64 * TABLE_ENTRY_BYTES);
  let frames = 0;
  return {
    get frames() {
      return frames;
    },
    add(storedBytes, contentBytes) {
      if (frames >= MAX_FRAMES) throw new ExhibitError('internal', `a stream holds at most ${MAX_FRAMES} frames`);
      if ((frames + 1) * TABLE_ENTRY_BYTES > entries.length) {
        entries = Buffer.concat([entries, Buffer.alloc(entries.length)]);
      }
      entries.set(tableEntry(storedBytes, contentBytes), frames * TABLE_ENTRY_BYTES);
      frames += 1;
    },
    encode() {
      const table = Buffer.alloc(tableBytes(frames));
      table.writeUInt32LE(SKIPPABLE_MAGIC, 0);
      table.writeUInt32LE(table.length - TABLE_HEADER_BYTES, 4);
      table.set(entries.subarray(0, frames * TABLE_ENTRY_BYTES), TABLE_HEADER_BYTES);
      table.writeUInt32LE(frames, table.length - 9);
      table.writeUInt32LE(SEEKABLE_MAGIC, table.length - 4);
      return table;
    },
  };
}

/** The number of frames that the last nine bytes of a stream promise. Throws ExhibitError `bundle-corrupt`. */
export function readTableFooter(footer: Uint8Array): number {
  const view = Buffer.from(footer.buffer, footer.byteOffset, footer.length);
  if (view.length !== TABLE_FOOTER_BYTES || view.readUInt32LE(5) !== SEEKABLE_MAGIC) {
    throw new ExhibitError('bundle-corrupt', 'the stream does not end with a seek table: it was cut or never finished');
  }
  const frames = view.readUInt32LE(0);
  if (view.readUInt8(4) !== 0 || frames > MAX_FRAMES) {
    throw new ExhibitError('bundle-corrupt', 'the seek table has a footer that this version does not write');
  }
  return frames;
}
