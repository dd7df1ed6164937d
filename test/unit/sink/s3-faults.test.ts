import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { openS3Sink, type S3SinkParts } from '../../../agent/sink/s3.ts';
import { s3Error } from '../../../agent/sink/s3-errors.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import { BUCKET, type Fault, type Operation } from './fake-s3.ts';
import { eachWithFakeS3, failureOf, KEY, never, PART_BYTES, SMALL, server, sinkWith, warnings } from './s3-sink-lab.ts';

eachWithFakeS3();

/** The fault meets the first `times` requests of the operation. */
function faulty(operation: Operation, fault: Fault, times = 1): void {
  server.fault = (request) => (request.operation === operation && request.earlier < times ? fault : undefined);
}

async function store(sink: Sink, bytes: Buffer, signal = never): Promise<void> {
  await using object = await sink.open(KEY, { contentType: 'application/x-tar+zstd', signal });
  await object.write(bytes);
  await object.commit();
}

const count = (operation: Operation) => server.requests.filter((request) => request.operation === operation).length;

const LARGE = randomBytes(2 * PART_BYTES + 1234);

describe('the S3 sink, when the server or the network is faulty,', () => {
  test.each<[string, Operation, Fault]>([
    ['SlowDown for a part', 'UploadPart', { kind: 'answer', status: 503, code: 'SlowDown' }],
    ['a server error for a part', 'UploadPart', { kind: 'answer', status: 500, code: 'InternalError' }],
    ['a reset in the middle of a part', 'UploadPart', { kind: 'reset', afterBytes: 1_000_000 }],
    ['a reset after a part was stored', 'UploadPart', { kind: 'do-and-reset' }],
    ['a wrong checksum answered for a part', 'UploadPart', { kind: 'wrong-checksum' }],
    ['a part damaged on the way', 'UploadPart', { kind: 'answer', status: 400, code: 'BadDigest' }],
    ['SlowDown at the beginning', 'CreateMultipartUpload', { kind: 'answer', status: 503, code: 'SlowDown' }],
    ['SlowDown at the completion', 'CompleteMultipartUpload', { kind: 'answer', status: 503, code: 'SlowDown' }],
    ['a reset before the completion', 'CompleteMultipartUpload', { kind: 'reset', afterBytes: 0 }],
    ['a reset after the completion', 'CompleteMultipartUpload', { kind: 'do-and-reset' }],
  ])('rides over %s', async (_, operation, fault) => {
    faulty(operation, fault);
    await store(sinkWith(), LARGE);
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
    expect(server.uploads.size).toBe(0);
    expect(server.refused).toEqual([]);
  });

  test.each<[string, Fault]>([
    ['SlowDown', { kind: 'answer', status: 503, code: 'SlowDown' }],
    ['a reset in the middle', { kind: 'reset', afterBytes: 10 }],
    ['a reset after it was stored', { kind: 'do-and-reset' }],
    ['a conflict with another writer', { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' }],
  ])('rides over %s of a small object', async (_, fault) => {
    faulty('PutObject', fault);
    await store(sinkWith(), SMALL);
    expect(server.objects.get(KEY)?.equals(SMALL)).toBe(true);
  });

  test('says so in the log when it had to conclude that a commit was done', async () => {
    faulty('PutObject', { kind: 'do-and-reset' });
    await store(sinkWith(), SMALL);
    expect(warnings).toEqual([
      { event: 'commit concluded without an answer', fields: { key: KEY, note: expect.any(String) } },
    ]);
  });

  test('tells an object of somebody else from its own when the answer to the completion got lost', async () => {
    server.objects.set(KEY, SMALL);
    faulty('CompleteMultipartUpload', { kind: 'reset', afterBytes: 0 });
    expect((await failureOf(store(sinkWith(), LARGE))).code).toBe('sink-exists');
    expect(server.objects.get(KEY)).toBe(SMALL);
    expect(server.uploads.size).toBe(0);
  });

  test('knows that the completion was done when every answer to it got lost', async () => {
    server.fault = ({ operation, earlier }) => {
      if (operation !== 'CompleteMultipartUpload') return undefined;
      return earlier === 0 ? { kind: 'do-and-reset' } : { kind: 'reset', afterBytes: 0 };
    };
    await store(sinkWith({}, { maxAttempts: 3 }), LARGE);
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
  });

  test('knows that the completion was not done when no request for it arrived', async () => {
    faulty('CompleteMultipartUpload', { kind: 'reset', afterBytes: 0 }, 100);
    expect((await failureOf(store(sinkWith({}, { maxAttempts: 2 }), LARGE))).code).toBe('sink-failed');
    expect(server.objects.size).toBe(0);
    expect(server.uploads.size).toBe(0);
  });

  test('gives up a connection that stalls, and tries another', async () => {
    faulty('UploadPart', { kind: 'stall' });
    await store(sinkWith({}, { idleTimeoutMs: 300 }), LARGE);
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
  });

  test('does not hang on a server that never answers', async () => {
    faulty('UploadPart', { kind: 'stall' }, 100);
    const failure = await failureOf(store(sinkWith({}, { idleTimeoutMs: 200, maxAttempts: 2 }), LARGE));
    expect(failure.code).toBe('sink-failed');
    expect(failure.message).toContain('did not answer in time');
    expect(server.uploads.size).toBe(0);
  });

  test('fails after a checksum that is wrong again and again, and leaves nothing', async () => {
    faulty('UploadPart', { kind: 'wrong-checksum' }, 100);
    const failure = await failureOf(store(sinkWith(), LARGE));
    expect(failure.message).toContain('damages data');
    expect([server.objects.size, server.uploads.size]).toEqual([0, 0]);
  });

  test('fails when the finished object has another checksum than was sent', async () => {
    for (const [operation, bytes] of [
      ['CompleteMultipartUpload', LARGE],
      ['PutObject', SMALL],
    ] as const) {
      server.objects.clear();
      faulty(operation, { kind: 'wrong-checksum' }, 100);
      expect((await failureOf(store(sinkWith(), bytes))).message).toContain('damages data');
    }
  });

  test.each<[string, number, string]>([
    ['AccessDenied', 403, 'allow s3:PutObject and s3:AbortMultipartUpload on arn:aws:s3:::evidence/*'],
    ['NoSuchBucket', 404, 'there is no bucket evidence; create it or correct sink.url'],
    ['InvalidAccessKeyId', 403, 'does not accept the access key'],
    ['PermanentRedirect', 301, "set sink.region to the bucket's own"],
    ['QuotaExceeded', 403, 'quota is used up'],
    ['NotImplemented', 501, 'set sink.ifNoneMatch to false'],
  ])('answers %s with a sentence that says what to do, and does not try again', async (code, status, words) => {
    faulty('CreateMultipartUpload', { kind: 'answer', status, code }, 100);
    const failure = await failureOf(sinkWith().check(never));
    expect(failure.code).toBe('sink-failed');
    expect(failure.message).toContain('cannot write evidence to s3://evidence');
    expect(failure.message).toContain(words);
    expect(count('CreateMultipartUpload')).toBe(1);
  });

  test.each<[string, number]>([
    ['AccessDenied', 403],
    ['NoSuchBucket', 404],
    ['InvalidAccessKeyId', 403],
    ['SignatureDoesNotMatch', 403],
    ['NotImplemented', 501],
  ])('sends a part once that is refused with %s, and leaves nothing', async (code, status) => {
    faulty('UploadPart', { kind: 'answer', status, code }, 100);
    const one = sinkWith();
    expect((await failureOf(store(one, LARGE.subarray(0, PART_BYTES + 1)))).code).toBe('sink-failed');
    const parts = server.requests.filter(({ operation }) => operation === 'UploadPart').map(({ part }) => part);
    expect(parts).toEqual([...new Set(parts)]);
    expect([server.objects.size, server.uploads.size]).toEqual([0, 0]);
  });

  test.each<[string, number]>([
    ['SlowDown', 503],
    ['ServiceUnavailable', 503],
    ['InternalError', 500],
    ['BadGateway', 502],
    ['GatewayTimeout', 504],
    ['TooManyRequestsException', 429],
    ['RequestTimeout', 400],
    ['RequestTimeTooSkewed', 403],
  ])('sends a part again after %s', async (code, status) => {
    faulty('UploadPart', { kind: 'answer', status, code });
    await store(sinkWith(), LARGE);
    expect(server.objects.get(KEY)?.equals(LARGE)).toBe(true);
    expect(count('UploadPart')).toBe(4);
  });

  test('names a clock that is wrong, when setting the SDK right did not help', async () => {
    faulty('CreateMultipartUpload', { kind: 'answer', status: 403, code: 'RequestTimeTooSkewed' }, 100);
    expect((await failureOf(sinkWith().check(never))).message).toContain('synchronise it');
  });

  test('names a port where nothing listens, and a name nobody knows', async () => {
    const refused = openS3Sink({ url: 's3://evidence', endpoint: 'http://127.0.0.1:1' }, quick);
    expect((await failureOf(refused.check(never))).message).toContain('nothing listens at http://127.0.0.1:1');
    const unknown = openS3Sink({ url: 's3://evidence', endpoint: 'http://s3.invalid', forcePathStyle: true }, quick);
    expect((await failureOf(unknown.check(never))).message).toContain('http://s3.invalid');
  });

  test.each([
    ['CERT_NOT_YET_VALID', "is not valid yet by this node's clock; set the clock"],
    ['CERT_HAS_EXPIRED', "has expired by this node's clock; renew it, or set the clock"],
  ])('names the clock where a certificate is out of its time: %s', (code, words) => {
    const place = { bucket: 'evidence', prefix: '', endpoint: 'https://s3.test' };
    const error = s3Error(Object.assign(new Error('certificate'), { code }), 'write evidence', place);
    expect(error.message).toContain(`the certificate of https://s3.test ${words}`);
  });

  test('names missing credentials', async () => {
    const provider = async () => {
      throw Object.assign(new Error('Could not load credentials from any providers'), {
        name: 'CredentialsProviderError',
      });
    };
    expect((await failureOf(sinkWith({}, { credentials: provider }).check(never))).message).toContain(
      'no credentials were found',
    );
  });

  test('reports an upload that could not be aborted, with its id', async () => {
    server.fault = ({ operation }) =>
      operation === 'AbortMultipartUpload' ? { kind: 'answer', status: 403, code: 'AccessDenied' } : undefined;
    {
      await using object = await sinkWith().open(KEY, { contentType: 'a/b', signal: never });
      await object.write(LARGE);
    }
    expect(warnings).toEqual([
      {
        event: 'upload could not be aborted',
        fields: { key: KEY, uploadId: expect.any(String), err: expect.any(Error) },
      },
    ]);
  });

  test('aborts an upload that was begun while the capture was cancelled', async () => {
    const end = new AbortController();
    server.fault = ({ operation }) => {
      if (operation === 'CreateMultipartUpload') end.abort(new Error('cancelled in the middle'));
      return undefined;
    };
    expect((await failureOf(store(sinkWith(), LARGE, end.signal))).code).toBe('cancelled');
    expect(count('CreateMultipartUpload')).toBe(1);
    expect(server.uploads.size).toBe(0);
  });

  test('ends a check at once when it is cancelled, and still leaves nothing', async () => {
    const end = new AbortController();
    server.fault = ({ operation }) => {
      if (operation === 'CreateMultipartUpload') end.abort(new Error('enough'));
      return undefined;
    };
    expect((await failureOf(sinkWith().check(end.signal))).code).toBe('cancelled');
    while (count('AbortMultipartUpload') === 0 || server.uploads.size > 0) await sleep(5);
  });

  test('keeps no more parts on their way than it may, and the writer waits', async () => {
    const sink = openS3Sink(
      {
        url: `s3://${BUCKET}`,
        endpoint: server.endpoint,
        forcePathStyle: true,
        partBytes: PART_BYTES,
        maxPartsInFlight: 2,
      },
      { credentials: { accessKeyId: 'key', secretAccessKey: 'secret' }, idleTimeoutMs: 60_000 },
    );
    const seen = new Set<number>();
    server.fault = ({ operation, part }) => {
      if (operation === 'UploadPart') seen.add(part);
      return operation === 'UploadPart' ? { kind: 'stall' } : undefined;
    };
    const end = new AbortController();
    const object = await sink.open(KEY, { contentType: 'a/b', signal: end.signal });
    const writing = object.write(Buffer.alloc(6 * PART_BYTES));
    writing.catch(() => {});
    await sleep(500);
    expect(seen.size).toBe(2);
    end.abort(new Error('seen enough'));
    await expect(writing).rejects.toSatisfy((error) => isExhibitError(error, 'cancelled'));
    await object[Symbol.asyncDispose]();
    expect(server.uploads.size).toBe(0);
  });

  test('sends the content type, and asks for nothing beyond the five writing requests', async () => {
    await store(sinkWith(), SMALL);
    expect(server.contentTypes.get(KEY)).toBe('application/x-tar+zstd');
    expect(server.refused).toEqual([]);
  });
});

const quick: S3SinkParts = { credentials: { accessKeyId: 'key', secretAccessKey: 'secret' }, maxAttempts: 1 };
