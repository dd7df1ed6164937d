import type { z } from 'zod';
import { MEMORY_MEMBERS } from './elsewhere.ts';
import { ExhibitError } from './error.ts';
import { parseJson } from './json.ts';
import { type ListedMember, splitLines } from './members.ts';
import { openSeekable, type ReadRange, type Seekable } from './seekable.ts';
import { openTarIndex } from './tar-index.ts';

/** `memory.tar.zst` by member and offset: what is asked for is read and decompressed, nothing else. */
export interface MemoryArchive {
  /** Processes that have a core, ascending. */
  readonly pids: readonly number[];
  readonly content: Pick<Seekable, 'frames' | 'cost' | 'contentBytes'>;
  has(member: string): boolean;
  /** Throws ExhibitError `bundle-corrupt` when the archive has no such member. */
  sizeOf(member: string): Promise<number>;
  /**
   * Exactly `length` bytes of a member's content. `aheadBytes` as in Seekable.
   * Throws ExhibitError `bundle-corrupt`: no such member, or it is shorter.
   */
  read(member: string, offset: number, length: number, aheadBytes?: number): Promise<Uint8Array>;
}

/**
 * What is kept of frames: memory lies in two or three members that are read side by side, and frames are begun ahead of
 * the reader. With the usual frames of 1 MiB it is 16 of them; hostile ones are at most 16 MiB each.
 */
const CACHE_BYTES = 16 * 1024 * 1024;
/** How far ahead a member that is read from start to end is begun. */
export const AHEAD_BYTES = 4 * 1024 * 1024;

export async function openMemoryArchive(
  readRange: ReadRange,
  sizeBytes: number,
  listed: AsyncIterable<ListedMember> | Iterable<ListedMember>,
): Promise<MemoryArchive> {
  const content = await openSeekable(readRange, sizeBytes, { cacheBytes: CACHE_BYTES });
  const index = await openTarIndex(content, listed);
  const names = new Set(index.paths);
  const find = async (member: string) => {
    const found = await index.find(member);
    if (found !== undefined) return found;
    throw new ExhibitError(
      'bundle-corrupt',
      `The archive of memory has no member ${member}: run \`exhibit verify\` on this bundle.`,
    );
  };
  return {
    pids: pidsIn(index.paths),
    content,
    has: (member) => names.has(member),
    sizeOf: async (member) => (await find(member)).sizeBytes,
    async read(member, offset, length, aheadBytes = 0) {
      const found = await find(member);
      const end = offset + length;
      if (offset < 0 || length < 0 || end > found.sizeBytes) {
        throw new ExhibitError(
          'bundle-corrupt',
          `${member} holds ${found.sizeBytes} bytes; wanted are ${length} from ${offset}.`,
        );
      }
      const ahead = Math.min(aheadBytes, found.sizeBytes - end);
      const bytes = await content.read(found.offset + offset, length, ahead);
      if (bytes.length === length) return bytes;
      throw new ExhibitError('bundle-corrupt', `The archive of memory ends inside ${member}.`);
    },
  };
}

function pidsIn(paths: readonly string[]): number[] {
  const pids = paths.flatMap((path) => {
    const pid = Number(/^([1-9]\d{0,9})\/core$/.exec(path)?.[1] ?? 0);
    return pid > 0 && path === MEMORY_MEMBERS.core(pid) ? [pid] : [];
  });
  return pids.sort((a, b) => a - b);
}

/** Pieces in which a member is read from start to end. */
const PIECE_BYTES = 1024 * 1024;

/** `length` bytes of a member from `offset`, in order. */
export async function* streamMember(
  archive: MemoryArchive,
  member: string,
  offset: number,
  length: number,
): AsyncGenerator<Uint8Array> {
  for (let at = offset; at < offset + length; at += PIECE_BYTES) {
    const left = offset + length - at;
    const bytes = Math.min(PIECE_BYTES, left);
    yield await archive.read(member, at, bytes, Math.min(AHEAD_BYTES, left - bytes));
  }
}

export interface LineLimits {
  /** A member of more bytes than this is not read. */
  readonly bytes: number;
  readonly lines: number;
}

/** The lines of a member, each by its schema. Throws ExhibitError `bundle-corrupt`; beyond the limits too. */
export async function* readRecords<Record>(
  archive: MemoryArchive,
  member: string,
  schema: z.ZodType<Record>,
  limits: LineLimits,
): AsyncGenerator<Record> {
  const sizeBytes = await archive.sizeOf(member);
  if (sizeBytes > limits.bytes) {
    throw new ExhibitError(
      'bundle-corrupt',
      `${member} has ${sizeBytes} bytes, and at most ${limits.bytes} are read of it.`,
    );
  }
  let number = 0;
  for await (const line of splitLines(streamMember(archive, member, 0, sizeBytes))) {
    number += 1;
    if (number > limits.lines) {
      throw new ExhibitError(
        'bundle-corrupt',
        `${member} has more than the ${limits.lines} lines that are read of it.`,
      );
    }
    const parsed = schema.safeParse(parseJson(line, limits.bytes, `line ${number} of ${member}`));
    if (!parsed.success) {
      throw new ExhibitError('bundle-corrupt', `line ${number} of ${member} is not of the shape that it should have`, {
        cause: parsed.error,
      });
    }
    yield parsed.data;
  }
}
