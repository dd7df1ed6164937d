import {
  bigOf,
  columns,
  fromLatin1,
  hex,
  hexOf,
  intOf,
  latin1,
  linesOf,
  unescapeOctal,
  type Worded,
  wordedText,
  wordsOf,
} from './decode.ts';

/** Parsers of the short files below /proc/PID. All take any bytes, none throws; what does not fit is left out. */

export type CgroupEntry = Worded<'path'> & { readonly hierarchy: number; readonly controllers: string[] };

/** cgroups(7): `0::/path` is version 2. The path is below the cgroup namespace of the reader. */
export function parseCgroup(bytes: Uint8Array): CgroupEntry[] {
  const entries: CgroupEntry[] = [];
  for (const line of linesOf(bytes)) {
    const [, hierarchy, controllers = '', path = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    if (hierarchy === undefined) continue;
    const names = controllers === '' ? [] : controllers.split(',');
    entries.push({ hierarchy: Number(hierarchy), controllers: names, ...wordedText('path', path) });
  }
  return entries;
}

/** Soft and hard limit: `unlimited` or a decimal number, because 2^64-1 does not fit a JSON number. */
export type Limits = Readonly<Record<string, readonly [soft: string, hard: string]>>;

/** getrlimit(2); the columns are at fixed places (fs/proc/base.c: `%-25s %-20s %-20s %-10s`). Units: see getrlimit(2). */
export function parseLimits(bytes: Uint8Array): Limits {
  const limits: Record<string, [string, string]> = {};
  for (const line of linesOf(bytes).slice(1, 100)) {
    const name = line.slice(0, 26).trim();
    const [soft, hard] = columns(line.slice(26));
    if (/^[A-Z][a-z ]+$/.test(name) && soft !== undefined && hard !== undefined) limits[name] = [soft, hard];
  }
  return limits;
}

/** proc_pid_io(5): bytes and calls, as named by the kernel. */
export function parseIo(bytes: Uint8Array): Record<string, number> {
  const counters: Record<string, number> = {};
  for (const line of linesOf(bytes).slice(0, 100)) {
    const [, key, value] = /^([a-z_]{1,40}): (\d{1,20})$/.exec(line) ?? [];
    if (key !== undefined) counters[key] = Number(value);
  }
  return counters;
}

/** NUL-separated strings, as in cmdline and environ; the NUL at the end is no separator. */
export function splitNul(bytes: Uint8Array): Buffer[] {
  if (bytes.length === 0) return [];
  const parts = latin1(bytes).split('\0');
  if (parts.at(-1) === '') parts.pop();
  return parts.map(fromLatin1);
}

export interface SyscallState {
  /** `running`, or blocked in a system call, or blocked outside of one (-1). */
  readonly kind: 'running' | 'syscall' | 'blocked';
  readonly number?: number;
  readonly arguments?: string[];
  readonly stackPointer?: string;
  readonly programCounter?: string;
}

/** proc_pid_syscall(5). */
export function parseSyscall(bytes: Uint8Array): SyscallState | undefined {
  const [first, ...rest] = columns(latin1(bytes).trim());
  if (first === 'running') return { kind: 'running' };
  const number = intOf(first);
  const values = rest.map(hexOf).filter((value) => value !== undefined);
  const programCounter = values.at(-1);
  const stackPointer = values.at(-2);
  if (number === undefined || programCounter === undefined || stackPointer === undefined) return undefined;
  const pointers = { stackPointer: hex(stackPointer), programCounter: hex(programCounter) };
  if (number === -1) return { kind: 'blocked', ...pointers };
  return { kind: 'syscall', number, arguments: values.slice(0, -2).map(hex), ...pointers };
}

/** getauxval(3) types that say something to an analyst; the raw file has all. */
const AUXV: ReadonlyMap<bigint, string> = new Map([
  [3n, 'programHeaders'],
  [6n, 'pageBytes'],
  [7n, 'interpreterBase'],
  [9n, 'entry'],
  [17n, 'ticksPerSecond'],
  [23n, 'secure'],
  [33n, 'vdso'],
]);

/** Pairs of native 64-bit words, little endian on both architectures; ends at AT_NULL. */
export function parseAuxv(bytes: Uint8Array): Map<string, bigint> {
  const values = new Map<string, bigint>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    const type = view.getBigUint64(at, true);
    if (type === 0n) break;
    const name = AUXV.get(type);
    if (name !== undefined) values.set(name, view.getBigUint64(at + 8, true));
  }
  return values;
}

