import { type FileHandle, mkdtemp, open, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ExhibitError } from '../error.ts';
import { compressFrame, decompressFrame } from '../zstd.ts';

/**
 * Sorted records on disk. All runs are in one file that has no name any more: it was unlinked as soon as it was open, so that
 * however the process ends, nothing of the evidence stays behind.
 */
export interface Spill extends AsyncDisposable {
  /** Stores records that are sorted already, at most BLOCK_BYTES or one record in a block. */
  write(blocks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Run>;
  read(block: Block): Promise<Buffer>;
}

export type Run = readonly Block[];

export interface Block {
  readonly at: number;
  readonly storedBytes: number;
  readonly contentBytes: number;
}

/**
 * A record is a line with what it is sorted by before it, little endian: i32 and u32, the upper and lower half of the seconds since
 * the epoch, u32 nanoseconds, u32 bytes of the line.
 */
export const RECORD_HEADER_BYTES = 16;
/** Every run that is merged has two of them in memory. */
export const BLOCK_BYTES = 128 * 1024;
/** zstd's fast levels: the lines repeat themselves, and are read once. */
const SPILL_LEVEL = -1;
/** Blocks that are compressed at a time: the threads of libuv's pool. */
const AHEAD = 4;

/** A file below `folder` that only this process can reach. Throws ExhibitError `usage` when there can be none. */
export async function openSpill(folder: string): Promise<Spill> {
  const file = await openUnnamed(folder);
  let end = 0;

  const store = async (compressed: Promise<Uint8Array>, contentBytes: number): Promise<Block> => {
    const bytes = await compressed;
    const at = end;
    end += bytes.length;
    await writeAll(file, bytes, at).catch((error: unknown) => {
      throw cannotWrite(folder, error);
    });
    return { at, storedBytes: bytes.length, contentBytes };
  };
  return {
    async write(blocks) {
      const run: Block[] = [];
      const ahead: { compressed: Promise<Uint8Array>; contentBytes: number }[] = [];
      const oldest = async () => {
        const next = ahead.shift();
        if (next !== undefined) run.push(await store(next.compressed, next.contentBytes));
      };
      for await (const block of blocks) {
        const compressed = compressFrame(block, SPILL_LEVEL);
        compressed.catch(() => undefined);
        ahead.push({ compressed, contentBytes: block.length });
        if (ahead.length > AHEAD) await oldest();
      }
      while (ahead.length > 0) await oldest();
      return run;
    },
    async read({ at, storedBytes, contentBytes }) {
      const stored = Buffer.allocUnsafe(storedBytes);
      for (let done = 0; done < storedBytes; ) {
        const { bytesRead } = await file.read(stored, done, storedBytes - done, at + done);
        if (bytesRead === 0) throw new ExhibitError('internal', `the temporary file in ${folder} ends too early`);
        done += bytesRead;
      }
      const content = await decompressFrame(stored, contentBytes);
      return Buffer.from(content.buffer, content.byteOffset, content.length);
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** mkdtemp(3) makes the folder 0700: nobody else can open the file in the moment that it has a name. */
async function openUnnamed(folder: string): Promise<FileHandle> {
  try {
    const own = await mkdtemp(join(folder, 'exhibit-timeline-'));
    const name = join(own, 'runs');
    try {
      const file = await open(name, 'wx+', 0o600);
      await unlink(name);
      return file;
    } finally {
      await rmdir(own);
    }
  } catch (error) {
    throw cannotWrite(folder, error);
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

function cannotWrite(folder: string, cause: unknown): ExhibitError {
  const words = `The timeline is too large for memory and cannot be sorted in ${folder}`;
  return new ExhibitError('usage', `${words} (${String(cause)}): name a folder with room by --temp.`, { cause });
}
