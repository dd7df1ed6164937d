import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { ExhibitError } from '../../evidence/error.ts';
import { CopyRoom } from './copy-room.ts';
import type { Source, ThreadAnswer, ThreadData, ThreadJob } from './copy-thread.ts';
import { openReserve, type Reserve } from './reserve.ts';
import type { SmallProcessOptions } from './small-process.ts';

/** The threads that copy for one capture. Disposal ends them, when what they are at is done. */
export interface CopyThreads extends AsyncDisposable {
  readonly count: number;
  /** See `tagOf`. */
  readonly key: Uint8Array;
  /** Makes the room's first `bytes` present, on all threads. */
  touch(bytes: number): Promise<void>;
  /** Copies `source`, of `bytes`, to a place that was reserved. */
  copy(source: Source, at: number, bytes: number): Promise<ThreadAnswer>;
  /** Copies what differs from its tag. */
  compare(source: Source, tags: Uint8Array, bytes: number): Promise<ThreadAnswer>;
  /** From now on jobs end at once: what is not copied yet is `left`. */
  stop(): void;
}

/** Copying is bound by memory, which a few threads use up. */
const MAX_THREADS = 8;
/** The heap of one thread: it holds a job or two. */
const LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 };
/** Bytes handed to one thread ahead of time, some 15 ms: the main thread is busy with page maps meanwhile. */
const AHEAD_BYTES = 64 * 1024 * 1024;
const TOUCH_BYTES = 32 * 1024 * 1024;

interface Thread {
  readonly worker: Worker;
  aheadBytes: number;
}

interface Waiting {
  readonly job: ThreadJob;
  readonly bytes: number;
  readonly resolve: (answer: ThreadAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** One thread more than there are processors, so that one that is held up does not hold up the rest. */
const THREADS = Math.min(availableParallelism() + 1, MAX_THREADS);

/**
 * Threads of one capture that have started already: starting them takes a third of a second. With a `codeCache` they need no
 * parser for TypeScript of their own, and half the memory.
 */
export const openThreadReserve = (options: SmallProcessOptions = {}): Reserve<Worker> =>
  openReserve({
    count: THREADS,
    start: () => startWorker(options),
    onEnd: (worker, ended) => void worker.once('exit', ended).on('error', ended),
    end: (worker) => worker.terminate(),
  });

export interface CopyThreadsOptions {
  readonly count?: number;
  /** Where threads come from; new ones unless told. */
  readonly take?: (() => Worker) | undefined;
}

export async function startCopyThreads(
  room: CopyRoom,
  pageBytes: number,
  { count = THREADS, take = () => startWorker() }: CopyThreadsOptions = {},
): Promise<CopyThreads> {
  const stop = new SharedArrayBuffer(4);
  const key = new Uint8Array(randomBytes(16));
  const data: ThreadData = { room: room.share, pageBytes, stop, key };
  const threads = await Promise.all(Array.from({ length: count }, () => startThread(take(), data)));
  return new Pool(threads, { key, stop: new Int32Array(stop) });
}

/** One goes through its whole start, and ends. */
export async function rehearseThreads(take: () => Worker): Promise<void> {
  const pageBytes = 4096;
  await using _ = await startCopyThreads(new CopyRoom(0, pageBytes), pageBytes, { count: 1, take });
}

function startWorker({ codeCache }: SmallProcessOptions = {}): Worker {
  const env = codeCache === undefined ? {} : { env: { ...process.env, NODE_COMPILE_CACHE: codeCache } };
  const worker = new Worker(new URL('./copy-thread.ts', import.meta.url), { resourceLimits: LIMITS, ...env });
  // The agent may end while it stands idle.
  worker.unref();
  return worker;
}

async function startThread(worker: Worker, data: ThreadData): Promise<Thread> {
  worker.ref();
  worker.postMessage(data);
  try {
    await once(worker, 'message');
  } catch (cause) {
    throw new ExhibitError('internal', 'a thread that copies memory did not start', { cause });
  }
  worker.unref();
  return { worker, aheadBytes: 0 };
}

class Pool implements CopyThreads {
  readonly key: Uint8Array;
  readonly #threads: readonly Thread[];
  readonly #stop: Int32Array;
  readonly #running = new Map<number, Waiting>();
  #queue: Waiting[] = [];
  #nextId = 1;
  #broken: unknown;

  constructor(threads: readonly Thread[], options: { key: Uint8Array; stop: Int32Array }) {
    this.#threads = threads;
    this.key = options.key;
    this.#stop = options.stop;
    for (const thread of threads) {
      thread.worker.on('message', (answer: ThreadAnswer) => this.#answered(thread, answer));
      thread.worker.on('error', (error) => this.#fail(error));
      thread.worker.on('exit', () => this.#fail(new ExhibitError('internal', 'a thread that copies memory ended')));
    }
  }

  get count(): number {
    return this.#threads.length;
  }

  async touch(bytes: number): Promise<void> {
    const jobs: Promise<unknown>[] = [];
    for (let at = 0; at < bytes; at += TOUCH_BYTES) {
      const size = Math.min(TOUCH_BYTES, bytes - at);
      jobs.push(this.#submit(size, (id) => ({ kind: 'touch', id, at, bytes: size })));
    }
    await Promise.all(jobs);
  }

  copy(source: Source, at: number, bytes: number): Promise<ThreadAnswer> {
    return this.#submit(bytes, (id) => ({ kind: 'copy', id, at, ...source }));
  }

  compare(source: Source, tags: Uint8Array, bytes: number): Promise<ThreadAnswer> {
    return this.#submit(bytes, (id) => ({ kind: 'compare', id, tags, ...source }));
  }

  stop(): void {
    Atomics.store(this.#stop, 0, 1);
  }

  #submit(bytes: number, make: (id: number) => ThreadJob): Promise<ThreadAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#broken !== undefined) return reject(this.#broken);
      this.#queue.push({ job: make(this.#nextId++), bytes, resolve, reject });
      this.#handOut();
    });
  }

  /** To the thread with the least ahead of it, as long as one has room for more. */
  #handOut(): void {
    while (this.#queue.length > 0) {
      const thread = this.#threads.reduce((least, each) => (each.aheadBytes < least.aheadBytes ? each : least));
      if (thread.aheadBytes >= AHEAD_BYTES) return;
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#running.set(next.job.id, next);
      thread.aheadBytes += next.bytes;
      thread.worker.postMessage(next.job);
    }
  }

  #answered(thread: Thread, answer: ThreadAnswer): void {
    const done = this.#running.get(answer.id);
    if (done === undefined) return;
    this.#running.delete(answer.id);
    thread.aheadBytes -= done.bytes;
    done.resolve(answer);
    this.#handOut();
  }

  #fail(error: unknown): void {
    this.#broken ??= error;
    for (const { reject } of [...this.#running.values(), ...this.#queue]) reject(error);
    this.#running.clear();
    this.#queue = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    this.#broken ??= new ExhibitError('internal', 'the threads that copy memory were ended');
    // A read that waits for a page of somebody else ends with its process or not at all: terminate() does not wait for it.
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }
}
