/**
 * One of the threads that copy memory while a target stands still: it takes jobs, one after the other, and answers each when
 * it is done. It allocates nothing on the way and never throws for what it cannot read.
 */
import { createCipheriv } from 'node:crypto';
import fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { errnoOf } from '../../evidence/error.ts';
import { copyBytes } from '../../evidence/zstd.ts';
import { type RoomShare, reserve } from './copy-room.ts';
import { vmCalls } from './vm.ts';

/** The first message; the thread may have waited for it long. */
export interface ThreadData {
  readonly room: RoomShare;
  readonly pageBytes: number;
  /** One Int32; not 0: give up what is not begun. */
  readonly stop: SharedArrayBuffer;
  /** Of the tags, see `tagOf`. */
  readonly key: Uint8Array;
}

/** Where the bytes come from. Ranges are pairs of address (or offset in a file) and length. */
export interface Source {
  /** For process_vm_readv; 0: only `fd` will do. */
  readonly pid: number;
  /** /proc/PID/mem, or a file. */
  readonly fd: number;
  readonly ranges: BigUint64Array;
}

export type ThreadJob =
  /** Makes the pages of a part of the room present. */
  | { readonly kind: 'touch'; readonly id: number; readonly at: number; readonly bytes: number }
  /** Copies all ranges, one after the other, to the place `at`. */
  | ({ readonly kind: 'copy'; readonly id: number; readonly at: number } & Source)
  /** Compares each range with its tag, 16 bytes each; copies those that differ to new places in the room. */
  | ({ readonly kind: 'compare'; readonly id: number; readonly tags: Uint8Array } & Source);

export interface ThreadAnswer {
  readonly id: number;
  /** Milliseconds since the epoch. */
  readonly endedAtMs: number;
  readonly failures: readonly Failure[];
  /** Of a `compare`: ranges that differ, by index, and where they are now; no place: the room is full. */
  readonly changed: readonly { readonly index: number; readonly at: number | undefined }[];
}

/** Bytes that were not read. `left`: not tried, or not tried any more. `ended`: the address space is gone. */
export interface Failure {
  readonly start: bigint;
  readonly bytes: number;
  readonly reason: 'left' | 'ended' | { readonly errno: string | undefined };
}

/** Ranges one process_vm_readv takes: UIO_MAXIOV of include/uapi/linux/uio.h. */
const RANGES_A_CALL = 1024;
/** Bytes one call may copy: some 1 ms, after which a stop is heard. */
const BYTES_A_CALL = 4 * 1024 * 1024;
/**
 * Pages of one job that may fail while the target stands still, 14 us each. What follows is left, to be tried again after
 * the thaw, where it costs the target nothing.
 */
const FAILURES_A_JOB = 512;

/** Bytes of a tag. */
export const TAG_BYTES = 16;
/** GMAC wants a nonce; tags of one key and nonce are only compared, and leave neither the agent nor its memory. */
const NONCE = new Uint8Array(12);

/**
 * A fingerprint of memory under a key that is made for each capture: GMAC (NIST SP 800-38D), which runs near memory speed.
 * Without the key nobody can make other bytes of the same tag; by chance two differ in 2^128 at least 2^128 / blocks times.
 */
export function tagOf(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  const mac = createCipheriv('aes-128-gcm', key, NONCE);
  mac.setAAD(bytes);
  mac.final();
  return mac.getAuthTag();
}

class Reader {
  readonly #vm = vmCalls();
  readonly #pageBytes: number;
  readonly #stop: Int32Array;
  readonly #window = new BigUint64Array(RANGES_A_CALL * 2);
  #failures: Failure[] = [];
  #tries = 0;

  constructor(data: ThreadData) {
    this.#pageBytes = data.pageBytes;
    this.#stop = new Int32Array(data.stop);
  }

  addressOf(view: Uint8Array): bigint {
    return this.#vm?.addressOf(view) ?? 0n;
  }

