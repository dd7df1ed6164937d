import type { AddressRange } from '../../evidence/elfcore.ts';
import { type DetailedVma, isFileBacked, kindOf, type Vma, type VmaKind } from '../host/maps.ts';
import { PAGE, type PageRun } from '../host/pagemap.ts';
import type { Includable } from './memory-choices.ts';

/** What to read of a process, decided from its maps and its page map alone. Pure. */

/** What to do with one mapping. */
export type RegionDecision =
  /** `moment`: while the target stands still. `later`: reading may wait for another program, so only after the thaw. */
  | { readonly kind: 'read'; readonly when: 'moment' | 'later' }
  /** Nothing of it is in memory. */
  | { readonly kind: 'empty' }
  /** `isGap` is false where nothing of the process' own is lost. */
  | { readonly kind: 'skip'; readonly why: string; readonly isGap: boolean };

export interface RegionPlan {
  readonly vma: Vma;
  readonly kind: VmaKind;
  /** VmFlags, where the survey saw the mapping. */
  readonly flags: readonly string[] | undefined;
  readonly decision: RegionDecision;
  /** What to read, in address order: present and swapped pages, the shared page of zeros left out. */
  readonly ranges: readonly AddressRange[];
  readonly readBytes: number;
  readonly residentBytes: number;
  readonly swappedBytes: number;
  readonly zeroBytes: number;
  readonly modifiedBytes: number;
  /** Pages that are not read are known to be zeros. */
  readonly zeroElsewhere: boolean;
  /** The process could have written here: these pages exist nowhere else, so they are copied first. */
  readonly isPrecious: boolean;
}

export interface PlanContext {
  /** Kinds to take; undefined: all of them. */
  readonly include?: ReadonlySet<Includable> | undefined;
  /** The mapping as the survey saw it. */
  readonly flagsOf: (vma: Vma) => readonly string[] | undefined;
  /** Devices whose files another program or machine serves. */
  readonly waitingDevices: ReadonlySet<string>;
}

/** What can be said of a mapping before anybody knows which of its pages are there. */
export interface Disposition {
  readonly kind: VmaKind;
  readonly flags: readonly string[] | undefined;
  readonly decision: Exclude<RegionDecision, { kind: 'empty' }>;
  readonly zeroElsewhere: boolean;
  /** Of a private file mapping only what the process changed. */
  readonly modifiedOnly: boolean;
}

export function disposeOf(vma: Vma, context: PlanContext): Disposition {
  const kind = kindOf(vma);
  const flags = context.flagsOf(vma);
  // userfaultfd(2): missing, write-protect and minor tracking; what is not there may be anything.
  const isTracked = flags?.some((flag) => flag === 'um' || flag === 'uw' || flag === 'ui') ?? false;
  const isPrivateAnonymous = vma.permissions.endsWith('p') && !isFileBacked(vma) && kind !== 'kernel';
  const waits = isTracked || context.waitingDevices.has(vma.device);
  const wanted = context.include;
  const modifiedOnly = kind === 'file-private' && wanted?.has(kind) === false && wanted.has('modified');
  const isLeftOut = wanted !== undefined && !wanted.has(kind) && !modifiedOnly;
  const decision = decide(vma, flags, waits, isLeftOut);
  return { kind, flags, decision, zeroElsewhere: isPrivateAnonymous && !isTracked && !isLeftOut, modifiedOnly };
}

/** Whether pages in this state are read. */
export function isRead(disposition: Disposition, state: number): boolean {
  if (disposition.modifiedOnly && (state & PAGE.file) !== 0) return false;
  // The page of zeros is read only where a missing page would not show as zeros.
  return !disposition.zeroElsewhere || (state & PAGE.zero) === 0;
}

export function planRegion(vma: Vma, runs: readonly PageRun[], context: PlanContext): RegionPlan {
  return finishPlan(vma, runs, disposeOf(vma, context));
}

export function finishPlan(vma: Vma, runs: readonly PageRun[], disposition: Disposition): RegionPlan {
  const { kind, flags, decision, zeroElsewhere } = disposition;
  const counts = countPages(runs, kind);
  const ranges = readRanges(runs, disposition);
  const readBytes = ranges.reduce((sum, range) => sum + Number(range.end - range.start), 0);
  const isWritten = vma.permissions.includes('w') || counts.modifiedBytes > 0;
  const isEmpty = readBytes === 0 && !(decision.kind === 'skip' && kind === 'kernel');
  return {
    ...{ vma, kind, flags, ranges, readBytes, zeroElsewhere },
    ...counts,
    decision: isEmpty ? { kind: 'empty' } : decision,
    isPrecious: isWritten || !isFileBacked(vma) || kind === 'shared-memory',
  };
}

export const LEFT_OUT = 'memory.include leaves out this kind of mapping';

