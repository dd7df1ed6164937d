import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { S3SinkConfig } from '../../../agent/sink/s3.ts';
import { CHECKSUMS } from '../../../agent/sink/s3-checksum.ts';
import { createS3Client } from '../../../agent/sink/s3-client.ts';
import { completeUpload, createUpload, type UploadedPart, uploadPart } from '../../../agent/sink/s3-upload.ts';
import type { ObjectSubject } from '../../../agent/sink/sink.ts';
import { BUCKET, type Operation } from './fake-s3.ts';
import {
  about,
  eachWithFakeS3,
  failureOf,
  headersOf,
  KEY,
  LARGE,
  never,
  PART_BYTES,
  SMALL,
  server,
  sinkWith,
  store,
} from './s3-sink-lab.ts';

eachWithFakeS3();

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
