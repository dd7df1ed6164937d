import fs from 'node:fs';
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import type { Pid } from '../runtime/runtime.ts';
import { type Host, procPath } from './host.ts';
import { SystemError } from './libc.ts';

/**
 * Which pages of a process are there, without touching one. Two sources, one answer:
 *
 * - The PAGEMAP_SCAN ioctl (Linux 6.7, Documentation/admin-guide/mm/pagemap.rst) walks page tables and returns runs. What was
 *   never touched has no page tables, so a reservation of 128 TiB costs nothing. It also knows the shared page of zeros.
 * - /proc/PID/pagemap (proc_pid_pagemap(5)), 8 bytes a page, on older kernels. It costs by the size of the range, touched or
 *   not, so the caller leaves out what smaps says is empty.
 */

/** Adjacent pages in one state. */
export interface PageRun {
  readonly start: bigint;
  readonly end: bigint;
  /** A sum of PAGE bits. */
  readonly state: number;
}

export const PAGE = {
  present: 1,
  swapped: 2,
  /** A page of a file or of shared memory; in a private file mapping its absence means that the process changed the page. */
  file: 4,
  /** The kernel's shared page of zeros; only PAGEMAP_SCAN tells. */
  zero: 8,
  /** Written since soft-dirty bits were cleared; only when asked for. */
  dirty: 16,
} as const;

export interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

export interface PageRuns {
  /** One list for each range asked for, in address order. Pages that are neither present nor swapped are in no run. */
  readonly runs: PageRun[][];
  /** Where the bound on runs was reached: pages from here on are not known. */
  readonly unknownFrom: bigint | undefined;
}

export interface PageMap extends Disposable {
  readonly method: 'scan' | 'read';
  /** `ranges` in address order, without overlap, on page boundaries. Throws the system's error (ESRCH, EACCES). */
  runs(ranges: readonly Range[]): PageRuns;
  /** The same in steps of a few milliseconds. */
  walk(ranges: readonly Range[], onPiece: OnPiece): Generator<void, PageRuns, undefined>;
}

/**
 * Told of every piece of a run as soon as it is known, in address order; pieces of one run may still be adjacent. `index` is
 * that of the range it lies in.
 */
export type OnPiece = (index: number, start: bigint, end: bigint, state: number) => void;

export interface PageMapOptions {
  /** For tests; without it the kernel decides. */
  readonly method?: 'scan' | 'read' | undefined;
  /** Tells pages written since `clear_refs` (Documentation/admin-guide/mm/soft-dirty.rst) as PAGE.dirty. */
  readonly dirty?: boolean;
}

/**
 * Runs kept for one process, some 100 bytes each. Only a process that touched every other page of 4 GiB has more, and what
 * is beyond is a gap.
 */
export const MAX_RUNS = 512 * 1024;

/** Opens the page map of `pid`. */
export function openPageMap(host: Host, pid: Pid, pageBytes: number, options: PageMapOptions = {}): PageMap {
  const fd = fs.openSync(procPath(host, pid, 'pagemap'), 'r');
  const dirty = options.dirty === true;
  const scan = options.method === 'read' ? undefined : scanner(fd, pageBytes, dirty);
  function* walk(ranges: readonly Range[], onPiece?: OnPiece): Generator<void, PageRuns, undefined> {
    const collector = new RunCollector(ranges, onPiece);
    if (scan === undefined) yield* readRuns(fd, ranges, { pageBytes, dirty }, collector);
    else yield* scanRuns(scan, ranges, collector);
    return collector;
  }
  return {
    method: scan === undefined ? 'read' : 'scan',
    walk,
    runs: (ranges) => {
      const steps = walk(ranges);
      for (;;) {
        const step = steps.next();
        if (step.done === true) return step.value;
      }
    },
    [Symbol.dispose]: () => fs.closeSync(fd),
  };
}

