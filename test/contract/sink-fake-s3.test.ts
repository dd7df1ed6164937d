import { expect, test } from 'vitest';
import { openSink } from '../../agent/sink/open.ts';
import { BUCKET, startFakeS3 } from '../unit/sink/fake-s3.ts';
import { sinkContract } from './sink.ts';

/** S3's smallest part, so that the suite's objects stay small. */
const PART_BYTES = 5 * 2 ** 20;

sinkContract('the S3 sink on a server in this process', async () => {
  const server = await startFakeS3();
  const sink = openSink(
    { url: `s3://${BUCKET}/cases/2026 a`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES },
    { credentials: { accessKeyId: 'key', secretAccessKey: 'secret' } },
  );
  return {
    sink,
    partBytes: PART_BYTES,
    refusesOverwrite: true,
    rights: { list: 'refused', read: 'refused', overwrites: false, retention: 'unknown' },
    read: async (key) => server.objects.get(`cases/2026 a/${key}`),
    list: async () => [...server.objects.keys(), ...server.uploads.keys()].sort(),
    async [Symbol.asyncDispose]() {
      // Append-only rights are enough: nothing but the five writing requests was ever sent, and the questions of `rights`.
      expect(server.refused).toEqual([]);
      expect(new Set(server.questions)).toEqual(new Set(['ListObjectsV2', 'HeadObject', 'GetObjectLockConfiguration']));
      await sink[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
});

test('an unknown scheme is a fault of the configuration', () => {
  expect(() => openSink({ url: 'gs://bucket' })).toThrow('use file:///folder or s3://bucket/prefix');
});
