import { setImmediate } from 'node:timers/promises';
import type { AddressRange, CoreExtent } from '../../evidence/elfcore.ts';
import { errnoOf, explain } from '../../evidence/error.ts';
import type { Host } from '../host/host.ts';
import { isFileBacked, parseMaps, parseSmaps, type Vma } from '../host/maps.ts';
import type { ProcessMemory, ThreadPosition } from '../host/memory.ts';
import { isSameProgram, openMemory, readStatSync, readTextSync, readThreadIds } from '../host/memory.ts';
import { type OnPiece, openPageMap, type PageRun, type PageRuns } from '../host/pagemap.ts';
import type { ProcessStat } from '../host/process-stat.ts';
import type { Pid } from '../runtime/runtime.ts';
import {
  affordable,
  type Disposition,
  disposeOf,
  finishPlan,
  flagsFinder,
  type PlanContext,
  type RegionPlan,
} from './memory-plan.ts';
import type { ProcessSurvey } from './memory-survey.ts';
import { overlap } from './memory-words.ts';

/** Where the bytes of an extent come from. An address of the extent is `delta` less than the address to read. */
export interface Origin {
  readonly memory: ProcessMemory;
  readonly delta: bigint;
  /** For process_vm_readv(2); 0 where only /proc/PID/mem does: another pid namespace, PROT_NONE, a file. */
  readonly pid: number;
  /** Reading may wait for another program. */
  readonly mayWait: boolean;
}

/** A run of captured pages, and where its bytes are. */
export interface Extent extends CoreExtent {
  /** Position in the room; undefined when it is still to be read. */
  at: number | undefined;
  /** Read, or to be read, while the process runs. */
  isLive: boolean;
  readonly origin: Origin;
}

export interface RangeGap extends AddressRange {
  readonly errno?: string;
  readonly why: string;
  /** A read failed after the core was laid out: the core holds zeros here. */
  readonly zerosInCore?: true;
}

/** What a copy fills: a mapping, or an object that several mappings show. */
export interface Captured {
  extents: Extent[];
  readonly gaps: RangeGap[];
}

/** Pages that are stored in another member. */
export interface ElsewhereRun extends AddressRange {
  readonly member: string;
  readonly offset: number;
}

/** One mapping on its way into the core. */
export class Region implements Captured {
  readonly vma: Vma;
  readonly disposition: Disposition;
  readonly origin: Origin;
  extents: Extent[] = [];
  readonly gaps: RangeGap[] = [];
  elsewhere: ElsewhereRun[] = [];
  runs: readonly PageRun[] = [];
  #plan: RegionPlan | undefined;

  constructor(vma: Vma, disposition: Disposition, origin: Origin) {
    this.vma = vma;
    this.disposition = disposition;
    this.origin = origin;
  }

  /** Once all runs are known. */
  get plan(): RegionPlan {
    this.#plan ??= finishPlan(this.vma, this.runs, this.disposition);
    return this.#plan;
  }

  isReadIn(when: 'moment' | 'later'): boolean {
    const { decision } = this.disposition;
    return decision.kind === 'read' && decision.when === when;
  }
}

export interface ThreadPicture {
  readonly tid: number;
  position?: ThreadPosition | undefined;
}

/** One process at one moment: what is mapped, what is in memory, which threads it has. */
export interface ProcessPicture {
  readonly survey: ProcessSurvey;
  readonly stat: ProcessStat;
  readonly threads: readonly ThreadPicture[];
  readonly memory: ProcessMemory;
  readonly regions: readonly Region[];
  /** What is missing of the process as a whole. */
  readonly gaps: readonly string[];
  readonly bytesRead: number;
  readonly filesOpened: number;
}

export type PictureResult =
  | { readonly kind: 'picture'; readonly picture: ProcessPicture }
  | { readonly kind: 'gone'; readonly errno?: string; readonly why: string }
  /** It runs another program than the survey saw: survey again. */
  | { readonly kind: 'changed' };

export interface PictureOptions {
  readonly pageBytes: number;
  /** Pids are those of the agent's own pid namespace. */
  readonly ownPids: boolean;
  /** Asks for PAGE.dirty as well. */
  readonly dirty?: boolean;
  readonly include?: PlanContext['include'];
  /** Told of pages as they are found, before the picture is complete. */
  readonly onPages?: (region: Region, start: bigint, end: bigint, state: number) => void;
}

/**
 * Address space whose page map is read on a kernel without PAGEMAP_SCAN: 256 MiB of entries with 4 KiB pages, some 0.1 s
 * when nothing is there.
 */
const PAGE_MAP_BUDGET_BYTES = 128n << 30n;
/** From this size on it pays to ask smaps first whether anything is there. */
const LARGE_VMA_BYTES = 1n << 30n;

/** Fast: the target stands still meanwhile. The event loop gets a turn now and then. Never throws. */
export async function takePicture(host: Host, survey: ProcessSurvey, options: PictureOptions): Promise<PictureResult> {
  using opened = new DisposableStack();
  try {
    const result = await look(host, survey, options, opened);
    if (result.kind === 'picture') opened.move();
    return result;
  } catch (error) {
    const errno = errnoOf(error);
    return { kind: 'gone', why: explain(error), ...(errno === undefined ? {} : { errno }) };
  }
}

