import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Caller } from '../../../../controller/identity/identity.ts';
import {
  createBuckets,
  createFailures,
  createRateLimit,
  networkOf,
  rateSchema,
} from '../../../../controller/identity/rate.ts';

const alice: Caller = { name: 'alice', by: 'certificate', grants: [] };
const CONFIG = rateSchema.parse({ read: { perSecond: 2, burst: 4 }, write: { perSecond: 0.1, burst: 2 } });

describe('the rate of one operator', () => {
  test('is a burst, then the seconds to wait, then one more', () => {
    let nowMs = 0;
    const rate = createRateLimit(CONFIG, () => nowMs);
    rate.take(alice, 'write');
    rate.take(alice, 'write');
    expect(() => rate.take(alice, 'write')).toThrow('There are too many changes of alice: wait 10 s.');
    nowMs = 9_999;
    expect(() => rate.take(alice, 'write')).toThrow('wait 1 s');
    nowMs = 10_000;
    rate.take(alice, 'write');
    expect(() => rate.take(alice, 'write')).toThrow('wait 10 s');
  });

  test('is of one kind and of one operator alone, and of the kind of operator', () => {
    const rate = createRateLimit(CONFIG, () => 0);
    for (let count = 0; count < 2; count += 1) rate.take(alice, 'write');
    expect(() => rate.take(alice, 'write')).toThrow('wait');
    expect(() => {
      rate.take(alice, 'read');
      rate.take({ ...alice, name: 'bob' }, 'write');
      rate.take({ ...alice, by: 'oidc' }, 'write');
    }).not.toThrow();
  });

  test('never lets more through than the burst and what has come since', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2_000 }), { maxLength: 200 }), (steps) => {
        let nowMs = 0;
        const buckets = createBuckets({ perSecond: 2, burst: 4 }, () => nowMs);
        let taken = 0;
        for (const step of steps) {
          nowMs += step;
          if (buckets.take('one') === 0) taken += 1;
          expect(taken).toBeLessThanOrEqual(4 + (nowMs / 1000) * 2 + 1e-6);
        }
      }),
    );
  });

  test('is kept for so many operators and no more, however many names come by', () => {
    const buckets = createBuckets({ perSecond: 0.001, burst: 1 }, () => 0);
    expect(buckets.take('first')).toBe(0);
    for (let count = 0; count < 10_000; count += 1) buckets.take(`name-${count}`);
    expect(buckets.take('first')).toBe(0);
    expect(buckets.take('name-9999')).toBeGreaterThan(0);
  });
});

describe('failures of one address', () => {
  test('are bounded, and those of another address count for themselves', () => {
    let nowMs = 0;
    const failures = createFailures(() => nowMs);
    for (let count = 0; count < 30; count += 1) {
      failures.check(`10.0.0.1:${count}`);
      failures.count(`10.0.0.1:${count}`);
    }
    expect(() => failures.check('10.0.0.1:9')).toThrow('too many failed attempts from this address: wait 1 s');
    expect(() => failures.check('10.0.0.2:9')).not.toThrow();
    nowMs = 1_000;
    expect(() => failures.check('10.0.0.1:9')).not.toThrow();
  });

  test.each([
    ['10.0.0.1:443', '10.0.0.1'],
    ['10.0.0.1', '10.0.0.1'],
    ['[::ffff:10.0.0.1]:443', '10.0.0.1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:10.0.0.1:443', '10.0.0.1'],
    ['2001:db8:1:2:3:4:5:6:443', '2001:db8:1:2'],
    ['[2001:db8:1:2:3:4:5:6]:443', '2001:db8:1:2'],
    ['2001:0db8:1:2::9', '2001:db8:1:2'],
    ['[::1]:443', '0:0:0:0'],
    ['[fe80::1%eth0]:1', 'fe80:0:0:0'],
    ['2001:db8::', '2001:db8:0:0'],
  ])('are counted for %s as for %s', (peer, network) => {
    expect(networkOf(peer)).toBe(network);
  });
});
