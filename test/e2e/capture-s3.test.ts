import { beforeEach, expect, test } from 'vitest';
import type { DiffDocument } from '../../evidence/diff/document.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { startNode } from '../lab/node.ts';
import { requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';

beforeEach((context) => {
  requireLab(context);
  requireS3(context);
});

test('a capture goes into S3 and is verified from there', async () => {
  await using node = await startNode();
  await using s3 = await startS3();
  const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const env = { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, AWS_REGION: s3.region };
  const sink = {
    url: `s3://${s3.bucket}/cases`,
    endpoint: s3.endpoint,
    region: s3.region,
    forcePathStyle: true,
    ifNoneMatch: false,
  };
  await using agent = await startAgent(node, { config: { sink }, env });

  const captured = await agent.exhibit('capture', 'prod/web-0', '--case', 'S3-1');
  expect(captured.code, captured.stderr).toBe(0);
  const bundle = /s3:\/\/\S+/.exec(captured.stdout)?.[0] ?? 'no bundle';
  expect(bundle).toContain(`s3://${s3.bucket}/cases/lab/lab-node/`);

  const where = [bundle, '--endpoint', s3.endpoint, '--region', s3.region, '--path-style'];
  const verified = await runCli(['verify', ...where], env);
  expect(verified.code, verified.stdout + verified.stderr).toBe(0);
  const extracted = await runCli(['extract', bundle, 'spec', 'target.json', ...where.slice(1)], env);
  expect(JSON.parse(extracted.stdout)).toMatchObject({ pod: { name: 'web-0' } });

  await pod.exec('web', ['sh', '-c', 'echo dropped > /tmp/dropped']);
  const later = await agent.exhibit(
    'capture',
    'prod/web-0',
    '--artifacts',
    'processes,rootfs',
    '--consistency',
    'live',
  );
  const second = /s3:\/\/\S+/.exec(later.stdout)?.[0] ?? 'no bundle';
  const differs = await runCli(['diff', bundle, second, '--json', ...where.slice(1)], env);
  expect(differs.code, differs.stderr).toBe(4);
  const { kinds } = JSON.parse(differs.stdout) as DiffDocument;
  expect(kinds.files?.new.map(({ key }) => key)).toEqual(['/tmp/dropped']);

  const { PutObjectCommand } = await import('@aws-sdk/client-s3');
  const key = `${bundle.split(`${s3.bucket}/`)[1]}/logs.tar.zst`;
  using client = {
    s3: s3.client(),
    [Symbol.dispose]() {
      this.s3.destroy();
    },
  };
  await client.s3.send(new PutObjectCommand({ Bucket: s3.bucket, Key: key, Body: 'overwritten' }));
  const tampered = await runCli(['verify', ...where], env);
  expect(tampered.code).toBe(1);
  expect(tampered.stdout).toContain('logs.tar.zst');
}, 120_000);
