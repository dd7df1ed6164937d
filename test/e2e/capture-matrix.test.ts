import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { RungRecord } from '../../evidence/dump.ts';
import { DEFAULT_ARTIFACTS } from '../../evidence/layout.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { nodeObstacle } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';
import { json, shell } from './readers.ts';

/** Whole captures as in capture.test.ts, on an old containerd and with cgroups of version 1. */
const NODES = [
  { release: '1.6', cgroup: 'v2', method: 'cgroup-v2' },
  { release: '1.6', cgroup: 'v1', method: 'containerd' },
  { release: '2.1', cgroup: 'v1', method: 'containerd' },
] as const;

describe.each(NODES)('a capture on containerd $release with cgroup $cgroup', ({ release, cgroup, method }) => {
  const obstacle = nodeObstacle(release);
  let node: LabNode;
  let victim: Victim;
  let folder: string;
  let bundle: string;
  let manifest: Manifest;
  let captured: CliResult;

  beforeAll(async () => {
    if (obstacle !== undefined) return;
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-'));
    node = await startNode({ release, cgroup });
    victim = await compromisedPod(node);
    await using agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
    captured = await agent.exhibit('capture', 'prod/web-0');
    const base = path.join(folder, 'evidence', 'lab', 'lab-node');
    bundle = path.join(base, readdirSync(base)[0] ?? 'none');
    manifest = json<Manifest>(bundle, 'manifest.json');
  });

  afterAll(async () => {
    if (obstacle !== undefined) return;
    await node[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  beforeEach((context) => {
    if (obstacle !== undefined) context.skip(obstacle);
  });

  const artifact = (name: string) => manifest.artifacts.find((one) => one.name === name);

  test('takes every artifact beside the checkpoint, without a gap in what is known of the target', () => {
    expect(captured.code, captured.stderr).toBe(0);
    expect(captured.stderr).not.toMatch(/\bat .*\.ts:\d+/);
    const others = manifest.artifacts.filter(({ name }) => name !== 'checkpoint');
    expect(manifest.artifacts.map(({ name }) => name)).toEqual(DEFAULT_ARTIFACTS);
    for (const { name, status, reason, gaps } of others)
      expect(['captured', 'partial'], `${name}: ${reason} ${JSON.stringify(gaps.slice(0, 3))}`).toContain(status);
    expect(artifact('spec')).toMatchObject({ status: 'captured', gaps: [] });
    expect(artifact('rootfs')).toMatchObject({ status: 'captured', gaps: [] });
  });

  test('stops the container for the memory by the means of the node, and lets it go', async () => {
    expect(manifest.freeze).toMatchObject({ consistency: 'frozen', method, thawedBy: 'agent' });
    expect(artifact('memory')?.footprint.pauseMs).toBeGreaterThan(0);
    expect((await victim.pod.exec(victim.container, ['echo', 'alive'])).stdout.toString()).toBe('alive\n');
  });

  test('has what the intruder did: memory, the dropped program, files, log', () => {
    const members = manifest.objects.flatMap((object) => object.members ?? []);
    expect(members.some(({ sha256 }) => sha256 === victim.dropped.sha256)).toBe(true);
    const text = (object: string) => shell('zstd -dc "$1"', path.join(bundle, object));
    const found = 'zstd -dc "$1" | tar -xO "$2/core" | grep -c -a -F -- "$3"';
    const core = path.join(bundle, 'memory.tar.zst');
    expect(Number(shell(found, core, String(victim.secretPid), victim.secret))).toBeGreaterThan(0);
    const { changed, deleted, created } = victim.files;
    const inventory = text('rootfs.inventory.jsonl.zst');
    for (const file of [changed, deleted, ...created]) expect(inventory, file).toContain(path.basename(file));
    for (const line of victim.logLines) expect(text('logs.tar.zst')).toContain(line);
  });

  test('is a bundle that verifies', async () => {
    expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
  });

  const rungsOf = (one: Manifest) => {
    const { rungs = [] } = one.artifacts.find(({ name }) => name === 'checkpoint')?.facts ?? {};
    return (rungs as readonly RungRecord[]).map(({ rung, outcome }) => ({ rung, outcome }));
  };

  test('has a checkpoint by the Tasks rung that checkpointctl reads', async () => {
    const { status, reason, footprint } = artifact('checkpoint') ?? {};
    expect(status, reason).toBe('captured');
    expect(rungsOf(manifest)).toEqual([
      { rung: 'tasks', outcome: 'worked' },
      { rung: 'cri', outcome: 'not-tried' },
    ]);
    expect(footprint?.pauseMs).toBeGreaterThan(0);
    shell(
      'zstd -dc "$1" > "$2"',
      path.join(bundle, 'checkpoint.tar.zst'),
      path.join(node.hostRoot, 'tmp/checkpoint.tar'),
    );
    const { code, stdout, stderr } = await node.exec([
      'checkpointctl',
      'inspect',
      '--ps-tree',
      '--files',
      '/tmp/checkpoint.tar',
    ]);
    expect(code, stderr).toBe(0);
    expect(stdout.toString()).toMatch(/Process tree[\s\S]*\[1\]\s+tail[\s\S]*\[REG 0\]/);
  });

  test('asks CRI first where the policy says so, and goes on where CRI has no such call', async () => {
    const config = { sink: { url: `file://${folder}/again` }, checkpoint: { rungs: ['cri', 'tasks'] } };
    await using agent = await startAgent(node, { config });
    const { code, stderr } = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'checkpoint');
    expect(code, stderr).toBe(0);
    const base = path.join(folder, 'again', 'lab', 'lab-node');
    const again = json<Manifest>(path.join(base, readdirSync(base)[0] ?? 'none'), 'manifest.json');
    expect(again.artifacts.map(({ status }) => status)).toEqual(['captured']);
    expect(rungsOf(again)).toEqual([
      { rung: 'cri', outcome: release === '1.6' ? 'not-offered' : 'worked' },
      { rung: 'tasks', outcome: release === '1.6' ? 'worked' : 'not-tried' },
    ]);
    expect((await victim.pod.exec(victim.container, ['true'])).code).toBe(0);
  });
});
