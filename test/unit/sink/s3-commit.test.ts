import { describe, expect, test } from 'vitest';
import { parseS3Url } from '../../../agent/sink/s3.ts';
import { isUnclear } from '../../../agent/sink/s3-client.ts';
import { judgeComplete, judgePut } from '../../../agent/sink/s3-commit.ts';

const answered = (name: string, status: number) =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
const broken = (code: string) => Object.assign(new Error(code), { code });

describe('an attempt', () => {
  test.each([
    [broken('ECONNRESET'), true],
    [Object.assign(new Error('late'), { name: 'TimeoutError' }), true],
    [answered('InternalError', 500), true],
    [answered('SlowDown', 503), false],
    [answered('AccessDenied', 403), false],
    [broken('ECONNREFUSED'), false],
    [broken('ENOTFOUND'), false],
  ])('that ended with %s may have been carried out: %s', (error, unclear) => {
    expect(isUnclear(error)).toBe(unclear);
  });
});

describe('a commit that failed', () => {
  test.each([
    [412, false, 'exists'],
    [412, true, 'stored'],
    [409, false, 'exists'],
    [403, true, 'failed'],
    [undefined, true, 'failed'],
  ])('as a PutObject with %s, after an unclear attempt: %s, is %s', (status, unclear, kind) => {
    expect(judgePut({ names: [], status, unclear }).kind).toBe(kind);
  });

  test.each([
    [['PreconditionFailed'], 412, false, false, 'exists'],
    [['PreconditionFailed'], 412, true, false, 'ask'],
    [['NoSuchUpload'], 404, true, false, 'stored'],
    [['NoSuchUpload'], 404, false, false, 'failed'],
    [['NoSuchKey'], 404, true, false, 'ask'],
    [['NoSuchKey'], 404, false, false, 'failed'],
    [['ConditionalRequestConflict'], 409, false, false, 'exists'],
    [['InternalError'], 500, true, true, 'ask'],
    [['ECONNRESET'], undefined, false, true, 'ask'],
    [['AccessDenied'], 403, false, false, 'failed'],
  ])('as a completion with %s %s, earlier unclear %s, last unclear %s, is %s', (names, status, unclear, last, kind) => {
    expect(judgeComplete({ names, status, unclear, last }).kind).toBe(kind);
  });
});

describe('an s3:// URL', () => {
  test.each([
    ['s3://bucket', { bucket: 'bucket', prefix: '' }],
    ['s3://bucket/', { bucket: 'bucket', prefix: '' }],
    ['s3://my.bucket-1/a b/c/', { bucket: 'my.bucket-1', prefix: 'a b/c' }],
  ])('%s names its bucket and prefix', (url, expected) => {
    expect(parseS3Url(url)).toEqual(expected);
  });

  test.each(['s3://', 's3:///x', 's3://key:secret@bucket/x', 's3://bucket//x', 's3://bucket/../x', 's3://b'])(
    '%s is a fault of the configuration',
    (url) => {
      expect(() => parseS3Url(url)).toThrow('write it as s3://bucket/prefix');
    },
  );
});
