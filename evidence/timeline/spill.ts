import { type FileHandle, mkdtemp, open, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ExhibitError, explain } from '../error.ts';

/**
 * Bytes on disk for as long as the process needs them. The file has no name any more: it was unlinked as soon as it was open,
 * so that however the process ends, nothing of the evidence stays behind.
 */
export interface Spill extends AsyncDisposable {
  /** Where it was put. One at a time. */
  append(bytes: Uint8Array): Promise<number>;
  /** Fills `into` from `at` on; the number of bytes is less only where the file ends. */
  read(into: Uint8Array, at: number): Promise<number>;
  readonly sizeBytes: number;
}

/** A file below `folder` that only this process can reach. Throws ExhibitError `usage` when there can be none. */
export async function openSpill(folder: string): Promise<Spill> {
  const file = await openUnnamed(folder);
  let end = 0;
  return {
    get sizeBytes() {
      return end;
    },
    async append(bytes) {
      const at = end;
      end += bytes.length;
      await writeAll(file, bytes, at).catch((error: unknown) => {
        throw cannotWrite(folder, error);
      });
      return at;
    },
    async read(into, at) {
      for (let done = 0; ; ) {
        const { bytesRead } = await file.read(into, done, into.length - done, at + done);
        done += bytesRead;
        if (bytesRead === 0 || done === into.length) return done;
      }
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
  return new ExhibitError('usage', `${words} (${explain(cause)}): name a folder with room by --temp.`, { cause });
}
