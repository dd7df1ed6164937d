import { describe, expect, test } from 'vitest';
import { MAX_RENEWALS } from '../../../agent/sink/s3-credentials.ts';
import {
  eachWithFakeS3,
  failureOf,
  KEY,
  LARGE,
  never,
  PART_BYTES,
  SMALL,
  server,
  sinkWith,
  store,
  warnings,
} from './s3-sink-lab.ts';

eachWithFakeS3();

describe('credentials that expire half way', () => {
  /** Hands out tokens 1, 2, 3 ...; the server takes those from `good` on. */
  function tokens() {
    let given = 0;
    const state = { good: 1, given: () => given };
    server.fault = ({ headers }) =>
      Number(headers['x-amz-security-token']) < state.good
        ? { kind: 'answer', status: 400, code: 'ExpiredToken' }
        : undefined;
    const credentials = async () => {
      given += 1;
      return {
        accessKeyId: 'key',
        secretAccessKey: 'secret',
        sessionToken: String(given),
        // By the node's clock they are good for an hour.
        expiration: new Date(Date.now() + 3_600_000),
      };
    };
    return { state, credentials };
  }

  test('are renewed, and what was refused is sent again', async () => {
    const { state, credentials } = tokens();
    const sink = sinkWith({ maxPartsInFlight: 4 }, { credentials });
    await using object = await sink.open(KEY, { contentType: 'a/b', signal: never });
    await object.write(LARGE.subarray(0, PART_BYTES + 1));
    state.good = 2;
    await object.write(LARGE.subarray(PART_BYTES + 1));
    await object.commit();
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
    expect(state.given()).toBe(2);
  });

  test.each(['ExpiredTokenException', 'TokenRefreshRequired'])('are renewed after %s as well', async (code) => {
    const { credentials, state } = tokens();
    server.fault = ({ earlier }) => (earlier === 0 ? { kind: 'answer', status: 400, code } : undefined);
    await store(sinkWith({}, { credentials }), SMALL);
    expect(state.given()).toBe(2);
  });

  test('end the request when renewing does not help, after the named number of times', async () => {
    const { state, credentials } = tokens();
    state.good = 1000;
    const failure = await failureOf(sinkWith({}, { credentials }).check(never));
    expect(failure.message).toContain('the credentials have expired');
    expect(server.requests).toHaveLength(1 + MAX_RENEWALS);
  });

  test('are asked for again when the provider fails once in between', async () => {
    let calls = 0;
    let failures = 0;
    const credentials = async () => {
      calls += 1;
      if (failures > 0) {
        failures -= 1;
        throw Object.assign(new Error('no answer'), { name: 'CredentialsProviderError' });
      }
      // Always about to end, so that the SDK asks before each request.
      return {
        accessKeyId: 'key',
        secretAccessKey: 'secret',
        sessionToken: 't',
        expiration: new Date(Date.now() + 1000),
      };
    };
    const sink = sinkWith({}, { credentials });
    await sink.check(never);
    const before = calls;
    failures = 1;
    await store(sink, SMALL);
    expect([failures, calls > before]).toEqual([0, true]);
    expect(server.objects.get(KEY)?.equals(SMALL)).toBe(true);
  });

  test.each([
    ['AccessDenied', 403],
    ['NoSuchBucket', 404],
    ['InvalidAccessKeyId', 403],
  ])('are not renewed after %s', async (code, status) => {
    const { state, credentials } = tokens();
    server.fault = () => ({ kind: 'answer', status, code });
    await failureOf(sinkWith({}, { credentials }).check(never));
    expect([state.given(), server.requests.length]).toEqual([1, 1]);
  });
});

describe('a clock that is wrong', () => {
  test('is known from what S3 says', async () => {
    server.clockOffsetMs = -90_000;
    const sink = sinkWith();
    expect(sink.clock?.()).toBeUndefined();
    await sink.check(never);
    const offset = sink.clock?.();
    expect(offset?.source).toBe(server.endpoint);
    expect(Math.abs((offset?.offsetMs ?? 0) + 90_000)).toBeLessThanOrEqual(offset?.uncertaintyMs ?? 0);
    expect(warnings).toEqual([]);
  });

  test('by 20 minutes is set right, and told once with its size', async () => {
    server.clockOffsetMs = 20 * 60_000;
    const sink = sinkWith();
    await store(sink, LARGE);
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
    expect(warnings).toEqual([
      {
        event: 'node clock differs from the sink by more than it allows',
        fields: { source: server.endpoint, offsetMs: expect.any(Number), uncertaintyMs: expect.any(Number) },
      },
    ]);
    expect(sink.clock?.()?.offsetMs).toBeGreaterThan(19 * 60_000);
  });

  test('is named with its size by a server that refuses all the same', async () => {
    server.clockOffsetMs = -20 * 60_000;
    server.fault = () => ({ kind: 'answer', status: 403, code: 'RequestTimeTooSkewed' });
    const failure = await failureOf(sinkWith({ retry: { attempts: 2 } }).check(never));
    expect(failure.message).toMatch(
      /the node's clock is (20 min 0|19 min 59|20 min 1) s ahead of S3's; synchronise it/,
    );
  });
});

describe('the number of attempts', () => {
  test('is what is configured', async () => {
    server.fault = () => ({ kind: 'answer', status: 500, code: 'InternalError' });
    await failureOf(sinkWith({ retry: { attempts: 3, firstWaitMs: 10, longestWaitMs: 20 } }).check(never));
    expect(server.requests).toHaveLength(3);
  });
});
