import { describe, expect, test } from 'vitest';
import { offsetOf, S3Clock, skewWords } from '../../../agent/sink/s3-clock.ts';
import type { ClockOffset } from '../../../evidence/custody.ts';

const SENT_MS = Date.UTC(2026, 10, 27, 12);
const answer = (over: { afterMs?: number; saidMs?: number; sentMs?: number; age?: string; date?: unknown } = {}) => {
  const { afterMs = 200, sentMs = SENT_MS, saidMs = sentMs } = over;
  return {
    sentAtMs: sentMs,
    receivedAtMs: sentMs + afterMs,
    date: 'date' in over ? over.date : new Date(saidMs).toUTCString(),
    age: over.age,
  };
};

describe('the offset of a clock', () => {
  test('is that of the middle of the round trip, give or take half of it and the second of the header', () => {
    expect(offsetOf('s3', answer({ afterMs: 200, saidMs: SENT_MS + 60_000 }))).toEqual({
      source: 's3',
      offsetMs: 60_400,
      uncertaintyMs: 1100,
    });
  });

  test.each([
    answer({ date: undefined }),
    answer({ date: 'yesterday' }),
    answer({ age: '5' }),
    answer({ afterMs: -10_000 }),
  ])('is not known from %j', (told) => {
    expect(offsetOf('s3', told)).toBeUndefined();
  });

  test.each([
    [1_203_000, '20 min 3 s behind'],
    [-5000, '5 s ahead of'],
  ])('of %i ms is %s in words', (offsetMs, words) => {
    expect(skewWords({ source: 's3', offsetMs, uncertaintyMs: 0 })).toBe(words);
  });
});

describe('the clock of S3', () => {
  function clock() {
    const told: ClockOffset[] = [];
    return { told, clock: new S3Clock('s3', (offset) => told.push(offset)) };
  }

  test('is known best from the quickest answer', () => {
    const { clock: s3 } = clock();
    s3.see(answer({ afterMs: 50 }));
    s3.see(answer({ afterMs: 20_000, sentMs: SENT_MS + 1000 }));
    expect(s3.offset?.uncertaintyMs).toBe(1025);
  });

  test('is learned anew when an answer contradicts, and after a while', () => {
    const { clock: s3 } = clock();
    s3.see(answer({ afterMs: 50 }));
    s3.see(answer({ afterMs: 300, saidMs: SENT_MS + 3_600_000 }));
    expect(s3.offset?.offsetMs).toBe(3_600_350);
    s3.see(answer({ afterMs: 500, sentMs: SENT_MS + 3_600_000, saidMs: SENT_MS + 7_200_000 }));
    expect(s3.offset?.uncertaintyMs).toBe(1250);
  });

  test('is told of once when S3 would refuse, and not before', () => {
    const { clock: s3, told } = clock();
    s3.see(answer({ saidMs: SENT_MS + 14 * 60_000 }));
    expect(told).toEqual([]);
    s3.see(answer({ saidMs: SENT_MS + 20 * 60_000 }));
    s3.see(answer({ saidMs: SENT_MS - 20 * 60_000 }));
    expect(told.map(({ offsetMs }) => offsetMs)).toEqual([1_200_400]);
  });
});
