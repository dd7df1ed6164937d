import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Check, line } from '../../agent/doctor/check.ts';
import { CAPTURE_COUNTS_MS, type Look, openReadiness } from '../../agent/readiness.ts';
import { ExhibitError, explain } from '../../evidence/error.ts';

/** The looks in the background, with a clock of the test's own. */

const say = line('runtime', 'runtime');
const bad = say.failure('nothing listens', 'no container can be captured', 'start the runtime');
const BAD = 'runtime: nothing listens; no container can be captured. To mend it: start the runtime';

function look(ask: Look['ask'], over: Partial<Look> = {}): Look {
  return { name: 'runtime', everyMs: 5_000, failingMs: 1_000, timeoutMs: 2_000, ask, ...over };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const still = { random: () => 0.5 };

describe('readiness', () => {
  test('is not there before everything was looked at, and says so', async () => {
    const answer = Promise.withResolvers<readonly Check[]>();
    await using readiness = openReadiness([look(() => answer.promise)], still);
    expect(readiness.now()).toEqual({
      ready: false,
      reasons: ['runtime was not looked at yet: the agent is starting'],
    });
    answer.resolve([]);
    await vi.advanceTimersByTimeAsync(0);
    expect(readiness.now()).toEqual({ ready: true, reasons: [] });
  });

  test('has the failures of the doctor as reasons, and no warnings', async () => {
    const checks = [bad, say.warning('old', 'slow', 'renew it'), say.ok('there', 'well')];
    await using readiness = openReadiness([look(async () => checks)], still);
    await vi.advanceTimersByTimeAsync(0);
    expect(readiness.now()).toEqual({ ready: false, reasons: [BAD] });
  });

  test('comes by itself when what failed is mended, and each change is told once', async () => {
    let found: readonly Check[] = [bad];
    const told: boolean[] = [];
    await using readiness = openReadiness([look(async () => found), look(async () => [])], {
      ...still,
      onChange: ({ ready }) => told.push(ready),
    });
    await vi.advanceTimersByTimeAsync(3_500);
    expect(readiness.now().ready).toBe(false);
    found = [];
    await vi.advanceTimersByTimeAsync(1_000);
    expect(readiness.now().ready).toBe(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual([false, true]);
  });

  test('is no news where only a number in it is another', async () => {
    let freeMib = 900;
    const told: string[] = [];
    const ask = async () => [say.failure(`${freeMib} MiB are free`, 'nothing can be stored', 'free some')];
    await using _readiness = openReadiness([look(ask)], {
      ...still,
      onChange: ({ reasons }) => told.push(reasons.join()),
    });
    for (; freeMib > 890; freeMib -= 1) await vi.advanceTimersByTimeAsync(1_000);
    expect(told).toEqual([expect.stringContaining('900 MiB are free')]);
  });

  test('leaves a look that ends with its time the words to say why', async () => {
    const ask: Look['ask'] = (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('containerd has taken the call and is silent')));
      });
    await using readiness = openReadiness([look(ask)], still);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(readiness.now().reasons).toEqual(['runtime: containerd has taken the call and is silent']);
  });

  test.each([
    ['while all is well', [] as Check[], 20],
    ['while something fails', [bad], 100],
  ])('asks no more often than it should, %s', async (_what, found, looks) => {
    const ask = vi.fn(async () => found);
    await using _readiness = openReadiness([look(ask)], still);
    await vi.advanceTimersByTimeAsync(99_999);
    expect(ask).toHaveBeenCalledTimes(looks);
  });

  test('spreads the looks of agents that began together', async () => {
    const [early, late] = [vi.fn(async () => []), vi.fn(async () => [])];
    await using _one = openReadiness([look(early)], { random: () => 0 });
    await using _other = openReadiness([look(late)], { random: () => 1 });
    await vi.advanceTimersByTimeAsync(4_500);
    expect(early).toHaveBeenCalledTimes(2);
    expect(late).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(1_600);
    expect(late).toHaveBeenCalledTimes(2);
  });

  test('waits no longer than its time for a look that hangs, and the other looks go on', async () => {
    const hung = vi.fn(() => new Promise<never>(() => undefined));
    const other = vi.fn(async () => []);
    await using readiness = openReadiness([look(hung), look(other, { name: 'state' })], still);
    await vi.advanceTimersByTimeAsync(2_600);
    expect(readiness.now().reasons).toEqual(['runtime: there was no answer in time']);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(other.mock.calls.length).toBeGreaterThan(10);
  });

  test('asks nobody again who has not answered the last question', async () => {
    const hung = vi.fn(() => new Promise<never>(() => undefined));
    await using readiness = openReadiness([look(hung)], still);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(hung).toHaveBeenCalledTimes(1);
    expect(readiness.now().ready).toBe(false);
  });

  test('takes what a look throws as a reason', async () => {
    const ask = () => Promise.reject(new Error('EIO: i/o error'));
    await using readiness = openReadiness([look(ask)], still);
    await vi.advanceTimersByTimeAsync(0);
    expect(readiness.now()).toEqual({ ready: false, reasons: ['runtime: EIO: i/o error'] });
  });

  test('asks again whoever threw before there was a promise', async () => {
    let isBroken = true;
    const thrower = look(() => {
      if (isBroken) throw new Error('at once');
      return Promise.resolve([]);
    });
    await using readiness = openReadiness([thrower], still);
    await vi.advanceTimersByTimeAsync(0);
    expect(readiness.now().reasons).toEqual(['runtime: at once']);
    isBroken = false;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(readiness.now()).toEqual({ ready: true, reasons: [] });
  });

  test('keeps no process alive while it waits for the next look', async () => {
    vi.useRealTimers();
    const before = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    await using readiness = openReadiness([look(async () => [], { everyMs: 60_000 })], still);
    await vi.waitUntil(() => readiness.now().ready);
    await setImmediate();
    expect(process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length).toBeLessThanOrEqual(before);
  });
});

