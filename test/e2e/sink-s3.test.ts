import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openSink } from '../../agent/sink/open.ts';
import { openVault } from '../../agent/sink/vault.ts';
import { type SinkUnderTest, sinkContract } from '../contract/sink.ts';
import { s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../lab/s3.ts';
import { openS3Store, type S3Store } from '../lab/s3-store.ts';

/** S3's smallest part, so that the suite's objects stay small. */
const PART_BYTES = 5 * 2 ** 20;
const PREFIX = 'cases/2026';

sinkContract('the S3 sink on Ceph’s radosgw', () => onServer(startS3, false), s3Obstacle());
sinkContract('the S3 sink on moto', () => onServer(startMoto, true), s3Obstacle());

async function onServer(start: () => Promise<LabS3>, refusesOverwrite: boolean): Promise<SinkUnderTest> {
  const server = await start();
  const { accessKeyId, secretAccessKey, endpoint, bucket } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const store = openS3Store(server);
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-s3-vault-'));
  const vault = await openVault(folder, Buffer.alloc(32, 7));
  const sink = openSink(
    {
      url: `s3://${bucket}/${PREFIX}`,
      endpoint,
      forcePathStyle: true,
      partBytes: PART_BYTES,
      ifNoneMatch: refusesOverwrite,
      // radosgw's SQLite store loses a part now and then when several come at once (docs/sinks.md).
      maxPartsInFlight: server.kind === 'radosgw' ? 1 : 4,
    },
    { credentials, vault },
  );
  return {
    sink,
    partBytes: PART_BYTES,
    refusesOverwrite,
    settles: true,
    // Its one user owns the bucket.
    rights: { list: 'allowed', read: 'allowed', overwrites: !refusesOverwrite, retention: 'none' },
    read: (key) => store.read(`${PREFIX}/${key}`),
    list: async () => [...(await everythingIn(store)), ...(await vault.list(''))],
    async [Symbol.asyncDispose]() {
      store[Symbol.dispose]();
      await sink[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Objects with all of their versions, and uploads that nobody has finished. */
async function everythingIn(store: S3Store): Promise<string[]> {
  const uploads = (await store.unfinishedUploads()).map(({ key, uploadId }) => `unfinished ${key} ${uploadId}`);
  const versions = (await store.versions()).map(({ key, versionId }) => `${key} ${versionId}`);
  return [...versions, ...uploads].sort();
}
