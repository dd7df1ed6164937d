import { describe, expect, test } from 'vitest';
import { createHeavyLine, type HeavyLineOptions, type Turn } from '../../../agent/capture/heavy-line.ts';

const never = new AbortController().signal;

/** Time that passes when it is told to. */
function openLine(options: Partial<HeavyLineOptions> = {}) {
  const clock = { ms: 0 };
  const patience: { atMs: number; end: AbortController }[] = [];
  const line = createHeavyLine({
    ...{ length: 3, waitMs: 1000, now: () => clock.ms },
    after: (ms) => {
      const end = new AbortController();
      patience.push({ atMs: clock.ms + ms, end });
      return end.signal;
    },
    ...options,
  });
  const pass = (ms: number) => {
    clock.ms += ms;
    for (const { atMs, end } of patience) if (atMs <= clock.ms) end.abort();
  };
  return { line, pass };
}

function waiting(turn: Turn, signal = never) {
  const places: number[] = [];
  return { places, done: turn.wait(signal, (before) => places.push(before)) };
}

describe('the line of heavy captures', () => {
  test('gives the turn to the first at once, and to each other when the one before has ended', async () => {
    const { line } = openLine();
    const [first, second, third] = [line.join('asked'), line.join('asked'), line.join('asked')];
    const [ofSecond, ofThird] = [waiting(second), waiting(third)];
    expect([first.before, second.before, third.before]).toEqual([0, 1, 2]);
    expect([line.running, line.waiting]).toEqual([1, 2]);
    expect(await first.wait(never, () => expect.unreachable())).toBe(true);
    first[Symbol.dispose]();
    expect(await ofSecond.done).toBe(true);
    second[Symbol.dispose]();
    expect(await ofThird.done).toBe(true);
    third[Symbol.dispose]();
    expect([ofSecond.places, ofThird.places]).toEqual([[1], [2, 1]]);
    expect([line.running, line.waiting]).toEqual([0, 0]);
  });

  test('refuses one more than it may be long, in words, and takes it when one has left', () => {
    const { line } = openLine({ length: 1 });
    line.join('asked');
    const waits = line.join('asked');
    expect(() => line.join('asked')).toThrow('1 captures wait for the one that runs, and limits.queue.length is 1');
    waits[Symbol.dispose]();
    expect(line.join('asked').before).toBe(1);
  });

  test('of length 0 refuses whatever would wait', () => {
    const { line } = openLine({ length: 0 });
    line.join('asked');
    expect(() => line.join('asked')).toThrow('limits.queue.length is 0');
  });

  test('puts what is asked for before what comes by a schedule, but never before the one that runs', () => {
    const { line } = openLine();
    const [runs, early, late] = [line.join('scheduled'), line.join('scheduled'), line.join('asked')];
    expect([runs.before, late.before, early.before]).toEqual([0, 1, 2]);
  });

  test('lets go of who is cancelled while it waits, and the others move up', async () => {
    const { line } = openLine();
    const [first, second, third] = [line.join('asked'), line.join('asked'), line.join('asked')];
    const cancel = new AbortController();
    const [ofSecond, ofThird] = [waiting(second, cancel.signal), waiting(third)];
    cancel.abort(new Error('cancelled by hand'));
    await expect(ofSecond.done).rejects.toThrow('cancelled by hand');
    first[Symbol.dispose]();
    expect(await ofThird.done).toBe(true);
    expect(third.before).toBe(0);
  });

  test('does not give its turn to one that is cancelled at that moment', async () => {
    const { line } = openLine();
    const [first, second] = [line.join('asked'), line.join('asked')];
    const cancel = new AbortController();
    const { done } = waiting(second, cancel.signal);
    cancel.abort(new Error('cancelled by hand'));
    first[Symbol.dispose]();
    await expect(done).rejects.toThrow('cancelled by hand');
    expect([line.running, line.waiting]).toEqual([0, 0]);
  });

  test('says a place again only when it is another', async () => {
    const { line } = openLine();
    const first = line.join('asked');
    const second = waiting(line.join('asked'));
    for (let behind = 0; behind < 2; behind += 1) {
      line.join('asked');
      await Promise.resolve();
    }
    first[Symbol.dispose]();
    expect(await second.done).toBe(true);
    expect(second.places).toEqual([1]);
  });

  test('ends a wait that begins after its time, with the clock of the machine', async () => {
    const clock = { ms: 0 };
    const line = createHeavyLine({ length: 1, waitMs: 1000, now: () => clock.ms });
    line.join('asked');
    const second = line.join('asked');
    clock.ms = 5000;
    expect(await waiting(second).done).toBe(false);
    expect(line.waiting).toBe(0);
  });

  test('ends a wait that is longer than allowed, counted from when it joined', async () => {
    const { line, pass } = openLine();
    const first = line.join('asked');
    const second = line.join('asked');
    pass(400);
    const ofSecond = waiting(second);
    pass(599);
    expect(line.waiting).toBe(1);
    pass(1);
    expect(await ofSecond.done).toBe(false);
    expect(line.waiting).toBe(0);
    expect(line.queuedMs).toBe(1000);
    expect(first.before).toBe(0);
  });

  test('with the clock of the machine takes a limit that is no whole number of milliseconds', async () => {
    const line = createHeavyLine({ length: 1, waitMs: 60_000 });
    const first = line.join('asked');
    const { done } = waiting(line.join('asked'));
    first[Symbol.dispose]();
    expect(await done).toBe(true);
  });
});
