import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSink, type SinkConfig } from '../../../agent/sink/open.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import { BUCKET, type FakeS3, startFakeS3 } from './fake-s3.ts';

let server: FakeS3;
beforeAll(async () => {
  server = await startFakeS3();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(() => {
  server.questions.length = 0;
  server.reply = () => ({ status: 403, code: 'AccessDenied' });
});

async function rights(
  knownKey: string | undefined,
  over: Partial<SinkConfig> = {},
  signal = AbortSignal.timeout(30_000),
) {
  await using sink = openSink(
    { url: `s3://${BUCKET}/cases`, endpoint: server.endpoint, forcePathStyle: true, ...over },
    { credentials: { accessKeyId: 'key', secretAccessKey: 'secret' }, maxAttempts: 1 },
  );
  return await sink.rights(knownKey, signal);
}

const LISTING = '<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>';
const lockWith = (rule: string) =>
  `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>${rule}</ObjectLockConfiguration>`;
const RULE = '<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule>';
const versioning = (status: string) => `<VersioningConfiguration>${status}</VersioningConfiguration>`;

describe('the rights on evidence in S3', () => {
  test('are refused to an identity that may only write', async () => {
    expect(await rights('c/n/id/manifest.json')).toEqual({
      list: 'refused',
      read: 'refused',
      overwrites: false,
      retention: 'unknown',
    });
    expect([...server.questions].sort()).toEqual(['GetObjectLockConfiguration', 'HeadObject', 'ListObjectsV2']);
  });

  test('are told where an identity has them', async () => {
    const asked: string[] = [];
    server.reply = (question, key) => {
      asked.push(`${question} ${key}`);
      if (question === 'ListObjectsV2') return { status: 200, body: LISTING };
      if (question === 'GetObjectLockConfiguration') return { status: 200, body: lockWith(RULE) };
      return { status: 200 };
    };
    expect(await rights('c/n/id/manifest.json')).toEqual({
      list: 'allowed',
      read: 'allowed',
      overwrites: false,
      retention: 'locked',
    });
    expect(asked).toContain('HeadObject cases/c/n/id/manifest.json');
  });

  test('to read are not known before something was stored, and nothing is asked', async () => {
    expect(await rights(undefined)).toMatchObject({ read: 'unknown' });
    expect(server.questions).not.toContain('HeadObject');
  });

  test.each([
    ['an object that has gone', 404, 'NoSuchKey'],
    ['a server that fails', 500, 'InternalError'],
  ])('are not known after %s', async (_what, status, code) => {
    server.reply = () => ({ status, code });
    expect(await rights('c/n/id/manifest.json')).toEqual({
      list: 'unknown',
      read: 'unknown',
      overwrites: false,
      retention: 'unknown',
    });
  });

  test.each([
    ['no lock, no versions', { status: 404, code: 'ObjectLockConfigurationNotFoundError' }, '', 'none'],
    [
      'no lock, versions',
      { status: 404, code: 'ObjectLockConfigurationNotFoundError' },
      '<Status>Enabled</Status>',
      'versioned',
    ],
    [
      'no lock, versions suspended',
      { status: 404, code: 'ObjectLockConfigurationNotFoundError' },
      '<Status>Suspended</Status>',
      'none',
    ],
    [
      'a lock without a default retention',
      { status: 200, body: lockWith('') },
      '<Status>Enabled</Status>',
      'versioned',
    ],
    ['a lock that may not be asked for', { status: 403, code: 'AccessDenied' }, '<Status>Enabled</Status>', 'unknown'],
  ] as const)('tell what is kept with %s', async (_what, lock, status, retention) => {
    server.reply = (question) => {
      if (question === 'GetObjectLockConfiguration') return lock;
      if (question === 'GetBucketVersioning') return { status: 200, body: versioning(status) };
      return { status: 403, code: 'AccessDenied' };
    };
    expect(await rights(undefined)).toMatchObject({ retention });
  });

  test.each([
    ['locked', { status: 200, body: lockWith('') }, { retention: 'locked' }],
    [
      'known to miss the lock',
      { status: 404, code: 'ObjectLockConfigurationNotFoundError' },
      { retention: 'versioned', lockMissing: true },
    ],
    ['not known', { status: 403, code: 'AccessDenied' }, { retention: 'unknown' }],
    ['not known, without a bucket,', { status: 404, code: 'NoSuchBucket' }, { retention: 'unknown' }],
  ])('are %s where the sink locks each object and the bucket answers %j', async (_, lock, expected) => {
    server.reply = (question) => {
      if (question === 'GetObjectLockConfiguration') return lock;
      if (question === 'GetBucketVersioning') return { status: 200, body: versioning('<Status>Enabled</Status>') };
      return { status: 403, code: 'AccessDenied' };
    };
    expect(await rights(undefined, { objectLock: { mode: 'COMPLIANCE', retainDays: 1 } })).toEqual({
      list: 'refused',
      read: 'unknown',
      overwrites: false,
      ...expected,
    });
  });

  test('say when nothing keeps a key from being written again', async () => {
    expect(await rights(undefined, { ifNoneMatch: false })).toMatchObject({ overwrites: true });
  });

  test('end with `cancelled` when nobody waits for them', async () => {
    await expect(rights('key', {}, AbortSignal.abort(new Error('Ctrl-C')))).rejects.toSatisfy((error) =>
      isExhibitError(error, 'cancelled'),
    );
  });
});
