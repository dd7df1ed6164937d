import { describe, expect, test } from 'vitest';
import type { ObjectLockConfig } from '../../../agent/sink/s3-lock.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { about, eachWithFakeS3, failureOf, headersOf, never, SMALL, server, sinkWith } from './s3-sink-lab.ts';

eachWithFakeS3();

const locked = { objectLock: { mode: 'COMPLIANCE', retainDays: 30 } } as const;
/** The answer of a bucket that locks. */
const ENABLED = {
  status: 200,
  body: '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>',
};

describe('the check of a sink that locks', () => {
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
    server.reply = () => ENABLED;
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
