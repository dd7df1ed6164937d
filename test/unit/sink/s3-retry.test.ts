import { describe, expect, test } from 'vitest';
import { Backoff, retryStrategy } from '../../../agent/sink/s3-retry.ts';

describe('the wait before a retry', () => {
  test('doubles from what the SDK sets to the longest', () => {
    const backoff = new Backoff(1000, () => 1);
    backoff.setDelayBase(100);
    expect([0, 1, 2, 3, 4, 50].map((retries) => backoff.computeNextBackoffDelay(retries))).toEqual([
      100, 200, 400, 800, 1000, 1000,
    ]);
  });

  test('is any part of that', () => {
    const backoff = new Backoff(1000, () => 0.25);
    expect(backoff.computeNextBackoffDelay(1)).toBe(50);
    expect(new Backoff(1000, () => 0).computeNextBackoffDelay(5)).toBe(0);
  });
});

describe('the budget of retries', () => {
  const reset = { errorType: 'TRANSIENT' as const };

  test('is shared by all requests, and comes back with success', async () => {
    const strategy = retryStrategy({ attempts: 20 }, () => 0);
    const whole = strategy.getCapacity();
    let retries = 0;
    const spend = async () => {
      const token = await strategy.acquireInitialRetryToken('S3');
      const next = await strategy.refreshRetryTokenForRetry(token, reset);
      retries += 1;
      return next;
    };
    const tokens = [];
    for (;;) {
      const token = await spend().catch(() => undefined);
      if (token === undefined) break;
      tokens.push(token);
    }
    // What s3-retry.ts and docs/sinks.md say.
    expect([whole, retries]).toEqual([500, 35]);
    for (const token of tokens) strategy.recordSuccess(token);
    expect(strategy.getCapacity()).toBe(whole);
  });
});