async function look(
  host: Host,
  survey: ProcessSurvey,
  options: PictureOptions,
  opened: DisposableStack,
): Promise<PictureResult> {
  const { pid } = survey;
  const stat = readStatSync(host, pid);
  if (stat === undefined) return { kind: 'gone', why: '/proc/PID/stat is not as proc(5) says' };
  if (stat.state === 'Z' || stat.state === 'X')
    return { kind: 'gone', errno: 'ESRCH', why: 'it ended between listing and reading' };
  if (!isSameProgram(stat, survey.stat)) return { kind: 'changed' };
  const gaps: string[] = [];
  const { tids, leftOut } = readThreadIds(host, pid);
  if (leftOut > 0) gaps.push(`${leftOut} threads beyond the first ${tids.length}: no registers`);
  const maps = readTextSync(host, pid, 'maps');
  if (maps.cut) gaps.push('the list of its mappings is longer than 256 MiB: the rest was not captured');
  const { vmas, strangeLines } = parseMaps(maps.text);
  if (strangeLines > 0) gaps.push(`${strangeLines} lines of maps that are not as proc(5) says`);
  const memory = opened.use(openMemory(host, pid));
  const regions = regionsOf(survey, vmas, memory, options);
  await findPages(host, survey, regions, options);
  const threads = tids.map((tid): ThreadPicture => ({ tid }));
  const picture = { survey, stat, threads, memory, regions, gaps, bytesRead: maps.text.length, filesOpened: 5 };
  return { kind: 'picture', picture };
}

function regionsOf(
  survey: ProcessSurvey,
  vmas: readonly Vma[],
  memory: ProcessMemory,
  { include, ownPids }: PictureOptions,
): Region[] {
  const context = { flagsOf: flagsFinder(survey.vmas), waitingDevices: survey.waitingDevices, include };
  return vmas.map((vma) => {
    const disposition = disposeOf(vma, context);
    const { decision } = disposition;
    const mayWait = decision.kind === 'read' && decision.when === 'later';
    const pid: Pid | 0 = ownPids && vma.permissions.startsWith('r') ? survey.pid : 0;
    return new Region(vma, disposition, { memory, delta: 0n, pid, mayWait });
  });
}

/** Looks up which pages of the regions are there. */
async function findPages(
  host: Host,
  survey: ProcessSurvey,
  regions: readonly Region[],
  options: PictureOptions,
): Promise<void> {
  using pageMap = openPageMap(host, survey.pid, options.pageBytes, { dirty: options.dirty === true });
  const asked = pageMap.method === 'scan' ? regions : readAffordable(host, survey, regions);
  const onPiece: OnPiece = (index, start, end, state) => {
    const region = asked[index];
    if (region !== undefined) options.onPages?.(region, start, end, state);
  };
  const { runs, unknownFrom } = await inSteps(
    pageMap.walk(
      asked.map((region) => region.vma),
      onPiece,
    ),
  );
  asked.forEach((region, index) => {
    region.runs = runs[index] ?? [];
    const { vma } = region;
    if (unknownFrom === undefined || vma.end <= unknownFrom) return;
    const lost = overlap(vma, { start: unknownFrom, end: vma.end });
    if (lost !== undefined)
      region.gaps.push({ ...lost, why: 'more runs of pages than the agent keeps for one process' });
  });
}

/** Steps between two turns of the event loop, some 8 ms: it has to hear the guard and feed the threads that copy. */
const STEPS_A_TURN = 4;

async function inSteps(walk: Generator<void, PageRuns, undefined>): Promise<PageRuns> {
  for (let steps = 1; ; steps += 1) {
    const step = walk.next();
    if (step.done === true) return step.value;
    if (steps % STEPS_A_TURN === 0) await setImmediate();
  }
}

/** Without PAGEMAP_SCAN: what smaps says is empty is left out, and what is too large to look through is a gap. */
function readAffordable(host: Host, survey: ProcessSurvey, regions: readonly Region[]): Region[] {
  const vmas = regions.map((region) => region.vma);
  const isLarge = vmas.some((vma) => vma.end - vma.start >= LARGE_VMA_BYTES);
  const fresh = isLarge ? parseSmaps(readTextSync(host, survey.pid, 'smaps').text).vmas : [];
  const empty = new Set(fresh.filter((vma) => vma.residentBytes + vma.swappedBytes === 0).map((vma) => vma.start));
  const { asked, tooLarge } = affordable(vmas, (vma) => empty.has(vma.start), PAGE_MAP_BUDGET_BYTES);
  const [wanted, unasked] = [new Set(asked), new Set(tooLarge)];
  const why = 'too large a mapping to look through on a kernel without PAGEMAP_SCAN (Linux 6.7)';
  for (const { vma, gaps } of regions) if (unasked.has(vma)) gaps.push({ start: vma.start, end: vma.end, why });
  return regions.filter(({ vma }) => wanted.has(vma));
}

/** The file behind a mapping as NT_FILE wants it; undefined for memory without one. */
export function isNamedFile(vma: Vma): boolean {
  return isFileBacked(vma) && vma.name !== '';
}