function decide(
  vma: Vma,
  flags: readonly string[] | undefined,
  waits: boolean,
  isLeftOut: boolean,
): Disposition['decision'] {
  if (/^\[(vvar|vvar_vclock|vsyscall)\]$/.test(vma.name)) {
    return { kind: 'skip', why: "the kernel's own page, the same in every process; it cannot be read", isGap: false };
  }
  if (isLeftOut) return { kind: 'skip', why: LEFT_OUT, isGap: false };
  if (flags?.includes('io') || flags?.includes('pf')) {
    return { kind: 'skip', why: 'device memory (VmFlags io or pf): reading it can change the device', isGap: true };
  }
  if (flags === undefined && /^\/dev\/(?!shm\/|zero)/.test(vma.name)) {
    return { kind: 'skip', why: 'a device mapped after the survey: it may be device memory', isGap: true };
  }
  return { kind: 'read', when: waits ? 'later' : 'moment' };
}

function countPages(
  runs: readonly PageRun[],
  kind: VmaKind,
): Pick<RegionPlan, 'residentBytes' | 'swappedBytes' | 'zeroBytes' | 'modifiedBytes'> {
  const counts = { residentBytes: 0, swappedBytes: 0, zeroBytes: 0, modifiedBytes: 0 };
  for (const run of runs) {
    const bytes = Number(run.end - run.start);
    if ((run.state & PAGE.present) !== 0) counts.residentBytes += bytes;
    if ((run.state & PAGE.swapped) !== 0) counts.swappedBytes += bytes;
    if ((run.state & PAGE.zero) !== 0) counts.zeroBytes += bytes;
    // A private file mapping's page that is not the file's is the process' own.
    if (kind === 'file-private' && (run.state & PAGE.file) === 0) counts.modifiedBytes += bytes;
  }
  return counts;
}

/** Adjacent runs in one range. */
function readRanges(runs: readonly PageRun[], disposition: Disposition): AddressRange[] {
  const ranges: { start: bigint; end: bigint }[] = [];
  for (const run of runs) {
    if (!isRead(disposition, run.state)) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.end === run.start) last.end = run.end;
    else ranges.push({ start: run.start, end: run.end });
  }
  return ranges;
}

/**
 * Finds the flags of a mapping in an earlier survey: the mapping of the same file that overlaps it, because a heap or a
 * stack may have grown since. Both lists are in address order.
 */
export function flagsFinder(survey: readonly DetailedVma[]): PlanContext['flagsOf'] {
  return (vma) => {
    let low = 0;
    let high = survey.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((survey[middle]?.end ?? 0n) <= vma.start) low = middle + 1;
      else high = middle;
    }
    for (let index = low; index < survey.length; index += 1) {
      const earlier = survey[index];
      if (earlier === undefined || earlier.start >= vma.end) return undefined;
      if (earlier.device === vma.device && earlier.inode === vma.inode) return earlier.flags;
    }
    return undefined;
  };
}

/**
 * The order in which regions are copied while the target stands still, for when the buffer or the time does not reach:
 * what exists only in memory before clean pages of files, and the smaller process first, so that most processes are whole.
 */
export function copyOrder<T extends { readonly plan: RegionPlan }>(processes: readonly (readonly T[])[]): T[] {
  const sizeOf = (regions: readonly T[]): number => {
    return regions.reduce((sum, { plan }) => sum + (plan.isPrecious ? plan.readBytes : 0), 0);
  };
  const bySize = processes.map((regions) => ({ regions, bytes: sizeOf(regions) })).sort((a, b) => a.bytes - b.bytes);
  const pick = (isPrecious: boolean): T[] => {
    return bySize.flatMap(({ regions }) => {
      return regions.filter(({ plan }) => {
        return plan.isPrecious === isPrecious && plan.decision.kind === 'read' && plan.decision.when === 'moment';
      });
    });
  };
  return [...pick(true), ...pick(false)];
}

/**
 * For kernels without PAGEMAP_SCAN, where reading the page map costs by address space: which mappings to ask about so
 * that `budgetBytes` of address space are not exceeded, small ones first. `isEmpty` is what smaps says.
 */
export function affordable(
  vmas: readonly Vma[],
  isEmpty: (vma: Vma) => boolean,
  budgetBytes: bigint,
): { asked: Vma[]; tooLarge: Vma[] } {
  const candidates = vmas.filter((vma) => !isEmpty(vma)).sort((a, b) => Number(a.end - a.start - (b.end - b.start)));
  const asked = new Set<Vma>();
  let left = budgetBytes;
  for (const vma of candidates) {
    const size = vma.end - vma.start;
    if (size > left) break;
    left -= size;
    asked.add(vma);
  }
  return {
    asked: vmas.filter((vma) => asked.has(vma)),
    tooLarge: candidates.filter((vma) => !asked.has(vma)),
  };
}
