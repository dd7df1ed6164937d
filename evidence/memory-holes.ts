import { type MemoryPart, type ProcessMemory, readMemory, readRegions } from './core-reader.ts';
import type { RegionRecord } from './elfregion.ts';
import { MEMORY_MEMBERS, sharedObjectSchema } from './elsewhere.ts';
import { ExhibitError } from './error.ts';
import { type MemoryArchive, readRecords } from './memory-archive.ts';
import { earlierOf, firstPieceAfter, laterOf, MAX_PIECES } from './memory-pieces.ts';
import { checkOrder } from './region-map.ts';

/** A range of one process' memory with a reason for everything that is not there. */
export type ExplainedPart =
  | Exclude<MemoryPart, { kind: 'absent' }>
  | { readonly kind: 'hole'; readonly start: bigint; readonly end: bigint; readonly why: string };

export interface Neighbourhood {
  /** Mappings that the range touches, in address order. */
  readonly inside: readonly RegionRecord[];
  readonly before: RegionRecord | undefined;
  readonly after: RegionRecord | undefined;
}

interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

type Hole = Range & { readonly why: string };
/** A mapping with its addresses as numbers. */
type Placed = Range & { readonly region: RegionRecord };

/** The mappings at and around a range, in one pass over the process' regions. */
export async function lookAround(archive: MemoryArchive, pid: number, range: Range): Promise<Neighbourhood> {
  const inside: RegionRecord[] = [];
  let before: RegionRecord | undefined;
  let at = 0n;
  for await (const region of readRegions(archive, pid)) {
    at = checkOrder(pid, region, at);
    if (BigInt(region.start) >= range.end) return { inside, before, after: region };
    if (BigInt(region.end) > range.start) inside.push(region);
    else before = region;
  }
  return { inside, before, after: undefined };
}

/** Everything in `range`, in order. Bytes that nobody saw in the process are holes, also where the archive has zeros for them. */
export async function* readExplained(
  archive: MemoryArchive,
  process: ProcessMemory,
  range: Range,
  regions: readonly RegionRecord[],
): AsyncGenerator<ExplainedPart> {
  const placed = regions.map((region) => ({ start: BigInt(region.start), end: BigInt(region.end), region }));
  const failed = [...failedReads(regions), ...(await sharedFailures(archive, process.pid, placed))];
  failed.sort((a, b) => (a.start < b.start ? -1 : 1));
  let at = range.start;
  const upTo = async function* (end: bigint): AsyncGenerator<ExplainedPart> {
    for await (const part of readMemory(archive, process.pieces, at, end)) {
      if (part.kind === 'absent') yield* explainAbsent(part, placed);
      else yield part;
    }
    at = end;
  };
  for (const hole of failed) {
    if (hole.start >= range.end) break;
    const start = laterOf(hole.start, at);
    const end = earlierOf(hole.end, range.end);
    if (start >= end) continue;
    yield* upTo(start);
    yield { kind: 'hole', why: hole.why, start, end };
    at = end;
  }
  yield* upTo(range.end);
}

function failedReads(regions: readonly RegionRecord[]): Hole[] {
  return regions.flatMap(({ gaps }) =>
    gaps.map(({ start, end, why, errno }) => ({ start: BigInt(start), end: BigInt(end), why: wordsOf(why, errno) })),
  );
}

/** A shared object is a handful of lines, one with all of its mappings each. */
const OBJECT_LIMITS = { bytes: 256 * 1024 * 1024, lines: 1_048_576 };

/** Gaps of shared objects are by offset in the object; here they are by address. */
async function sharedFailures(archive: MemoryArchive, pid: number, regions: readonly Placed[]): Promise<Hole[]> {
  const shared = regions.filter(
    ({ region: { kind, permissions } }) => kind === 'shared-memory' || permissions.endsWith('s'),
  );
  if (!archive.has(MEMORY_MEMBERS.sharedObjects) || shared.length === 0) return [];
  const byStart = new Map(shared.map((one) => [one.start, one]));
  const holes: Hole[] = [];
  for await (const object of readRecords(archive, MEMORY_MEMBERS.sharedObjects, sharedObjectSchema, OBJECT_LIMITS)) {
    for (const mapping of object.mappings) {
      const placed = mapping.pid === pid ? byStart.get(BigInt(mapping.start)) : undefined;
      if (placed === undefined) continue;
      const base = placed.start - BigInt(mapping.fileOffset);
      for (const gap of object.gaps) {
        const start = laterOf(BigInt(gap.start) + base, placed.start);
        const end = earlierOf(BigInt(gap.end) + base, placed.end);
        if (start < end) holes.push({ start, end, why: wordsOf(gap.why, gap.errno) });
        if (holes.length > MAX_PIECES) {
          throw new ExhibitError(
            'bundle-corrupt',
            `${MEMORY_MEMBERS.sharedObjects} has more gaps than memory has pieces.`,
          );
        }
      }
    }
  }
  return holes;
}

function wordsOf(why: string, errno: string | undefined): string {
  return errno === undefined ? why : `${why} (${errno})`;
}

function* explainAbsent(part: Range, regions: readonly Placed[]): Generator<ExplainedPart> {
  let at = part.start;
  for (let index = firstPieceAfter(regions, at); at < part.end; index += 1) {
    const placed = regions[index];
    if (placed === undefined || placed.start >= part.end) break;
    const start = laterOf(placed.start, at);
    if (start > at) yield { kind: 'hole', start: at, end: start, why: NOT_MAPPED };
    at = earlierOf(placed.end, part.end);
    yield { kind: 'hole', start, end: at, why: whyAbsent(placed.region) };
  }
  if (at < part.end) yield { kind: 'hole', start: at, end: part.end, why: NOT_MAPPED };
}

const NOT_MAPPED = 'no mapping of the process';

function whyAbsent(region: RegionRecord): string {
  if (region.skipped !== undefined) return region.skipped;
  switch (region.kind) {
    case 'file-private':
    case 'file-shared':
      return `was not in memory: it is in the file ${region.path}`;
    case 'shared-memory':
      return 'shared memory that this process had not touched';
    case 'kernel':
      return "the kernel's own memory";
    case 'anonymous':
    case 'heap':
    case 'stack':
    case 'huge-pages':
      return region.permissions.startsWith('---') ? 'reserved, nobody could touch it' : 'was not in memory';
    default:
      return region.kind satisfies never;
  }
}