describe('what a capture met', () => {
  const gone = new ExhibitError('runtime-unreachable', 'nothing listens on the socket');
  const concerned = (ask: Look['ask'] = async () => []) =>
    look(ask, { concerns: (failure) => (failure === gone ? explain(failure) : undefined) });

  test('counts although the looks see nothing, until a capture works', async () => {
    await using readiness = openReadiness([concerned()], still);
    await vi.advanceTimersByTimeAsync(0);
    readiness.saw(gone);
    expect(readiness.now()).toEqual({
      ready: false,
      reasons: ['the last capture met this: nothing listens on the socket'],
    });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(readiness.now().ready).toBe(false);
    readiness.saw(undefined);
    expect(readiness.now().ready).toBe(true);
  });

  test('is forgotten after a while: a node that takes one capture a year is not unfit for a year', async () => {
    await using readiness = openReadiness([concerned()], still);
    await vi.advanceTimersByTimeAsync(0);
    readiness.saw(gone);
    await vi.advanceTimersByTimeAsync(CAPTURE_COUNTS_MS - 1);
    expect(readiness.now().ready).toBe(false);
    await vi.advanceTimersByTimeAsync(2);
    expect(readiness.now().ready).toBe(true);
  });

  test('is one reason with what the look itself sees', async () => {
    await using readiness = openReadiness(
      [look(async () => [bad], { concerns: (failure) => (failure === gone ? BAD : undefined) })],
      still,
    );
    await vi.advanceTimersByTimeAsync(0);
    readiness.saw(gone);
    expect(readiness.now().reasons).toEqual([BAD]);
  });

  test('that is no look’s business says nothing of the node', async () => {
    await using readiness = openReadiness([concerned()], still);
    await vi.advanceTimersByTimeAsync(0);
    readiness.saw(new ExhibitError('target-not-found', 'there is no such pod'));
    readiness.saw('a text');
    expect(readiness.now().ready).toBe(true);
  });

  test('makes its look look again within a second, once for a storm of captures', async () => {
    const ask = vi.fn(async () => []);
    await using readiness = openReadiness([concerned(ask)], still);
    await vi.advanceTimersByTimeAsync(0);
    for (let captures = 0; captures < 1000; captures += 1) readiness.saw(gone);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(ask).toHaveBeenCalledTimes(2);
  });
});