/** Collects runs into the ranges asked for and keeps the bound. */
class RunCollector {
  readonly runs: PageRun[][];
  unknownFrom: bigint | undefined;
  readonly #ranges: readonly Range[];
  readonly #onPiece: OnPiece | undefined;
  #at = 0;
  #count = 0;

  constructor(ranges: readonly Range[], onPiece: OnPiece | undefined) {
    this.#ranges = ranges;
    this.#onPiece = onPiece;
    this.runs = ranges.map(() => []);
  }

  get full(): boolean {
    return this.unknownFrom !== undefined;
  }

  /** Runs come in address order; one may span several ranges, or lie partly in none. */
  add(start: bigint, end: bigint, state: number): void {
    let from = start;
    for (; this.#at < this.#ranges.length; this.#at += 1) {
      const range = this.#ranges[this.#at];
      const list = this.runs[this.#at];
      if (range === undefined || list === undefined || range.start >= end) return;
      if (from < range.start) from = range.start;
      const to = end < range.end ? end : range.end;
      if (from < to) {
        if (!this.#push(list, from, to, state)) return;
        this.#onPiece?.(this.#at, from, to, state);
      }
      if (end <= range.end) return;
    }
  }

  #push(list: PageRun[], start: bigint, end: bigint, state: number): boolean {
    const last = list.at(-1);
    if (last !== undefined && last.end === start && last.state === state) {
      list[list.length - 1] = { start: last.start, end, state };
      return true;
    }
    if (this.#count >= MAX_RUNS) {
      this.unknownFrom ??= start;
      return false;
    }
    this.#count += 1;
    list.push({ start, end, state });
    return true;
  }
}

/** Entries of one pagemap read: 1 MiB of them cover 512 MiB of address space with 4 KiB pages. */
const ENTRIES_A_READ = 128 * 1024;

function* readRuns(
  fd: number,
  ranges: readonly Range[],
  { pageBytes, dirty }: { pageBytes: number; dirty: boolean },
  collector: RunCollector,
): Generator<void, void, undefined> {
  const entries = new Uint32Array(ENTRIES_A_READ * 2);
  const bytes = new Uint8Array(entries.buffer);
  for (const range of ranges) {
    let page = range.start / BigInt(pageBytes);
    const lastPage = range.end / BigInt(pageBytes);
    while (page < lastPage && !collector.full) {
      const wanted = lastPage - page < BigInt(ENTRIES_A_READ) ? Number(lastPage - page) : ENTRIES_A_READ;
      const got = Math.floor(fs.readSync(fd, bytes, 0, wanted * 8, page * 8n) / 8);
      if (got === 0) break;
      const emit = (start: bigint, end: bigint, state: number): void => collector.add(start, end, state);
      decodePagemap(entries.subarray(0, got * 2), page, BigInt(pageBytes), emit, dirty);
      page += BigInt(got);
      yield;
    }
  }
}

/**
 * Bits of the upper half of a pagemap entry: 63 present, 62 swapped, 61 file or shared, 58 guard region (Linux 6.15), 55
 * soft-dirty.
 */
const ENTRY = { present: 1 << 31, swapped: 1 << 30, file: 1 << 29, guard: 1 << 26, dirty: 1 << 23 } as const;

/** Turns pagemap entries (as pairs of 32-bit halves, lower first) from page number `firstPage` on into runs. */
export function decodePagemap(
  entries: Uint32Array,
  firstPage: bigint,
  pageBytes: bigint,
  emit: (start: bigint, end: bigint, state: number) => void,
  withDirty = false,
): void {
  let state = 0;
  let since = 0;
  const flush = (until: number): void => {
    if (state !== 0) emit((firstPage + BigInt(since)) * pageBytes, (firstPage + BigInt(until)) * pageBytes, state);
  };
  const count = entries.length >> 1;
  for (let index = 0; index < count; index += 1) {
    const next = stateOfEntry(entries[index * 2 + 1] ?? 0, withDirty);
    if (next === state) continue;
    flush(index);
    state = next;
    since = index;
  }
  flush(count);
}

function stateOfEntry(upper: number, withDirty: boolean): number {
  if ((upper & (ENTRY.present | ENTRY.swapped)) === 0 || (upper & ENTRY.guard) !== 0) return 0;
  let state: number = (upper & ENTRY.present) !== 0 ? PAGE.present : PAGE.swapped;
  if ((upper & ENTRY.file) !== 0) state |= PAGE.file;
  if (withDirty && (upper & ENTRY.dirty) !== 0) state |= PAGE.dirty;
  return state;
}

/**
 * Whether this kernel keeps soft-dirty bits (CONFIG_MEM_SOFT_DIRTY, x86-64 only): then memory that nobody cleared has them
 * set, the agent's own stack for instance.
 */
export function hasSoftDirty(pageBytes: number): boolean {
  try {
    const stack = /^([0-9a-f]+)-([0-9a-f]+) .*\[stack\]$/m.exec(fs.readFileSync('/proc/self/maps', 'latin1'))?.[2];
    const fd = fs.openSync('/proc/self/pagemap', 'r');
    try {
      const entry = new Uint32Array(2);
      const page = BigInt(`0x${stack ?? ''}`) / BigInt(pageBytes) - 1n;
      fs.readSync(fd, new Uint8Array(entry.buffer), 0, 8, page * 8n);
      return ((entry[1] ?? 0) & ENTRY.present) !== 0 && ((entry[1] ?? 0) & ENTRY.dirty) !== 0;
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return false;
  }
}

/** _IOWR('f', 16, struct pm_scan_arg), include/uapi/linux/fs.h. */
const PAGEMAP_SCAN = 0xc0606610;
const CATEGORY = {
  file: 1n << 2n,
  present: 1n << 3n,
  swapped: 1n << 4n,
  zero: 1n << 5n,
  dirty: 1n << 7n,
  guard: 1n << 8n,
} as const;
/** struct pm_scan_arg: twelve 64-bit fields. */
const ARG_BYTES = 96n;
/** Bytes of pages that one ioctl looks up, some 2 ms: what it found is copied while the next one looks. */
const SCAN_STEP_BYTES = 64 * 1024 * 1024;
/** Regions one ioctl may return, 24 bytes each. */
const SCAN_REGIONS = 32 * 1024;
/** Addresses from here on belong to the kernel (`[vsyscall]` is there) and cannot be asked for. */
export const KERNEL_ADDRESSES = 1n << 63n;

interface Scanner {
  /** Fills `regions` with triples of start, end, categories. */
  scan(start: bigint, end: bigint): { count: number; walkEnd: bigint };
  readonly regions: BigUint64Array;
}

interface ScanLibrary {
  /** 0 or more, or minus the errno. */
  ioctl(fd: number, request: number, arg: BigUint64Array): number;
  readonly vector: bigint;
  readonly regions: BigUint64Array;
}

let library: ScanLibrary | undefined;

/** libc's ioctl and one result vector for the whole program: scans are synchronous, so it is never shared. */
function scanLibrary(): ScanLibrary {
  if (library !== undefined) return library;
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const call = ffi.load(null).func('int ioctl(int fd, unsigned long request, void *arg)');
  const memory: unknown = ffi.alloc('uint64_t', SCAN_REGIONS * 3);
  library = {
    ioctl: (fd, request, arg) => {
      const result = Number(call(fd, request, arg));
      return result < 0 ? -ffi.errno() : result;
    },
    vector: ffi.address(memory),
    regions: new BigUint64Array(ffi.view(memory, SCAN_REGIONS * 24)),
  };
  return library;
}

/** What this kernel can tell, found out once: guard regions came with 6.15, soft-dirty with 6.9. Empty: no PAGEMAP_SCAN. */
const known = new Map<boolean, bigint | undefined>();

/** A scanner on an open pagemap, or undefined where the kernel has no PAGEMAP_SCAN or the FFI library cannot be loaded. */
function scanner(fd: number, pageBytes: number, dirty: boolean): Scanner | undefined {
  if (!known.has(dirty)) known.set(dirty, probe(fd, pageBytes, dirty));
  const categories = known.get(dirty);
  return categories === undefined ? undefined : scannerFor(scanLibrary(), fd, { categories, pageBytes });
}

function probe(fd: number, pageBytes: number, dirty: boolean): bigint | undefined {
  const all = CATEGORY.file | CATEGORY.present | CATEGORY.swapped | CATEGORY.zero | (dirty ? CATEGORY.dirty : 0n);
  // An unknown category is EINVAL, an unknown ioctl ENOTTY.
  for (const categories of [all | CATEGORY.guard, all]) {
    try {
      scannerFor(scanLibrary(), fd, { categories, pageBytes }).scan(0n, PROBE_END);
      return categories;
    } catch {
      // The next one; and without any, /proc/PID/pagemap is read, which tells of real trouble by itself.
    }
  }
  return undefined;
}

/** Addresses asked for to learn what the kernel can: below vm.mmap_min_addr, so nothing is there. */
const PROBE_END = 0x10000n;

function scannerFor(lib: ScanLibrary, fd: number, options: { categories: bigint; pageBytes: number }): Scanner {
  const wanted = CATEGORY.present | CATEGORY.swapped;
  const pages = BigInt(SCAN_STEP_BYTES / options.pageBytes);
  return {
    regions: lib.regions,
    scan(start, end) {
      // size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof_mask, return_mask
      const limits = [lib.vector, BigInt(SCAN_REGIONS), pages];
      const arg = BigUint64Array.from([ARG_BYTES, 0n, start, end, 0n, ...limits, 0n, 0n, wanted, options.categories]);
      const count = lib.ioctl(fd, PAGEMAP_SCAN, arg);
      if (count < 0) throw new SystemError(-count, 'PAGEMAP_SCAN');
      return { count, walkEnd: arg[4] ?? end };
    },
  };
}

function* scanRuns(scan: Scanner, ranges: readonly Range[], collector: RunCollector): Generator<void, void, undefined> {
  const user = ranges.filter((range) => range.end <= KERNEL_ADDRESSES);
  const end = user.at(-1)?.end ?? 0n;
  let at = user[0]?.start ?? 0n;
  while (at < end && !collector.full) {
    const { count, walkEnd } = scan.scan(at, end);
    for (let index = 0; index < count && !collector.full; index += 1) {
      const state = stateOfCategories(Number(scan.regions[index * 3 + 2] ?? 0n));
      if (state !== 0) collector.add(scan.regions[index * 3] ?? 0n, scan.regions[index * 3 + 1] ?? 0n, state);
    }
    // Linux 6.18 can leave walk_end before the end of the last region that it told of, and would tell of it again.
    const toldTo = count === 0 ? 0n : (scan.regions[count * 3 - 2] ?? 0n);
    const next = walkEnd < toldTo ? toldTo : walkEnd;
    if (next <= at) break;
    at = next;
    yield;
  }
}

function stateOfCategories(categories: number): number {
  if ((categories & Number(CATEGORY.guard)) !== 0) return 0;
  let state = (categories & Number(CATEGORY.present)) !== 0 ? PAGE.present : 0;
  if ((categories & Number(CATEGORY.swapped)) !== 0) state |= PAGE.swapped;
  if ((categories & Number(CATEGORY.file)) !== 0) state |= PAGE.file;
  if ((categories & Number(CATEGORY.zero)) !== 0) state |= PAGE.zero;
  if ((categories & Number(CATEGORY.dirty)) !== 0) state |= PAGE.dirty;
  return state;
}
