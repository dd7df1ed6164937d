import { type ElfMachine, headersBytes, type ProgramHeader, SEGMENT_FLAGS, writeHeaders } from './elfheader.ts';
import { type CoreProcess, encodeNotes, type MappedFile } from './elfnotes.ts';

/**
 * The layout of one process' core: an ELF64 ET_CORE file (elf(5)) that holds
 *
 *     file header, program headers, [section header 0], notes, zeros up to a page, then captured memory in address order.
 *
 * What is in the file and what a reader sees:
 * - Captured bytes: one PT_LOAD a run of adjacent captured pages. Byte `n` of the run is at `fileOffset + n`.
 * - Untouched pages of private anonymous memory: zeros, as the process would read them. They are the part of a PT_LOAD
 *   beyond p_filesz, or a PT_LOAD with a p_filesz of 0, so a reservation of terabytes takes 56 bytes.
 * - Pages of files that were not in memory, and bytes that could not be read: in no PT_LOAD. elf(5) defines memory beyond
 *   p_filesz as zeros, and a zero nobody saw would be false evidence; without a PT_LOAD gdb reads such pages from the
 *   executable or the file named in NT_FILE when the analyst has it, and says "Cannot access memory" when not.
 */

/** A run of captured bytes; whole pages. */
export interface CoreExtent {
  readonly start: bigint;
  readonly bytes: number;
}

/** Addresses from `start` up to but not including `end`. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** One mapping. Regions come in address order and do not overlap; so do the extents and the unknown ranges inside each. */
export interface CoreRegion<Extent extends CoreExtent = CoreExtent> extends AddressRange {
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly file?: { readonly path: Uint8Array; readonly offset: bigint };
  /** True when what was not captured and is not `unknown` is known to be zeros: private anonymous memory. */
  readonly zeroElsewhere: boolean;
  readonly extents: readonly Extent[];
  /** Exists, but its bytes are not known: failed reads. Does not overlap the extents. */
  readonly unknown: readonly AddressRange[];
}

/** One PT_LOAD and the extents its bytes come from, in order. */
export interface CoreSegment<Extent extends CoreExtent = CoreExtent> {
  readonly header: ProgramHeader;
  readonly extents: readonly Extent[];
}

export interface CoreLayout<Extent extends CoreExtent = CoreExtent> {
  /** Everything before the first captured byte: headers, notes, padding. */
  readonly header: Uint8Array;
  readonly segments: readonly CoreSegment<Extent>[];
  readonly totalBytes: number;
}

export interface CoreInput<Extent extends CoreExtent = CoreExtent> {
  readonly machine: ElfMachine;
  /** The kernel's page size. */
  readonly pageBytes: number;
  readonly process: CoreProcess;
  readonly regions: readonly CoreRegion<Extent>[];
}

/** Lays out the whole file; the captured bytes themselves are not needed for it. */
export function layoutCore<Extent extends CoreExtent>(input: CoreInput<Extent>): CoreLayout<Extent> {
  const loads = input.regions.flatMap((region) => regionLoads(region));
  const notes = encodeNotes(input.machine, input.pageBytes, input.process, mappedFiles(input.regions));
  const notesAt = headersBytes(loads.length + 1);
  const headerBytes = roundUp(notesAt + notes.byteLength, input.pageBytes);
  let offset = headerBytes;
  const segments = loads.map((load): CoreSegment<Extent> => {
    const header = loadHeader(load, offset, input.pageBytes);
    offset += header.fileBytes;
    return { header, extents: load.extents };
  });
  const header = new Uint8Array(headerBytes);
  const noteHeader: ProgramHeader = {
    kind: 'note',
    flags: 0,
    fileOffset: notesAt,
    fileBytes: notes.byteLength,
    address: 0n,
    memoryBytes: 0n,
    alignBytes: 4,
  };
  writeHeaders(header, {
    machine: input.machine,
    programHeaders: [noteHeader, ...segments.map((segment) => segment.header)],
  });
  header.set(notes, notesAt);
  return { header, segments, totalBytes: offset };
}

/** The file's bytes in order. `read` yields exactly `extent.bytes` bytes for an extent. */
export async function* coreBytes<Extent extends CoreExtent>(
  layout: CoreLayout<Extent>,
  read: (extent: Extent) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield layout.header;
  for (const segment of layout.segments) {
    for (const extent of segment.extents) yield* read(extent);
  }
}

interface Load<Extent extends CoreExtent> extends AddressRange {
  readonly flags: number;
  readonly extents: Extent[];
}

/** The PT_LOADs of one region, in address order: its captured runs, each with the zeros known to follow it. */
function regionLoads<Extent extends CoreExtent>(region: CoreRegion<Extent>): Load<Extent>[] {
  const flags =
    (region.readable ? SEGMENT_FLAGS.read : 0) +
    (region.writable ? SEGMENT_FLAGS.write : 0) +
    (region.executable ? SEGMENT_FLAGS.execute : 0);
  // What nobody could touch is a reservation, not zeros.
  const zeros = region.zeroElsewhere && flags !== 0;
  const loads: Load<Extent>[] = [];
  let at = region.start;
  let last: (Load<Extent> & { end: bigint }) | undefined;
  const fillTo = (end: bigint): void => {
    if (end <= at) return;
    if (zeros && last !== undefined && last.end === at) last.end = end;
    else if (zeros) loads.push({ start: at, end, flags, extents: [] });
    at = end;
  };
  for (const part of inOrder(region)) {
    fillTo(part.start);
    if (part.kind === 'unknown') {
      at = part.end;
      last = undefined;
      continue;
    }
    const filled = last !== undefined && last.end === at && !hasZeros(last);
    if (last === undefined || !filled) {
      last = { start: part.start, end: part.end, flags, extents: [part.extent] };
      loads.push(last);
    } else {
      last.end = part.end;
      last.extents.push(part.extent);
    }
    at = part.end;
  }
  fillTo(region.end);
  return loads;
}

type Part<Extent> =
  | { kind: 'extent'; start: bigint; end: bigint; extent: Extent }
  | { kind: 'unknown'; start: bigint; end: bigint };

function inOrder<Extent extends CoreExtent>(region: CoreRegion<Extent>): Part<Extent>[] {
  const parts: Part<Extent>[] = region.extents.map((extent) => {
    return { kind: 'extent', start: extent.start, end: extent.start + BigInt(extent.bytes), extent };
  });
  if (region.unknown.length === 0) return parts;
  parts.push(...region.unknown.map(({ start, end }): Part<Extent> => ({ kind: 'unknown', start, end })));
  return parts.sort((a, b) => (a.start < b.start ? -1 : 1));
}

function fileBytesOf(load: Load<CoreExtent>): number {
  let bytes = 0;
  for (const extent of load.extents) bytes += extent.bytes;
  return bytes;
}

function hasZeros(load: Load<CoreExtent>): boolean {
  const final = load.extents.at(-1);
  return final === undefined || final.start + BigInt(final.bytes) !== load.end;
}

function loadHeader(load: Load<CoreExtent>, fileOffset: number, alignBytes: number): ProgramHeader {
  const memoryBytes = load.end - load.start;
  return {
    kind: 'load',
    flags: load.flags,
    fileOffset,
    fileBytes: fileBytesOf(load),
    address: load.start,
    memoryBytes,
    alignBytes,
  };
}

function mappedFiles(regions: readonly CoreRegion[]): MappedFile[] {
  return regions.flatMap(({ start, end, file }) => {
    return file === undefined ? [] : [{ start, end, fileOffset: file.offset, path: file.path }];
  });
}

function roundUp(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}
