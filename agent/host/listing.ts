import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Directory } from './directory.ts';
import { type Libc, tryLibc } from './libc.ts';

/** readdir(3): the `d_type` values that a caller may want to sort by; 0 is unknown. */
export const D_TYPE = { unknown: 0, characterDevice: 2, regular: 8 } as const;

/** True for names that come before all others. `type` is `d_type`. */
export type First = (type: number, name: Buffer) => boolean;

export interface Listing {
  /** One name an element, bytes as Latin-1 characters; those that are `first`, then the others, each bytewise sorted. */
  readonly names: string[];
  /** Names beyond `limit`, which are not in `names`. */
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
const BEFORE = 1;
const AFTER = 2;
/** struct linux_dirent64, getdents64(2). */
const RECORD = { lengthAt: 16, typeAt: 18, nameAt: 19 } as const;

/**
 * Every name in a directory but `.` and `..`. A name costs about 40 bytes here, so a million entries are held without
 * their attributes. Throws a system error.
 */
export async function listNames(directory: Directory, first: First, limit: number): Promise<Listing> {
  const libc = tryLibc();
  const found =
    libc === undefined ? readByPath(directory, first) : await readByDescriptor(libc, directory, first, limit);
  // One-byte strings compare by code unit, which is bytewise; the rank is their first character.
  const names = found.names.sort();
  for (let index = 0; index < names.length; index += 1) names[index] = (names[index] ?? '').slice(1);
  return { ...found, names };
}

async function readByDescriptor(libc: Libc, directory: Directory, first: First, limit: number): Promise<Listing> {
  const names: string[] = [];
  const batch = Buffer.allocUnsafe(BATCH_BYTES);
  const fd = directory.fd;
  let left = 0;
  for (let turnMs = performance.now(); ; ) {
    const filled = libc.getdents64(fd, batch);
    if (filled === 0 || left > COUNTED_BEYOND) return { names, left, keepsAtime: true };
    for (const ranked of splitBatch(batch.subarray(0, filled), first)) {
      if (names.length < limit) names.push(ranked);
      else left += 1;
    }
    if (performance.now() - turnMs < TURN_MS) continue;
    await setImmediate();
    turnMs = performance.now();
  }
}

/**
 * The records of one getdents64(2) answer as rank and name. The rank overwrites `d_type`, the byte before the name, so
 * that both become one string. Exported for its tests.
 */
export function* splitBatch(batch: Buffer, first: First): Generator<string> {
  for (let at = 0; at + RECORD.nameAt < batch.length; ) {
    const length = batch.readUInt16LE(at + RECORD.lengthAt);
    if (length <= RECORD.nameAt) return;
    const from = at + RECORD.nameAt;
    const name = batch.subarray(from, batch.indexOf(0, from));
    if (!isDots(name)) {
      batch[at + RECORD.typeAt] = first(batch[at + RECORD.typeAt] ?? 0, name) ? BEFORE : AFTER;
      yield batch.toString('latin1', at + RECORD.typeAt, from + name.length);
    }
    at += length;
  }
}

function isDots(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** Without a C library: types are unknown, and the directory is opened a second time, without O_NOATIME. */
function readByPath(directory: Directory, first: First): Listing {
  const names = readdirSync(`/proc/self/fd/${directory.fd}`, 'latin1').map((name) => {
    const rank = first(D_TYPE.unknown, Buffer.from(name, 'latin1')) ? BEFORE : AFTER;
    return String.fromCharCode(rank) + name;
  });
  return { names, left: 0, keepsAtime: false };
}
