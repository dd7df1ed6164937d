import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { beforeEach, expect, test } from 'vitest';
import { requireS3 } from '../lab/requires.ts';
import { type LabS3, startMoto } from '../lab/s3.ts';
import { exhibit } from '../unit/cli/run.ts';
import { someBundle } from '../unit/cli/some-bundle.ts';
import { memoryMembers, PAGE, type TestProcess, writeMemory } from '../unit/evidence/memory-bundle.ts';

beforeEach((context) => {
  requireS3(context);
});

const START = 0x7f00_0000_0000n;
const MIB = 1024 * 1024;

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

test('memory in S3 is read by the ranges that are needed', async () => {
  // Not from radosgw: its SQLite store answers ranged GETs wrong (docs/sinks.md).
  await using server = await startMoto();
  const memory = randomBytes(24 * MIB);
  // Behind a byte that is no text: a random letter there would be part of the string.
  memory.write('\0a needle in the middle of it all', 13 * MIB - 8);
  const victim: TestProcess = {
    pid: 4711,
    regions: [{ start: START, pages: memory.length / PAGE, captured: [[0, memory]] }],
  };
  const members = await memoryMembers([victim]);
  await using made = await someBundle({ fill: (writer) => writeMemory(writer, members) });
  await upload(server, made.bundle);
  const env = { AWS_ACCESS_KEY_ID: server.accessKeyId, AWS_SECRET_ACCESS_KEY: server.secretAccessKey };
  const url = `s3://${server.bucket}/cases/7`;
  const where = ['--endpoint', server.endpoint, '--region', server.region];

  const address = START + BigInt(20 * MIB);
  const page = await exhibit(['mem', url, '4711', `${address}`, '4KiB', '--raw', '--stats', ...where], { env });
  expect(page).toMatchObject({ code: 0, stdout: memory.subarray(20 * MIB, 20 * MIB + PAGE) });
  const [, framesRead, frames] = /read (\d+) of (\d+) frames, (\S+ MiB) of/.exec(page.stderr) ?? [];
  expect([Number(framesRead) <= 4, Number(frames)]).toEqual([true, 25]);

  const strings = await exhibit(['strings', url, '--min', '30', '--encoding', 'ascii', ...where], { env });
  expect(strings.stdout.toString()).toContain(
    `0x${(START + BigInt(13 * MIB - 7)).toString(16)}\ta\trw-p anonymous\ta needle`,
  );

  const rules = path.join(made.folder, 'rules.yar');
  await writeFile(rules, 'rule needle { strings: $a = "needle in the middle" condition: $a }');
  const scanned = await exhibit(['scan', '--yara', rules, url, ...where, '--json'], { env });
  expect(JSON.parse(scanned.stdout.toString())).toMatchObject({ rule: 'needle', pid: 4711 });

  const file = path.join(made.folder, 'core');
  expect(await exhibit(['core', url, '4711', '--output', file, ...where], { env })).toMatchObject({ code: 0 });
  expect((await readFile(file)).equals(members[0]?.bytes ?? Buffer.alloc(0))).toBe(true);
});
