import { ExhibitError } from '../error.ts';
import { Chunk, type Encode, RECORD_HEADER_BYTES } from './record.ts';
import type { Spill } from './spill.ts';

/** Sorted records, one after the other, in a spill. */
export interface Run {
  readonly start: number;
  readonly end: number;
}

/** What is read of a run at a time. */
const WINDOW_BYTES = 128 * 1024;
const CHUNK_BYTES = 256 * 1024;

/** All records of the runs in order, encoded; of equal times the earlier run's come first. A chunk holds until the next. */
export async function* mergeRuns(spill: Spill, runs: readonly Run[], encode: Encode): AsyncGenerator<Uint8Array> {
  const heap: Cursor[] = [];
  for (const [order, run] of runs.entries()) {
    const cursor = new Cursor(spill, run, order);
    if (await cursor.load()) heap.push(cursor);
  }
  for (let at = heap.length >> 1; at >= 0; at -= 1) sink(heap, at);
  const chunk = new Chunk(CHUNK_BYTES);
  for (let top = heap[0]; top !== undefined; top = heap[0]) {
    const { record } = top;
    while (!chunk.add(record, encode)) yield chunk.take();
    if (!top.step() && !(await top.load())) {
      const last = heap.pop();
      if (last === undefined || heap.length === 0) break;
      heap[0] = last;
    }
    sink(heap, 0);
  }
  const rest = chunk.take();
  if (rest.length > 0) yield rest;
}

/** A place in one run. */
class Cursor {
  readonly #spill: Spill;
  readonly #end: number;
  readonly #order: number;
  #window = Buffer.allocUnsafe(WINDOW_BYTES);
  /** What of the run is in the window, and from where on. */
  #held = 0;
  #at = 0;
  #next: number;
  #recordEnd = 0;
  #high = 0;
  #low = 0;
  #nanos = 0;

  constructor(spill: Spill, run: Run, order: number) {
    this.#spill = spill;
    this.#next = run.start;
    this.#end = run.end;
    this.#order = order;
  }

  /** A view that holds until the next load. */
  get record(): Buffer {
    return this.#window.subarray(this.#at, this.#recordEnd);
  }

  /** False when the next record is not in the window: load. */
  step(): boolean {
    this.#at = this.#recordEnd;
    return this.#look();
  }

  /** Moves the window on to the next record; false at the run's end. */
  async load(): Promise<boolean> {
    if (this.#at === this.#held && this.#next === this.#end) return false;
    for (;;) {
      this.#window.copy(this.#window, 0, this.#at, this.#held);
      this.#held -= this.#at;
      this.#at = 0;
      const room = this.#window.subarray(this.#held, this.#held + this.#end - this.#next);
      const bytes = await this.#spill.read(room, this.#next);
      this.#held += bytes;
      this.#next += bytes;
      if (this.#look()) return true;
      if (bytes < room.length || this.#next === this.#end) {
        throw new ExhibitError('internal', 'a run of sorted lines ends inside a line');
      }
      const larger = Buffer.allocUnsafe(this.#window.length * 2);
      this.#window.copy(larger, 0, 0, this.#held);
      this.#window = larger;
    }
  }

  comesBefore(other: Cursor): boolean {
    const by = this.#high - other.#high || this.#low - other.#low || this.#nanos - other.#nanos;
    return by < 0 || (by === 0 && this.#order < other.#order);
  }

  #look(): boolean {
    const header = this.#at + RECORD_HEADER_BYTES;
    if (header > this.#held) return false;
    const end = header + this.#window.readUInt32LE(this.#at + 12);
    if (end > this.#held) return false;
    this.#recordEnd = end;
    this.#high = this.#window.readInt32LE(this.#at);
    this.#low = this.#window.readUInt32LE(this.#at + 4);
    this.#nanos = this.#window.readUInt32LE(this.#at + 8);
    return true;
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
