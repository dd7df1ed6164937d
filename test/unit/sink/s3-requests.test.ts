import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Bandwidth } from '../../../agent/sink/bandwidth.ts';
import { openS3Sink, type S3SinkConfig, type S3SinkParts } from '../../../agent/sink/s3.ts';
import { CHECKSUMS } from '../../../agent/sink/s3-checksum.ts';
import { createS3Client } from '../../../agent/sink/s3-client.ts';
import { MAX_RENEWALS } from '../../../agent/sink/s3-credentials.ts';
import type { ObjectLockConfig } from '../../../agent/sink/s3-lock.ts';
import { completeUpload, createUpload, type UploadedPart, uploadPart } from '../../../agent/sink/s3-upload.ts';
import type { ObjectSubject, Sink } from '../../../agent/sink/sink.ts';
import { type ExhibitError, isExhibitError } from '../../../evidence/error.ts';
import { BUCKET, type FakeS3, type Operation, startFakeS3 } from './fake-s3.ts';

const PART_BYTES = 5 * 2 ** 20;
const KEY = 'node/id/memory.tar.zst';
const SMALL = randomBytes(1000);
const LARGE = randomBytes(PART_BYTES + 1234);
const about: ObjectSubject = {
  captureId: '0199a0b4-0000-7000-8000-000000000001',
  caseId: 'IR-2026/7',
  startedAtMs: Date.UTC(2026, 10, 27, 12),
  volatility: 1,
};
const never = new AbortController().signal;

let server: FakeS3;
let warnings: { fields: object; event: string }[];

beforeEach(async () => {
  server = await startFakeS3();
  warnings = [];
});
afterEach(() => server[Symbol.asyncDispose]());

function sinkWith(config: Partial<S3SinkConfig> = {}, parts: S3SinkParts = {}): Sink {
  return openS3Sink(
    { url: `s3://${BUCKET}`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES, ...config },
    {
      credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
      log: { warn: (fields, event) => warnings.push({ fields, event }) },
      ...parts,
    },
  );
}

async function store(sink: Sink, bytes: Buffer, subject: ObjectSubject | undefined = about): Promise<void> {
  const of = subject === undefined ? {} : { about: subject };
  await using object = await sink.open(KEY, { contentType: 'a/b', signal: never, ...of });
  await object.write(bytes);
  await object.commit();
}

async function failureOf(work: Promise<void>): Promise<ExhibitError> {
  const failure = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  );
  if (!isExhibitError(failure)) throw failure;
  return failure;
}

/** Headers of the requests of this kind, in order. */
const headersOf = (operation: Operation) =>
  server.requests.filter((one) => one.operation === operation).map(({ headers }) => headers);

describe('the S3 sink with crc64nvme', () => {
  test('sends it with a small object, signed with the SHA-256 of the same bytes', async () => {
    await store(sinkWith({ checksum: 'crc64nvme' }), SMALL);
    expect(server.objects.get(KEY)?.equals(SMALL)).toBe(true);
    const [headers] = headersOf('PutObject');
    expect(headers).toMatchObject({
      'x-amz-checksum-crc64nvme': expect.any(String),
      'x-amz-content-sha256': createHash('sha256').update(SMALL).digest('hex'),
    });
    expect(headers).not.toHaveProperty('x-amz-checksum-sha256');
  });

  test('sends it with each part and for the whole object', async () => {
    await store(sinkWith({ checksum: 'crc64nvme' }), LARGE);
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
    expect(headersOf('CreateMultipartUpload')).toMatchObject([
      { 'x-amz-checksum-algorithm': 'CRC64NVME', 'x-amz-checksum-type': 'FULL_OBJECT' },
    ]);
    expect(headersOf('UploadPart').every((one) => 'x-amz-checksum-crc64nvme' in one)).toBe(true);
    expect(headersOf('CompleteMultipartUpload')).toMatchObject([
      { 'x-amz-checksum-type': 'FULL_OBJECT', 'x-amz-checksum-crc64nvme': expect.any(String) },
    ]);
  });

  test.each<[Operation, Buffer]>([
    ['UploadPart', LARGE],
    ['CompleteMultipartUpload', LARGE],
    ['PutObject', SMALL],
  ])('fails where the answer to %s has another one', async (operation, bytes) => {
    server.fault = (request) => (request.operation === operation ? { kind: 'wrong-checksum' } : undefined);
    expect((await failureOf(store(sinkWith({ checksum: 'crc64nvme' }), bytes))).message).toContain('CRC64NVME');
  });
});

