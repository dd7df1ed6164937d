import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { imageObstacle, requireExhibitImage } from '../lab/exhibit-image.ts';
import { labObstacle, requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';
import { manifestIn, wayToS3 } from '../lab/s3-way.ts';
import { type DaemonNode, gapsOf, startDaemonNode, TARGET } from './daemonset-node.ts';

/** The image, run with what manifests/base/agent/daemonset.yaml grants and no more, beside the containerd that it looks at. */

let lab: DaemonNode;

beforeAll(async () => {
  if (labObstacle() === undefined && imageObstacle() === undefined) lab = await startDaemonNode();
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach((context) => {
  requireLab(context);
  requireExhibitImage(context);
});

test('a capture by exec goes into S3 whole, and lacks nothing that an agent right on the node has', async (context) => {
  requireS3(context);
  await using s3 = await startS3();
  await using way = await wayToS3(s3, lab.node);
  const env = { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, AWS_REGION: s3.region };
  const sink = { url: `s3://${s3.bucket}/cases`, region: s3.region, forcePathStyle: true, ifNoneMatch: false };
  await using agent = await lab.start({ config: { sink: { ...sink, endpoint: way.endpoint } }, env });

  const captured = await agent.exec(['exhibit', 'capture', TARGET, '--json', '--case', 'POD-1']);
  expect(captured.code, captured.stderr).toBe(0);
  const { sinkUrl } = JSON.parse(captured.stdout.toString().split('\n')[0] ?? '') as { sinkUrl: string };
  const where = [sinkUrl, '--endpoint', s3.endpoint, '--region', s3.region, '--path-style'];
  const verified = await runCli(['verify', ...where], env);
  expect(verified.code, verified.stdout + verified.stderr).toBe(0);
  expect(verified.stdout).toContain('INTACT');

  const inPod = await manifestIn(s3, sinkUrl);
  const onNode = await captureOnNode();
  expect(summary(inPod)).toEqual(summary(onNode));
  expect(inPod.artifacts).toHaveLength(9);
});

/** The same target by an agent that runs as root on the node itself. */
async function captureOnNode(): Promise<Manifest> {
  await using agent = await startAgent(lab.node, { config: { memory: { bufferBytes: '64MiB' } } });
  const { code, stdout, stderr } = await agent.exhibit('capture', TARGET, '--json');
  expect(code, stderr).toBe(0);
  const { sinkUrl } = JSON.parse(stdout.split('\n')[0] ?? '') as { sinkUrl: string };
  return JSON.parse(readFileSync(join(new URL(sinkUrl).pathname, 'manifest.json'), 'utf8'));
}

/** What was taken and how, without sizes, times and pids. */
const summary = (manifest: Manifest) => ({
  method: manifest.freeze.method,
  consistency: manifest.freeze.consistency,
  gaps: gapsOf(manifest),
  artifacts: manifest.artifacts.map(({ name, status, notes }) => ({
    name,
    status,
    notes: notes?.map((note) => note.replaceAll(/\d+/g, 'N')),
  })),
  outcome: manifest.outcome,
});

/** The guard hears of the agent's death at once; a machine with other work needs longer to say so. */
const THAW_MS = 10_000;

test('a SIGKILL of the whole container in mid-freeze leaves its target running', async () => {
  const program = '$x = join("", map { chr(rand 256) } 1..1000) x 300_000; sleep 1 while 1';
  const command = ['perl', '-e', program];
  const pod = await lab.node.runPod({ namespace: 'prod', name: 'big-0', containers: [{ name: 'big', command }] });
  const cgroup = join(
    lab.node.hostRoot,
    'sys/fs/cgroup',
    lab.node.cgroupParent,
    `kubepods/besteffort/pod${pod.uid}/${pod.containerId('big')}`,
  );
  const isFrozen = () => readFileSync(join(cgroup, 'cgroup.freeze'), 'latin1') === '1\n';
  const memory = { bufferBytes: '16MiB', whenLarger: 'stream-frozen' };
  await using agent = await lab.start({ config: { memory } });
  const capturing = agent.exec(['exhibit', 'capture', 'prod/big-0', '--artifacts', 'memory']).catch(() => undefined);
  const pid = await agent.pid();
  const until = Date.now() + 30_000;
  while (!isFrozen() && Date.now() < until) await sleep(1);
  expect(isFrozen()).toBe(true);
  process.kill(pid, 'SIGKILL');
  // containerd kills what is left in the container's cgroup: the guard is not there any more.
  const thawed = Date.now() + THAW_MS;
  while (isFrozen() && Date.now() < thawed) await sleep(10);
  expect(isFrozen()).toBe(false);
  await capturing;
  while ((await agent.isRunning()) && Date.now() < thawed) await sleep(50);
  expect(await agent.isRunning()).toBe(false);
  expect((await pod.exec('big', ['true'])).code).toBe(0);
  await pod.stop();
});
