import type { ProcessMemory } from './core-reader.ts';
import { headersBytes, type ProgramHeader, SEGMENT_FLAGS, writeHeaders } from './elfheader.ts';
import { ExhibitError } from './error.ts';
import { type MemoryArchive, streamMember } from './memory-archive.ts';
import { hex, type Piece, pieceBytes } from './memory-pieces.ts';
import type { Mapping } from './region-map.ts';

/**
 * A process' core made complete: what is stored outside it (shared memory, pages that were copied before the freeze) put
 * in as PT_LOADs in address order. Notes are taken over byte for byte; a core that lacks nothing is itself.
 */
export interface MergedCore {
  readonly totalBytes: number;
  readonly segments: number;
  /** Of `totalBytes`, memory that the core as stored does not hold. */
  readonly addedBytes: number;
  bytes(): AsyncIterable<Uint8Array>;
}

/** Throws ExhibitError `bundle-corrupt` for memory that no mapping covers. `mappings` are the process', in address order. */
export function mergeCore(archive: MemoryArchive, process: ProcessMemory, mappings: readonly Mapping[]): MergedCore {
  const { member, sizeBytes, header } = process.core;
  if (!process.hasElsewhere) {
    const segments = header.programHeaders.length;
    return { totalBytes: sizeBytes, segments, addedBytes: 0, bytes: () => streamMember(archive, member, 0, sizeBytes) };
  }
  const added = addedBytes(process);
  if (added > MAX_TIMES_MAPPED * archive.content.contentBytes) {
    throw corrupt(`${member} would get ${added} bytes from an archive of ${archive.content.contentBytes}`);
  }
  const loads = layLoads(process.pieces, mappings);
  const layout = layHeaders(process, loads);
  return {
    totalBytes: layout.totalBytes,
    segments: layout.programHeaders.length,
    addedBytes: added,
    bytes: () => mergedBytes(archive, process, layout, loads),
  };
}

/** A process may map the same memory at several addresses; beyond this somebody wants to fill the analyst's disk. */
const MAX_TIMES_MAPPED = 64;

interface Load {
  readonly start: bigint;
  end: bigint;
  readonly flags: number;
  readonly mapping: Mapping | undefined;
  /** Its stored pieces; zeros can only follow them. */
  readonly stored: Piece[];
  fileBytes: number;
}

/** Neighbours become one load when they are of one mapping, with the same rights, and no zeros lie between their bytes. */
function layLoads(pieces: readonly Piece[], mappings: readonly Mapping[]): Load[] {
  const loads: Load[] = [];
  for (const { piece, mapping } of cutByMapping(pieces, mappings)) {
    const flags = piece.flags ?? flagsOf(mapping?.permissions ?? '');
    const last = loads.at(-1);
    const isNeighbour =
      last !== undefined && last.end === piece.start && last.mapping === mapping && last.flags === flags;
    const endsInZeros = last !== undefined && BigInt(last.fileBytes) !== last.end - last.start;
    const load =
      isNeighbour && (piece.member === undefined || !endsInZeros)
        ? last
        : { start: piece.start, end: piece.start, flags, mapping, stored: [], fileBytes: 0 };
    if (load !== last) loads.push(load);
    load.end = piece.end;
    if (piece.member === undefined) continue;
    load.stored.push(piece);
    load.fileBytes += pieceBytes(piece);
  }
  return loads;
}

/** Pieces in parts of one mapping each; those of the core are whole already. */
function* cutByMapping(
  pieces: readonly Piece[],
  mappings: readonly Mapping[],
): Generator<{ readonly piece: Piece; readonly mapping: Mapping | undefined }> {
  let index = 0;
  for (const piece of pieces) {
    for (let at = piece.start; at < piece.end; ) {
      while ((mappings[index]?.end ?? piece.end) <= at) index += 1;
      const found = mappings[index];
      const mapping = found !== undefined && found.start <= at ? found : undefined;
      if (mapping === undefined && piece.flags === undefined) {
        throw corrupt(`memory is stored at ${hex(at)}, where the process has no mapping`);
      }
      const end =
        mapping === undefined || piece.flags !== undefined || mapping.end > piece.end ? piece.end : mapping.end;
      yield { piece: { ...piece, start: at, end, offset: piece.offset + Number(at - piece.start) }, mapping };
      at = end;
    }
  }
}

function flagsOf(permissions: string): number {
  return (
    (permissions.startsWith('r') ? SEGMENT_FLAGS.read : 0) +
    (permissions.charAt(1) === 'w' ? SEGMENT_FLAGS.write : 0) +
    (permissions.charAt(2) === 'x' ? SEGMENT_FLAGS.execute : 0)
  );
}

interface Layout {
  readonly programHeaders: readonly ProgramHeader[];
  /** Headers and notes up to the first load. */
  readonly headBytes: number;
  readonly totalBytes: number;
}

/** x86-64 has pages of 4 KiB, arm64 of up to 64 KiB; what a header says beyond that is not followed. */
const MAX_ALIGN_BYTES = 64 * 1024;

function layHeaders({ core }: ProcessMemory, loads: readonly Load[]): Layout {
  const notes = core.header.programHeaders.filter((header) => header.kind === 'note');
  const notesBytes = notes.reduce((bytes, note) => bytes + note.fileBytes, 0);
  if (notesBytes > core.sizeBytes) throw corrupt(`${core.member} has more notes than bytes`);
  const declared = core.header.programHeaders.find((header) => header.kind === 'load')?.alignBytes ?? 0;
  const isPower = declared >= 4096 && declared <= MAX_ALIGN_BYTES && (declared & (declared - 1)) === 0;
  const alignBytes = isPower ? declared : 4096;
  let offset = headersBytes(notes.length + loads.length);
  const placed = notes.map((note): ProgramHeader => {
    const header = { ...note, fileOffset: offset };
    offset += note.fileBytes;
    return header;
  });
  offset = Math.ceil(offset / alignBytes) * alignBytes;
  const headBytes = offset;
  for (const { start, end, flags, fileBytes } of loads) {
    const memoryBytes = end - start;
    placed.push({ kind: 'load', flags, fileOffset: offset, fileBytes, address: start, memoryBytes, alignBytes });
    offset += fileBytes;
  }
  return { programHeaders: placed, headBytes, totalBytes: offset };
}

async function* mergedBytes(
  archive: MemoryArchive,
  { core }: ProcessMemory,
  layout: Layout,
  loads: readonly Load[],
): AsyncGenerator<Uint8Array> {
  const headers = new Uint8Array(headersBytes(layout.programHeaders.length));
  writeHeaders(headers, { machine: core.header.machine, programHeaders: layout.programHeaders });
  yield headers;
  let written = headers.length;
  for (const { kind, fileOffset, fileBytes } of core.header.programHeaders) {
    if (kind !== 'note') continue;
    yield* streamMember(archive, core.member, fileOffset, fileBytes);
    written += fileBytes;
  }
  yield new Uint8Array(layout.headBytes - written);
  for (const { stored } of loads) {
    for (const piece of stored) {
      if (piece.member !== undefined) yield* streamMember(archive, piece.member, piece.offset, pieceBytes(piece));
    }
  }
}

function addedBytes({ pieces, core }: ProcessMemory): number {
  let bytes = 0;
  for (const piece of pieces)
    if (piece.member !== undefined && piece.member !== core.member) bytes += pieceBytes(piece);
  return bytes;
}

function corrupt(what: string): ExhibitError {
  return new ExhibitError('bundle-corrupt', `No core can be made: ${what}. Run \`exhibit verify\` on this bundle.`);
}
