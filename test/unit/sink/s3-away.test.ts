import { describe, expect, test } from 'vitest';
import { openS3Sink } from '../../../agent/sink/s3.ts';
import { isAway } from '../../../agent/sink/s3-away.ts';
import { s3Error } from '../../../agent/sink/s3-errors.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { BUCKET, type Fault, startFakeS3 } from './fake-s3.ts';

const answered = (name: string, status: number) =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
const broken = (code: string) => Object.assign(new Error(code), { code });
const place = { bucket: 'evidence', prefix: '', endpoint: undefined };

const AWAY = [
  answered('SlowDown', 503),
  answered('InternalError', 500),
  answered('BadGateway', 502),
  answered('TooManyRequests', 429),
  answered('RequestTimeout', 400),
  answered('ExpiredToken', 400),
  answered('ExpiredTokenException', 400),
  answered('TokenRefreshRequired', 400),
  answered('RequestTimeTooSkewed', 403),
  answered('BadDigest', 400),
  Object.assign(new Error('late'), { name: 'TimeoutError' }),
  Object.assign(new Error('no answer from the provider'), { name: 'CredentialsProviderError' }),
  broken('ECONNRESET'),
  broken('ECONNREFUSED'),
  broken('ENOTFOUND'),
  broken('EAI_AGAIN'),
  broken('HPE_INVALID_CONSTANT'),
];

const LASTING = [
  answered('AccessDenied', 403),
  answered('NoSuchBucket', 404),
  answered('InvalidAccessKeyId', 403),
  answered('SignatureDoesNotMatch', 403),
  answered('InvalidRequest', 400),
  answered('ObjectLockConfigurationNotFoundError', 404),
  answered('InvalidRetentionPeriod', 400),
  answered('NotImplemented', 501),
  answered('PreconditionFailed', 412),
  answered('NoSuchUpload', 404),
  broken('DEPTH_ZERO_SELF_SIGNED_CERT'),
  Object.assign(new Error('given up'), { name: 'AbortError' }),
  new TypeError('a fault of our own'),
  'no error at all',
  undefined,
];

describe('S3', () => {
  test.each(AWAY)('may take the same bytes after %s', (error) => {
    expect(isAway(error)).toBe(true);
    expect(isAway(s3Error(error, 'write', place))).toBe(true);
    expect(isAway(new ExhibitError('sink-failed', 'wrapped twice', { cause: s3Error(error, 'write', place) }))).toBe(
      true,
    );
  });

  test.each(LASTING)('will not take them after %s', (error) => {
    expect(isAway(error)).toBe(false);
    expect(isAway(s3Error(error, 'write', place))).toBe(false);
  });

  test.each(['sink-exists', 'cancelled', 'config', 'spool-full'] as const)(
    'is not away where the answer is %s',
    (code) => {
      expect(isAway(new ExhibitError(code, 'words', { cause: answered('SlowDown', 503) }))).toBe(false);
    },
  );

  test.each<[string, Fault, boolean]>([
    ['503', { kind: 'answer', status: 503, code: 'SlowDown' }, true],
    ['502 without words that the SDK knows', { kind: 'answer', status: 502, code: 'Whatever' }, true],
    ['a reset', { kind: 'reset', afterBytes: 0 }, true],
    ['silence', { kind: 'stall' }, true],
    ['AccessDenied', { kind: 'answer', status: 403, code: 'AccessDenied' }, false],
    ['NoSuchBucket', { kind: 'answer', status: 404, code: 'NoSuchBucket' }, false],
  ])('that answers %s is judged the same through the SDK', async (_, fault, away) => {
    await using server = await startFakeS3();
    server.fault = () => fault;
    await using sink = openS3Sink(
      { url: `s3://${BUCKET}`, endpoint: server.endpoint, forcePathStyle: true },
      { credentials: { accessKeyId: 'key', secretAccessKey: 'secret' }, idleTimeoutMs: 200, maxAttempts: 1 },
    );
    const failure = await sink.check(AbortSignal.timeout(30_000)).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(ExhibitError);
    expect(isAway(failure)).toBe(away);
  });
});
