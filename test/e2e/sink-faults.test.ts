import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { openSink, type SinkConfig } from '../../agent/sink/open.ts';
import type { S3SinkParts } from '../../agent/sink/s3.ts';
import type { Sink } from '../../agent/sink/sink.ts';
import { type ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { requireS3, s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../lab/s3.ts';
import { type S3Fault, type S3Operation, type S3Proxy, startS3Proxy } from '../lab/s3-proxy.ts';
import { openS3Store, type S3Store } from '../lab/s3-store.ts';

/** The fault table at the level of one object: what a network and a server do, on real servers, with the bytes counted after. */

const PART_BYTES = 5 * 2 ** 20;
const never = new AbortController().signal;
const SMALL = randomBytes(1000);
/** Three parts and a bit. */
const LARGE = randomBytes(3 * PART_BYTES + 1234);
const PARTS = [1, 2, 3, 4];
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

let radosgw: LabS3;
let store: S3Store;

beforeAll(async () => {
  if (s3Obstacle() !== undefined) return;
  radosgw = await startS3();
  store = openS3Store(radosgw);
});
afterAll(async () => {
  if (s3Obstacle() !== undefined) return;
  store[Symbol.dispose]();
  await radosgw[Symbol.asyncDispose]();
});
beforeEach((context) => requireS3(context));

function sinkConfig(server: LabS3, endpoint: string): SinkConfig {
  const conditional = server.kind === 'moto';
  return {
    url: `s3://${server.bucket}/faults`,
    endpoint,
    forcePathStyle: true,
    partBytes: PART_BYTES,
    ifNoneMatch: conditional,
    // radosgw's SQLite store loses a part now and then when several come at once (docs/sinks.md).
    maxPartsInFlight: conditional ? 4 : 1,
  };
}

function sinkThrough(proxy: S3Proxy, parts: S3SinkParts = {}): Sink {
  const { accessKeyId, secretAccessKey } = radosgw;
  return openSink(sinkConfig(radosgw, proxy.endpoint), { credentials: { accessKeyId, secretAccessKey }, ...parts });
}

async function put(sink: Sink, key: string, bytes: Uint8Array): Promise<void> {
  await using object = await sink.open(key, { contentType: 'application/octet-stream', signal: never });
  await object.write(bytes);
  expect(await object.commit()).toBe('stored');
}

async function failureOf(work: Promise<unknown>): Promise<ExhibitError> {
  const failure = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  );
  if (!isExhibitError(failure)) throw failure;
  return failure;
}

let keys = 0;
const newKey = () => `object-${++keys}`;
const stored = async (key: string) => {
  const bytes = await store.read(`faults/${key}`);
  return bytes === undefined ? undefined : sha256(bytes);
};

/** The fault meets the first `times` requests of the operation, for a part when one is named. */
const first = (operation: S3Operation, fault: S3Fault, times = 1, part?: number): S3Proxy['fault'] => {
  return (request) =>
    request.operation === operation && (part ?? request.part) === request.part && request.earlierHere < times
      ? fault
      : undefined;
};

const EXPIRED: S3Fault = { kind: 'answer', status: 400, code: 'ExpiredToken' };

/** A provider whose credentials are good for an hour by the node's clock, whatever the server says. */
const anewEach = (keys: (count: number) => { accessKeyId: string; secretAccessKey: string }, count: () => number) => {
  return async () => ({ ...keys(count()), expiration: new Date(Date.now() + 3600_000) });
};

const SLOW_DOWN: S3Fault = { kind: 'answer', status: 503, code: 'SlowDown' };

describe('an object on its way to radosgw', () => {
  const rides: [string, S3Operation, S3Fault, number?][] = [
    ['a storm of SlowDown at each part', 'UploadPart', SLOW_DOWN, 2],
    ['a storm of SlowDown at the beginning', 'CreateMultipartUpload', SLOW_DOWN, 3],
    ['a storm of SlowDown at the completion', 'CompleteMultipartUpload', SLOW_DOWN, 3],
    ['a server error at each part', 'UploadPart', { kind: 'answer', status: 500, code: 'InternalError' }],
    ['a reset in the middle of each part', 'UploadPart', { kind: 'reset', afterBytes: 2_000_000 }],
    ['a reset before the first byte of each part', 'UploadPart', { kind: 'reset', afterBytes: 0 }],
    ['a lost answer to each part', 'UploadPart', { kind: 'lose-answer' }],
    ['an answer to each part that breaks off', 'UploadPart', { kind: 'cut-answer' }],
    ['a wrong checksum answered once for each part', 'UploadPart', { kind: 'wrong-checksum' }],
    ['a lost answer at the beginning', 'CreateMultipartUpload', { kind: 'lose-answer' }],
    ['a lost answer to the completion', 'CompleteMultipartUpload', { kind: 'lose-answer' }],
    ['an answer to the completion that breaks off', 'CompleteMultipartUpload', { kind: 'cut-answer' }],
    ['a reset before the completion', 'CompleteMultipartUpload', { kind: 'reset', afterBytes: 0 }],
  ];
  test.for(rides)('rides over %s', async ([, operation, fault, times]) => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    proxy.fault = first(operation, fault, times);
    await using sink = sinkThrough(proxy);
    const key = newKey();
    await put(sink, key, LARGE);
    expect(await stored(key)).toBe(sha256(LARGE));
    expect(proxy.count(operation)).toBeGreaterThan(operation === 'UploadPart' ? PARTS.length : 1);
    expect(proxy.refused).toEqual([]);
    // A beginning whose answer got lost left an upload whose id nobody was told; it holds no byte.
    const lost = operation === 'CreateMultipartUpload' && fault.kind === 'lose-answer' ? 1 : 0;
    expect((await store.unfinishedUploads()).filter((one) => one.key === `faults/${key}`)).toHaveLength(lost);
  });

  test.for(PARTS)('rides over a connection that stalls in part %i', async (part) => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    const afterBytes = part === PARTS.length ? 500 : 1_000_000;
    proxy.fault = first('UploadPart', { kind: 'stall', afterBytes }, 1, part);
    await using sink = sinkThrough(proxy, { idleTimeoutMs: 500 });
    const key = newKey();
    await put(sink, key, LARGE);
    expect(await stored(key)).toBe(sha256(LARGE));
    expect(proxy.count('UploadPart')).toBe(PARTS.length + 1);
  });

  test.for<[string, S3Fault]>([
    ['SlowDown', SLOW_DOWN],
    ['a reset in its middle', { kind: 'reset', afterBytes: 500 }],
    ['a lost answer', { kind: 'lose-answer' }],
    ['a stalled connection', { kind: 'stall', afterBytes: 100 }],
    ['a stalled answer', { kind: 'stall-answer' }],
  ])('in one request rides over %s', async ([, fault]) => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    proxy.fault = first('PutObject', fault);
    await using sink = sinkThrough(proxy, { idleTimeoutMs: 500 });
    const key = newKey();
    await put(sink, key, SMALL);
    expect(await stored(key)).toBe(sha256(SMALL));
  });

  test('with a wrong checksum answered for ever fails and leaves nothing', async () => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    proxy.fault = first('UploadPart', { kind: 'wrong-checksum' }, 1000);
    await using sink = sinkThrough(proxy);
    const key = newKey();
    expect((await failureOf(put(sink, key, LARGE))).message).toContain('damages data');
    expect(await stored(key)).toBeUndefined();
    expect((await store.unfinishedUploads()).filter((one) => one.key === `faults/${key}`)).toEqual([]);
  });

  test.for([20, -20])('rides over a clock that is %i minutes off, which the server refuses once', async (minutes) => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    const key = newKey();
    const now = Date.now;
    {
      using _clock = vi.spyOn(Date, 'now').mockImplementation(() => now() + minutes * 60_000);
      await using sink = sinkThrough(proxy);
      await put(sink, key, LARGE);
    }
    expect(await stored(key)).toBe(sha256(LARGE));
    expect(proxy.requests.slice(0, 2).map(({ operation, status }) => [operation, status])).toEqual([
      ['CreateMultipartUpload', 403],
      ['CreateMultipartUpload', 200],
    ]);
  });

  test('rides over a clock that is set right by 20 minutes half way', async () => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    const now = Date.now;
    let offMs = 20 * 60_000;
    const key = newKey();
    {
      using _clock = vi.spyOn(Date, 'now').mockImplementation(() => now() + offMs);
      await using sink = sinkThrough(proxy);
      await using object = await sink.open(key, { contentType: 'application/octet-stream', signal: never });
      const half = 2 * PART_BYTES + 1;
      await object.write(LARGE.subarray(0, half));
      await vi.waitFor(() => expect(proxy.requests.at(-1)).toMatchObject({ part: 2, status: 200 }), 20_000);
      // The SDK has learned the old offset, and signs with it.
      offMs = 0;
      await object.write(LARGE.subarray(half));
      expect(await object.commit()).toBe('stored');
    }
    expect(await stored(key)).toBe(sha256(LARGE));
  });

  test('goes on when the credentials expire half way and are given anew', async () => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    const { accessKeyId, secretAccessKey } = radosgw;
    let given = 0;
    // This server knows one key a user, so the second one that is given is the first again.
    proxy.fault = ({ operation, part }) => (given < 2 && operation === 'UploadPart' && part > 1 ? EXPIRED : undefined);
    await using sink = sinkThrough(proxy, {
      credentials: anewEach(
        () => ({ accessKeyId, secretAccessKey }),
        () => given++,
      ),
    });
    const key = newKey();
    await put(sink, key, LARGE);
    expect(await stored(key)).toBe(sha256(LARGE));
    expect(given).toBe(2);
    expect(proxy.requests.filter(({ status }) => status === 400)).toHaveLength(1);
  });

  test('survives a server that is killed and started again before each part', async () => {
    await using proxy = await startS3Proxy(radosgw.endpoint);
    proxy.fault = async ({ operation, earlierHere }) => {
      if (operation !== 'UploadPart' || earlierHere > 0) return undefined;
      await radosgw.kill();
      const restarted = radosgw.restart();
      await restarted;
      return { kind: 'reset', afterBytes: 0 };
    };
    await using sink = sinkThrough(proxy);
    const key = newKey();
    await put(sink, key, LARGE);
    expect(await stored(key)).toBe(sha256(LARGE));
    expect(proxy.count('UploadPart')).toBe(2 * PARTS.length);
  });
});

