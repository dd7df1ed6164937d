import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { startDockerPod } from '../lab/docker-pod.ts';
import { exhibitImage } from '../lab/exhibit-image.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { IDLE_COMMAND } from '../lab/pod.ts';
import { renderedAgent } from '../lab/rendered-pod.ts';
import { captureBy, gapsOf, linesBy, podObstacle, requirePods } from './daemonset-node.ts';

/** The image, run by Docker as `kubectl kustomize manifests/overlays/docker` renders it, beside the containers of the same Docker. */

let node: LabDocker;

beforeAll(async () => {
  if (podObstacle() !== undefined) return;
  const { tar } = await exhibitImage();
  node = await startDocker();
  await copyFile(tar, join(node.hostRoot, 'tmp/image.tar'));
  await node.docker('load', '--quiet', '--input', '/tmp/image.tar');
  await node.exec(['rm', '/tmp/image.tar']);
}, 600_000);
afterAll(() => node?.[Symbol.asyncDispose]());
beforeEach(requirePods);

test('a capture by exec takes every artifact of a container of Docker, and leaves it running', async () => {
  await node.docker('run', '--detach', '--name', 'web', '--network', 'none', WORKLOAD_IMAGE, ...IDLE_COMMAND);
  await node.docker('exec', 'web', 'sh', '-c', 'echo evil > /tmp/dropped');
  const sink = { url: 'file:///run/exhibit/evidence' };
  await using agent = await startDockerPod(node, { pod: renderedAgent('overlays/docker'), config: { sink } });
  const manifest = await captureBy(agent, node, 'name:web');
  expect(gapsOf(manifest)).toEqual([]);
  expect(manifest.artifacts.map(({ name, status }) => `${name} ${status}`)).toEqual(
    ['processes', 'network', 'node', 'memory', 'checkpoint', 'volumes', 'rootfs', 'logs', 'spec'].map(
      (name) => `${name} captured`,
    ),
  );
  expect(manifest.target).toMatchObject({ runtime: 'docker', name: 'web' });
  expect(manifest.freeze).toMatchObject({ consistency: 'frozen', method: 'cgroup-v2', thawedBy: 'agent' });
  expect(await node.docker('exec', 'web', 'cat', '/tmp/dropped')).toBe('evil');
  const lines = new Map((await linesBy(agent)).map(({ name, status }) => [name, status]));
  for (const name of ['runtime', 'cgroup', 'cgroup-namespace', 'processes', 'capabilities', 'volumes', 'state'])
    expect([name, lines.get(name)]).toEqual([name, 'ok']);
});
