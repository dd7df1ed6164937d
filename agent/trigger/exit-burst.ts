import { setTimeout as sleep } from 'node:timers/promises';
import type { ExitsConfig } from './exit-rules.ts';

const MINUTE_MS = 60_000;

/**
 * Bounds what a burst of ends can cause: so many at a time, so many a minute, so many waiting. What finds the queue full is
 * dropped and counted: whoever waits longest is nearest to being removed, so the later ones go.
 */
export class Burst<Item> {
  dropped = 0;
  readonly #bound: ExitsConfig['bound'];
  readonly #take: (item: Item) => Promise<void>;
  readonly #signal: AbortSignal;
  readonly #now: () => number;
  readonly #waiting: Item[] = [];
  /** When those of the last minute began. */
  readonly #begun: number[] = [];
  readonly #running = new Set<Promise<void>>();

  /** `take` does not reject. `now` in milliseconds, never going back. */
  constructor(
    bound: ExitsConfig['bound'],
    { take, signal, now }: { take: (item: Item) => Promise<void>; signal: AbortSignal; now: () => number },
  ) {
    this.#bound = bound;
    this.#take = take;
    this.#signal = signal;
    this.#now = now;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** False when it was dropped. */
  offer(item: Item): boolean {
    if (this.#waiting.length >= this.#bound.queue) {
      this.dropped += 1;
      return false;
    }
    this.#waiting.push(item);
    if (this.#running.size < this.#bound.concurrent) {
      const work = this.#work().finally(() => this.#running.delete(work));
      this.#running.add(work);
    }
    return true;
  }

  /** Resolves when nothing runs or waits. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0 && !this.#signal.aborted) {
      const waitMs = this.#pauseMs();
      if (waitMs > 0) {
        await sleep(waitMs, undefined, { signal: this.#signal }).catch(() => undefined);
        continue;
      }
      const item = this.#waiting.shift();
      if (item === undefined) return;
      this.#begun.push(this.#now());
      await this.#take(item);
    }
  }

  #pauseMs(): number {
    const now = this.#now();
    while (now - (this.#begun[0] ?? now) >= MINUTE_MS) this.#begun.shift();
    const first = this.#begun[0];
    return first === undefined || this.#begun.length < this.#bound.perMinute ? 0 : first + MINUTE_MS - now;
  }
}
