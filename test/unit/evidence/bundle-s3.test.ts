import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OpenBundleOptions, openBundle } from '../../../evidence/bundle.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { s3Obstacle } from '../../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../../lab/s3.ts';
import { gather } from './memory-sink.ts';
import { sampleBundle } from './sample-bundle.ts';

const obstacle = s3Obstacle();

describe.skipIf(obstacle !== undefined)(`a bundle in S3${obstacle === undefined ? '' : `: ${obstacle}`}`, () => {
  let s3: LabS3;
  let options: OpenBundleOptions;
  const saved = { ...process.env };

  beforeAll(async () => {
    s3 = await startS3();
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey });
    options = { endpoint: s3.endpoint, region: s3.region };
    const client = s3.client();
    for (const [name, bytes] of (await sampleBundle()).objects) {
      await client.send(new PutObjectCommand({ Bucket: s3.bucket, Key: `a/b c/capture/${name}`, Body: bytes }));
    }
    for (let index = 0; index < 1005; index += 1) {
      await client.send(
        new PutObjectCommand({
          Bucket: s3.bucket,
          Key: `many/request.json${index === 0 ? '' : index}`,
          Body: '0123456789',
        }),
      );
    }
    client.destroy();
  }, 120_000);
  afterAll(async () => {
    process.env = saved;
    await s3?.[Symbol.asyncDispose]();
  });

  it('is verified where it is', async () => {
    await using reader = await openBundle(`s3://${s3.bucket}/a/b c/capture/`, options);
    expect(reader.url).toBe(`s3://${s3.bucket}/a/b c/capture`);
    expect(await verifyBundle(reader)).toMatchObject({ intact: true, counts: { objects: 6, errors: 0 } });
  });

  it('is listed beyond the first page', async () => {
    await using reader = await openBundle(`s3://${s3.bucket}/many`, options);
    let count = 0;
    for await (const { sizeBytes } of reader.list()) count += sizeBytes === 10 ? 1 : 0;
    expect(count).toBe(1005);
  });

  it('gives ranges, and nothing beyond an object’s end', async () => {
    // Not from radosgw over SQLite: it answers a range with as many bytes from the object's start (tried, Ceph 20.2.4).
    await using moto = await startMoto();
    await using reader = await openMoto(moto);
    const read = async (start: number, end?: number) =>
      (await gather(reader.read('request.json', end === undefined ? { start } : { start, end }))).toString();
    expect([await read(2, 5), await read(7), await read(8, 99), await read(10), await read(5, 5)]).toEqual([
      '234',
      '789',
      '89',
      '',
      '',
    ]);
  });

  it('that is not there is named in a sentence', async () => {
    await expect(openBundle(`s3://${s3.bucket}/absent`, options)).rejects.toThrow(/s3:\/\/.*\/absent holds no capture/);
    await expect(openBundle('s3://no-such-bucket/absent', options)).rejects.toMatchObject({ code: 'bundle-not-found' });
    const elsewhere = { ...options, endpoint: 'http://127.0.0.1:1' };
    await expect(openBundle(`s3://${s3.bucket}/absent`, elsewhere)).rejects.toThrow(/cannot read s3:/);
  });
});

async function openMoto(moto: LabS3) {
  const client = moto.client();
  await client.send(new PutObjectCommand({ Bucket: moto.bucket, Key: 'x/request.json', Body: '0123456789' }));
  client.destroy();
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: moto.accessKeyId, AWS_SECRET_ACCESS_KEY: moto.secretAccessKey });
  return openBundle(`s3://${moto.bucket}/x`, { endpoint: moto.endpoint, region: moto.region });
}