describe('the parts of an upload', () => {
  test.each(CHECKSUMS)(
    'with %s carry their SHA-256, and are completed from notes that have no more than that',
    async (checksum) => {
      const client = createS3Client({
        endpoint: server.endpoint,
        forcePathStyle: true,
        credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
      });
      const target = { client, bucket: BUCKET, key: KEY, contentType: 'a/b', ifNoneMatch: true, checksum };
      const bodies = [LARGE.subarray(0, PART_BYTES), LARGE.subarray(PART_BYTES)];
      const uploadId = await createUpload(target, never);
      const parts: UploadedPart[] = [];
      for (const [at, body] of bodies.entries()) {
        const { number, etag, sha256 } = await uploadPart(target, uploadId, at + 1, body, never);
        expect(sha256.equals(createHash('sha256').update(body).digest())).toBe(true);
        parts.push({ number, etag, sha256 });
      }
      expect(await completeUpload(target, uploadId, parts, LARGE.length, never)).toEqual({ kind: 'stored' });
      expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
      client.destroy();
    },
  );
});

describe('the requests that make an object', () => {
  const bothKinds = async (config: Partial<S3SinkConfig>, subject?: ObjectSubject) => {
    await store(sinkWith(config), SMALL, subject);
    server.objects.clear();
    await store(sinkWith(config), LARGE, subject);
    return [...headersOf('PutObject'), ...headersOf('CreateMultipartUpload')];
  };

  test('ask for encryption with the key that is configured', async () => {
    const serverSideEncryption = { kind: 'aws:kms', keyId: 'alias/evidence', bucketKey: true } as const;
    for (const headers of await bothKinds({ serverSideEncryption })) {
      expect(headers).toMatchObject({
        'x-amz-server-side-encryption': 'aws:kms',
        'x-amz-server-side-encryption-aws-kms-key-id': 'alias/evidence',
        'x-amz-server-side-encryption-bucket-key-enabled': 'true',
      });
    }
  });

  test('ask for a lock that ends at the same moment for all of a capture', async () => {
    const objectLock = { mode: 'COMPLIANCE', retainDays: 365, legalHold: true } as const;
    const startedAtMs = Date.now() - 1_000_000;
    const found = await bothKinds({ objectLock }, { ...about, startedAtMs });
    expect(found).toHaveLength(2);
    for (const headers of found) {
      expect(headers).toMatchObject({ 'x-amz-object-lock-mode': 'COMPLIANCE', 'x-amz-object-lock-legal-hold': 'ON' });
      // S3 takes whole seconds or finer; the SDK writes milliseconds where there are any.
      expect(Date.parse(String(headers['x-amz-object-lock-retain-until-date']))).toBe(startedAtMs + 365 * 86_400_000);
    }
  });

  test('carry capture, case and, where the bytes are known, their digest', async () => {
    const [put, create] = await bothKinds({});
    const labels = { 'x-amz-meta-exhibit-capture': about.captureId, 'x-amz-meta-exhibit-case': 'IR-2026/7' };
    expect(put).toMatchObject({
      ...labels,
      'x-amz-meta-exhibit-sha256': createHash('sha256').update(SMALL).digest('hex'),
    });
    expect(create).toMatchObject(labels);
    expect(create).not.toHaveProperty('x-amz-meta-exhibit-sha256');
    expect(put).not.toHaveProperty('x-amz-tagging');
  });

  test('carry nothing of it where metadata is off', async () => {
    for (const headers of await bothKinds({ metadata: false })) {
      expect(Object.keys(headers).filter((name) => name.startsWith('x-amz-meta-'))).toEqual([]);
    }
  });

  test('carry tags where they are asked for', async () => {
    for (const headers of await bothKinds({ tags: { team: 'blue & red'.replace('&', '+') } })) {
      expect(Object.fromEntries(new URLSearchParams(String(headers['x-amz-tagging'])))).toEqual({
        team: 'blue + red',
        'exhibit-capture': about.captureId,
        'exhibit-case': 'IR-2026/7',
      });
    }
  });

  test.each([
    'a\r\nx-amz-acl: public-read',
    '案件 七',
    '\u0000\u0007',
    '\ud800 lone',
    '%41&x=y',
    ' ',
    'x'.repeat(100_000),
  ])('are sent whatever the case is called: %j', async (caseId) => {
    for (const headers of await bothKinds({ tags: true }, { ...about, caseId })) {
      expect(headers).not.toHaveProperty('x-amz-acl');
      expect(String(headers['x-amz-meta-exhibit-case'])).toMatch(/^[\x21-\x7e]{1,1027}$/);
    }
  });

  test('use no more than the five that write, whatever is configured, but for the question whether the bucket locks', async () => {
    const sink = sinkWith({
      checksum: 'crc64nvme',
      serverSideEncryption: { kind: 'aws:kms' },
      objectLock: { mode: 'GOVERNANCE', retainDays: 1, legalHold: true },
      tags: true,
    });
    await sink.check(never);
    await store(sink, SMALL);
    server.objects.clear();
    await store(sink, LARGE);
    await (await sink.open(KEY, { contentType: 'a/b', signal: never, about }))[Symbol.asyncDispose]();
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
    expect(server.refused).toEqual([]);
    expect(server.questions).toEqual(['GetObjectLockConfiguration']);
    expect(server.uploads.size).toBe(0);
  });
});

