import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Directory } from './directory.ts';
import { type Libc, tryLibc } from './libc.ts';

/** readdir(3): the `d_type` values that a caller may want to sort by; 0 is unknown. */
export const D_TYPE = { unknown: 0, characterDevice: 2, directory: 4, regular: 8 } as const;

/** True for names that come before all others. `type` is `d_type`. */
export type First = (type: number, name: Buffer) => boolean;

export interface Listing {
  /** One name an element, bytes as Latin-1 characters; those that are `first`, then the others, each bytewise sorted. */
  readonly names: string[];
  /** Those of `names` that were directories when they were listed, where the file system says so. */
  readonly directories: ReadonlySet<string>;
  /** What `names` take, as `nameBytes` counts it. */
  readonly bytes: number;
  /** Names beyond the limit, which are not in `names`. */
  readonly left: number;
  /** False when reading may have updated the directory's access time. */
  readonly keepsAtime: boolean;
}

/** getdents64(2) fills it; larger gains nothing. */
const BATCH_BYTES = 256 * 1024;
/** How long names are read before timers and sockets of the agent get their turn. */
const TURN_MS = 10;
/** Names beyond the limit that are still counted; somebody may be making them as fast as they are read. */
const COUNTED_BEYOND = 1_000_000;
/** struct linux_dirent64, getdents64(2). */
const RECORD = { lengthAt: 16, typeAt: 18, nameAt: 19 } as const;

/** What a name takes in memory: V8's header of a string and its place in a list, rounded up. */
export function nameBytes(name: string): number {
  return name.length + 32;
}

/** What V8 takes for one more element of a set. */
const DIRECTORY_BYTES = 32;

/** Names as they come, those that are `first` apart from the others. */
class Gathered {
  readonly first: string[] = [];
  readonly others: string[] = [];
  readonly directories = new Set<string>();
  readonly #limitBytes: number;
  bytes = 0;
  left = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(name: string, isFirst: boolean, type: number): void {
    const isDirectory = type === D_TYPE.directory;
    const bytes = nameBytes(name) + (isDirectory ? DIRECTORY_BYTES : 0);
    if (this.bytes + bytes > this.#limitBytes) {
      this.left += 1;
      return;
    }
    this.bytes += bytes;
    if (isDirectory) this.directories.add(name);
    (isFirst ? this.first : this.others).push(name);
  }

  /** One-byte strings compare by code unit, which is bytewise. */
  sorted(): string[] {
    const others = this.others.sort();
    return this.first.length === 0 ? others : this.first.sort().concat(others);
  }
}

/**
 * Every name in a directory but `.` and `..`, as many as take `limit.bytes` of memory (see `nameBytes`); attributes are not held.
 * Throws a system error.
 */
export async function listNames(
  directory: Directory,
  first: First,
  limit: { readonly bytes: number },
): Promise<Listing> {
  const libc = tryLibc();
  const gathered = new Gathered(limit.bytes);
  if (libc === undefined) readByPath(directory, first, gathered);
  else await readByDescriptor(libc, directory, first, gathered);
  const { bytes, left, directories } = gathered;
  return { names: gathered.sorted(), directories, bytes, left, keepsAtime: libc !== undefined };
}

async function readByDescriptor(libc: Libc, directory: Directory, first: First, into: Gathered): Promise<void> {
  const batch = Buffer.allocUnsafe(BATCH_BYTES);
  const fd = directory.fd;
  for (let turnMs = performance.now(); ; ) {
    const filled = libc.getdents64(fd, batch);
    if (filled === 0 || into.left > COUNTED_BEYOND) return;
    splitBatch(batch.subarray(0, filled), first, into);
    if (performance.now() - turnMs < TURN_MS) continue;
    await setImmediate();
    turnMs = performance.now();
  }
}

/** The records of one getdents64(2) answer. Exported for its tests. */
export function splitBatch(batch: Buffer, first: First, into: Pick<Gathered, 'add'>): void {
  for (let at = 0; at + RECORD.nameAt < batch.length; ) {
    const length = batch.readUInt16LE(at + RECORD.lengthAt);
    if (length <= RECORD.nameAt) return;
    const from = at + RECORD.nameAt;
    const name = batch.subarray(from, batch.indexOf(0, from));
    const type = batch[at + RECORD.typeAt] ?? 0;
    if (!isDots(name)) into.add(name.toString('latin1'), first(type, name), type);
    at += length;
  }
}

function isDots(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** Without a C library: types are unknown, and the directory is opened a second time, without O_NOATIME. */
function readByPath(directory: Directory, first: First, into: Gathered): void {
  for (const name of readdirSync(`/proc/self/fd/${directory.fd}`, 'latin1')) {
    into.add(name, first(D_TYPE.unknown, Buffer.from(name, 'latin1')), D_TYPE.unknown);
  }
}
