import { type BigIntStats, fstatSync } from 'node:fs';
import { tryLibc } from './libc.ts';

/** What an inode says of itself, as Node's own: times in ns, `blocks` of 512 bytes; `birthtimeNs` 0 where it is not kept. */
export type Stat = Pick<
  BigIntStats,
  | 'dev'
  | 'ino'
  | 'mode'
  | 'nlink'
  | 'uid'
  | 'gid'
  | 'rdev'
  | 'size'
  | 'blocks'
  | 'atimeNs'
  | 'mtimeNs'
  | 'ctimeNs'
  | 'birthtimeNs'
>;

/**
 * Of what a descriptor stands for, O_PATH ones included. Not by Node where there is another way: its answer holds twice as
 * much, and a walk asks twice for each of a million files. Throws a system error.
 */
export function statOf(fd: number): Stat {
  const libc = tryLibc();
  if (libc?.statx === undefined) return fstatSync(fd, { bigint: true });
  libc.statx(fd, answer.bytes);
  return answer.stat();
}

/**
 * struct statx of statx(2), 256 bytes, the same on all machines: its fields by their place in units of 8, 4 and 2 bytes. It
 * lies in `buffer` at `at`, a multiple of 8.
 */
export class StatxAnswer {
  readonly bytes: Uint8Array;
  readonly #words: BigInt64Array;
  readonly #halves: Uint32Array;
  readonly #shorts: Uint16Array;

  constructor(buffer: ArrayBufferLike, at = 0) {
    this.bytes = new Uint8Array(buffer, at, STATX_BYTES);
    this.#words = new BigInt64Array(buffer, at, STATX_BYTES / 8);
    this.#halves = new Uint32Array(buffer, at, STATX_BYTES / 4);
    this.#shorts = new Uint16Array(buffer, at, STATX_BYTES / 2);
  }

  stat(): Stat {
    const words = this.#words;
    const halves = this.#halves;
    return {
      dev: deviceOf(halves[34] ?? 0, halves[35] ?? 0),
      ino: BigInt.asUintN(64, words[4] ?? 0n),
      mode: BigInt(this.#shorts[14] ?? 0),
      nlink: BigInt(halves[4] ?? 0),
      uid: BigInt(halves[5] ?? 0),
      gid: BigInt(halves[6] ?? 0),
      rdev: deviceOf(halves[32] ?? 0, halves[33] ?? 0),
      size: words[5] ?? 0n,
      blocks: words[6] ?? 0n,
      atimeNs: this.#nsAt(8),
      birthtimeNs: this.#nsAt(10),
      ctimeNs: this.#nsAt(12),
      mtimeNs: this.#nsAt(14),
    };
  }

  /** Seconds, which may be negative, and nanoseconds. */
  #nsAt(word: number): bigint {
    return (this.#words[word] ?? 0n) * 1_000_000_000n + BigInt(this.#halves[word * 2 + 2] ?? 0);
  }
}

const STATX_BYTES = 256;
const answer = new StatxAnswer(new ArrayBuffer(STATX_BYTES));

let last = { major: -1, minor: -1, device: 0n };

/** As makedev(3) packs it; mostly it is none, or that of the last one. */
function deviceOf(major: number, minor: number): bigint {
  if (major === 0 && minor === 0) return 0n;
  if (major !== last.major || minor !== last.minor) {
    const [high, low] = [BigInt(major), BigInt(minor)];
    const device = ((high & ~0xfffn) << 32n) | ((high & 0xfffn) << 8n) | ((low & ~0xffn) << 12n) | (low & 0xffn);
    last = { major, minor, device };
  }
  return last.device;
}
