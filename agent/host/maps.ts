/**
 * /proc/PID/maps and /proc/PID/smaps, parsed (proc(5), proc_pid_smaps(5)).
 *
 * Text is taken as latin1, one character a byte, because a mapped file's name is any bytes but NUL: a container chooses
 * it. The kernel escapes a newline in a name as `\012` and nothing else, so lines cannot be forged.
 */

/** One mapping. Addresses from `start` up to but not including `end`. */
export interface Vma {
  readonly start: bigint;
  readonly end: bigint;
  /** `rwxp`, `s` for shared, `-` for what is not allowed. */
  readonly permissions: string;
  /** Byte offset of `start` in the file. */
  readonly fileOffset: bigint;
  /** `major:minor` in hex; `00:00` for memory without a file. */
  readonly device: string;
  readonly inode: bigint;
  /** The name as the kernel printed it, one character a byte; '' for memory without one. */
  readonly name: string;
}

/** A mapping with what smaps adds. */
export interface DetailedVma extends Vma {
  readonly residentBytes: number;
  readonly swappedBytes: number;
  /** VmFlags: two letters each. */
  readonly flags: readonly string[];
}

export interface Parsed<T> {
  readonly vmas: T[];
  /** Lines that are not as proc(5) says; never expected, and reported when they come. */
  readonly strangeLines: number;
}

export function parseMaps(text: string): Parsed<Vma> {
  const vmas: Vma[] = [];
  let strangeLines = 0;
  for (const line of linesOf(text)) {
    const vma = parseLine(line);
    if (vma === undefined) strangeLines += 1;
    else vmas.push(vma);
  }
  return { vmas, strangeLines };
}

/** The line that opens a mapping begins with an address; every other line of smaps begins with a capital letter. */
export function parseSmaps(text: string): Parsed<DetailedVma> {
  const vmas: DetailedVma[] = [];
  let strangeLines = 0;
  let open: { vma: Vma; residentBytes: number; swappedBytes: number; flags: string[] } | undefined;
  const close = (): void => {
    if (open === undefined) return;
    const { vma, ...details } = open;
    vmas.push({ ...vma, ...details });
  };
  for (const line of linesOf(text)) {
    if (!isField(line)) {
      const vma = parseLine(line);
      if (vma === undefined) {
        strangeLines += 1;
        continue;
      }
      close();
      open = { vma, residentBytes: 0, swappedBytes: 0, flags: [] };
    } else if (open !== undefined) {
      if (line.startsWith('Rss:')) open.residentBytes = kilobytes(line);
      else if (line.startsWith('Swap:')) open.swappedBytes = kilobytes(line);
      else if (line.startsWith('VmFlags:')) open.flags = line.slice(8).split(' ').filter(Boolean);
    }
  }
  close();
  return { vmas, strangeLines };
}

/** Without splitting the text at once: the smaps of 100,000 mappings has 2.5 million lines. */
function* linesOf(text: string): Generator<string, void, undefined> {
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf('\n', at);
    const end = newline === -1 ? text.length : newline;
    if (end > at) yield text.slice(at, end);
    at = end + 1;
  }
}

function isField(line: string): boolean {
  const first = line.charCodeAt(0);
  return first >= 0x41 && first <= 0x5a;
}

/** Start, end, permissions, offset, device, inode, name. */
export const MAPS_LINE =
  /^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([-r][-w][-x][ps]) ([0-9a-f]{1,16}) ([0-9a-f]+:[0-9a-f]+) ([0-9]{1,20})(?: +(.*))?$/s;

function parseLine(line: string): Vma | undefined {
  const match = MAPS_LINE.exec(line);
  if (match === null) return undefined;
  const [, start = '', end = '', permissions = '', offset = '', device = '', inode = '', name = ''] = match;
  const vma = {
    start: BigInt(`0x${start}`),
    end: BigInt(`0x${end}`),
    permissions,
    fileOffset: BigInt(`0x${offset}`),
    device,
    inode: BigInt(inode),
    name,
  };
  return vma.start < vma.end ? vma : undefined;
}

function kilobytes(line: string): number {
  const match = /([0-9]+) kB$/.exec(line);
  return match === null ? 0 : Number(match[1]) * 1024;
}

export type VmaKind =
  | 'anonymous'
  | 'heap'
  | 'stack'
  | 'file-private'
  | 'file-shared'
  | 'shared-memory'
  | 'huge-pages'
  | 'kernel';

/** What kind of memory a mapping is, told from its line alone. */
export function kindOf(vma: Vma): VmaKind {
  if (vma.name === '[heap]') return 'heap';
  if (vma.name === '[stack]') return 'stack';
  if (/^\[(vdso|vvar|vvar_vclock|vsyscall|sigpage|vectors|uprobes)\]$/.test(vma.name)) return 'kernel';
  if (/^\/anon_hugepage|^\/(dev\/)?hugepages\//.test(vma.name)) return 'huge-pages';
  if (isSharedMemoryName(vma.name)) return 'shared-memory';
  // Anonymous memory has neither inode nor device, named by prctl(2) PR_SET_VMA or not.
  if (vma.inode === 0n && !vma.name.startsWith('/'))
    return vma.permissions.endsWith('s') ? 'shared-memory' : 'anonymous';
  return vma.permissions.endsWith('s') ? 'file-shared' : 'file-private';
}

/** Names of shmem files (mm/shmem.c): memfds, System V segments, shared anonymous memory; /dev/shm by custom. */
function isSharedMemoryName(name: string): boolean {
  return (
    name.startsWith('/memfd:') ||
    /^\/SYSV[0-9a-f]{8}/.test(name) ||
    name.startsWith('/dev/zero') ||
    name.startsWith('/dev/shm/') ||
    name.startsWith('[anon_shmem:')
  );
}

/** True when a file stands behind the mapping, shmem included. */
export function isFileBacked(vma: Vma): boolean {
  return vma.inode !== 0n || vma.name.startsWith('/');
}

/** The bytes of the name as the kernel printed them, or with the escaped newlines undone. */
export function nameBytes(vma: Vma, form: 'printed' | 'unescaped'): Buffer {
  const text = form === 'printed' ? vma.name : vma.name.replaceAll('\\012', '\n');
  return Buffer.from(text, 'latin1');
}
