import { readElsewhere } from './core-reader.ts';
import { ExhibitError } from './error.ts';
import type { MemoryArchive } from './memory-archive.ts';
import { firstPieceAfter, MAX_PIECES, type Piece, pieceBytes } from './memory-pieces.ts';

/**
 * Memory that several processes map is stored once and read once: the first process that maps a byte has it, and whoever
 * else maps it is told beside it.
 */
export interface SharedMemory {
  /** Of `pieces`, what no process before has claimed, in address order. What is the process' own is always its own. */
  claim(pid: number, pieces: readonly Piece[]): Piece[];
  /** Where other processes map the byte of `piece` at `address`; one address a process. */
  others(pid: number, piece: Piece, address: bigint): Mapper[];
}

export interface Mapper {
  readonly pid: number;
  readonly address: bigint;
}

/** A process' view of a part of a member: `from` to `to` are offsets in it. */
interface View {
  readonly from: number;
  readonly to: number;
  readonly start: bigint;
}

interface Interval {
  readonly from: number;
  readonly to: number;
}

/** A process that maps the same byte at more addresses than this is looked through no further. */
const MAX_OVERLAPS = 64;
/** Of all processes together; a view takes some 60 bytes. */
const MAX_VIEWS = 4 * MAX_PIECES;

/** Reads which of `pids` map what; with one process only, nobody else is known. Throws ExhibitError `bundle-corrupt`. */
export async function openSharedMemory(archive: MemoryArchive, pids: readonly number[]): Promise<SharedMemory> {
  const views = new Map<string, Map<number, View[]>>();
  let count = 0;
  for (const pid of pids) {
    for await (const run of readElsewhere(archive, pid)) {
      if (isOwn(pid, run.member)) continue;
      count += 1;
      if (count > MAX_VIEWS)
        throw new ExhibitError('bundle-corrupt', `More than ${MAX_VIEWS} runs of shared memory are listed.`);
      const byPid = views.get(run.member) ?? new Map<number, View[]>();
      views.set(run.member, byPid);
      const list = byPid.get(pid) ?? [];
      byPid.set(pid, list);
      list.push({ from: run.offset, to: run.offset + pieceBytes(run), start: run.start });
    }
  }
  for (const byPid of views.values()) for (const list of byPid.values()) list.sort((a, b) => a.from - b.from);
  const claimed = new Map<string, readonly Interval[]>();
  return {
    claim: (pid, pieces) => claimPieces(claimed, pid, pieces),
    others(pid, piece, address) {
      if (piece.member === undefined || isOwn(pid, piece.member)) return [];
      const offset = piece.offset + Number(address - piece.start);
      return [...(views.get(piece.member) ?? [])].flatMap(([other, list]) => {
        const found = other === pid ? undefined : addressOf(list, offset);
        return found === undefined ? [] : [{ pid: other, address: found }];
      });
    },
  };
}

function isOwn(pid: number, member: string): boolean {
  return member.startsWith(`${pid}/`);
}

/** Where a process maps `offset`, by its views in the order of their offsets. */
function addressOf(views: readonly View[], offset: number): bigint | undefined {
  let low = 0;
  let high = views.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((views[middle]?.from ?? 0) <= offset) low = middle + 1;
    else high = middle;
  }
  for (let index = low - 1; index >= Math.max(0, low - MAX_OVERLAPS); index -= 1) {
    const view = views[index];
    if (view !== undefined && offset < view.to) return view.start + BigInt(offset - view.from);
  }
  return undefined;
}

function claimPieces(claimed: Map<string, readonly Interval[]>, pid: number, pieces: readonly Piece[]): Piece[] {
  const own: Piece[] = [];
  const shared = new Map<string, Piece[]>();
  for (const piece of pieces) {
    if (piece.member === undefined || isOwn(pid, piece.member)) own.push(piece);
    else {
      const list = shared.get(piece.member) ?? [];
      shared.set(piece.member, list);
      list.push(piece);
    }
  }
  for (const [member, list] of shared) {
    const before = claimed.get(member) ?? [];
    for (const piece of unclaimed(list, before)) own.push(piece);
    claimed.set(member, union([...before, ...list.map(interval)]));
  }
  return own.sort((a, b) => (a.start < b.start ? -1 : 1));
}

function interval(piece: Piece): Interval {
  return { from: piece.offset, to: piece.offset + pieceBytes(piece) };
}

/** The parts of `pieces` that lie neither in `taken` (in order, apart) nor in a piece before. */
function* unclaimed(pieces: readonly Piece[], taken: readonly Interval[]): Generator<Piece> {
  let laidTo = 0;
  let next = 0;
  for (const piece of pieces.toSorted((a, b) => a.offset - b.offset)) {
    const { to } = interval(piece);
    let at = Math.max(piece.offset, laidTo);
    while (next < taken.length && (taken[next]?.to ?? 0) <= at) next += 1;
    for (let index = next; at < to; index += 1) {
      const { from: takenFrom = to, to: takenTo = to } = taken[index] ?? {};
      const end = Math.min(takenFrom, to);
      if (end > at) yield part(piece, at, end);
      at = Math.max(at, takenTo);
    }
    laidTo = Math.max(laidTo, to);
  }
}

function part(piece: Piece, from: number, to: number): Piece {
  const start = piece.start + BigInt(from - piece.offset);
  return { ...piece, start, end: start + BigInt(to - from), offset: from };
}

function union(intervals: Interval[]): Interval[] {
  const merged: Interval[] = [];
  for (const { from, to } of intervals.sort((a, b) => a.from - b.from)) {
    const last = merged.at(-1);
    if (last !== undefined && from <= last.to)
      merged[merged.length - 1] = { from: last.from, to: Math.max(last.to, to) };
    else merged.push({ from, to });
  }
  return merged;
}

/** The piece that holds `address`. */
export function pieceAt(pieces: readonly Piece[], address: bigint): Piece | undefined {
  const piece = pieces[firstPieceAfter(pieces, address)];
  return piece !== undefined && piece.start <= address ? piece : undefined;
}
