import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Bandwidth, type Pace } from '../../../agent/sink/bandwidth.ts';

const RATE = 1000;
const never = new AbortController().signal;

/** Time goes on only when everybody waits for it. */
class FakePace implements Pace {
  ms = 0;
  #sleepers: { atMs: number; wake: () => void }[] = [];

  now(): number {
    return this.ms;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { atMs: this.ms + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter((one) => one !== sleeper);
        reject(signal.reason);
      });
    });
  }

  async run(): Promise<void> {
    for (;;) {
      await nextTurn();
      const next = this.#sleepers.sort((one, other) => one.atMs - other.atMs).shift();
      if (next === undefined) return;
      this.ms = Math.max(this.ms, next.atMs);
      next.wake();
    }
  }
}

describe('a line of 1,000 bytes a second', () => {
  function line() {
    const pace = new FakePace();
    const bandwidth = new Bandwidth(RATE, pace);
    const sent: { owner: string; atMs: number; sizeBytes: number }[] = [];
    const send = async (owner: string, sizeBytes: number, signal = never) => {
      await bandwidth.turn(owner, sizeBytes, signal);
      sent.push({ owner, atMs: pace.ms, sizeBytes });
    };
    return { pace, sent, send };
  }

  test('lets the first piece go at once and the next when the line would have carried it', async () => {
    const { pace, sent, send } = line();
    const all = Promise.all([send('a', 500), send('a', 2000), send('a', 1)]);
    await pace.run();
    await all;
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 500, 2500]);
  });

  test('carries no more than its rate and one piece in any time', async () => {
    const { pace, sent, send } = line();
    const sizes = Array.from({ length: 50 }, (_, at) => 1 + ((at * 7919) % 3000));
    const all = Promise.all(sizes.map((size, at) => send(`object ${at % 5}`, size)));
    await pace.run();
    await all;
    expect(sent).toHaveLength(sizes.length);
    for (const [from, first] of sent.entries()) {
      let bytes = 0;
      for (const one of sent.slice(from)) {
        const allowed = (RATE * (one.atMs - first.atMs)) / 1000;
        expect(bytes).toBeLessThanOrEqual(allowed + 1e-6);
        bytes += one.sizeBytes;
      }
    }
  });

  test('saves nothing up while nobody sends', async () => {
    const { pace, sent, send } = line();
    await send('a', 1000);
    pace.ms = 1_000_000;
    const all = Promise.all([send('a', 1000), send('a', 1000)]);
    await pace.run();
    await all;
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 1_000_000, 1_001_000]);
  });

  test('gives each object its turn, however many parts another one has waiting', async () => {
    const { pace, sent, send } = line();
    const all = Promise.all([
      ...Array.from({ length: 6 }, () => send('many', 100)),
      send('one', 100),
      send('two', 100),
    ]);
    await pace.run();
    await all;
    // The first one found nobody else there yet.
    expect(sent.map(({ owner }) => owner).slice(0, 5)).toEqual(['many', 'many', 'one', 'two', 'many']);
  });

  test('passes the turn on when whoever had it gives up, and takes nothing for it', async () => {
    const { pace, sent, send } = line();
    const end = new AbortController();
    await send('a', 1000);
    const given = send('b', 5000, end.signal);
    const waiting = send('c', 100);
    await nextTurn();
    end.abort(new Error('enough'));
    await expect(given).rejects.toThrow('enough');
    await pace.run();
    await waiting;
    expect(sent).toEqual([
      { owner: 'a', atMs: 0, sizeBytes: 1000 },
      { owner: 'c', atMs: 1000, sizeBytes: 100 },
    ]);
  });

  test('refuses one that was given up before', async () => {
    const { send } = line();
    await expect(send('a', 1, AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
  });
});
