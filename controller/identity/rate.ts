import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import type { Caller, RateLimit } from './identity.ts';

/**
 * Token buckets, in this process: of several replicas each has its own, so an operator who reaches all of them has as many times as
 * much. What must hold over all of them (budgets of alerts) is the store's.
 */

const bucketSchema = (perSecond: number, burst: number) =>
  z
    .strictObject({
      perSecond: z.number().min(0.001).max(10_000).default(perSecond),
      burst: z.number().int().min(1).max(100_000).default(burst),
    })
    .prefault({});

/** Of one operator. A console that polls ten things once a second is served; so is a responder who captures 30 pods at once. */
export const rateSchema = z.strictObject({ read: bucketSchema(20, 100), write: bucketSchema(1, 30) }).prefault({});
export type RateConfig = z.output<typeof rateSchema>;

export interface BucketSize {
  readonly perSecond: number;
  readonly burst: number;
}

/** Buckets by key; a key that was not there is a full bucket. */
export interface Buckets {
  /** Takes one: 0, or nothing is taken and these are the seconds, at least 1, after which one is there. */
  take(key: string): number;
  /** The same answer, and takes nothing. */
  wait(key: string): number;
}

/** Some 2 MB. A key that is forgotten gets a full bucket: the least recently used is the one most likely to be full anyway. */
const MAX_KEYS = 10_000;

export function createBuckets(size: BucketSize, now: () => number = performance.now.bind(performance)): Buckets {
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  const tokensNow = (key: string): number => {
    const bucket = buckets.get(key);
    if (bucket === undefined) return size.burst;
    return Math.min(size.burst, bucket.tokens + (Math.max(0, now() - bucket.atMs) / 1000) * size.perSecond);
  };
  const wait = (tokens: number) => (tokens >= 1 ? 0 : Math.max(1, Math.ceil((1 - tokens) / size.perSecond)));
  return {
    take(key) {
      const tokens = tokensNow(key);
      const seconds = wait(tokens);
      // Last in the map's order, which is the order of use.
      buckets.delete(key);
      buckets.set(key, { tokens: seconds === 0 ? tokens - 1 : tokens, atMs: now() });
      const [oldest] = buckets.keys();
      if (buckets.size > MAX_KEYS && oldest !== undefined) buckets.delete(oldest);
      return seconds;
    },
    wait: (key) => wait(tokensNow(key)),
  };
}

export function createRateLimit(config: RateConfig, now?: () => number): RateLimit {
  const buckets = { read: createBuckets(config.read, now), write: createBuckets(config.write, now) };
  return {
    take(caller: Caller, kind) {
      const seconds = buckets[kind].take(`${caller.by} ${caller.name}`);
      if (seconds > 0) throw tooMany(`${kind === 'read' ? 'questions' : 'changes'} of ${caller.name}`, seconds);
    },
  };
}

/** Tokens that were no good, of one address: what it costs to look at them is bounded. */
const FAILURES: BucketSize = { perSecond: 1, burst: 30 };

export interface Failures {
  /** @throws ExhibitError `rate-limited` when this address has failed too often of late */
  check(peer: string): void;
  count(peer: string): void;
}

export function createFailures(now?: () => number): Failures {
  const buckets = createBuckets(FAILURES, now);
  return {
    check(peer) {
      const seconds = buckets.wait(networkOf(peer));
      if (seconds > 0) throw tooMany('failed attempts from this address', seconds);
    },
    count: (peer) => void buckets.take(networkOf(peer)),
  };
}

/**
 * `ADDRESS:PORT` or `[ADDRESS]:PORT` without the port, which gRPC writes without brackets too; of IPv6 the /64, which one customer has
 * whole.
 */
export function networkOf(peer: string): string {
  const address =
    /^\[([^\]]*)\](?::\d+)?$/.exec(peer)?.[1] ?? (/^[^:]*:\d+$/.test(peer) ? peer.replace(/:\d+$/, '') : peer);
  const mapped = /^::ffff:([\d.]+)(?::\d+)?$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(':')) return mapped ?? address;
  const [head = '', tail] = address.replace(/%.*$/, '').split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : Math.max(0, 8 - groups.length - after.length);
  const all = [...groups, ...Array<string>(missing).fill('0'), ...after];
  return all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}

function tooMany(what: string, seconds: number): ExhibitError {
  return new ExhibitError('rate-limited', `There are too many ${what}: wait ${seconds} s.`);
}