describe('credentials that expire half way on moto', () => {
  test('are given up for new ones', async () => {
    await using server = await startMoto();
    await using proxy = await startS3Proxy(server.endpoint);
    using read = openS3Store(server);
    let given = 0;
    proxy.fault = ({ operation, accessKeyId }) =>
      accessKeyId === 'KEY0' && operation !== 'CreateMultipartUpload' ? EXPIRED : undefined;
    const keys = (count: number) => ({ accessKeyId: `KEY${count}`, secretAccessKey: 'x', sessionToken: `t${count}` });
    await using sink = openSink(sinkConfig(server, proxy.endpoint), { credentials: anewEach(keys, () => given++) });
    await put(sink, 'renewed', LARGE);
    expect(sha256((await read.read('faults/renewed')) ?? Buffer.of())).toBe(sha256(LARGE));
    const completed = proxy.requests.filter(({ operation }) => operation === 'CompleteMultipartUpload');
    expect(completed.map(({ accessKeyId, status }) => [accessKeyId, status])).toEqual([['KEY1', 200]]);
    expect(given).toBe(2);
  });
});

describe('two writers of one key on moto', () => {
  test.for<[string, Buffer]>([
    ['small', SMALL],
    ['large', LARGE],
  ])('end with one winner when the object is %s, and the loser is told', async ([name, bytes]) => {
    await using server = await startMoto();
    using read = openS3Store(server);
    const { accessKeyId, secretAccessKey } = server;
    const credentials = { accessKeyId, secretAccessKey };
    await using sinks = new AsyncDisposableStack();
    const openOne = async (content: Uint8Array) => {
      const sink = sinks.use(openSink(sinkConfig(server, server.endpoint), { credentials }));
      const object = sinks.use(await sink.open(name, { contentType: 'application/octet-stream', signal: never }));
      await object.write(content);
      return object;
    };
    const winner = await openOne(bytes);
    const loser = await openOne(Buffer.concat([Buffer.from('other'), bytes]));
    // One after the other: moto looks for the key and writes it in two steps.
    expect(await winner.commit()).toBe('stored');
    expect((await failureOf(loser.commit())).code).toBe('sink-exists');
    await loser[Symbol.asyncDispose]();
    expect(sha256((await read.read(`faults/${name}`)) ?? Buffer.of())).toBe(sha256(bytes));
    expect(await read.versions('faults/')).toHaveLength(1);
    expect(await read.unfinishedUploads()).toEqual([]);
  });
});
