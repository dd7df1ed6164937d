/**
 * The thread that reads small files ahead of a walk: each name as the walk itself would, opened with O_PATH, looked at, opened
 * again through /proc/self/fd, its attributes and content read, and looked at once more. Whatever is no small regular file that
 * could be read at once and stayed as it was is left to the walk, which begins from the name. Holds no descriptor from one name to the next.
 */
import { hash } from 'node:crypto';
import { constants } from 'node:fs';
import { createRequire } from 'node:module';
import { constants as system } from 'node:os';
import { workerData } from 'node:worker_threads';
import type koffi from 'koffi';
import { BASIC_AND_BIRTH, EMPTY_PATH, LIBRARIES, O_CLOEXEC } from './libc.ts';
import { COUNTER, NUMBER, ringOf, SLOT, SLOTS, type Slot } from './read-ahead-slots.ts';

export interface ReadAheadData {
  readonly room: SharedArrayBuffer;
  /** An O_PATH descriptor of /proc/self/fd. */
  readonly descriptors: number;
}

/** open(2), the same number on x86-64 and arm64; Node does not name it. */
const O_PATH = 0o10000000;
const { O_RDONLY, O_NOFOLLOW, O_NOATIME, O_NONBLOCK, O_NOCTTY, S_IFMT, S_IFREG } = constants;
const LOOK = O_PATH | O_NOFOLLOW | O_CLOEXEC;
const READ = O_RDONLY | O_NOATIME | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
const LENGTH_BYTES = 4;

type Call = (...args: unknown[]) => unknown;

/** Plain calls, which return -1 for an error: it makes no difference here which. */
function bind() {
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  for (const name of LIBRARIES) {
    try {
      const library = ffi.load(name);
      const call = (declaration: string): Call => library.func(declaration);
      return {
        errno: () => ffi.errno(),
        openat: call('int openat(int fd, const void *path, int flags)'),
        statx: call('int statx(int fd, const void *path, int flags, unsigned int mask, void *answer)'),
        flistxattr: call('intptr_t flistxattr(int fd, void *list, size_t size)'),
        fgetxattr: call('intptr_t fgetxattr(int fd, const void *name, void *value, size_t size)'),
        pread: call('intptr_t pread(int fd, void *into, size_t size, int64_t offset)'),
        close: call('int close(int fd)'),
      };
    } catch {}
  }
  throw new Error('no C library could be loaded');
}

const { room, descriptors } = workerData as ReadAheadData;
const { counters, states, slots } = ringOf(room);
const calls = bind();
const EMPTY = Buffer.from([0]);
const digits = Buffer.alloc(16);
const again = new Uint32Array(64);
/** Of statx(2)'s answer in units of 4 bytes, as host/stat.ts has it: size, ctime and mtime; regular-file.ts says why. */
const SAME = [10, 11, 24, 25, 26, 28, 29, 30] as const;

function run(): void {
  Atomics.store(counters, COUNTER.ready, 1);
  for (let number = 0; Atomics.load(counters, COUNTER.stop) === 0; ) {
    if (number === Atomics.load(counters, COUNTER.given)) {
      Atomics.wait(counters, COUNTER.given, number);
      continue;
    }
    const index = number % SLOTS;
    const slot = slots[index];
    // Otherwise the walk was here first.
    if (slot !== undefined && Atomics.compareExchange(states, index, SLOT.waiting, SLOT.busy) === SLOT.waiting) {
      Atomics.store(states, index, isReadWhole(slot) ? SLOT.read : SLOT.left);
    }
    number += 1;
    Atomics.store(counters, COUNTER.done, number);
    if (Atomics.load(counters, COUNTER.wanted) === number) Atomics.notify(counters, COUNTER.done);
  }
}

function isReadWhole(slot: Slot): boolean {
  const look = Number(calls.openat(slot.numbers[NUMBER.folder], slot.name, LOOK));
  if (look < 0) return false;
  let readable = -1;
  try {
    if (!isSmallFile(look, slot)) return false;
    digits[digits.write(String(look), 'latin1')] = 0;
    readable = Number(calls.openat(descriptors, digits, READ));
    return readable >= 0 && readXattrs(readable, slot) && readContent(readable, slot);
  } catch {
    return false;
  } finally {
    if (readable >= 0) calls.close(readable);
    calls.close(look);
  }
}

/** st_mode has 16 bits, in the lower half of the unit. */
function isSmallFile(fd: number, { stat, numbers, content }: Slot): boolean {
  if (calls.statx(fd, EMPTY, EMPTY_PATH, BASIC_AND_BIRTH, stat) !== 0) return false;
  const mode = stat[7] ?? 0;
  const low = stat[10] ?? 0;
  const high = stat[11];
  numbers[NUMBER.contentBytes] = low;
  return (mode & 0xffff & S_IFMT) === S_IFREG && high === 0 && low <= content.length;
}

function readXattrs(fd: number, { xattrs, numbers }: Slot): boolean {
  const listed = Number(calls.flistxattr(fd, xattrs, xattrs.length));
  if (listed < 0 && calls.errno() !== system.errno.ENOTSUP) return false;
  numbers[NUMBER.xattrNamesBytes] = Math.max(0, listed);
  let into = listed;
  for (let at = 0; at < listed; ) {
    const end = xattrs.indexOf(0, at);
    if (end === -1 || into + LENGTH_BYTES >= xattrs.length) return false;
    const room = xattrs.subarray(into + LENGTH_BYTES);
    const length = Number(calls.fgetxattr(fd, xattrs.subarray(at, end + 1), room, room.length));
    if (length < 0) return false;
    xattrs.writeUInt32LE(length, into);
    into += LENGTH_BYTES + length;
    at = end + 1;
  }
  return true;
}

function readContent(fd: number, { content, numbers, sha256, stat }: Slot): boolean {
  const sizeBytes = numbers[NUMBER.contentBytes] ?? 0;
  const into = content.subarray(0, sizeBytes);
  if (sizeBytes > 0 && calls.pread(fd, into, sizeBytes, 0) !== sizeBytes) return false;
  if (calls.statx(fd, EMPTY, EMPTY_PATH, BASIC_AND_BIRTH, again) !== 0) return false;
  for (const at of SAME) if (stat[at] !== again[at]) return false;
  sha256.write(hash('sha256', into, 'hex'), 'latin1');
  return true;
}

run();