  touch(view: Uint8Array): void {
    if (view.byteLength === 0) return;
    if (this.#vm !== undefined && this.#vm.advise(this.addressOf(view), view.byteLength, 'populate') === 0) return;
    // One byte a page is enough: it is the page fault that costs.
    for (let at = 0; at < view.byteLength; at += this.#pageBytes) view[at] = 0;
  }

  begin(): void {
    this.#failures = [];
    this.#tries = 0;
  }

  get failures(): readonly Failure[] {
    return this.#failures;
  }

  /** Fills `into` with the ranges from `first` up to, not including, `last`; false when some of it is missing. */
  read(source: Source, first: number, last: number, into: Uint8Array, address: bigint): boolean {
    const before = this.#failures.length;
    let place = 0;
    let index = first;
    let done = 0;
    const lengthOf = (at: number): number => Number(source.ranges[at * 2 + 1] ?? 0n);
    const advance = (bytes: number): void => {
      place += bytes;
      done += bytes;
      while (index < last && done >= lengthOf(index)) {
        done -= lengthOf(index);
        index += 1;
      }
    };
    while (index < last) {
      const start = (source.ranges[index * 2] ?? 0n) + BigInt(done);
      if (Atomics.load(this.#stop, 0) !== 0 || this.#tries > FAILURES_A_JOB) {
        const bytes = lengthOf(index) - done;
        this.#failures.push({ start, bytes, reason: 'left' });
        advance(bytes);
        continue;
      }
      const quick = source.pid === 0 ? 0 : this.#quick(source, { index, last, done }, address + BigInt(place));
      if (quick > 0) advance(quick);
      else advance(this.#slow(source.fd, start, into.subarray(place, place + lengthOf(index) - done)));
    }
    return this.#failures.length === before;
  }

  /** By process_vm_readv; 0 when the first page cannot be read this way. */
  #quick(source: Source, from: { index: number; last: number; done: number }, to: bigint): number {
    if (this.#vm === undefined) return 0;
    let count = 0;
    let bytes = 0;
    for (let index = from.index; index < from.last && count < RANGES_A_CALL && bytes < BYTES_A_CALL; index += 1) {
      const skip = index === from.index ? from.done : 0;
      const size = Math.min(Number(source.ranges[index * 2 + 1] ?? 0n) - skip, BYTES_A_CALL - bytes);
      this.#window[count * 2] = (source.ranges[index * 2] ?? 0n) + BigInt(skip);
      this.#window[count * 2 + 1] = BigInt(size);
      bytes += size;
      count += 1;
    }
    const got = this.#vm.readProcess(source.pid, to, this.#window, count);
    return got <= 0 ? 0 : got - (got % this.#pageBytes);
  }

  /** By a read of the file; a page that cannot be read is a failure. Returns how many bytes are settled. */
  #slow(fd: number, start: bigint, into: Uint8Array): number {
    const wanted = into.subarray(0, BYTES_A_CALL);
    let reason: Failure['reason'] = 'ended';
    let lost = into.byteLength;
    try {
      const got = fs.readSync(fd, wanted, 0, wanted.byteLength, start);
      const whole = got - (got % this.#pageBytes);
      if (whole > 0) return whole;
    } catch (error) {
      reason = { errno: errnoOf(error) };
      lost = Math.min(this.#pageBytes, into.byteLength);
      this.#tries += 1;
    }
    const last = this.#failures.at(-1);
    const joins = last !== undefined && last.start + BigInt(last.bytes) === start && isSame(last.reason, reason);
    if (joins) this.#failures[this.#failures.length - 1] = { ...last, bytes: last.bytes + lost };
    else this.#failures.push({ start, bytes: lost, reason });
    into.fill(0, 0, lost);
    return lost;
  }
}

function isSame(a: Failure['reason'], b: Failure['reason']): boolean {
  return typeof a === 'object' && typeof b === 'object' ? a.errno === b.errno : a === b;
}

function serve(port: NonNullable<typeof parentPort>, data: ThreadData): void {
  const reader = new Reader(data);
  const room = new Uint8Array(data.room.shared, data.room.base, data.room.limitBytes);
  const address = data.room.limitBytes === 0 ? 0n : reader.addressOf(room);
  // Of its own, but shared: memory of other buffers may move.
  let scratch = new Uint8Array(new SharedArrayBuffer(0));

  const compare = (job: Extract<ThreadJob, { kind: 'compare' }>): ThreadAnswer['changed'] => {
    const changed: { index: number; at: number | undefined }[] = [];
    for (let index = 0; index * 2 < job.ranges.length; index += 1) {
      const bytes = Number(job.ranges[index * 2 + 1] ?? 0n);
      if (scratch.byteLength < bytes) scratch = new Uint8Array(new SharedArrayBuffer(bytes));
      const own = scratch.subarray(0, bytes);
      // What cannot be read is no longer what it was: it has no place, and a failure says why.
      const isWhole = reader.read(job, index, index + 1, own, reader.addressOf(own));
      const tag = job.tags.subarray(index * TAG_BYTES, (index + 1) * TAG_BYTES);
      if (isWhole && Buffer.compare(tagOf(data.key, own), tag) === 0) continue;
      const place = reserve(data.room, bytes, data.pageBytes);
      const fits = place !== undefined && place.bytes === bytes;
      if (fits) copyBytes(own, room, place.at);
      changed.push({ index, at: fits ? place.at : undefined });
    }
    return changed;
  };

  port.on('message', (job: ThreadJob) => {
    reader.begin();
    let changed: ThreadAnswer['changed'] = [];
    if (job.kind === 'touch') reader.touch(room.subarray(job.at, job.at + job.bytes));
    else if (job.kind === 'compare') changed = compare(job);
    else reader.read(job, 0, job.ranges.length / 2, room.subarray(job.at), address + BigInt(job.at));
    const answer: ThreadAnswer = { id: job.id, endedAtMs: Date.now(), failures: reader.failures, changed };
    port.postMessage(answer);
  });
  port.postMessage('ready');
}

const port = parentPort;
port?.once('message', (data: ThreadData) => serve(port, data));
