import { ExhibitError } from '../error.ts';
import { mergeRuns } from './merge.ts';
import { floorDivide } from './moment.ts';
import { BLOCK_BYTES, openSpill, RECORD_HEADER_BYTES, type Run, type Spill } from './spill.ts';

/**
 * Sorts lines by time in bounded memory. Lines are gathered in an arena; when it is full they are sorted and spilled as a run,
 * and at the end the runs are merged. Lines of the same time stay in the order in which they were added.
 */
export interface LineSorter extends AsyncDisposable {
  /** `line` comes out as it is; `ns` is what it is sorted by. Wait for the promise, when there is one. */
  add(ns: bigint, line: string): Promise<void> | undefined;
  /** All lines in order, many in a chunk. Once; nothing can be added after it. */
  sorted(): AsyncGenerator<Uint8Array>;
}

export interface SorterOptions {
  /** Where runs are spilled; a file there is made only when it is needed. */
  readonly folder: string;
  /** Bytes of lines that are held. */
  readonly arenaBytes?: number;
}

/** Some 60,000 lines; sorting them takes a tenth of a second. */
const ARENA_BYTES = 32 * 1024 * 1024;
/** Every one has two blocks in memory while they are merged. */
const MAX_RUNS = 128;
/** Room in the arena's index: lines of ours are longer. */
const LEAST_LINE_BYTES = 64;
const NS_PER_SECOND = 1_000_000_000n;
const LAST_SECOND = (1n << 63n) - 1n;
const FIRST_SECOND = -(1n << 63n);

export function createSorter({ folder, arenaBytes = ARENA_BYTES }: SorterOptions): LineSorter {
  const arena = new Arena(arenaBytes);
  let spill: Spill | undefined;
  let runs: Run[] = [];

  const flush = async (): Promise<void> => {
    spill ??= await openSpill(folder);
    runs.push(await spill.write(arena.blocks()));
    arena.clear();
    // One run of all of them: it holds the earliest added, so it stays the first.
    if (runs.length >= MAX_RUNS) runs = [await spill.write(mergeRuns(spill, runs, 'records'))];
  };
  return {
    add(ns, line) {
      if (arena.add(ns, line)) return undefined;
      return flush().then(() => {
        if (!arena.add(ns, line)) throw new ExhibitError('internal', `a line of ${line.length} characters`);
      });
    },
    async *sorted() {
      if (spill === undefined) return yield* arena.chunks();
      await flush();
      yield* mergeRuns(spill, runs, 'lines');
    },
    async [Symbol.asyncDispose]() {
      await spill?.[Symbol.asyncDispose]();
    },
  };
}

/** Lines one after the other, and what they are sorted by in columns beside them. */
class Arena {
  readonly #bytes: Buffer;
  readonly #high: Int32Array;
  readonly #low: Uint32Array;
  readonly #nanos: Uint32Array;
  /** One more than there are lines. */
  readonly #start: Uint32Array;
  #lines = 0;

  constructor(sizeBytes: number) {
    const most = Math.ceil(sizeBytes / LEAST_LINE_BYTES);
    this.#bytes = Buffer.allocUnsafe(sizeBytes);
    this.#high = new Int32Array(most);
    this.#low = new Uint32Array(most);
    this.#nanos = new Uint32Array(most);
    this.#start = new Uint32Array(most + 1);
  }

  /** False when there is no room. */
  add(ns: bigint, line: string): boolean {
    const index = this.#lines;
    const at = this.#start[index] ?? 0;
    const room = this.#bytes.length - at;
    // A character is at most three bytes; only near the end it is worth counting them.
    if (index >= this.#high.length || (line.length * 3 > room && Buffer.byteLength(line) > room)) return false;
    const seconds = floorDivide(ns, NS_PER_SECOND);
    const bounded = seconds > LAST_SECOND ? LAST_SECOND : seconds < FIRST_SECOND ? FIRST_SECOND : seconds;
    this.#high[index] = Number(bounded >> 32n);
    this.#low[index] = Number(bounded & 0xffffffffn);
    this.#nanos[index] = Number(ns - seconds * NS_PER_SECOND);
    this.#start[index + 1] = at + this.#bytes.write(line, at, 'utf8');
    this.#lines = index + 1;
    return true;
  }

  clear(): void {
    this.#lines = 0;
  }

  /** Records for a run, in order; each block is the reader's. */
  *blocks(): Generator<Uint8Array> {
    let block = Buffer.allocUnsafe(BLOCK_BYTES);
    let used = 0;
    for (const index of this.#order()) {
      const [start = 0, end = 0] = [this.#start[index], this.#start[index + 1]];
      const needed = RECORD_HEADER_BYTES + end - start;
      if (used + needed > block.length) {
        if (used > 0) yield block.subarray(0, used);
        block = Buffer.allocUnsafe(Math.max(BLOCK_BYTES, needed));
        used = 0;
      }
      block.writeInt32LE(this.#high[index] ?? 0, used);
      block.writeUInt32LE(this.#low[index] ?? 0, used + 4);
      block.writeUInt32LE(this.#nanos[index] ?? 0, used + 8);
      block.writeUInt32LE(end - start, used + 12);
      this.#bytes.copy(block, used + RECORD_HEADER_BYTES, start, end);
      used += needed;
    }
    if (used > 0) yield block.subarray(0, used);
  }

  /** The lines alone, in order. */
  *chunks(): Generator<Uint8Array> {
    for (const block of this.blocks()) yield linesOf(block);
  }

  #order(): Uint32Array {
    const [high, low, nanos] = [this.#high, this.#low, this.#nanos];
    const order = new Uint32Array(this.#lines);
    for (let index = 0; index < order.length; index += 1) order[index] = index;
    return order.sort(
      (a, b) =>
        (high[a] ?? 0) - (high[b] ?? 0) || (low[a] ?? 0) - (low[b] ?? 0) || (nanos[a] ?? 0) - (nanos[b] ?? 0) || a - b,
    );
  }
}

/** What the records of a block hold. */
function linesOf(records: Uint8Array): Uint8Array {
  const block = Buffer.from(records.buffer, records.byteOffset, records.length);
  const lines = Buffer.allocUnsafe(block.length);
  let used = 0;
  for (let at = 0; at < block.length; ) {
    const end = at + RECORD_HEADER_BYTES + block.readUInt32LE(at + 12);
    used += block.copy(lines, used, at + RECORD_HEADER_BYTES, end);
    at = end;
  }
  return lines.subarray(0, used);
}
