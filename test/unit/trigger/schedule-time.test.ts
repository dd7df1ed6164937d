import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scheduleSchema } from '../../../agent/trigger/schedule-options.ts';
import { dueAt, jitterOf, MOST_BACK_MS, ON_TIME_MS, ticksOf } from '../../../agent/trigger/schedule-time.ts';

const at = (text: string): number => Date.parse(text);
const HOUR = 3_600_000;

/** Every tick after `from`, as many as asked for. */
function next(cron: string, timeZone: string, from: string, most: number): string[] {
  const ticks = ticksOf({ cron, timeZone });
  const found: string[] = [];
  for (let ms = ticks.after(at(from)); ms !== undefined && found.length < most; ms = ticks.after(ms)) {
    found.push(new Date(ms).toISOString().replace('.000Z', 'Z'));
  }
  return found;
}

describe('on the night that has no hour between two and three', () => {
  test.each([
    ['Europe/Berlin', '2026-03-28T12:00:00Z', ['2026-03-29T01:00:00Z', '2026-03-30T00:30:00Z']],
    ['America/New_York', '2026-03-07T12:00:00Z', ['2026-03-08T07:00:00Z', '2026-03-09T06:30:00Z']],
  ])('half past two in %s is the first moment after it, once', (zone, from, expected) => {
    expect(next('30 2 * * *', zone, from, 2)).toEqual(expected);
  });

  test.each([
    ['Europe/Berlin', '2026-03-29T00:10:00Z', ['2026-03-29T00:30:00Z', '2026-03-29T01:00:00Z', '2026-03-29T01:30:00Z']],
    [
      'America/New_York',
      '2026-03-08T06:10:00Z',
      ['2026-03-08T06:30:00Z', '2026-03-08T07:00:00Z', '2026-03-08T07:30:00Z'],
    ],
  ])('every half hour in %s goes on without a hole or a double', (zone, from, expected) => {
    expect(next('*/30 * * * *', zone, from, 3)).toEqual(expected);
  });
});

describe('on the night that has an hour twice', () => {
  test.each([
    ['Europe/Berlin', '30 2 * * *', '2026-10-24T12:00:00Z', ['2026-10-25T00:30:00Z', '2026-10-26T01:30:00Z']],
    ['America/New_York', '30 1 * * *', '2026-10-31T12:00:00Z', ['2026-11-01T05:30:00Z', '2026-11-02T06:30:00Z']],
  ])('a fixed time in %s comes once, the first time', (zone, cron, from, expected) => {
    expect(next(cron, zone, from, 2)).toEqual(expected);
  });

  test('every half hour comes twice as often by the clock on the wall, and evenly by the clock of the world', () => {
    expect(next('*/30 * * * *', 'Europe/Berlin', '2026-10-25T00:10:00Z', 4)).toEqual([
      '2026-10-25T00:30:00Z',
      '2026-10-25T01:00:00Z',
      '2026-10-25T01:30:00Z',
      '2026-10-25T02:00:00Z',
    ]);
  });
});

test('the last tick up to a moment is the one that comes before the next, in any zone and season', () => {
  const crons = ['* * * * *', '*/7 * * * * *', '30 2 * * *', '0 */3 * * 1-5', '15 2,3 29 3 *'];
  const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'];
  fc.assert(
    fc.property(
      fc.constantFrom(...crons),
      fc.constantFrom(...zones),
      fc.integer({ min: at('2025-01-01T00:00:00Z'), max: at('2028-01-01T00:00:00Z') }),
      (cron, timeZone, ms) => {
        const ticks = ticksOf({ cron, timeZone });
        const after = ticks.after(ms) ?? 0;
        expect(after).toBeGreaterThan(ms);
        expect(ticks.upTo(after)).toBe(after);
        expect(ticks.upTo(after - 1)).toBe(ticks.upTo(ms));
      },
    ),
    { numRuns: 200 },
  );
}, 60_000);

describe('the jitter', () => {
  test('is always the same, within its bound, and another one for another node or schedule', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.integer({ min: 0, max: 86_400_000 }), (node, name, jitterMs) => {
        const jitter = jitterOf(node, { name, jitterMs });
        expect(jitter).toBeGreaterThanOrEqual(0);
        expect(jitter).toBeLessThanOrEqual(jitterMs);
        expect(jitterOf(node, { name, jitterMs })).toBe(jitter);
      }),
    );
  });

  test('spreads 1,000 nodes evenly over a minute', () => {
    const seconds = new Array<number>(60).fill(0);
    for (let node = 0; node < 1000; node += 1) {
      const second = Math.floor(
        jitterOf(`ip-10-0-${node >> 8}-${node & 255}`, { name: 'base', jitterMs: 59_999 }) / 1000,
      );
      seconds[second] = (seconds[second] ?? 0) + 1;
    }
    expect(seconds.reduce((sum, one) => sum + one, 0)).toBe(1000);
    // 16.7 expected in each second; a binomial of 1,000 has more than 40 in one of 60 less than once in a million times.
    expect(Math.max(...seconds)).toBeLessThan(40);
    expect(seconds.filter((one) => one > 0).length).toBeGreaterThan(55);
  });
});