export type Mount = Worded<'mountPoint'> &
  Worded<'root'> &
  Worded<'source'> & {
    readonly id: number;
    readonly parentId: number;
    readonly device: string;
    readonly type: string;
    readonly options: string[];
    readonly superOptions: string;
    /** `shared:1`, `master:2`, … */
    readonly propagation: string[];
  };

/** proc_pid_mountinfo(5): optional fields end at a lone hyphen. Names carry octal escapes. */
export function parseMountinfo(bytes: Uint8Array): Mount[] {
  const mounts: Mount[] = [];
  for (const line of linesOf(bytes)) {
    const fields = line.split(' ');
    const hyphen = fields.indexOf('-', 6);
    const [id, parentId, device, root, mountPoint, options] = fields;
    const [type, source = '', superOptions = ''] = hyphen < 0 ? [] : fields.slice(hyphen + 1);
    if (intOf(id) === undefined || type === undefined || root === undefined || mountPoint === undefined) continue;
    mounts.push({
      id: intOf(id) ?? 0,
      parentId: intOf(parentId) ?? 0,
      device: device ?? '',
      ...wordedText('root', unescapeOctal(root)),
      ...wordedText('mountPoint', unescapeOctal(mountPoint)),
      type,
      ...wordedText('source', unescapeOctal(source)),
      options: (options ?? '').split(','),
      superOptions: wordsOf(unescapeOctal(superOptions)),
      propagation: fields.slice(6, hyphen),
    });
  }
  return mounts;
}

/** namespaces(7): `net:[4026531833]`. The type in the text wins over the file's name. */
export function parseNamespaceLink(bytes: Uint8Array): { type: string; inode: number } | undefined {
  const [, type, inode] = /^([a-z_]{1,20}):\[(\d{1,20})\]$/.exec(latin1(bytes)) ?? [];
  return type === undefined ? undefined : { type, inode: Number(inode) };
}

export interface IdMapEntry {
  readonly inside: number;
  readonly outside: number;
  readonly length: number;
}

/** user_namespaces(7) uid_map and gid_map. */
export function parseIdMap(bytes: Uint8Array): IdMapEntry[] {
  const entries: IdMapEntry[] = [];
  for (const line of linesOf(bytes).slice(0, 340)) {
    const [inside, outside, length] = columns(line).map(intOf);
    if (inside !== undefined && outside !== undefined && length !== undefined)
      entries.push({ inside, outside, length });
  }
  return entries;
}

/** loginuid and sessionid: 4294967295 means that nobody logged in (pam_loginuid never ran). */
export function parseAuditId(bytes: Uint8Array): number | undefined {
  const value = intOf(latin1(bytes).trim());
  return value === undefined || value === 4294967295 ? undefined : value;
}

/** A file that holds one number. */
export function parseNumber(bytes: Uint8Array): number | undefined {
  const value = bigOf(latin1(bytes).trim());
  return value === undefined ? undefined : Number(value);
}

/** One line of words: wchan (`0` when it runs), attr/current (NUL-terminated in AppArmor), comm. */
export function parseWords(bytes: Uint8Array): Buffer {
  return fromLatin1(latin1(bytes).replace(/[\n\0]$/, ''));
}

/** proc_pid_stack(5): one frame a line, `[<0>] do_epoll_wait+0x6b/0x90`; the addresses are always hidden. */
export function parseStack(bytes: Uint8Array): string[] {
  return linesOf(bytes)
    .slice(0, 100)
    .map((line) => wordsOf(line.replace(/^\[<[0-9a-fx]*>\] /, '')));
}
