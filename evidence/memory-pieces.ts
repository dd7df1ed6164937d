import type { CoreHeader } from './elfheader.ts';
import { ExhibitError } from './error.ts';

/**
 * What of a process' memory is in the archive, and where: pieces in address order that do not overlap. Pure; the headers
 * and the runs come from a bundle that somebody may have changed, so all that the writer promises is checked.
 */
export interface Piece {
  readonly start: bigint;
  /** The first address after it. */
  readonly end: bigint;
  /** Where the bytes are; undefined for zeros that nobody needs to store. */
  readonly member: string | undefined;
  /** In the member's content, of the byte at `start`. */
  readonly offset: number;
  /** The PT_LOAD's flags; undefined for what is not in the core. */
  readonly flags: number | undefined;
}

/** A run of pages that are stored in another member: elsewhere.ts, as numbers. */
export interface StoredRun {
  readonly start: bigint;
  readonly end: bigint;
  readonly member: string;
  readonly offset: number;
}

/** The agent stops at 524,288 runs of pages a process; half of each could be in its core, with zeros between. */
export const MAX_PIECES = 1_048_576;

const ADDRESS_END = 1n << 64n;

/** Bytes of memory in `piece`. Exact up to 8 PiB, which is more than an address space has. */
export function pieceBytes({ start, end }: Pick<Piece, 'start' | 'end'>): number {
  return Number(end - start);
}

/**
 * The core's loads with the runs put in. A run may lie where the core says zeros, for the core is laid out without it, and
 * may not lie where the core has bytes. Throws ExhibitError `bundle-corrupt` when anything overlaps, is out of order or
 * points out of its member.
 */
export function layPieces(
  core: { readonly member: string; readonly sizeBytes: number; readonly header: CoreHeader },
  runs: readonly StoredRun[],
): Piece[] {
  const pieces: Piece[] = [];
  let next = 0;
  let laidTo = 0n;
  const lay = (piece: Piece): void => {
    pieces.push(piece);
    laidTo = piece.end;
  };
  const layRun = (run: StoredRun): void => {
    if (run.start < laidTo) throw corrupt(core.member, `memory at ${hex(run.start)} is stored twice`);
    lay({ ...run, flags: undefined });
    next += 1;
  };
  checkRuns(core.member, runs);
  for (const part of coreParts(core)) {
    for (let run = runs[next]; run !== undefined && run.start < part.end; run = runs[next]) {
      // A run that overlaps zeros cuts them; one that overlaps bytes is found when one of the two is laid.
      if (part.member === undefined && run.start > laterOf(part.start, laidTo)) {
        lay({ ...part, start: laterOf(part.start, laidTo), end: run.start });
      } else if (part.member !== undefined && run.end > part.start) break;
      layRun(run);
    }
    if (part.member !== undefined && (part.start < laidTo || overlaps(runs[next], part))) {
      throw corrupt(core.member, `memory at ${hex(part.start)} is stored twice`);
    }
    const start = laterOf(part.start, laidTo);
    if (start < part.end) lay({ ...part, start });
    if (pieces.length > MAX_PIECES) throw corrupt(core.member, `it has more than ${MAX_PIECES} pieces of memory`);
  }
  for (let run = runs[next]; run !== undefined; run = runs[next]) layRun(run);
  return pieces;
}

function overlaps(run: StoredRun | undefined, part: Piece): boolean {
  return run !== undefined && run.start < part.end && run.end > part.start;
}

/** Each load's bytes and then its zeros. The file's parts come in the order of the addresses, as the writer has them. */
function* coreParts(core: { member: string; sizeBytes: number; header: CoreHeader }): Generator<Piece> {
  const { member, sizeBytes, header } = core;
  let address = 0n;
  let offset = 0;
  for (const load of header.programHeaders) {
    if (load.kind !== 'load') continue;
    const stored = load.address + BigInt(load.fileBytes);
    const end = load.address + load.memoryBytes;
    if (load.address < address || stored > end || end > ADDRESS_END) {
      throw corrupt(member, `its segment at ${hex(load.address)} overlaps another or is larger than its memory`);
    }
    if (load.fileBytes > 0) {
      if (load.fileOffset < offset || load.fileOffset + load.fileBytes > sizeBytes) {
        throw corrupt(member, `its segment at ${hex(load.address)} points out of the file or into another segment`);
      }
      offset = load.fileOffset + load.fileBytes;
      yield { start: load.address, end: stored, member, offset: load.fileOffset, flags: load.flags };
    }
    if (stored < end) yield { start: stored, end, member: undefined, offset: 0, flags: load.flags };
    address = end;
  }
}

function checkRuns(member: string, runs: readonly StoredRun[]): void {
  let address = 0n;
  for (const { start, end } of runs) {
    if (start < address || end <= start || end > ADDRESS_END) {
      throw corrupt(member, `the run of pages at ${hex(start)} is empty, overlaps another or is out of order`);
    }
    address = end;
  }
}

/** The first piece that ends after `address`; the number of pieces when there is none. */
export function firstPieceAfter(pieces: readonly Pick<Piece, 'end'>[], address: bigint): number {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((pieces[middle]?.end ?? 0n) > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Math.min and Math.max do not take bigint. */
export function earlierOf(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

export function laterOf(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

export function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}

function corrupt(member: string, what: string): ExhibitError {
  return new ExhibitError(
    'bundle-corrupt',
    `The memory in ${member} cannot be relied on: ${what}. Run \`exhibit verify\` on this bundle.`,
  );
}
