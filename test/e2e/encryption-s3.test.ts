import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { beforeEach, expect, test } from 'vitest';
import { createEncryption } from '../../evidence/age-writer.ts';
import { requireS3 } from '../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../lab/s3.ts';
import { exhibit } from '../unit/cli/run.ts';
import { someBundle } from '../unit/cli/some-bundle.ts';
import { memoryMembers, PAGE, writeMemory } from '../unit/evidence/memory-bundle.ts';

/** Encrypted bundles in S3 servers, read from there. */

beforeEach((context) => requireS3(context));

const START = 0x7f00_0000_0000n;
const MIB = 1024 * 1024;

async function encryptedBundle() {
  const identity = await generateX25519Identity();
  const memory = randomBytes(24 * MIB);
  const region = { start: START, pages: memory.length / PAGE, captured: [[0, memory]] } as const;
  const members = await memoryMembers([{ pid: 4711, regions: [region] }]);
  const encrypt = await createEncryption([await identityToRecipient(identity)]);
  const made = await someBundle({ fill: (writer) => writeMemory(writer, members), encrypt });
  const key = path.join(made.folder, 'lab.key');
  await writeFile(key, identity);
  return { made, memory, key };
}

async function upload(server: LabS3, folder: string): Promise<void> {
  const client = server.client();
  try {
    for (const name of await readdir(folder)) {
      const body = await readFile(path.join(folder, name));
      await client.send(new PutObjectCommand({ Bucket: server.bucket, Key: `cases/7/${name}`, Body: body }));
    }
  } finally {
    client.destroy();
  }
}

const placeOf = (server: LabS3) => ({
  url: `s3://${server.bucket}/cases/7`,
  where: ['--endpoint', server.endpoint, '--region', server.region],
  env: { AWS_ACCESS_KEY_ID: server.accessKeyId, AWS_SECRET_ACCESS_KEY: server.secretAccessKey },
});

test('a page of encrypted memory costs the chunks of a few frames, from moto', async () => {
  const { made, memory, key } = await encryptedBundle();
  await using _ = made;
  // Not from radosgw: its SQLite store answers ranged GETs wrong (docs/sinks.md).
  await using server = await startMoto();
  await upload(server, made.bundle);
  const { url, where, env } = placeOf(server);
  const address = `${START + BigInt(20 * MIB)}`;
  const argv = ['mem', url, '4711', address, '4KiB', '--raw', '--stats', '--identity', key];
  const page = await exhibit([...argv, ...where], { env });
  expect(page).toMatchObject({ code: 0, stdout: memory.subarray(20 * MIB, 20 * MIB + PAGE) });
  const [, framesRead, frames] = /read (\d+) of (\d+) frames/.exec(page.stderr) ?? [];
  expect([Number(framesRead) <= 4, Number(frames)]).toEqual([true, 25]);
});

test('an encrypted bundle in radosgw is verified whole, and as stored', async () => {
  const { made, key } = await encryptedBundle();
  await using _ = made;
  await using server = await startS3();
  await upload(server, made.bundle);
  const { url, where, env } = placeOf(server);
  const opened = await exhibit(['verify', url, '--json', '--identity', key, ...where], { env });
  expect(opened.code, `${opened.stdout}${opened.stderr}`).toBe(0);
  const stored = await exhibit(['verify', url, '--json', ...where], { env });
  expect(stored.code, `${stored.stdout}${stored.stderr}`).toBe(3);
  const { bytes } = JSON.parse(opened.stdout.toString()).counts;
  expect(JSON.parse(stored.stdout.toString()).counts.bytes).toBeGreaterThan(bytes);
});
