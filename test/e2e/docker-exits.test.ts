import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { startAgent } from '../lab/agent.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { dockerObstacle, requireDocker } from '../lab/requires.ts';
import { json, shell } from './readers.ts';

/** Containers that end on a real Docker, in both of its ways to keep layers. */

const NEEDLE = 'left by the intruder 7f3a';
const EXITS = { rules: [{ name: 'failed', case: 'C-7' }] };

describe.each([
  ['overlay2', false],
  ["containerd's store", true],
])('containers that end on Docker with %s', (_, containerdStore) => {
  let node: LabDocker;
  let agent: Awaited<ReturnType<typeof startAgent>>;

  beforeAll(async () => {
    if (dockerObstacle() !== undefined) return;
    node = await startDocker({ liveRestore: true, containerdStore });
    agent = await startAgent(node, { config: { runtime: { kind: 'docker' }, exits: EXITS } });
  }, 120_000);
  afterAll(async () => {
    await agent?.[Symbol.asyncDispose]();
    await node?.[Symbol.asyncDispose]();
  }, 60_000);
  beforeEach((context) => requireDocker(context));

  const run = (...command: string[]): Promise<string> =>
    node.docker('run', '-d', '--network', 'none', WORKLOAD_IMAGE, ...command);
  const fail = (exitCode: number) =>
    run('sh', '-c', `echo log-line; echo '${NEEDLE}' > /tmp/.planted; exit ${exitCode}`);

  function sealed(): { folder: string; manifest: Manifest }[] {
    const base = path.join(agent.evidence, 'lab', 'lab-docker');
    const folders = existsSync(base) ? readdirSync(base).map((id) => path.join(base, id)) : [];
    return folders
      .filter((folder) => existsSync(path.join(folder, 'manifest.dsse.json')))
      .map((folder) => ({ folder, manifest: json<Manifest>(folder, 'manifest.json') }));
  }
  async function bundleOf(id: string) {
    const find = () => sealed().find(({ manifest }) => manifest.target.id === id);
    await expect.poll(find, { timeout: 20_000, interval: 50, message: agent.log() }).toBeDefined();
    return find() ?? Promise.reject(new Error('it was there'));
  }

  test('are captured with their layer, their log and how they ended; exec sessions and successes are not', async () => {
    const idle = await run('tail', '-f', '/dev/null');
    await expect(node.docker('exec', idle, 'sh', '-c', 'exit 5')).rejects.toThrow();
    await node.docker('wait', await run('true'));
    const id = await fail(3);
    const { folder, manifest } = await bundleOf(id);
    expect(manifest.target).toMatchObject({ initPid: 0, ended: { exitCode: 3, oomKilled: false } });
    expect(manifest.artifacts.map(({ name, status }) => [name, status])).toEqual([
      ['rootfs', 'captured'],
      ['logs', 'captured'],
      ['spec', 'captured'],
    ]);
    const inLayer = shell('zstd -dcq "$1" | tar -xO -f - tmp/.planted', path.join(folder, 'rootfs.tar.zst'));
    expect(inLayer).toBe(`${NEEDLE}\n`);
    expect(shell('zstd -dcq "$1" | tar -xO -f -', path.join(folder, 'logs.tar.zst'))).toContain('log-line');
    expect((await agent.exhibit('verify', folder)).code).toBe(0);
    expect(sealed().map(({ manifest: { target } }) => target.id)).toEqual([id]);
  });

  test('are heard of again after Docker was away', async () => {
    await node.killDockerd();
    await node.startDockerd();
    const id = await fail(4);
    expect((await bundleOf(id)).manifest.target.ended?.exitCode).toBe(4);
  });
});
