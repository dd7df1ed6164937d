import { read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { errnoOf, isErrno } from '../../evidence/error.ts';
import { tryLibc } from './libc.ts';
import { type Stat, statOf } from './stat.ts';

const readAsync = promisify(read);

/** Read at a time from large files; there are two such buffers at once, one being read and one being stored. */
export const CHUNK_BYTES = 1024 * 1024;
/** Files up to this size are read whole, by one call, before anything of them is stored. */
export const WHOLE_BYTES = CHUNK_BYTES;
/** For `readWhole`; each capture has its own, since what is in it may have to wait for the sink. */
export function wholeRoom(): Buffer {
  return Buffer.allocUnsafeSlow(WHOLE_BYTES);
}

/** How often a small file that changes while it is read is read again. */
const READ_ATTEMPTS = 3;

/** A run of bytes: of data in a sparse file, or simply all of a file. */
export interface Extent {
  readonly offset: bigint;
  readonly sizeBytes: bigint;
}

/** How reading went; complete when the stream or call has ended. */
export interface ReadOutcome {
  bytes: number;
  /** Size, modification or status-change time differ before and after: what was read may be of no one moment. */
  changed: boolean;
  /** Why reading stopped early; the errno and where. */
  failure: { readonly errno: string; readonly offset: bigint } | undefined;
}

export function newOutcome(): ReadOutcome {
  return { bytes: 0, changed: false, failure: undefined };
}

/**
 * All of a small file, read again up to READ_ATTEMPTS times while it changes, `before` being what it was when it was opened.
 * Returns what the last attempt gave, at most what `room` holds; the outcome says whether even that changed. The content is in
 * `room`: a million files are read into one piece of memory.
 */
export function readWhole(fd: number, before: Stat, room: Buffer): { content: Buffer; outcome: ReadOutcome } {
  let then = before;
  for (let attempt = 1; ; attempt += 1) {
    const outcome = newOutcome();
    const content = readOnce(fd, room, then.size < BigInt(room.length) ? Number(then.size) : room.length, outcome);
    const now = statOf(fd);
    outcome.changed = differs(then, now);
    if (!outcome.changed || outcome.failure !== undefined || attempt === READ_ATTEMPTS) return { content, outcome };
    then = now;
  }
}

function readOnce(fd: number, into: Buffer, sizeBytes: number, outcome: ReadOutcome): Buffer {
  try {
    while (outcome.bytes < sizeBytes) {
      const got = readSync(fd, into, outcome.bytes, sizeBytes - outcome.bytes, outcome.bytes);
      if (got === 0) break;
      outcome.bytes += got;
    }
  } catch (error) {
    outcome.failure = failureOf(error, BigInt(outcome.bytes));
  }
  return into.subarray(0, outcome.bytes);
}

/**
 * The bytes of `extents`, one after the other, in chunks; the next one is read while the last is stored, and the last is gone
 * when the one after it is asked for. A file that ends early ends the stream early; a read error does so too and is in the outcome. Throws only when the signal does.
 */
export async function* readExtents(
  fd: number,
  extents: Iterable<Extent>,
  outcome: ReadOutcome,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const before = statOf(fd);
  const chunks = chunksOf(extents);
  // One is read into while the other is stored: a new one for each chunk would cost as much as reading it.
  const rooms: Buffer[] = [];
  let turn = 0;
  const readNext = (): Promise<Chunk> | undefined => {
    const next = chunks.next();
    if (next.done === true) return undefined;
    turn = 1 - turn;
    rooms[turn] ??= Buffer.allocUnsafeSlow(CHUNK_BYTES);
    return readChunk(fd, next.value, rooms[turn] as Buffer);
  };
  let coming = readNext();
  try {
    while (coming !== undefined) {
      const { bytes, failure, last } = await coming;
      coming = undefined;
      signal.throwIfAborted();
      if (!last) coming = readNext();
      outcome.failure = failure;
      outcome.bytes += bytes.length;
      if (bytes.length > 0) yield bytes;
    }
  } finally {
    // The descriptor must not be closed under a read.
    await coming;
    outcome.changed = differs(before, statOf(fd));
  }
}

interface Chunk {
  readonly bytes: Buffer;
  readonly failure: ReadOutcome['failure'];
  /** The file ended or failed: nothing after this. */
  readonly last: boolean;
}

async function readChunk(fd: number, { offset, sizeBytes }: Extent, bytes: Buffer): Promise<Chunk> {
  const wanted = Number(sizeBytes);
  let filled = 0;
  try {
    while (filled < wanted) {
      const { bytesRead } = await readAsync(fd, bytes, filled, wanted - filled, offset + BigInt(filled));
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
  } catch (error) {
    return { bytes: bytes.subarray(0, filled), failure: failureOf(error, offset + BigInt(filled)), last: true };
  }
  return { bytes: bytes.subarray(0, filled), failure: undefined, last: filled < wanted };
}

function* chunksOf(extents: Iterable<Extent>): Generator<Extent, void, void> {
  for (const { offset, sizeBytes } of extents) {
    for (let done = 0n; done < sizeBytes; done += BigInt(CHUNK_BYTES)) {
      const left = sizeBytes - done;
      yield { offset: offset + done, sizeBytes: left < BigInt(CHUNK_BYTES) ? left : BigInt(CHUNK_BYTES) };
    }
  }
}

/** lseek(2): the parts of a file that are not holes, in order. `complete` is false when there are more than `limit`. */
export interface DataExtents {
  readonly extents: readonly Extent[];
  readonly complete: boolean;
}

/** Undefined where holes cannot be asked for: no C library, or a file system that refuses (EINVAL). */
export function dataExtents(fd: number, sizeBytes: bigint, limit: number): DataExtents | undefined {
  const libc = tryLibc();
  if (libc === undefined) return undefined;
  const extents: Extent[] = [];
  try {
    for (let at = 0n; at < sizeBytes; ) {
      const offset = libc.seek(fd, at, 'data');
      if (offset >= sizeBytes) break;
      if (extents.length === limit) return { extents, complete: false };
      const hole = libc.seek(fd, offset, 'hole');
      at = hole < sizeBytes ? hole : sizeBytes;
      extents.push({ offset, sizeBytes: at - offset });
    }
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOTSUP')) return undefined;
    // Otherwise there is nothing but a hole up to the end.
    if (!isErrno(error, 'ENXIO')) throw error;
  }
  return { extents: withLastPage(extents, sizeBytes), complete: true };
}

/** The last page of the largest file there can be, of 64 KiB where pages are large. */
const LAST_PAGE = 2n ** 63n - 65_536n;

/** tmpfs overflows there and says that it is a hole (tried on Linux 6.18): a good place to hide something. */
function withLastPage(extents: readonly Extent[], sizeBytes: bigint): readonly Extent[] {
  const last = extents.at(-1);
  const end = last === undefined ? 0n : last.offset + last.sizeBytes;
  const offset = end > LAST_PAGE ? end : LAST_PAGE;
  return offset < sizeBytes ? [...extents, { offset, sizeBytes: sizeBytes - offset }] : extents;
}

function failureOf(error: unknown, offset: bigint): ReadOutcome['failure'] {
  const errno = errnoOf(error);
  if (errno === undefined) throw error;
  return { errno, offset };
}

/** ctime cannot be set by a process, so an edit that puts mtime back is seen as well: inode(7). */
function differs(before: Stat, after: Stat): boolean {
  return before.size !== after.size || before.mtimeNs !== after.mtimeNs || before.ctimeNs !== after.ctimeNs;
}
