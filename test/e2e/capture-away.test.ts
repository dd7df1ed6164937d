import { beforeEach, expect, test } from 'vitest';
import { runCli, startAgent } from '../lab/agent.ts';
import { startNode } from '../lab/node.ts';
import { requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';

beforeEach((context) => {
  requireLab(context);
  requireS3(context);
});

test('a capture that S3 goes away from waits, and the next agent delivers and seals it', async () => {
  await using node = await startNode();
  await using s3 = await startS3();
  await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const env = { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, AWS_REGION: s3.region };
  const sink = {
    url: `s3://${s3.bucket}/cases`,
    endpoint: s3.endpoint,
    region: s3.region,
    forcePathStyle: true,
    ifNoneMatch: false,
  };
  const agent = await startAgent(node, { config: { sink }, env });
  await s3.kill();
  const captured = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'processes,memory,logs');
  expect(captured.code, captured.stderr).toBe(0);
  expect(captured.stdout).toMatch(/outcome .*waits for default/);
  const bundle = /s3:\/\/\S+/.exec(captured.stdout)?.[0] ?? 'no bundle';
  await agent.kill();

  await s3.restart();
  await using next = await startAgent(node, { config: { sink }, env, folder: agent.folder });
  const id = bundle.split('/').at(-1) ?? '';
  const shown = async () => JSON.parse((await next.exhibit('show', id, '--json')).stdout) as { waitingSinks: string[] };
  await expect.poll(async () => (await shown()).waitingSinks, { timeout: 90_000, interval: 500 }).toEqual([]);
  const where = [bundle, '--endpoint', s3.endpoint, '--region', s3.region, '--path-style'];
  const verified = await runCli(['verify', ...where], env);
  expect(verified.code, verified.stdout + verified.stderr).toBe(0);
}, 240_000);
