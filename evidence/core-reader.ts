import { type CoreHeader, ELF_HEADER_BYTES, headersBytesOf, readHeaders } from './elfheader.ts';
import { type RegionRecord, regionSchema } from './elfregion.ts';
import { elsewhereSchema, MEMORY_MEMBERS } from './elsewhere.ts';
import { ExhibitError } from './error.ts';
import { AHEAD_BYTES, type MemoryArchive, readRecords } from './memory-archive.ts';
import {
  earlierOf,
  firstPieceAfter,
  laterOf,
  layPieces,
  MAX_PIECES,
  type Piece,
  pieceBytes,
  type StoredRun,
} from './memory-pieces.ts';

/** One process' memory in an archive, by address. */
export interface ProcessMemory {
  readonly pid: number;
  readonly core: { readonly member: string; readonly sizeBytes: number; readonly header: CoreHeader };
  /** False when the core is complete by itself. */
  readonly hasElsewhere: boolean;
  readonly pieces: readonly Piece[];
}

/** Memory from `start` on. */
export type MemoryPart =
  | { readonly kind: 'bytes'; readonly start: bigint; readonly bytes: Uint8Array }
  | { readonly kind: 'zeros'; readonly start: bigint; readonly end: bigint }
  /** In no piece: not captured, or no mapping. */
  | { readonly kind: 'absent'; readonly start: bigint; readonly end: bigint };

/** A line of elsewhere.jsonl has some 100 bytes. */
const ELSEWHERE_LIMITS = { bytes: 256 * 1024 * 1024, lines: MAX_PIECES };
/** 100,000 mappings have 40 MB of lines; a kernel allows 65,530 of them unless it is told otherwise. */
const REGION_LIMITS = { bytes: 256 * 1024 * 1024, lines: 1_048_576 };
const MAX_HEADERS_BYTES = 2 * ELF_HEADER_BYTES + 56 * MAX_PIECES;

/** Throws ExhibitError `bundle-not-found` for a pid that was not captured, `bundle-corrupt` for headers that cannot be right. */
export async function openProcess(archive: MemoryArchive, pid: number): Promise<ProcessMemory> {
  requireProcess(archive, pid);
  const member = MEMORY_MEMBERS.core(pid);
  const core = { member, sizeBytes: await archive.sizeOf(member), header: await readCoreHeader(archive, member) };
  const hasElsewhere = archive.has(MEMORY_MEMBERS.elsewhere(pid));
  const runs: StoredRun[] = [];
  for await (const run of readElsewhere(archive, pid)) runs.push(run);
  return { pid, core, hasElsewhere, pieces: layPieces(core, runs) };
}

function requireProcess(archive: MemoryArchive, pid: number): void {
  if (archive.pids.includes(pid)) return;
  const shown = archive.pids.slice(0, 40).join(', ');
  const more = archive.pids.length > 40 ? ` and ${archive.pids.length - 40} more` : '';
  const mend = archive.pids.length === 0 ? 'it has none' : `choose from ${shown}${more}`;
  throw new ExhibitError('bundle-not-found', `The bundle has no memory of a process ${pid}: ${mend}.`);
}

async function readCoreHeader(archive: MemoryArchive, member: string): Promise<CoreHeader> {
  const sizeBytes = await archive.sizeOf(member);
  const start = await archive.read(member, 0, Math.min(ELF_HEADER_BYTES, sizeBytes));
  const needed = headersBytesOf(start);
  const fits = needed !== undefined && needed <= sizeBytes && needed <= MAX_HEADERS_BYTES;
  const header = fits ? readHeaders(await archive.read(member, 0, needed)) : undefined;
  if (header !== undefined) return header;
  throw new ExhibitError(
    'bundle-corrupt',
    `${member} is no core that exhibit wrote: run \`exhibit verify\` on this bundle.`,
  );
}

/** The runs of pages that are stored outside the core, each checked to lie in its member; none without elsewhere.jsonl. */
export async function* readElsewhere(archive: MemoryArchive, pid: number): AsyncGenerator<StoredRun> {
  const list = MEMORY_MEMBERS.elsewhere(pid);
  if (!archive.has(list)) return;
  // One string a member, not one a line.
  const members = new Map<string, string>();
  for await (const record of readRecords(archive, list, elsewhereSchema, ELSEWHERE_LIMITS)) {
    const [start, end] = [BigInt(record.start), BigInt(record.end)];
    const member = members.get(record.member) ?? record.member;
    members.set(member, member);
    if (
      !archive.has(member) ||
      end <= start ||
      record.offset + pieceBytes({ start, end }) > (await archive.sizeOf(member))
    ) {
      throw new ExhibitError(
        'bundle-corrupt',
        `${list} points out of ${member}: run \`exhibit verify\` on this bundle.`,
      );
    }
    yield { start, end, member, offset: record.offset };
  }
}

/** The mappings, as they are recorded. */
export async function* readRegions(archive: MemoryArchive, pid: number): AsyncGenerator<RegionRecord> {
  yield* readRecords(archive, MEMORY_MEMBERS.regions(pid), regionSchema, REGION_LIMITS);
}

/** Pieces in which stored memory is given out. */
const PART_BYTES = 1024 * 1024;

/** Everything from `start` up to, not including, `end`, in order and without holes: what is not there is said. */
export async function* readMemory(
  archive: MemoryArchive,
  pieces: readonly Piece[],
  start: bigint,
  end: bigint,
): AsyncGenerator<MemoryPart> {
  let at = start;
  for (let index = firstPieceAfter(pieces, start); at < end; index += 1) {
    const piece = pieces[index];
    if (piece === undefined || piece.start >= end) break;
    if (piece.start > at) yield { kind: 'absent', start: at, end: piece.start };
    const from = laterOf(piece.start, at);
    const to = earlierOf(piece.end, end);
    if (piece.member === undefined) yield { kind: 'zeros', start: from, end: to };
    else yield* readPiece(archive, piece.member, piece.offset + Number(from - piece.start), from, to);
    at = to;
  }
  if (at < end) yield { kind: 'absent', start: at, end };
}

async function* readPiece(
  archive: MemoryArchive,
  member: string,
  offset: number,
  start: bigint,
  end: bigint,
): AsyncGenerator<MemoryPart> {
  const length = Number(end - start);
  for (let at = 0; at < length; at += PART_BYTES) {
    const bytes = Math.min(PART_BYTES, length - at);
    const left = length - at - bytes;
    yield {
      kind: 'bytes',
      start: start + BigInt(at),
      bytes: await archive.read(member, offset + at, bytes, Math.min(left, AHEAD_BYTES)),
    };
  }
}
