import { describe, expect, test } from 'vitest';
import { openS3Sink } from '../../../agent/sink/s3.ts';
import { type S3Attempt, s3ErrorKind } from '../../../agent/sink/s3-watch.ts';
import { BUCKET, startFakeS3 } from './fake-s3.ts';

describe('the watch over requests to S3', () => {
  test('tells of each attempt, of its error, and which ones were retries', async () => {
    await using s3 = await startFakeS3();
    const seen: S3Attempt[] = [];
    s3.fault = ({ operation, earlier }) => {
      if (operation !== 'PutObject' || earlier > 1) return undefined;
      return { kind: 'answer', status: 503, code: earlier === 0 ? 'SlowDown' : 'InternalError' };
    };
    const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' };
    const config = { url: `s3://${BUCKET}/e`, endpoint: s3.endpoint, forcePathStyle: true, retry: { firstWaitMs: 10 } };
    await using sink = openS3Sink(config, { credentials, onAttempt: (attempt) => void seen.push(attempt) });
    await using upload = await sink.open('c/n/request.json', {
      contentType: 'application/json',
      signal: AbortSignal.timeout(10_000),
    });
    await upload.write(Buffer.from('{}'));
    await upload.commit();
    expect(seen).toEqual([
      { call: 'PutObject', error: 'throttled', isRetry: false },
      { call: 'PutObject', error: 'server', isRetry: true },
      { call: 'PutObject', error: undefined, isRetry: true },
    ]);
  });
});

describe('the kind of an error of S3', () => {
  const named = (name: string, more: object = {}) => Object.assign(new Error(name), { name }, more);
  const status = (httpStatusCode: number) => named('Strange', { $metadata: { httpStatusCode } });

  test.each([
    ['denied', named('AccessDenied')],
    ['credentials', named('ExpiredToken')],
    ['clock', named('RequestTimeTooSkewed')],
    ['exists', named('PreconditionFailed')],
    ['unreachable', named('Error', { code: 'ECONNREFUSED' })],
    ['unreachable', new Error('fetch failed', { cause: named('Error', { code: 'ENOTFOUND' }) })],
    ['timeout', named('TimeoutError')],
    ['damaged', named('BadDigest')],
    ['throttled', status(429)],
    ['denied', status(403)],
    ['exists', status(412)],
    ['server', status(502)],
    ['other', status(418)],
    ['other', named('constructor')],
    ['other', 'no error at all'],
  ])('is %s', (kind, error) => {
    expect(s3ErrorKind(error)).toBe(kind);
  });
});
