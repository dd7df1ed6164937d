import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { HeadObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { runCli, startAgent } from '../lab/agent.ts';
import { startNode } from '../lab/node.ts';
import { requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';
import { openS3Store } from '../lab/s3-store.ts';
import { hasProgram, program, shell } from './readers.ts';

/**
 * A container with a secret in its environment and in its files, captured for two labs into radosgw, which is killed in the middle.
 * The judges are age-keygen, age, zstd, tar and grep.
 */

const SECRET = 'planted-secret-91c3d2';
const CASE = 'CASE-planted-91c3d2';
/** Some parts of an upload, and some seconds under the bandwidth cap. */
const NOISE_BYTES = 30 * 2 ** 20;
const BYTES_PER_SECOND = 4 * 2 ** 20;

let folder: string;
const keyFile = (name: string) => path.join(folder, `${name}.key`);
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-age-outage-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeEach((context) => {
  requireLab(context);
  requireS3(context);
  const missing = ['age', 'age-keygen', 'zstd', 'tar'].find((name) => !hasProgram(name));
  if (missing !== undefined) context.skip(`needs ${missing}: run node test/lab/setup.mjs tools as root`);
});

const expectNowhere = (word: string, place: string) =>
  expect([word, program('grep', ['-rlaF', word, place])]).toMatchObject([word, { code: 1, stdout: '' }]);

test('an encrypted capture that S3 goes away from in the middle is delivered, and is in plain nowhere on its way', async () => {
  const recipients = ['first', 'second'].map((name) => {
    shell('age-keygen -o "$1" 2>/dev/null', keyFile(name));
    return shell('age-keygen -y "$1"', keyFile(name)).trim();
  });
  await using node = await startNode();
  await using s3 = await startS3();
  using store = openS3Store(s3);
  const script = `head -c ${NOISE_BYTES} /dev/urandom > /noise; echo ${SECRET} > /secret.txt; exec tail -f /dev/null`;
  const web = { name: 'web', env: { TOKEN: SECRET }, command: ['sh', '-c', script] };
  const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [web] });
  await expect.poll(async () => (await pod.exec('web', ['cat', '/secret.txt'])).code, { timeout: 60_000 }).toBe(0);

  const env = { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, AWS_REGION: s3.region };
  const sink = {
    url: `s3://${s3.bucket}/cases`,
    endpoint: s3.endpoint,
    region: s3.region,
    forcePathStyle: true,
    ifNoneMatch: false,
    // radosgw's SQLite store loses a part now and then when several come at once (docs/sinks.md).
    maxPartsInFlight: 1,
    partBytes: 5 * 2 ** 20,
    maxBytesPerSecond: BYTES_PER_SECOND,
    tags: true,
  };
  await using agent = await startAgent(node, { config: { sink, encryption: { recipients } }, env });
  const stateDir = path.join(node.hostRoot, 'run/exhibit', path.basename(agent.folder));
  const capturing = agent.exhibit('capture', 'prod/web-0', '--case', CASE, '--artifacts', 'processes,memory,rootfs');
  // Between two objects: radosgw's store loses a part that it acknowledged right before it was killed (docs/sinks.md).
  const arrived = async () => (await store.versions('cases/')).map(({ key }) => key.split('/').at(-1));
  await expect.poll(arrived, { timeout: 60_000 }).toContain('processes.tar.zst.age');
  await s3.kill();
  const captured = await capturing;
  expect(captured.code, captured.stderr).toBe(0);
  expect(captured.stdout).toMatch(/outcome .*waits for default/);

  // Most of the noise waits in the vault now.
  const heldKib = Number(shell('du -sk "$1" | cut -f1', path.join(stateDir, 'spool')));
  expect(heldKib).toBeGreaterThan(10 * 1024);
  for (const place of [stateDir, agent.folder]) expectNowhere(SECRET, place);
  expectNowhere(CASE, path.join(stateDir, 'spool'));

  await s3.restart();
  const bundle = /s3:\/\/\S+/.exec(captured.stdout)?.[0] ?? 'no bundle';
  const id = bundle.split('/').at(-1) ?? '';
  const shown = async () =>
    JSON.parse((await agent.exhibit('show', id, '--json')).stdout) as { waitingSinks: string[] };
  await expect.poll(async () => (await shown()).waitingSinks, { timeout: 90_000, interval: 500 }).toEqual([]);

  // Read from the server's own database, for it answers GETs of what came in parts wrong (docs/sinks.md).
  const there = path.join(folder, 'node', id);
  mkdirSync(there, { recursive: true });
  const client = s3.client();
  const prefix = `${bundle.split(`${s3.bucket}/`)[1]}/`;
  for (const { key } of await store.versions(prefix)) {
    writeFileSync(path.join(there, key.slice(prefix.length)), (await store.read(key)) ?? 'nothing');
    const { Metadata } = await client.send(new HeadObjectCommand({ Bucket: s3.bucket, Key: key }));
    expect([key, Metadata]).toEqual([key, expect.objectContaining({ 'exhibit-capture': id })]);
    expect(JSON.stringify(Metadata)).not.toContain('exhibit-case');
  }
  client.destroy();
  expect(readdirSync(there).filter((name) => !name.endsWith('.age'))).toEqual(['manifest.dsse.json']);
  expect(await store.unfinishedUploads()).toEqual([]);
  for (const word of [SECRET, CASE, 'web-0', 'ustar']) expectNowhere(word, there);
  expectNowhere(SECRET, stateDir);

  const stored = await runCli(['verify', there, '--chain']);
  expect(stored.code, stored.stdout + stored.stderr).toBe(3);
  expect(stored.stdout).toMatch(/^INTACT AS STORED.*\nCHAIN WHOLE\n/s);
  for (const name of ['first', 'second']) {
    const opened = await runCli(['verify', there, '--chain', '--identity', keyFile(name)]);
    expect(opened.code, opened.stdout + opened.stderr).toBe(0);
    expect(opened.stdout).toMatch(/^INTACT\n.*\nCHAIN WHOLE\n/s);
  }

  const unpack = (member: string, key: string, object: string) =>
    shell('age -d -i "$1" "$2" | zstd -dcq | tar -xO --wildcards "$3"', keyFile(key), path.join(there, object), member);
  const listed = shell(
    'age -d -i "$1" "$2" | zstd -dcq | tar -t',
    keyFile('first'),
    path.join(there, 'rootfs.tar.zst.age'),
  );
  expect(listed.split('\n')).toEqual(expect.arrayContaining(['secret.txt', 'noise']));
  expect(unpack('secret.txt', 'second', 'rootfs.tar.zst.age')).toBe(`${SECRET}\n`);
  expect(unpack('noise', 'first', 'rootfs.tar.zst.age').length).toBe(NOISE_BYTES);
  expect(unpack('*/environ', 'first', 'processes.tar.zst.age')).toContain(`TOKEN=${SECRET}`);
}, 300_000);
