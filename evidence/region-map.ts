import { readRegions } from './core-reader.ts';
import type { RegionRecord } from './elfregion.ts';
import { ExhibitError } from './error.ts';
import type { MemoryArchive } from './memory-archive.ts';
import { firstPieceAfter } from './memory-pieces.ts';

/** A mapping, as far as it names memory. */
export interface Mapping {
  readonly start: bigint;
  readonly end: bigint;
  /** As in proc(5): `rw-p`. */
  readonly permissions: string;
  /** The file, `[heap]`, or the kind of memory for a mapping without a name. */
  readonly name: string;
}

/** All mappings of a process, in address order. Throws ExhibitError `bundle-corrupt` when they are not. */
export async function readMappings(archive: MemoryArchive, pid: number): Promise<Mapping[]> {
  const mappings: Mapping[] = [];
  const names = new Map<string, string>();
  for await (const region of readRegions(archive, pid)) {
    const mapping = mappingOf(region);
    const name = names.get(mapping.name) ?? mapping.name;
    names.set(name, name);
    checkOrder(pid, region, mappings.at(-1)?.end ?? 0n);
    mappings.push({ ...mapping, name });
  }
  return mappings;
}

/** The end of `region`, when it starts at or after `at`, the end of the one before. Throws ExhibitError `bundle-corrupt`. */
export function checkOrder(pid: number, region: RegionRecord, at: bigint): bigint {
  const [start, end] = [BigInt(region.start), BigInt(region.end)];
  if (start >= at && end > start) return end;
  throw new ExhibitError(
    'bundle-corrupt',
    `The mapping of process ${pid} at ${region.start} is empty, out of order or overlaps another: run \`exhibit verify\` on this bundle.`,
  );
}

function mappingOf(region: RegionRecord): Mapping {
  const name = region.path === '' ? region.kind : region.path;
  return { start: BigInt(region.start), end: BigInt(region.end), permissions: region.permissions, name };
}

/** The mapping that holds `address`. */
export function mappingAt(mappings: readonly Mapping[], address: bigint): Mapping | undefined {
  const mapping = mappings[firstPieceAfter(mappings, address)];
  return mapping !== undefined && mapping.start <= address ? mapping : undefined;
}
