import { BLOCK_BYTES, type Block, RECORD_HEADER_BYTES, type Run, type Spill } from './spill.ts';

/** Merging runs of sorted records that lie in a spill. */

/** `records` for another run, or the `lines` alone; in chunks of about a block. Of equal times the earlier run's come first. */
export async function* mergeRuns(
  spill: Spill,
  runs: readonly Run[],
  what: 'records' | 'lines',
): AsyncGenerator<Uint8Array> {
  const heap: Cursor[] = [];
  for (const [order, run] of runs.entries()) {
    const cursor = new Cursor(spill, run, order);
    if (await cursor.load()) heap.push(cursor);
  }
  for (let at = heap.length >> 1; at >= 0; at -= 1) sink(heap, at);
  let chunk = Buffer.allocUnsafe(BLOCK_BYTES);
  let used = 0;
  for (let top = heap[0]; top !== undefined; top = heap[0]) {
    const bytes = top.take(what);
    if (used + bytes.length > chunk.length) {
      if (used > 0) yield chunk.subarray(0, used);
      chunk = Buffer.allocUnsafe(Math.max(BLOCK_BYTES, bytes.length));
      used = 0;
    }
    used += bytes.copy(chunk, used);
    if (top.atEnd && !(await top.load())) {
      const last = heap.pop();
      if (last === undefined || heap.length === 0) break;
      heap[0] = last;
    }
    sink(heap, 0);
  }
  if (used > 0) yield chunk.subarray(0, used);
}

/** A place in one run. The block after the one being read is on its way. */
class Cursor {
  readonly #spill: Spill;
  readonly #run: Run;
  readonly #order: number;
  #next = 0;
  #ahead: Promise<Buffer> | undefined;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;
  #high = 0;
  #low = 0;
  #nanos = 0;
  #lineBytes = 0;

  constructor(spill: Spill, run: Run, order: number) {
    this.#spill = spill;
    this.#run = run;
    this.#order = order;
  }

  get atEnd(): boolean {
    return this.#at >= this.#block.length;
  }

  /** The next block; false after the last. */
  async load(): Promise<boolean> {
    const block = this.#ahead ?? this.#begin();
    if (block === undefined) return false;
    this.#block = await block;
    this.#ahead = this.#begin();
    this.#at = 0;
    this.#readHeader();
    return true;
  }

  /** The record, or its line; a view that holds until the next load. */
  take(what: 'records' | 'lines'): Buffer {
    const end = this.#at + RECORD_HEADER_BYTES + this.#lineBytes;
    const bytes = this.#block.subarray(what === 'records' ? this.#at : this.#at + RECORD_HEADER_BYTES, end);
    this.#at = end;
    if (!this.atEnd) this.#readHeader();
    return bytes;
  }

  comesBefore(other: Cursor): boolean {
    const by = this.#high - other.#high || this.#low - other.#low || this.#nanos - other.#nanos;
    return by < 0 || (by === 0 && this.#order < other.#order);
  }

  #begin(): Promise<Buffer> | undefined {
    const block: Block | undefined = this.#run[this.#next];
    if (block === undefined) return undefined;
    this.#next += 1;
    const reading = this.#spill.read(block);
    reading.catch(() => undefined);
    return reading;
  }

  #readHeader(): void {
    this.#high = this.#block.readInt32LE(this.#at);
    this.#low = this.#block.readUInt32LE(this.#at + 4);
    this.#nanos = this.#block.readUInt32LE(this.#at + 8);
    this.#lineBytes = this.#block.readUInt32LE(this.#at + 12);
  }
}

/** Puts the cursor at `at` where it belongs in a heap whose first comes before all others. */
function sink(heap: Cursor[], at: number): void {
  const moving = heap[at];
  if (moving === undefined) return;
  for (let place = at; ; ) {
    const left = heap[2 * place + 1];
    const right = heap[2 * place + 2];
    const isRight = left !== undefined && right?.comesBefore(left) === true;
    const child = isRight ? right : left;
    if (child === undefined || !child.comesBefore(moving)) {
      heap[place] = moving;
      return;
    }
    heap[place] = child;
    place = 2 * place + (isRight ? 2 : 1);
  }
}