describe('what is due', () => {
  const schedule = (over: object = {}) =>
    scheduleSchema.parse({ name: 's', cron: '0 * * * *', jitterMs: 0, selector: { namespaces: ['*'] }, ...over });
  const due = (now: string, last: string, over: object = {}, jitterMs = 0) => {
    const one = schedule(over);
    return dueAt(at(now), at(last), { schedule: one, ticks: ticksOf(one), jitterMs });
  };

  test('is nothing before the time, and says when', () => {
    expect(due('2026-05-01T10:59:59Z', '2026-05-01T10:00:00Z')).toMatchObject({
      kind: 'wait',
      nextMs: at('2026-05-01T11:00:00Z'),
    });
  });

  test('is the run at its time, and for the jitter after it', () => {
    expect(due('2026-05-01T11:00:00Z', '2026-05-01T10:00:00Z')).toEqual({
      ...{ kind: 'run', tickMs: at('2026-05-01T11:00:00Z'), lateMs: 0, missed: 0 },
    });
    expect(due('2026-05-01T11:00:05Z', '2026-05-01T10:00:00Z', {}, 6000)).toMatchObject({
      ...{ kind: 'wait', nextMs: at('2026-05-01T11:00:06Z') },
    });
    expect(due('2026-05-01T11:00:06Z', '2026-05-01T10:00:00Z', {}, 6000)).toMatchObject({ kind: 'run', lateMs: 0 });
  });

  test('is a jitter longer than the interval all the same: each tick comes once', () => {
    const one = schedule({ cron: '* * * * *' });
    const parts = { schedule: one, ticks: ticksOf(one), jitterMs: 150_000 };
    let last = at('2026-05-01T10:00:00Z');
    const runs: number[] = [];
    for (let now = last; now < last + 0 * HOUR + at('2026-05-01T10:10:00Z') - at('2026-05-01T10:00:00Z'); ) {
      const found = dueAt(now, last, parts);
      if (found.kind === 'wait') now = Math.max(now + 1, found.nextMs ?? 0);
      else {
        runs.push(found.tickMs);
        last = found.tickMs;
      }
      if (runs.length > 6) break;
    }
    expect(runs.slice(0, 3).map((ms) => new Date(ms).toISOString())).toEqual([
      '2026-05-01T10:01:00.000Z',
      '2026-05-01T10:02:00.000Z',
      '2026-05-01T10:03:00.000Z',
    ]);
  });

  test.each([
    [
      'once, when one was missed',
      { missed: 'once' },
      '2026-05-01T11:20:00Z',
      { kind: 'run', lateMs: 1_200_000, missed: 0 },
    ],
    [
      'once, when many were, of which the last is made up for',
      { missed: 'once' },
      '2026-05-01T15:20:00Z',
      { kind: 'run', missed: 4 },
    ],
    [
      'not any more, when it is too late',
      { missed: 'once', maxLateMs: 60_000 },
      '2026-05-01T11:20:00Z',
      { kind: 'missed', missed: 1 },
    ],
    [
      'not at all, when missed ones are skipped',
      { missed: 'skip' },
      '2026-05-01T13:20:00Z',
      { kind: 'missed', missed: 3 },
    ],
  ])('is made up for %s', (_what, over, now, expected) => {
    expect(due(now, '2026-05-01T10:00:00Z', over)).toMatchObject(expected);
  });

  test('is not a missed run while it is late by what a busy node is late', () => {
    const now = new Date(at('2026-05-01T11:00:00Z') + ON_TIME_MS).toISOString();
    expect(due(now, '2026-05-01T10:00:00Z', { missed: 'skip' })).toMatchObject({ kind: 'run', lateMs: 0 });
  });

  test('is nothing again when the clock goes back over a tick', () => {
    const found = due('2026-05-01T10:59:00Z', '2026-05-01T11:00:00Z');
    expect(found).toMatchObject({ kind: 'wait', nextMs: at('2026-05-01T12:00:00Z') });
  });

  test('does not wait for years when the clock was wrong by years', () => {
    const found = due('2026-05-01T10:30:00Z', '2031-05-01T11:00:00Z');
    expect(found).toEqual({
      ...{ kind: 'wait', nextMs: at('2026-05-01T11:00:00Z'), lastMs: at('2026-05-01T10:30:00Z') },
    });
    expect(
      due('2026-05-01T10:30:00Z', new Date(at('2026-05-01T10:30:00Z') + MOST_BACK_MS).toISOString()),
    ).toMatchObject({
      nextMs: at('2026-05-01T12:00:00Z'),
    });
  });

  test('is one run after a jump forward, however far', () => {
    expect(due('2030-05-01T10:00:10Z', '2026-05-01T10:00:00Z')).toMatchObject({ kind: 'run', lateMs: 0, missed: 1000 });
  });

  test('never comes twice and never goes back, whatever the clock does', () => {
    const one = schedule({ cron: '*/5 * * * *' });
    const parts = { schedule: one, ticks: ticksOf(one), jitterMs: jitterOf('n', one) };
    const start = at('2026-03-28T22:00:00Z');
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -MOST_BACK_MS / 2, max: 2 * HOUR }), { maxLength: 40 }), (steps) => {
        let now = start;
        let last = start;
        const done: number[] = [];
        for (const step of steps) {
          now += step;
          const found = dueAt(now, last, parts);
          if (found.kind === 'wait') {
            last = found.lastMs;
            continue;
          }
          expect(found.tickMs).toBeGreaterThan(last);
          expect(found.tickMs + parts.jitterMs).toBeLessThanOrEqual(now);
          done.push(found.tickMs);
          last = found.tickMs;
        }
        // A clock that goes back again and again by less than the bound can add up to more than it.
        if (steps.every((step) => step >= 0)) expect(new Set(done).size).toBe(done.length);
      }),
      { numRuns: 100 },
    );
  }, 60_000);
});
