import { ExhibitError } from '../error.ts';
import { mergeRuns, type Run } from './merge.ts';
import {
  Chunk,
  copyRecord,
  type Encode,
  type LineShape,
  lineEncoder,
  RECORD_HEADER_BYTES,
  sortKeyOf,
} from './record.ts';
import { openSpill, type Spill } from './spill.ts';

/**
 * Sorts lines by time in bounded memory. Lines are gathered in an arena; when it is full they are sorted and spilled as a run,
 * and at the end the runs are merged. Lines of the same time stay in the order in which they were added.
 */
export interface LineSorter extends AsyncDisposable {
  /** `ns` is what `line` is sorted by. Wait for the promise, when there is one. */
  add(ns: bigint, line: string): Promise<void> | undefined;
  /** All lines in order, many in a chunk, which holds until the next. Once; nothing can be added after it. */
  sorted(shape: LineShape): AsyncGenerator<Uint8Array>;
}

export interface SorterOptions {
  /** Where runs are spilled; a file there is made only when it is needed. */
  readonly folder: string;
  /** Bytes of lines that are held. */
  readonly arenaBytes?: number;
}

/** Some 35,000 lines; sorting them takes a twentieth of a second. */
const ARENA_BYTES = 16 * 1024 * 1024;
/** Every one has a window in memory while they are merged. */
const MAX_RUNS = 256;
/** Room in the arena's index: lines of ours are longer. */
const LEAST_LINE_BYTES = 128;
const CHUNK_BYTES = 256 * 1024;

export function createSorter({ folder, arenaBytes = ARENA_BYTES }: SorterOptions): LineSorter {
  const arena = new Arena(arenaBytes);
  let spill: Spill | undefined;
  let runs: Run[] = [];

  const writeRun = async (into: Spill, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Run> => {
    const start = into.sizeBytes;
    for await (const chunk of chunks) await into.append(chunk);
    return { start, end: into.sizeBytes };
  };
  const flush = async (): Promise<Spill> => {
    spill ??= await openSpill(folder);
    runs.push(await writeRun(spill, arena.sorted(copyRecord)));
    arena.clear();
    // One run of all of them: it holds what was added first, so it stays the first.
    if (runs.length >= MAX_RUNS) runs = [await writeRun(spill, mergeRuns(spill, runs, copyRecord))];
    return spill;
  };
  return {
    add(ns, line) {
      if (arena.add(ns, line)) return undefined;
      return flush().then(() => {
        if (!arena.add(ns, line)) throw new ExhibitError('internal', `a line of ${line.length} characters`);
      });
    },
    async *sorted(shape) {
      const encode = lineEncoder(shape);
      if (spill === undefined) return yield* arena.sorted(encode);
      yield* mergeRuns(await flush(), runs, encode);
    },
    async [Symbol.asyncDispose]() {
      await spill?.[Symbol.asyncDispose]();
    },
  };
}

/** Records one after the other, and what they are sorted by in columns beside them. */
class Arena {
  readonly #bytes: Buffer;
  readonly #high: Int32Array;
  readonly #low: Uint32Array;
  readonly #nanos: Uint32Array;
  /** One more than there are records. */
  readonly #start: Uint32Array;
  #records = 0;

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
    const index = this.#records;
    const start = this.#start[index] ?? 0;
    const at = start + RECORD_HEADER_BYTES;
    const room = this.#bytes.length - at;
    // A character is at most three bytes; only near the end it is worth counting them.
    if (index >= this.#high.length || (line.length * 3 > room && Buffer.byteLength(line) > room)) return false;
    const { high, low, nanos } = sortKeyOf(ns);
    const lineBytes = this.#bytes.write(line, at, 'utf8');
    this.#bytes.writeInt32LE(high, start);
    this.#bytes.writeUInt32LE(low, start + 4);
    this.#bytes.writeUInt32LE(nanos, start + 8);
    this.#bytes.writeUInt32LE(lineBytes, start + 12);
    this.#high[index] = high;
    this.#low[index] = low;
    this.#nanos[index] = nanos;
    this.#start[index + 1] = at + lineBytes;
    this.#records = index + 1;
    return true;
  }

  clear(): void {
    this.#records = 0;
  }

  /** In chunks that hold until the next. */
  *sorted(encode: Encode): Generator<Uint8Array> {
    const chunk = new Chunk(CHUNK_BYTES);
    for (const index of this.#order()) {
      const record = this.#bytes.subarray(this.#start[index], this.#start[index + 1]);
      while (!chunk.add(record, encode)) yield chunk.take();
    }
    const rest = chunk.take();
    if (rest.length > 0) yield rest;
  }

  #order(): Uint32Array {
    const [high, low, nanos] = [this.#high, this.#low, this.#nanos];
    const order = new Uint32Array(this.#records);
    for (let index = 0; index < order.length; index += 1) order[index] = index;
    return order.sort(
      (a, b) =>
        (high[a] ?? 0) - (high[b] ?? 0) || (low[a] ?? 0) - (low[b] ?? 0) || (nanos[a] ?? 0) - (nanos[b] ?? 0) || a - b,
    );
  }
}
