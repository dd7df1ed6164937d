import { closeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { ExhibitError } from '../../evidence/error.ts';
import { type Directory, type Node, O_PATH } from './directory.ts';
import { tryLibc } from './libc.ts';
import { AT_FDCWD, openAt } from './open-at.ts';
import { COUNTER, NAME_ROOM, NUMBER, ringOf, SLOT, SLOTS, type Slot } from './read-ahead-slots.ts';
import type { ReadAheadData } from './read-ahead-thread.ts';
import { type Stat, StatxAnswer } from './stat.ts';
import { collect, NO_XATTRS, type Xattrs } from './xattr.ts';

/** A small regular file that was read before the walk came to it, and did not change meanwhile. */
export interface FileAhead {
  /** All of it; valid until the walk is asked for what comes next. */
  readonly content: Buffer;
  /** Of the content, lower-case hex. */
  readonly sha256: string;
  readonly xattrs: Xattrs;
}

/** Where a walk is in a directory. */
export interface NamesAhead {
  readonly directory: Directory;
  readonly names: readonly string[];
  /** Of `names`, by what the listing said. */
  readonly directories: ReadonlySet<string>;
}

/** Names taken before the thread is started: it costs some 50 ms of a processor and 10 MiB, and most containers change little. */
const START_AFTER = 1000;
/** Fewer names before the next directory are read as fast without help. */
const LEAST_NAMES = 4;
/** When the thread is caught up with, it gets so far ahead again before the walk goes on: to sleep and wake for each file costs more than reading it. */
const LEAD = 8;
/** Then it goes on with what there is: from a slow disk, timers and sockets of the agent wait long enough for one file. */
const PATIENCE_MS = 10;
/** The thread has a file open so long that it is taken for stuck, or dead; the walk goes on without it. */
const GIVE_UP_MS = 10_000;
const LIMITS = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32, stackSizeMb: 1 };

/**
 * Has small files read by a thread of its own before a walk comes to them, in the walk's order. It is only ever faster: what the
 * thread leaves, or has not begun with when the walk is there, is looked at by the walk. One walk at a time.
 */
export class ReadAhead implements AsyncDisposable {
  readonly #ring = ringOf();
  readonly #stats: readonly StatxAnswer[];
  readonly #startAfter: number;
  #state: 'idle' | 'starting' | 'ready' | 'given up' = 'idle';
  #isStuck = false;
  #asked = 0;
  #worker: Worker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #descriptors = -1;
  #of: NamesAhead | undefined;
  /** Of the directory that the names in the ring lie in. */
  #folder = -1;
  /** Of `#of.names`: the next one that the ring gets. */
  #next = 0;
  /** Names that came into the ring, and those of them that left it; the last that left may still be looked at. */
  #given = 0;
  #taken = 0;

  constructor(startAfter: number = START_AFTER) {
    this.#startAfter = startAfter;
    this.#stats = this.#ring.slots.map(({ stat }) => new StatxAnswer(stat.buffer, stat.byteOffset));
  }

