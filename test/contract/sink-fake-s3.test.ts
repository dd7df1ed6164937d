import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openSink } from '../../agent/sink/open.ts';
import { openVault } from '../../agent/sink/vault.ts';
import { BUCKET, startFakeS3 } from '../unit/sink/fake-s3.ts';
import { type SinkUnderTest, sinkContract } from './sink.ts';

/** S3's smallest part, so that the suite's objects stay small. */
const PART_BYTES = 5 * 2 ** 20;

sinkContract('the S3 sink on a server in this process', () => onFake(false));
sinkContract('the S3 sink with a vault, on a server in this process', () => onFake(true));

async function onFake(withVault: boolean): Promise<SinkUnderTest> {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-contract-vault-'));
  const vault = withVault ? await openVault(folder, Buffer.alloc(32, 7)) : undefined;
  const server = await startFakeS3();
  const sink = openSink(
    { url: `s3://${BUCKET}/cases/2026 a`, endpoint: server.endpoint, forcePathStyle: true, partBytes: PART_BYTES },
    { credentials: { accessKeyId: 'key', secretAccessKey: 'secret' }, ...(vault && { vault }) },
  );
  return {
    sink,
    partBytes: PART_BYTES,
    refusesOverwrite: true,
    settles: withVault,
    rights: { list: 'refused', read: 'refused', overwrites: false, retention: 'unknown' },
    read: async (key) => server.objects.get(`cases/2026 a/${key}`),
    list: async () => [...server.objects.keys(), ...server.uploads.keys(), ...((await vault?.list('')) ?? [])].sort(),
    async [Symbol.asyncDispose]() {
      // Append-only rights are enough: nothing but the five writing requests was ever sent, and the questions of `rights`.
      expect(server.refused).toEqual([]);
      expect(new Set(server.questions)).toEqual(new Set(['ListObjectsV2', 'HeadObject', 'GetObjectLockConfiguration']));
      await sink[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

test('an unknown scheme is a fault of the configuration', () => {
  expect(() => openSink({ url: 'gs://bucket' })).toThrow('use file:///folder or s3://bucket/prefix');
});