describe('the S3 sink’s description of itself', () => {
  test('tells how what it stores is kept', () => {
    const sink = sinkWith({
      serverSideEncryption: { kind: 'AES256' },
      objectLock: {
        mode: 'GOVERNANCE',
        retainDays: 30,
        cases: [{ match: 'IR-*', mode: 'COMPLIANCE', retainDays: 3650, legalHold: true }],
      },
    });
    expect(sink.describe(about)).toEqual({
      url: `s3://${BUCKET}`,
      serverSideEncryption: 'AES256',
      objectLock: { mode: 'COMPLIANCE', retainUntil: '2036-11-24T12:00:00.000Z', legalHold: true },
    });
    expect(sink.describe({ ...about, caseId: '' })).toMatchObject({
      objectLock: { mode: 'GOVERNANCE', retainUntil: '2026-12-27T12:00:00.000Z', legalHold: false },
    });
  });

  test('says nothing of what was not asked for', () => {
    expect(sinkWith().describe(about)).toEqual({ url: `s3://${BUCKET}` });
  });
});

describe('the check of a sink that locks', () => {
  const locked = { objectLock: { mode: 'COMPLIANCE', retainDays: 30 } } as const;

  test.each([
    ['has none', { status: 404, code: 'ObjectLockConfigurationNotFoundError' }],
    ['is not enabled', { status: 200, body: '<ObjectLockConfiguration></ObjectLockConfiguration>' }],
  ])('fails where the bucket’s lock %s, before anything is begun', async (_, reply) => {
    server.reply = () => reply;
    const failure = await failureOf(sinkWith(locked).check(never));
    expect(failure.code).toBe('sink-failed');
    expect(failure.message).toContain('the bucket evidence has no Object Lock and sink.objectLock wants it; enable it');
    expect(server.requests).toEqual([]);
  });

  test('passes where the bucket has one', async () => {
    server.reply = () => ({
      status: 200,
      body: '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>',
    });
    await sinkWith(locked).check(never);
    expect(server.uploads.size).toBe(0);
  });

  test('goes by the answer to the lock itself where the identity may not ask', async () => {
    await sinkWith(locked).check(never);
    expect(headersOf('CreateMultipartUpload')).toMatchObject([{ 'x-amz-object-lock-mode': 'COMPLIANCE' }]);
    server.fault = ({ operation }) =>
      operation === 'CreateMultipartUpload'
        ? { kind: 'answer', status: 400, code: 'InvalidRequest', message: 'Bucket is missing ObjectLockConfiguration' }
        : undefined;
    expect((await failureOf(sinkWith(locked).check(never))).message).toContain('has no Object Lock');
  });

  test('names the rights that the lock wants where they are refused', async () => {
    server.fault = () => ({ kind: 'answer', status: 403, code: 'AccessDenied' });
    const objectLock: ObjectLockConfig = {
      mode: 'COMPLIANCE',
      retainDays: 30,
      cases: [{ match: 'X', legalHold: true }],
    };
    expect((await failureOf(sinkWith({ objectLock, tags: true }).check(never))).message).toContain(
      's3:PutObject, s3:AbortMultipartUpload, s3:PutObjectRetention, s3:PutObjectLegalHold and s3:PutObjectTagging on',
    );
  });

  test('names the settings that a server refuses without words', async () => {
    server.fault = ({ operation }) =>
      operation === 'CreateMultipartUpload' ? { kind: 'answer', status: 400, code: 'InvalidArgument' } : undefined;
    const failure = await failureOf(sinkWith({ tags: true, serverSideEncryption: { kind: 'AES256' } }).check(never));
    expect(failure.message).toContain('sink.serverSideEncryption or sink.tags asks for, with InvalidArgument');
  });

  test('fails where the server does not say that it encrypts as asked', async () => {
    const other = { serverSideEncryption: { kind: 'aws:kms:dsse' } } as const;
    await sinkWith(other).check(never);
    server.ignoresEncryption = true;
    expect((await failureOf(sinkWith(other).check(never))).message).toContain(
      'sink.serverSideEncryption wants aws:kms:dsse',
    );
    expect(server.uploads.size).toBe(0);
  });
});