  /** What is at the name with the index `at`, if it was read; it is disposed when the next is asked for. */
  take(of: NamesAhead, at: number): Node | undefined {
    if (this.#state !== 'ready' && !this.#starts()) return undefined;
    if (of !== this.#of && !this.#turnTo(of, at)) return undefined;
    this.#give(of, at);
    if (this.#taken === this.#given) return undefined;
    const number = this.#taken;
    this.#taken += 1;
    const index = number % SLOTS;
    const state = this.#settled(number);
    const slot = this.#ring.slots[index];
    const stat = this.#stats[index];
    if (state !== SLOT.read || slot === undefined || stat === undefined) return undefined;
    return new NodeAhead(stat.stat(), slot);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#of = undefined;
    const { counters } = this.#ring;
    Atomics.store(counters, COUNTER.stop, 1);
    Atomics.notify(counters, COUNTER.given);
    this.#state = 'given up';
    // It may use its descriptors yet.
    if (this.#isStuck) return;
    this.#worker?.ref();
    await this.#ended;
    for (const fd of [this.#folder, this.#descriptors]) if (fd >= 0) closeSync(fd);
  }

  #starts(): boolean {
    if (this.#state === 'starting' && Atomics.load(this.#ring.counters, COUNTER.ready) === 1) this.#state = 'ready';
    this.#asked += 1;
    if (this.#state === 'idle' && this.#asked > this.#startAfter) this.#start();
    return this.#state === 'ready';
  }

  #start(): void {
    this.#state = 'starting';
    const { room } = this.#ring;
    this.#descriptors = openAt(AT_FDCWD, Buffer.from('/proc/self/fd'), O_PATH);
    if (tryLibc()?.statx === undefined || this.#descriptors < 0 || availableParallelism() === 1) return;
    const workerData: ReadAheadData = { room, descriptors: this.#descriptors };
    const worker = new Worker(new URL('./read-ahead-thread.ts', import.meta.url), {
      workerData,
      resourceLimits: LIMITS,
    });
    this.#worker = worker;
    this.#ended = new Promise((resolve) => worker.once('exit', () => resolve()));
    // It cannot start, or has no memory left: the walk needs no more than to know.
    worker.once('error', () => {
      this.#state = 'given up';
    });
    worker.unref();
  }

  /** The names of another directory. */
  #turnTo(of: NamesAhead, at: number): boolean {
    for (let next = at; next < at + LEAST_NAMES; next += 1) {
      const name = of.names[next];
      if (name === undefined || of.directories.has(name)) return false;
    }
    if (!this.#drop()) return false;
    if (this.#folder >= 0) closeSync(this.#folder);
    // Its own, since the pool may close the directory's.
    this.#folder = of.directory.open(HERE, O_PATH);
    this.#of = this.#folder < 0 ? undefined : of;
    this.#next = at;
    return this.#folder >= 0;
  }

  /** Takes back what nobody will ask for: a directory lies between names that were not known to be one. */
  #drop(): boolean {
    for (; this.#taken < this.#given; this.#taken += 1) if (this.#settled(this.#taken) === undefined) return false;
    return true;
  }

  #give(of: NamesAhead, at: number): void {
    if (this.#given - this.#taken > SLOTS / 2) return;
    const before = this.#given;
    const { slots, states, counters } = this.#ring;
    this.#next = Math.max(this.#next, at);
    // One is kept for what was taken last, and may still be looked at.
    while (this.#given - this.#taken < SLOTS - 1) {
      const name = of.names[this.#next];
      const index = this.#given % SLOTS;
      const slot = slots[index];
      // What comes after a directory is read when that has been walked.
      if (slot === undefined || name === undefined || name.length >= NAME_ROOM || of.directories.has(name)) break;
      slot.name[slot.name.write(name, 'latin1')] = 0;
      slot.numbers[NUMBER.folder] = this.#folder;
      Atomics.store(states, index, SLOT.waiting);
      this.#given += 1;
      this.#next += 1;
    }
    if (this.#given === before) return;
    Atomics.store(counters, COUNTER.given, this.#given);
    Atomics.notify(counters, COUNTER.given);
  }

  /** The slot is the walk's when this returns, which may take the time of reading a few files; undefined when it never will be. */
  #settled(number: number): number | undefined {
    const { states, counters } = this.#ring;
    const index = number % SLOTS;
    const state = Atomics.compareExchange(states, index, SLOT.waiting, SLOT.free);
    if (state !== SLOT.busy) return state;
    const wanted = Math.min(number + LEAD, this.#given);
    Atomics.store(counters, COUNTER.wanted, wanted);
    const beginMs = performance.now();
    for (let done = Atomics.load(counters, COUNTER.done); done < wanted; done = Atomics.load(counters, COUNTER.done)) {
      if (Atomics.wait(counters, COUNTER.done, done, PATIENCE_MS) !== 'timed-out') continue;
      if (Atomics.load(states, index) !== SLOT.busy) break;
      if (performance.now() - beginMs < GIVE_UP_MS) continue;
      this.#state = 'given up';
      this.#isStuck = true;
      return undefined;
    }
    return Atomics.load(states, index);
  }
}

const HERE = Buffer.from('.');

class NodeAhead implements Node {
  readonly kind = 'file';
  readonly stat: Stat;
  readonly ahead: FileAhead;

  constructor(stat: Stat, { numbers, content, sha256, xattrs }: Slot) {
    this.stat = stat;
    this.ahead = {
      content: content.subarray(0, numbers[NUMBER.contentBytes]),
      sha256: sha256.toString('latin1'),
      xattrs: xattrsOf(xattrs, numbers[NUMBER.xattrNamesBytes] ?? 0),
    };
  }

  get fd(): number {
    throw new ExhibitError('internal', 'a file that was read ahead has no descriptor');
  }

  open(): never {
    throw new ExhibitError('internal', 'a file that was read ahead is not opened again');
  }

  [Symbol.dispose](): void {}
}

/** As the thread left them. */
function xattrsOf(room: Buffer, namesBytes: number): Xattrs {
  if (namesBytes === 0) return NO_XATTRS;
  const names = Buffer.from(room.subarray(0, namesBytes));
  const values = new Map<string, Buffer>();
  let at = namesBytes;
  for (const name of names.toString('latin1').split('\0').slice(0, -1)) {
    const from = at + 4;
    at = from + room.readUInt32LE(at);
    values.set(name, Buffer.from(room.subarray(from, at)));
  }
  return collect(
    () => names,
    (name) => values.get(name.toString('latin1')) ?? EMPTY,
  );
}

const EMPTY = Buffer.alloc(0);
