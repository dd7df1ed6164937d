import type { AddressRange, CoreExtent } from '../../evidence/elfcore.ts';
import { errnoOf, explain } from '../../evidence/error.ts';
import type { Host } from '../host/host.ts';
import { isFileBacked, parseMaps, parseSmaps, type Vma } from '../host/maps.ts';
import type { ProcessMemory, ThreadState } from '../host/memory.ts';
import { isSameProgram, openMemory, readStatSync, readTextSync, readThreads } from '../host/memory.ts';
import { openPageMap, type PageMap, type PageRun } from '../host/pagemap.ts';
import type { ProcessStat } from '../host/process-stat.ts';
import { affordable, flagsFinder, planRegion, type RegionPlan } from './memory-plan.ts';
import type { ProcessSurvey } from './memory-survey.ts';

/** A run of captured pages, and where its bytes are. */
export interface Extent extends CoreExtent {
  /** Position in the copy buffer; undefined when it is still to be read from the process. */
  readonly at: number | undefined;
  /** Read, or to be read, while the process runs. */
  readonly isLive: boolean;
}

export interface RangeGap extends AddressRange {
  readonly errno?: string;
  readonly why: string;
  /** A live read failed after the core was laid out: the core holds zeros here. */
  readonly zerosInCore?: true;
}

/** One mapping on its way into the core; the copy fills `extents` and `gaps`. */
export interface RegionCapture {
  readonly plan: RegionPlan;
  readonly memory: ProcessMemory;
  extents: Extent[];
  readonly gaps: RangeGap[];
}

/** One process at one moment: what is mapped, what is in memory, where its threads stand. */
export interface ProcessPicture {
  readonly survey: ProcessSurvey;
  readonly stat: ProcessStat;
  readonly threads: readonly ThreadState[];
  readonly memory: ProcessMemory;
  readonly regions: readonly RegionCapture[];
  /** What an analyst should know, and what is missing of the process as a whole. */
  readonly notes: readonly string[];
  readonly gaps: readonly string[];
  readonly bytesRead: number;
  readonly filesOpened: number;
}

export type PictureResult =
  | { readonly kind: 'picture'; readonly picture: ProcessPicture }
  | { readonly kind: 'gone'; readonly errno?: string; readonly why: string }
  /** It runs another program than the survey saw: survey again. */
  | { readonly kind: 'changed' };

/**
 * Address space whose page map is read on a kernel without PAGEMAP_SCAN: 256 MiB of entries with 4 KiB pages, some 0.1 s
 * when nothing is there.
 */
const PAGE_MAP_BUDGET_BYTES = 128n << 30n;
/** From this size on it pays to ask smaps first whether anything is there. */
const LARGE_VMA_BYTES = 1n << 30n;

/** Reads the picture at once, blocking. Fast: the target stands still meanwhile. Never throws. */
export function takePicture(host: Host, survey: ProcessSurvey, pageBytes: number): PictureResult {
  try {
    return look(host, survey, pageBytes);
  } catch (error) {
    const errno = errnoOf(error);
    return { kind: 'gone', why: explain(error), ...(errno === undefined ? {} : { errno }) };
  }
}

function look(host: Host, survey: ProcessSurvey, pageBytes: number): PictureResult {
  const { pid } = survey;
  const stat = readStatSync(host, pid);
  if (stat === undefined) return { kind: 'gone', why: '/proc/PID/stat is not as proc(5) says' };
  if (stat.state === 'Z' || stat.state === 'X') return { kind: 'gone', why: 'it ended between listing and reading' };
  if (!isSameProgram(stat, survey.stat)) return { kind: 'changed' };
  const gaps: string[] = [];
  const notes: string[] = [];
  const { threads, leftOut } = readThreads(host, pid);
  if (leftOut > 0) gaps.push(`${leftOut} threads beyond the first ${threads.length}: no registers`);
  const maps = readTextSync(host, pid, 'maps');
  if (maps.cut) gaps.push('the list of its mappings is longer than 256 MiB: the rest was not captured');
  const { vmas, strangeLines } = parseMaps(maps.text);
  if (strangeLines > 0) gaps.push(`${strangeLines} lines of maps that are not as proc(5) says`);
  using pageMap = openPageMap(host, pid, pageBytes);
  const pages = pageMap.method === 'scan' ? scanAll(pageMap, vmas) : readAffordable(host, survey, pageMap, vmas);
  const memory = openMemory(host, pid);
  const context = { flagsOf: flagsFinder(survey.vmas), waitingDevices: survey.waitingDevices };
  const regions = vmas.map((vma, index): RegionCapture => {
    const gap = pages.unknown(vma);
    const plan = planRegion(vma, pages.runs[index] ?? [], context);
    return { plan, memory, extents: [], gaps: gap === undefined ? [] : [gap] };
  });
  const opened = 5 + threads.length;
  const picture = {
    survey,
    stat,
    threads,
    memory,
    regions,
    notes,
    gaps,
    bytesRead: maps.text.length,
    filesOpened: opened,
  };
  return { kind: 'picture', picture };
}

interface Pages {
  /** For each mapping. */
  readonly runs: readonly (readonly PageRun[])[];
  /** The part of a mapping of which nobody looked whether anything is there. */
  readonly unknown: (vma: Vma) => RangeGap | undefined;
}

function scanAll(pageMap: PageMap, vmas: readonly Vma[]): Pages {
  const { runs, unknownFrom } = pageMap.runs(vmas);
  return { runs, unknown: (vma) => beyond(vma, unknownFrom) };
}

function beyond(vma: Vma, unknownFrom: bigint | undefined): RangeGap | undefined {
  if (unknownFrom === undefined || vma.end <= unknownFrom) return undefined;
  const start = vma.start > unknownFrom ? vma.start : unknownFrom;
  return { start, end: vma.end, why: 'more runs of pages than the agent keeps for one process' };
}

/** Without PAGEMAP_SCAN: what smaps says is empty is left out, and what is too large to look through is a gap. */
function readAffordable(host: Host, survey: ProcessSurvey, pageMap: PageMap, vmas: readonly Vma[]): Pages {
  const isLarge = vmas.some((vma) => vma.end - vma.start >= LARGE_VMA_BYTES);
  const fresh = isLarge ? parseSmaps(readTextSync(host, survey.pid, 'smaps').text).vmas : [];
  const empty = new Set(fresh.filter((vma) => vma.residentBytes + vma.swappedBytes === 0).map((vma) => vma.start));
  const { asked, tooLarge } = affordable(vmas, (vma) => empty.has(vma.start), PAGE_MAP_BUDGET_BYTES);
  const { runs, unknownFrom } = pageMap.runs(asked);
  const runsOf = new Map(asked.map((vma, index) => [vma, runs[index] ?? []]));
  const unasked = new Set(tooLarge);
  const why = 'too large a mapping to look through on a kernel without PAGEMAP_SCAN (Linux 6.7)';
  return {
    runs: vmas.map((vma) => runsOf.get(vma) ?? []),
    unknown: (vma) => (unasked.has(vma) ? { start: vma.start, end: vma.end, why } : beyond(vma, unknownFrom)),
  };
}

/** The file behind a mapping as NT_FILE wants it; undefined for memory without one. */
export function isNamedFile(vma: Vma): boolean {
  return isFileBacked(vma) && vma.name !== '';
}