describe('a capture in a sink that locks', () => {
  const locked = { objectLock: { mode: 'COMPLIANCE', retainDays: 30 } } as const;
  const ENABLED = {
    status: 200,
    body: '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>',
  };
  const begin = async (sink: Sink) => {
    await using object = await sink.open('request.json', { contentType: 'a/b', signal: never, refusable: true, about });
    await object.write(SMALL);
    await object.commit();
  };

  test('does not begin where the bucket has no lock, though its server would take every object', async () => {
    server.reply = () => ({ status: 404, code: 'ObjectLockConfigurationNotFoundError' });
    const sink = sinkWith(locked);
    for (const work of [begin(sink), sink.ready?.(never) ?? Promise.resolve()]) {
      const failure = await failureOf(work);
      expect(failure.code).toBe('sink-failed');
      expect(failure.message).toContain(
        'the bucket evidence has no Object Lock and sink.objectLock wants it; enable it',
      );
    }
    expect(server.requests).toEqual([]);
    expect(server.objects.size).toBe(0);
    server.reply = () => ENABLED;
    await begin(sink);
    expect(server.objects.get('request.json')?.equals(SMALL)).toBe(true);
  });

  test('asks until the bucket has said yes, and then no more', async () => {
    const sink = sinkWith(locked);
    await sink.ready?.(never);
    server.reply = () => ENABLED;
    await begin(sink);
    server.objects.clear();
    await begin(sink);
    expect(server.questions).toEqual(['GetObjectLockConfiguration', 'GetObjectLockConfiguration']);
  });

  test('goes by the answer to its first object where the identity may not ask', async () => {
    await begin(sinkWith(locked));
    expect(headersOf('PutObject')).toMatchObject([{ 'x-amz-object-lock-mode': 'COMPLIANCE' }]);
    server.objects.clear();
    server.fault = () => ({
      kind: 'answer',
      status: 400,
      code: 'InvalidRequest',
      message: 'Bucket is missing ObjectLockConfiguration',
    });
    expect((await failureOf(begin(sinkWith(locked)))).message).toContain('has no Object Lock');
    expect(server.objects.size).toBe(0);
  });

  test('is asked nothing of it in a sink that does not lock', async () => {
    const sink = sinkWith();
    await begin(sink);
    expect(sink.ready).toBeUndefined();
    expect(server.questions).toEqual([]);
  });

  test('ends with `cancelled` when it is cancelled while the bucket is asked', async () => {
    const end = new AbortController();
    server.reply = () => {
      end.abort(new Error('enough'));
      return ENABLED;
    };
    const opened = sinkWith(locked).open('request.json', { contentType: 'a/b', signal: end.signal, refusable: true });
    expect((await failureOf(opened.then(() => undefined))).code).toBe('cancelled');
    expect(server.requests).toEqual([]);
  });
});

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

