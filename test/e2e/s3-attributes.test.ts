import { createHash, randomBytes } from 'node:crypto';
import {
  DeleteBucketPolicyCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { crc64Nvme } from '../../agent/sink/crc64-nvme.ts';
import { openSink, type SinkConfig } from '../../agent/sink/open.ts';
import type { ObjectSubject } from '../../agent/sink/sink.ts';
import { s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../lab/s3.ts';

const PART_BYTES = 5 * 2 ** 20;
const DAY_MS = 86_400_000;
const never = new AbortController().signal;
const about: ObjectSubject = {
  captureId: '0199a0b4-0000-7000-8000-000000000001',
  caseId: 'IR-2026/7 Überfall',
  startedAtMs: Math.floor(Date.now() / 1000) * 1000 - 60_000,
  volatility: 1,
};

/** One part, and two. */
const SIZES = [1000, PART_BYTES + 1];

const sinkOn = (server: LabS3, config: Partial<SinkConfig>) =>
  openSink(
    {
      url: `s3://${server.bucket}/cases`,
      endpoint: server.endpoint,
      forcePathStyle: true,
      partBytes: PART_BYTES,
      maxPartsInFlight: 1,
      ifNoneMatch: server.kind === 'moto',
      ...config,
    },
    { credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey } },
  );

async function store(server: LabS3, config: Partial<SinkConfig>, key: string, sizeBytes: number): Promise<Buffer> {
  const bytes = randomBytes(sizeBytes);
  await using sink = sinkOn(server, config);
  await sink.check(never);
  await using object = await sink.open(key, { contentType: 'a/b', about, signal: never });
  await object.write(bytes);
  expect(await object.commit()).toBe('stored');
  return bytes;
}

const obstacle = s3Obstacle();

describe.skipIf(obstacle !== undefined)(
  `on moto with Object Lock${obstacle === undefined ? '' : `: ${obstacle}`}`,
  () => {
    let server: LabS3;
    let client: S3Client;
    beforeAll(async () => {
      server = await startMoto({ objectLock: true });
      client = new S3Client({
        endpoint: server.endpoint,
        region: server.region,
        credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
        forcePathStyle: true,
        // It answers checksums of its own making for objects of parts.
        responseChecksumValidation: 'WHEN_REQUIRED',
      });
    }, 120_000);
    afterAll(async () => {
      client?.destroy();
      await server?.[Symbol.asyncDispose]();
    });
    const at = (key: string) => ({ Bucket: server.bucket, Key: `cases/${key}` });

    // Of one part: moto forgets the lock of an upload. What is asked there is judged in test/unit/sink/s3-requests.test.ts.
    test('an object is locked until the day that the capture has', async () => {
      await store(server, { objectLock: { mode: 'COMPLIANCE', retainDays: 30, legalHold: true } }, 'locked', 1000);
      // Its answer to GetObjectRetention is no XML.
      const head = await client.send(new HeadObjectCommand(at('locked')));
      expect(head.ObjectLockMode).toBe('COMPLIANCE');
      expect(head.ObjectLockRetainUntilDate?.getTime()).toBe(about.startedAtMs + 30 * DAY_MS);
      expect(head.ObjectLockLegalHoldStatus).toBe('ON');
    });

    test('an object is locked as its case wants it, and cannot be removed', async () => {
      const cases = [{ match: 'IR-*', mode: 'COMPLIANCE' as const, retainDays: 90 }];
      await store(server, { objectLock: { mode: 'GOVERNANCE', retainDays: 1, cases } }, 'by-case', 1000);
      const head = await client.send(new HeadObjectCommand(at('by-case')));
      expect(head.ObjectLockMode).toBe('COMPLIANCE');
      expect(head.ObjectLockRetainUntilDate?.getTime()).toBe(about.startedAtMs + 90 * DAY_MS);
      const removal = new DeleteObjectCommand({ ...at('by-case'), VersionId: head.VersionId });
      await expect(client.send(removal)).rejects.toMatchObject({ name: 'AccessDenied' });
    });

    test('a lock does not keep an object from being written twice, and the condition does', async () => {
      const lock = { objectLock: { mode: 'GOVERNANCE' as const, retainDays: 1 } };
      await store(server, lock, 'twice', 1000);
      await expect(store(server, lock, 'twice', 1000)).rejects.toMatchObject({ code: 'sink-exists' });
      await expect(store(server, lock, 'twice', PART_BYTES + 1)).rejects.toMatchObject({ code: 'sink-exists' });
    });

    test.each(SIZES)('an object of %i bytes is labelled and encrypted as asked', async (sizeBytes) => {
      const key = `labelled/${sizeBytes}`;
      await store(server, { tags: { team: 'blue' }, serverSideEncryption: { kind: 'aws:kms' } }, key, sizeBytes);
      const head = await client.send(new HeadObjectCommand(at(key)));
      expect(head.Metadata).toMatchObject({
        'exhibit-capture': about.captureId,
        'exhibit-case': 'IR-2026/7%20%C3%9Cberfall',
      });
      expect(head.ServerSideEncryption).toBe('aws:kms');
      const { TagSet } = await client.send(new GetObjectTaggingCommand(at(key)));
      expect(Object.fromEntries((TagSet ?? []).map(({ Key, Value }) => [Key, Value]))).toEqual({
        team: 'blue',
        'exhibit-capture': about.captureId,
        'exhibit-case': 'IR-2026/7 Überfall',
      });
    });

    test.each(SIZES)('an object of %i bytes is taken with CRC64NVME', async (sizeBytes) => {
      const bytes = await store(server, { checksum: 'crc64nvme' }, `crc/${sizeBytes}`, sizeBytes);
      const { Body } = await client.send(new GetObjectCommand(at(`crc/${sizeBytes}`)));
      expect(Buffer.from((await Body?.transformToByteArray()) ?? []).equals(bytes)).toBe(true);
    });
  },
);

describe.skipIf(obstacle !== undefined)(
  `on moto without Object Lock${obstacle === undefined ? '' : `: ${obstacle}`}`,
  () => {
    let server: LabS3;
    beforeAll(async () => {
      server = await startMoto();
    }, 120_000);
    afterAll(() => server?.[Symbol.asyncDispose]());

    test('the check of a sink that locks fails before anything is stored', async () => {
      await using sink = sinkOn(server, { objectLock: { mode: 'GOVERNANCE', retainDays: 1 } });
      await expect(sink.check(never)).rejects.toThrow('has no Object Lock and sink.objectLock wants it');
    });
  },
);

describe.skipIf(obstacle !== undefined)(`on radosgw${obstacle === undefined ? '' : `: ${obstacle}`}`, () => {
  let server: LabS3;
  let client: S3Client;
  beforeAll(async () => {
    server = await startS3();
    client = server.client();
  }, 120_000);
  afterAll(async () => {
    client?.destroy();
    await server?.[Symbol.asyncDispose]();
  });

  const headOf = (key: string) =>
    client.send(new HeadObjectCommand({ Bucket: server.bucket, Key: `cases/${key}`, ChecksumMode: 'ENABLED' }));

  test.each(SIZES)('an object of %i bytes is taken with CRC64NVME', async (sizeBytes) => {
    const bytes = await store(server, { checksum: 'crc64nvme' }, `crc/${sizeBytes}`, sizeBytes);
    const head = await headOf(`crc/${sizeBytes}`);
    expect(head.ContentLength).toBe(sizeBytes);
    // It keeps none for objects of parts.
    if (sizeBytes < PART_BYTES) expect(head.ChecksumCRC64NVME).toBe((await crc64Nvme(bytes)).toString('base64'));
  });

  test('a body that was damaged on the way is refused for the hash that is signed', async () => {
    const of = { Bucket: server.bucket, Body: Buffer.from('these') };
    const other = createHash('sha256').update('those').digest('hex');
    const signed = new PutObjectCommand({ ...of, Key: 'signed' });
    signed.middlewareStack.add(
      (next) => async (args) => {
        const { request } = args as { request: { headers: Record<string, string> } };
        request.headers['x-amz-content-sha256'] = other;
        return await next(args);
      },
      { step: 'build', name: 'lie' },
    );
    await expect(client.send(signed)).rejects.toMatchObject({ $metadata: { httpStatusCode: 400 } });
  });

  test.each(SIZES)('an object of %i bytes is labelled', async (sizeBytes) => {
    const key = `labelled/${sizeBytes}`;
    await store(server, { tags: true }, key, sizeBytes);
    expect((await headOf(key)).Metadata).toMatchObject({
      'exhibit-capture': about.captureId,
      'exhibit-case': 'IR-2026/7%20%C3%9Cberfall',
    });
    const { TagSet } = await client.send(new GetObjectTaggingCommand({ Bucket: server.bucket, Key: `cases/${key}` }));
    expect(TagSet).toContainEqual({ Key: 'exhibit-case', Value: 'IR-2026/7 Überfall' });
  });

  test('the check of a sink that locks fails, because its buckets have no lock', async () => {
    await using sink = sinkOn(server, { objectLock: { mode: 'GOVERNANCE', retainDays: 1 } });
    await expect(sink.check(never)).rejects.toThrow('has no Object Lock and sink.objectLock wants it');
  });

  test.each(['AES256', 'aws:kms', 'aws:kms:dsse'] as const)(
    'the check of a sink with %s fails, because this server has no keys',
    async (kind) => {
      await using sink = sinkOn(server, { serverSideEncryption: { kind } });
      await expect(sink.check(never)).rejects.toThrow('the server refuses what sink.serverSideEncryption asks for');
    },
  );

  test('a clock is told that is the node’s own', async () => {
    await using sink = sinkOn(server, {});
    await sink.check(never);
    const offset = sink.clock?.();
    expect(Math.abs(offset?.offsetMs ?? Number.NaN)).toBeLessThanOrEqual(offset?.uncertaintyMs ?? 0);
  });

  test('two rights are enough: what else an identity could ask is refused, and nothing is missed', async () => {
    const Resource = [`arn:aws:s3:::${server.bucket}`, `arn:aws:s3:::${server.bucket}/*`];
    const Action = [
      'ListBucket',
      'ListBucketVersions',
      'ListMultipartUploadParts',
      'GetObject',
      'GetObjectVersion',
      'DeleteObject',
      'DeleteObjectVersion',
      'GetBucketVersioning',
      'GetBucketObjectLockConfiguration',
      'PutObjectAcl',
      'PutObjectTagging',
      'PutObjectRetention',
      'PutObjectLegalHold',
    ].map((name) => `s3:${name}`);
    const Statement = [{ Effect: 'Deny', Principal: '*', Action, Resource }];
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
    await client.send(new PutBucketPolicyCommand({ Bucket: server.bucket, Policy }));
    try {
      await expect(client.send(new ListObjectsV2Command({ Bucket: server.bucket }))).rejects.toMatchObject({
        name: 'AccessDenied',
      });
      for (const sizeBytes of SIZES)
        await store(server, { checksum: 'crc64nvme' }, `append-only/${sizeBytes}`, sizeBytes);
      await using sink = sinkOn(server, {});
      const object = await sink.open('append-only/dropped', { contentType: 'a/b', about, signal: never });
      await object.write(randomBytes(PART_BYTES + 1));
      await object[Symbol.asyncDispose]();
    } finally {
      await client.send(new DeleteBucketPolicyCommand({ Bucket: server.bucket }));
    }
    for (const sizeBytes of SIZES) expect((await headOf(`append-only/${sizeBytes}`)).ContentLength).toBe(sizeBytes);
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: server.bucket }));
    expect(Uploads).toEqual([]);
  });

  test('an object of several parts goes whole through a bandwidth cap', async () => {
    await store(server, { maxBytesPerSecond: 64 * 2 ** 20 }, 'capped', 2 * PART_BYTES + 5);
    expect((await headOf('capped')).ContentLength).toBe(2 * PART_BYTES + 5);
  });
});
