import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GetObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSink } from '../../agent/sink/open.ts';
import { type NamedSink, openSeveral } from '../../agent/sink/several.ts';
import { requireS3 } from '../lab/requires.ts';
import { type LabS3, startS3 } from '../lab/s3.ts';

const KEY = 'c/n/id/memory.tar.zst';
const OPTIONS = { contentType: 'application/octet-stream', signal: new AbortController().signal };
const CHUNK_BYTES = 2 ** 20;

let folder: string;
beforeEach(async (context) => {
  requireS3(context);
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-several-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function sinksOf(s3: LabS3, partBytes: number): [bucket: NamedSink, here: NamedSink] {
  const { endpoint, accessKeyId, secretAccessKey, bucket } = s3;
  const config = { url: `s3://${bucket}/p`, endpoint, forcePathStyle: true, ifNoneMatch: false };
  return [
    {
      name: 'bucket',
      sink: openSink(
        { ...config, partBytes, maxPartsInFlight: 1 },
        { credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 },
      ),
    },
    { name: 'here', sink: openSink({ url: `file://${folder}` }) },
  ];
}

const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};
const inFolder = async () => sha256(await readFile(path.join(folder, KEY)));

test('an object written once is the same bytes in a bucket and in a folder', async () => {
  await using s3 = await startS3();
  const [bucket, here] = sinksOf(s3, 64 * 2 ** 20);
  const chunks = Array.from({ length: 20 }, () => randomBytes(CHUNK_BYTES));
  {
    await using object = await openSeveral([bucket, here], KEY, OPTIONS);
    for (const chunk of chunks) await object.write(chunk);
    expect([...(await object.commit()).values()]).toEqual([{ kind: 'stored' }, { kind: 'stored' }]);
  }
  const client = s3.client();
  const { Body } = await client.send(new GetObjectCommand({ Bucket: s3.bucket, Key: `p/${KEY}` }));
  const stored = (await Body?.transformToByteArray()) ?? new Uint8Array();
  client.destroy();
  expect(stored.length).toBe(20 * CHUNK_BYTES);
  expect([sha256(stored), await inFolder()]).toEqual([sha256(...chunks), sha256(...chunks)]);
  for (const { sink } of [bucket, here]) await sink[Symbol.asyncDispose]();
}, 120_000);

test('a server that is killed in the middle costs the folder beside it nothing', async () => {
  await using s3 = await startS3();
  const [bucket, here] = sinksOf(s3, 5 * 2 ** 20);
  const chunks = Array.from({ length: 20 }, () => randomBytes(CHUNK_BYTES));
  {
    await using object = await openSeveral([bucket, here], KEY, OPTIONS);
    for (const [index, chunk] of chunks.entries()) {
      if (index === 8) await s3.kill();
      await object.write(chunk);
    }
    const outcomes = await object.commit();
    expect(outcomes.get('bucket')).toMatchObject({ kind: 'failed', error: { code: 'sink-failed' } });
    expect(outcomes.get('here')).toEqual({ kind: 'stored' });
  }
  expect(await inFolder()).toBe(sha256(...chunks));
  expect((await readdir(path.join(folder, path.dirname(KEY)))).length).toBe(1);
  await s3.restart();
  const client = s3.client();
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: s3.bucket }));
  // radosgw lists what it keeps of an upload under way as well, under a longer name.
  expect(Versions.filter((version) => version.Key === `p/${KEY}`)).toEqual([]);
  client.destroy();
  for (const { sink } of [bucket, here]) await sink[Symbol.asyncDispose]();
}, 120_000);