describe('the bandwidth cap of a sink', () => {
  /** A line whose waits end when the test says so. */
  function heldPace() {
    const waits: { ms: number; end: () => void }[] = [];
    let ms = 0;
    const { promise: firstWait, resolve: waiting } = Promise.withResolvers<void>();
    const pace = {
      now: () => ms,
      sleep: async (waitMs: number, signal: AbortSignal) => {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        signal.addEventListener('abort', () => reject(signal.reason));
        waits.push({
          ms: waitMs,
          end: () => {
            ms += waitMs;
            resolve();
          },
        });
        waiting();
        await promise;
      },
    };
    return { pace, waits, firstWait };
  }

  test('holds a part back until the line is free, and only one is on its way', async () => {
    const { pace, waits, firstWait } = heldPace();
    const sink = sinkWith({ maxBytesPerSecond: 2 ** 20 }, { pace });
    const stored = store(sink, LARGE);
    await firstWait;
    // 5 MiB at 1 MiB/s.
    expect(waits.map(({ ms }) => ms)).toEqual([5000]);
    expect(headersOf('UploadPart')).toHaveLength(1);
    waits[0]?.end();
    await stored;
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
  });

  test('is shared by all objects of the sink', async () => {
    const { pace, waits, firstWait } = heldPace();
    const sink = sinkWith({ maxBytesPerSecond: 65_536 }, { pace });
    await store(sink, SMALL);
    const other = await sink.open('other', { contentType: 'a/b', signal: never });
    await other.write(SMALL);
    const stored = other.commit();
    await firstWait;
    expect(waits[0]?.ms).toBeCloseTo((1000 / 65_536) * 1000, 3);
    waits[0]?.end();
    expect(await stored).toBe('stored');
  });

  test('of the agent is shared by all of its sinks, each with its own besides', async () => {
    const { pace, waits, firstWait } = heldPace();
    const upload = new Bandwidth(65_536, pace);
    const [fast, slow] = [sinkWith({}, { pace, upload }), sinkWith({ maxBytesPerSecond: 131_072 }, { pace, upload })];
    await store(fast, SMALL);
    const other = await slow.open('other', { contentType: 'a/b', signal: never });
    await other.write(SMALL);
    const stored = other.commit();
    await firstWait;
    expect(waits[0]?.ms).toBeCloseTo((1000 / 65_536) * 1000, 3);
    expect(server.objects.has('other')).toBe(false);
    waits[0]?.end();
    expect(await stored).toBe('stored');
    expect(upload.waitedMs).toBeCloseTo((1000 / 65_536) * 1000, 3);
  });

  test.each([
    ['an abort', (end: AbortController) => end.abort(new Error('enough'))],
    ['a timeout', (end: AbortController) => end.abort(new DOMException('late', 'TimeoutError'))],
  ])('lets go at once after %s, and leaves nothing', async (_, finish) => {
    const { pace, firstWait } = heldPace();
    const end = new AbortController();
    const sink = sinkWith({ maxBytesPerSecond: 65_536 }, { pace });
    const object = await sink.open(KEY, { contentType: 'a/b', signal: end.signal });
    await object.write(LARGE);
    const commit = object.commit();
    commit.catch(() => {});
    await firstWait;
    finish(end);
    await expect(commit).rejects.toSatisfy((error) => isExhibitError(error, 'cancelled'));
    await object[Symbol.asyncDispose]();
    expect([server.objects.size, server.uploads.size, headersOf('UploadPart').length]).toEqual([0, 0, 1]);
  });
});
