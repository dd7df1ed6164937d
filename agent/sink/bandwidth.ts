import { setTimeout as sleep } from 'node:timers/promises';

/** Time for a test to hold in its hands. */
export interface Pace {
  /** Milliseconds on a clock that never goes back. */
  now(): number;
  /** Rejects with the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export const REAL_PACE: Pace = {
  now: () => performance.now(),
  async sleep(ms, signal) {
    await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
  },
};

interface Waiter {
  readonly sizeBytes: number;
  readonly signal: AbortSignal;
  readonly go: () => void;
}

/**
 * One line of so many bytes a second for all who send. Whoever has a turn sends all of its bytes at once, and the next turn
 * comes when the line would have carried them: over any time t no more than `rate * t` and one piece. Nothing is saved up
 * while nobody sends. Owners take turns, so an object with many parts on their way waits no less for each than one with one.
 */
export class Bandwidth {
  readonly bytesPerSecond: number;
  readonly #pace: Pace;
  /** In the order of their next turn. */
  readonly #waiting = new Map<unknown, Waiter[]>();
  #freeAtMs = Number.NEGATIVE_INFINITY;
  #serving = false;
  /** How long there was somebody who waited, in all. */
  waitedMs = 0;

  constructor(bytesPerSecond: number, pace: Pace = REAL_PACE) {
    this.bytesPerSecond = bytesPerSecond;
    this.#pace = pace;
  }

  /** Resolves when `owner` may send so many bytes; rejects with the signal's reason, and then nothing was used up. */
  async turn(owner: unknown, sizeBytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { sizeBytes, signal, go: resolve };
    const queue = this.#waiting.get(owner);
    if (queue === undefined) this.#waiting.set(owner, [waiter]);
    else queue.push(waiter);
    const stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    if (!this.#serving) void this.#serve();
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #serve(): Promise<void> {
    this.#serving = true;
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const waitMs = this.#freeAtMs - this.#pace.now();
      if (waitMs > 0) {
        // Whoever gives up meanwhile leaves the turn to the others.
        const beforeMs = this.#pace.now();
        await this.#pace.sleep(waitMs, next.signal).catch(() => {});
        this.waitedMs += this.#pace.now() - beforeMs;
        continue;
      }
      this.#take(next);
    }
    this.#serving = false;
  }

  /** The one whose turn it is; those that gave up are forgotten. */
  #next(): Waiter | undefined {
    for (const [owner, queue] of this.#waiting) {
      while (queue[0]?.signal.aborted === true) queue.shift();
      if (queue[0] !== undefined) return queue[0];
      this.#waiting.delete(owner);
    }
    return undefined;
  }

  #take(waiter: Waiter): void {
    const first = this.#waiting.entries().next().value;
    if (first === undefined) return;
    const [owner, queue] = first;
    queue.shift();
    this.#waiting.delete(owner);
    if (queue.length > 0) this.#waiting.set(owner, queue);
    this.#freeAtMs = Math.max(this.#freeAtMs, this.#pace.now()) + (waiter.sizeBytes / this.bytesPerSecond) * 1000;
    waiter.go();
  }
}
