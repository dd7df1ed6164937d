import { latin1, type Worded, wordedText, wordsOf } from './decode.ts';
import { MAPS_LINE } from './maps.ts';
import type { CodeStart } from './process-code.ts';

/** One line of /proc/PID/maps, proc_pid_maps(5). */
export interface Region {
  /** Addresses in lower-case hex, without 0x and without leading zeros, as in /proc/PID/map_files. */
  readonly start: string;
  readonly end: string;
  /** Four letters: r, w, x, and p(rivate) or s(hared). */
  readonly permissions: string;
  /** In bytes, in hex. */
  readonly offset: string;
  /** `major:minor` in hex, as printed. */
  readonly device: string;
  readonly inode: number;
  /**
   * Latin-1; '' for anonymous memory. The kernel prints a newline as `\012` and a backslash as it is, so a name that
   * holds the four characters `\012` cannot be told from one with a newline: it is kept as printed.
   */
  readonly name: string;
}

/** Lines that are none are left out. Hexadecimal stays as it was printed, which is how everything here needs it. */
export function parseMaps(bytes: Uint8Array): Region[] {
  const regions: Region[] = [];
  for (const line of latin1(bytes).split('\n')) {
    const match = MAPS_LINE.exec(line);
    if (match === null) continue;
    const [, from = '', to = '', permissions = '', at = '', device = '', inode = '', name = ''] = match;
    const [start, end, offset] = [bare(from), bare(to), bare(at)];
    if (start.length > end.length || (start.length === end.length && start >= end)) continue;
    regions.push({ start, end, permissions, offset, device, inode: Number(inode), name });
  }
  return regions;
}

/** Without the zeros before a number. */
function bare(hexadecimal: string): string {
  return hexadecimal.startsWith('0') ? hexadecimal.replace(/^0+(?=.)/, '') : hexadecimal;
}

/** Whether the kernel marked the name as unlinked. A file may be called so on purpose: the inode's link count decides. */
export const DELETED_SUFFIX = ' (deleted)';

export function isDeletedName(name: string): boolean {
  return name.endsWith(DELETED_SUFFIX);
}

/** memfd_create(2): the kernel names the file `/memfd:NAME (deleted)`, always with the suffix. */
export function isMemfdName(name: string): boolean {
  return name.startsWith('/memfd:') && isDeletedName(name);
}

/** Shared memory without a file that anybody can unlink: System V segments, shared anonymous memory, AIO rings. */
export function isSharedMemoryName(name: string): boolean {
  return /^\/(SYSV[0-9a-f]{8}|dev\/zero|\[aio\]) \(deleted\)$/.test(name);
}

export type MappedFile = Worded<'path'> & {
  readonly device: string;
  readonly inode: number;
  /** The first region's address range as /proc/PID/map_files names it. */
  readonly range: string;
  /** Where in the file that region begins, in bytes, in hex. */
  readonly offset: string;
  readonly regions: number;
  readonly mappedBytes: number;
  readonly executable?: true;
  /** Some region is both writable and shared: the process can change the file through it. */
  readonly writableShared?: true;
  readonly deleted?: true;
  readonly memfd?: true;
};

export interface ExecutableRegion extends Partial<CodeStart> {
  readonly start: string;
  readonly end: string;
  readonly permissions: string;
  readonly sizeBytes: number;
  /** `[heap]`, `[stack]`, `[anon:...]`, or '' */
  readonly name: string;
}

export interface MapsSummary {
  readonly regions: number;
  readonly files: MappedFile[];
  readonly filesTotal: number;
  /** Executable memory that no file backs: code that was made or injected at run time; JIT compilers do it too. */
  readonly anonymousExecutable: ExecutableRegion[];
  readonly anonymousExecutableTotal: number;
  /** Memory that can be written and executed, of files too: what W^X forbids. */
  readonly writableExecutable: ExecutableRegion[];
  readonly writableExecutableTotal: number;
}

/** An analysed line lists that many of each; the rest is in the raw maps. JVMs map some hundred files. */
const LISTED_MAX = 2000;

export function summariseMaps(regions: readonly Region[]): MapsSummary {
  const files = new Map<string, Region[]>();
  const executable: ExecutableRegion[] = [];
  const writable: ExecutableRegion[] = [];
  for (const region of regions) {
    if (region.permissions[2] === 'x' && region.permissions[1] === 'w') writable.push(executableRegion(region));
    if (region.name.startsWith('/') || region.name.startsWith('anon_inode:')) {
      const key = `${region.device} ${region.inode} ${region.name}`;
      const seen = files.get(key);
      if (seen) seen.push(region);
      else files.set(key, [region]);
    } else if (region.permissions[2] === 'x' && !KERNEL_CODE.has(region.name)) {
      executable.push(executableRegion(region));
    }
  }
  return {
    regions: regions.length,
    files: [...files.values()]
      .slice(0, LISTED_MAX)
      .map(mappedFile)
      .filter((file) => file !== undefined),
    filesTotal: files.size,
    anonymousExecutable: executable.slice(0, LISTED_MAX),
    anonymousExecutableTotal: executable.length,
    writableExecutable: writable.slice(0, LISTED_MAX),
    writableExecutableTotal: writable.length,
  };
}

function executableRegion({ start, end, permissions, name }: Region): ExecutableRegion {
  return {
    start: `0x${start}`,
    end: `0x${end}`,
    permissions,
    sizeBytes: sizeOf({ start, end }),
    name: wordsOf(name),
  };
}

/** Exact up to 2^53, which is more than a process can map. */
function sizeOf({ start, end }: Pick<Region, 'start' | 'end'>): number {
  return Number.parseInt(end, 16) - Number.parseInt(start, 16);
}

/** With what was read of the regions' beginnings, by their start. */
export function withCodeStarts(summary: MapsSummary, starts: ReadonlyMap<string, CodeStart>): MapsSummary {
  if (starts.size === 0) return summary;
  const started = (region: ExecutableRegion): ExecutableRegion => ({ ...region, ...starts.get(region.start.slice(2)) });
  return { ...summary, anonymousExecutable: summary.anonymousExecutable.map(started) };
}

/** Code that the kernel maps into every process. */
const KERNEL_CODE: ReadonlySet<string> = new Set(['[vdso]', '[vsyscall]', '[uprobes]', '[sigpage]', '[vectors]']);

function mappedFile(regions: readonly Region[]): MappedFile | undefined {
  const [first] = regions;
  if (first === undefined) return undefined;
  const size = regions.reduce((sum, region) => sum + sizeOf(region), 0);
  return {
    ...wordedText('path', first.name),
    device: first.device,
    inode: first.inode,
    range: `${first.start}-${first.end}`,
    offset: `0x${first.offset}`,
    regions: regions.length,
    mappedBytes: size,
    ...flag(
      'executable',
      regions.some(({ permissions }) => permissions[2] === 'x'),
    ),
    ...flag(
      'writableShared',
      regions.some(({ permissions }) => permissions[1] === 'w' && permissions[3] === 's'),
    ),
    ...flag('deleted', isDeletedName(first.name) && !isSharedMemoryName(first.name)),
    ...flag('memfd', isMemfdName(first.name)),
  };
}

function flag<Name extends string>(name: Name, value: boolean): { [K in Name]?: true } {
  const flags: { [K in string]?: true } = value ? { [name]: true } : {};
  return flags as { [K in Name]?: true };
}
