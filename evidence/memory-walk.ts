import { type MemoryPart, openProcess, readMemory } from './core-reader.ts';
import type { MemoryArchive } from './memory-archive.ts';
import type { Piece } from './memory-pieces.ts';
import { type Mapping, mappingAt, readMappings } from './region-map.ts';
import { type Mapper, openSharedMemory, pieceAt, type SharedMemory } from './shared-memory.ts';

/** The memory of processes from end to end, one process after the other; what they share comes once. */
export interface WalkedProcess {
  readonly pid: number;
  /** Bytes that will come. */
  readonly storedBytes: number;
  /** Captured bytes and known zeros in address order; where a part does not start where the last ended, something is missing. */
  parts(): AsyncIterable<Exclude<MemoryPart, { kind: 'absent' }>>;
  /** Whose memory is at an address that came, and who else maps it. */
  where(address: bigint): Whereabouts;
}

export interface Whereabouts {
  readonly mapping: Mapping | undefined;
  readonly others: readonly Mapper[];
}

/** Throws ExhibitError `bundle-not-found` for a pid that was not captured. All of a process' pieces are held, no other's. */
export async function* walkMemory(archive: MemoryArchive, pids: readonly number[]): AsyncGenerator<WalkedProcess> {
  const shared = await openSharedMemory(archive, pids);
  for (const pid of pids) {
    const { pieces } = await openProcess(archive, pid);
    yield walkProcess(archive, shared, pid, shared.claim(pid, pieces), await readMappings(archive, pid));
  }
}

function walkProcess(
  archive: MemoryArchive,
  shared: SharedMemory,
  pid: number,
  pieces: readonly Piece[],
  mappings: readonly Mapping[],
): WalkedProcess {
  let storedBytes = 0;
  let mapping: Mapping | undefined;
  let piece: Piece | undefined;
  for (const { member, start, end } of pieces) storedBytes += member === undefined ? 0 : Number(end - start);
  return {
    pid,
    storedBytes,
    async *parts() {
      const [first, last] = [pieces[0], pieces.at(-1)];
      if (first === undefined || last === undefined) return;
      for await (const part of readMemory(archive, pieces, first.start, last.end)) {
        if (part.kind !== 'absent') yield part;
      }
    },
    where(address) {
      // Questions come in the order of addresses, many for one mapping.
      if (mapping === undefined || !holds(mapping, address)) mapping = mappingAt(mappings, address);
      if (piece === undefined || !holds(piece, address)) piece = pieceAt(pieces, address);
      return { mapping, others: piece === undefined ? [] : shared.others(pid, piece, address) };
    },
  };
}

function holds(range: { readonly start: bigint; readonly end: bigint }, address: bigint): boolean {
  return range.start <= address && address < range.end;
}
