import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { latin1 } from './decode.ts';
import { remembering } from './decode-memo.ts';
import { parseAuxv } from './process-small.ts';

/** What a region of executable memory without a file begins with. */
export interface CodeStart {
  /** Whether its first page was in memory; otherwise it was not read, because reading would bring it there. */
  readonly resident: boolean;
  /** In hex, CODE_START_BYTES of them. */
  readonly firstBytes?: string;
  /** It begins as an ELF file does: a program that was copied there. */
  readonly elf?: true;
  /** Nothing was written there yet, or its header was wiped. */
  readonly zeros?: true;
}

/** Enough to tell a header or the prologue of a function. The memory artifact has all of it. */
const CODE_START_BYTES = 64;
/** JIT compilers make hundreds; some twenty microseconds each. */
const REGIONS_MAX = 32;

const ELF_MAGIC = '7f454c46';
/** Bit 63 of a pagemap entry, proc_pid_pagemap(5). */
const PRESENT = 1n << 63n;
const PAGEMAP_ENTRY_BYTES = 8;

/** `[vdso]` and its like are the kernel's. Shared memory without a name has none in maps either. */
const ANONYMOUS_CODE =
  /^([0-9a-f]{1,16})-[0-9a-f]{1,16} [-r][-w]x[ps] [0-9a-f]{1,16} [0-9a-f]+:[0-9a-f]+ 0 *(?:|\[(?:heap|stack|anon:[^\n]*)\])$/gm;

/**
 * By start address in hex, as maps has it. `base` is the process' folder, `maps` its mappings. Pages are looked up in pagemap
 * first: only what is there is read, so that nothing is faulted in and no userfaultfd is waited for, but for a page that goes
 * away in between. What cannot be read is left out.
 */
export function readCodeStarts(base: string, maps: Buffer): ReadonlyMap<string, CodeStart> {
  const starts = new Map<string, CodeStart>();
  for (const start of anonymousCode(maps)) {
    const found = readStart(base, BigInt(`0x${start}`));
    if (found !== undefined) starts.set(start.replace(/^0+(?=.)/, ''), found);
  }
  return starts;
}

/** Addresses, as printed. */
const anonymousCode = remembering((maps) =>
  Array.from(latin1(maps).matchAll(ANONYMOUS_CODE), ([, start = '']) => start).slice(0, REGIONS_MAX),
);

function readStart(base: string, address: bigint): CodeStart | undefined {
  const entry = readAt(
    `${base}/pagemap`,
    (address / BigInt(pageBytes())) * BigInt(PAGEMAP_ENTRY_BYTES),
    PAGEMAP_ENTRY_BYTES,
  );
  if (entry === undefined) return undefined;
  if ((entry.readBigUInt64LE() & PRESENT) === 0n) return { resident: false };
  const firstBytes = readAt(`${base}/mem`, address, CODE_START_BYTES)?.toString('hex');
  if (firstBytes === undefined) return { resident: true };
  return {
    resident: true,
    firstBytes,
    ...(firstBytes.startsWith(ELF_MAGIC) ? { elf: true } : {}),
    ...(/^0*$/.test(firstBytes) ? { zeros: true } : {}),
  };
}

/** Undefined when not all of it can be read: the kernel refused it, or the region has gone. */
function readAt(path: string, position: bigint, sizeBytes: number): Buffer | undefined {
  let fd = -1;
  try {
    fd = openSync(path, constants.O_RDONLY);
    const bytes = Buffer.alloc(sizeBytes);
    return readSync(fd, bytes, 0, sizeBytes, position) === sizeBytes ? bytes : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

let pageSize: number | undefined;

/** AT_PAGESZ of our own auxiliary vector; arm64 may have 64 KiB. */
function pageBytes(): number {
  pageSize ??= Number(parseAuxv(readFileSync('/proc/self/auxv')).get('pageBytes') ?? 4096n);
  return pageSize;
}
