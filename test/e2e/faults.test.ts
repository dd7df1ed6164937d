import { cpSync, existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { json } from './readers.ts';

/** What goes wrong on real nodes: each ends in a clear error or a gap, never in a hang, a crash or a frozen container. */

/** Holds MIB of memory, so that a freeze lasts long enough to be hit. */
const HEAVY = ['perl', '-e', 'my $x = "x" x ($ARGV[0] << 20); print "ready\\n"; sleep 3600 while 1', '400'];
/** A new short-lived child every few milliseconds. */
const CHURN = ['sh', '-c', 'while true; do sleep 0.02 & sleep 0.005; done'];

let node: LabNode;
let api: LabPod;
let heavy: LabPod;
let agent: Awaited<ReturnType<typeof startAgent>>;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  api = await node.runPod({
    namespace: 'prod',
    name: 'api-0',
    labels: { app: 'api' },
    containers: [
      { name: 'api' },
      { name: 'sidecar' },
      { name: 'churn', command: CHURN },
      { name: 'done', command: ['true'] },
    ],
  });
  heavy = await node.runPod({ namespace: 'prod', name: 'heavy-0', containers: [{ name: 'heavy', command: HEAVY }] });
  agent = await startAgent(node, { config: { memory: { bufferBytes: '512MiB' } } });
}, 120_000);

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await agent[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
}, 60_000);

beforeEach((context) => requireLab(context));

const alive = async (pod: LabPod, container: string) => (await pod.exec(container, ['true'])).code === 0;

const cgroupEvents = () => globSync(path.join(node.hostRoot, 'sys/fs/cgroup', node.cgroupParent, '**/cgroup.events'));
const frozenNow = (files: readonly string[]) => files.some((file) => /^frozen 1$/m.test(readFileSync(file, 'utf8')));

async function until(condition: () => boolean, what: string, timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what} did not happen in ${timeoutMs} ms`);
    await sleep(1);
  }
}

function manifestOf(evidence: string, captureId: string): Manifest {
  return json<Manifest>(path.join(evidence, 'lab', 'lab-node', captureId), 'manifest.json');
}

const idIn = (stdout: string) => /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(stdout)?.[0] ?? 'no id';

describe('a target that cannot be captured is a sentence', () => {
  test.each([
    ['a pod that is not here', ['prod/nowhere'], 1, /nowhere/],
    ['two containers and none named', ['prod/api-0'], 1, /prod\/api-0\/api[\s\S]*prod\/api-0\/sidecar/],
    [
      'processes of a container that has exited',
      ['prod/api-0/done', '--artifacts', 'processes'],
      1,
      /exited|ended|not running/,
    ],
    ['an artifact that does not exist', ['prod/api-0/api', '--artifacts', 'memroy'], 2, /memroy[\s\S]*memory/],
    ['a pid that does not exist', ['pid:4194304'], 1, /4194304/],
    ['nonsense for a target', ['//'], 2, /\/\//],
  ])('%s', async (_what, argv, code, words) => {
    const result = await agent.exhibit('capture', ...argv);
    expect(result.stderr).toMatch(words);
    expect(result.stderr).not.toMatch(/\bat .*\.ts:\d+/);
    expect(result.code).toBe(code);
  });
});

describe('what the agent needs and does not have', () => {
  test('a configuration with faults names each of them', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-config-'));
    const file = path.join(folder, 'agent.yaml');
    writeFileSync(file, 'sink: { url: "ftp://x" }\nmemory: { bufferBytes: huge }\nnope: 1\n');
    const { code, stderr } = await runCli(['agent', '--config', file]);
    expect(code).toBe(2);
    for (const words of ['sink.url', 'memory.bufferBytes', 'nope']) expect(stderr).toContain(words);
    rmSync(folder, { recursive: true });
  });

  test('a sink that cannot be written ends the capture before the target is touched', async () => {
    await using poor = await startAgent(node, { config: { sink: { url: 'file:///proc/nowhere' } } });
    const { code, stderr } = await poor.exhibit('capture', 'prod/api-0/api');
    expect(code).toBe(1);
    expect(stderr).toMatch(/proc\/nowhere/);
    expect(await alive(api, 'api')).toBe(true);
  });

  test('a sink that is full in the middle ends the capture with a sentence, sealed as truncated, and the container runs', async () => {
    const small = path.join(node.hostRoot, 'tmp/small');
    await node.exec(['sh', '-c', 'mkdir /tmp/small && mount -t tmpfs -o size=1m small /tmp/small']);
    await using poor = await startAgent(node, { config: { sink: { url: `file://${small}` } } });
    const { code, stderr } = await poor.exhibit('capture', 'prod/heavy-0');
    expect(code).toBe(1);
    expect(stderr).toMatch(/no (space|room)|full/i);
    const bundle = path.join(small, 'lab', 'lab-node', readdirSync(path.join(small, 'lab', 'lab-node'))[0] ?? '');
    expect(readdirSync(bundle).filter((name) => name.includes('partial'))).toEqual([]);
    // What was dropped left room for the end of the bundle.
    expect(json<Manifest>(bundle, 'manifest.json').outcome).toBe('truncated');
    // Of another mount namespace: a reader sees it under a path of its own.
    const copy = mkdtempSync(path.join(tmpdir(), 'exhibit-full-'));
    cpSync(bundle, copy, { recursive: true });
    const verified = await runCli(['verify', copy]);
    rmSync(copy, { recursive: true });
    expect(verified.code, verified.stdout).toBe(0);
    expect(frozenNow(cgroupEvents())).toBe(false);
    expect(await alive(heavy, 'heavy')).toBe(true);
  });

  test('a runtime that does not listen is named, and soon', async () => {
    await using lonely = await startAgent(node, { config: { runtime: { socket: '/run/nobody/containerd.sock' } } });
    const begin = Date.now();
    const { code, stderr } = await lonely.exhibit('capture', 'prod/api-0/api');
    expect(code).toBe(1);
    expect(stderr).toContain('/run/nobody/containerd.sock');
    expect(Date.now() - begin).toBeLessThan(15_000);
    expect((await lonely.exhibit('doctor')).code).toBe(1);
  });

  test('no agent at all is said in one sentence', async () => {
    const { code, stderr } = await runCli(['captures'], { EXHIBIT_SOCKET: '/nowhere/exhibit.sock' });
    expect(code).toBe(1);
    expect(stderr).toContain('/nowhere/exhibit.sock');
  });
});

describe('a target that changes under us', () => {
  test('processes that come and go are captured or gaps, and the bundle is intact', async () => {
    const { code, stdout, stderr } = await agent.exhibit(
      'capture',
      'prod/api-0/churn',
      '--artifacts',
      'processes,network,memory',
    );
    expect(code, stderr).toBe(0);
    const id = idIn(stdout);
    expect((await runCli(['verify', path.join(agent.evidence, 'lab', 'lab-node', id)])).code).toBe(0);
    const statuses = manifestOf(agent.evidence, id).artifacts.map((artifact) => artifact.status);
    expect(statuses.every((status) => status === 'captured' || status === 'partial')).toBe(true);
    expect(await alive(api, 'churn')).toBe(true);
  });

  test('the same capture asked twice is one capture that both callers see', async () => {
    const id = '01a20000-0000-7000-8000-00000000abcd';
    const argv = ['capture', 'prod/api-0/sidecar', '--id', id];
    const [first, second] = await Promise.all([agent.exhibit(...argv), agent.exhibit(...argv)]);
    expect([first.code, second.code], first.stderr + second.stderr).toEqual([0, 0]);
    expect(idIn(first.stdout)).toBe(id);
    expect(idIn(second.stdout)).toBe(id);
    const later = await agent.exhibit(...argv);
    expect([later.code, idIn(later.stdout)]).toEqual([0, id]);
    const other = await agent.exhibit('capture', 'prod/api-0/api', '--id', id);
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/another id/);
  });

  test('a cancelled capture is sealed as cancelled and leaves the container running', async () => {
    const id = '01a20000-0000-7000-8000-00000000cafe';
    const detached = await agent.exhibit('capture', 'prod/heavy-0', '--id', id, '--detach');
    expect(detached.code, detached.stderr).toBe(0);
    const cancelled = await agent.exhibit('cancel', id);
    expect(cancelled.code, cancelled.stderr).toBeLessThan(2);
    const shown = await agent.exhibit('show', id, '--json');
    expect(shown.stdout).toMatch(/"state": ?"cancelled"/);
    expect(manifestOf(agent.evidence, id).outcome).toBe('cancelled');
    expect((await runCli(['verify', path.join(agent.evidence, 'lab', 'lab-node', id)])).code).toBe(0);
    expect(frozenNow(cgroupEvents())).toBe(false);
  });
});

describe('sudden ends', () => {
  test('SIGKILL of the agent while the container is frozen leaves it running, and the next agent says what happened', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-killed-'));
    const config = { memory: { bufferBytes: '512MiB' } };
    const doomed = await startAgent(node, { folder, config });
    const id = '01a20000-0000-7000-8000-00000000dead';
    const files = cgroupEvents();
    const client = doomed.exhibit('capture', 'prod/heavy-0', '--id', id, '--artifacts', 'memory');
    await until(() => frozenNow(files), 'the freeze');
    await doomed.kill();
    await until(() => !frozenNow(files), 'the thaw', 10_000);
    expect(await alive(heavy, 'heavy')).toBe(true);
    const { code, stderr } = await client;
    expect(code).toBe(1);
    expect(stderr).not.toBe('');

    await using heir = await startAgent(node, { folder, config });
    const bundle = path.join(folder, 'evidence', 'lab', 'lab-node', id);
    await until(() => existsSync(path.join(bundle, 'manifest.dsse.json')), 'the seal');
    const shown = await heir.exhibit('show', id, '--json');
    expect(shown.stdout).toMatch(/"state": ?"truncated"/);
    const manifest = manifestOf(path.join(folder, 'evidence'), id);
    expect(manifest.outcome).toBe('truncated');
    expect(manifest.artifacts.map(({ name, reason }) => [name, reason])).toEqual([
      ['memory', 'the agent ended during the capture'],
    ]);
    expect(manifest.freeze.notes.join()).toMatch(/a guard thawed it/);
    const verified = await runCli(['verify', bundle]);
    expect(verified.code, verified.stdout).toBe(0);
    expect(verified.stdout).toMatch(/^INTACT/m);
    const again = await heir.exhibit('capture', 'prod/heavy-0', '--artifacts', 'memory');
    expect(again.code, again.stderr).toBe(0);
  });

  test('containerd killed in the middle: the rest is captured, the failed part says why, the container runs', async () => {
    const id = '01a20000-0000-7000-8000-00000000beef';
    const client = agent.exhibit('capture', 'prod/heavy-0', '--id', id);
    const fifos = path.join(node.hostRoot, 'run/exhibit', path.basename(agent.folder));
    await until(() => existsSync(fifos) && readdirSync(fifos).some((name) => name.includes(id)), 'the checkpoint');
    await sleep(100);
    await node.killContainerd();
    const { code, stderr } = await client;
    await node.startContainerd();
    expect(code, stderr).toBe(0);
    const { artifacts } = manifestOf(agent.evidence, id);
    const checkpoint = artifacts.find((artifact) => artifact.name === 'checkpoint');
    expect(checkpoint?.status).toBe('failed');
    expect(checkpoint?.reason).toBeTruthy();
    expect(artifacts.filter((artifact) => artifact.status === 'failed').map((artifact) => artifact.name)).toEqual([
      'checkpoint',
    ]);
    expect(readdirSync(fifos).some((name) => name.includes(id))).toBe(false);
    await until(() => !frozenNow(cgroupEvents()), 'the thaw', 30_000);
    expect(await alive(heavy, 'heavy')).toBe(true);
  });

  test('SIGTERM lets a running capture end and seals it', async () => {
    const leaving = await startAgent(node, { config: { memory: { bufferBytes: '512MiB' } } });
    const detached = await leaving.exhibit('capture', 'prod/api-0/api', '--detach');
    expect(detached.code, detached.stderr).toBe(0);
    const id = idIn(detached.stdout);
    process.kill(leaving.pid, 'SIGTERM');
    await until(
      () => existsSync(path.join(leaving.evidence, 'lab', 'lab-node', id, 'manifest.dsse.json')),
      'the seal',
      30_000,
    );
    expect(['complete', 'partial', 'cancelled']).toContain(manifestOf(leaving.evidence, id).outcome);
    await leaving[Symbol.asyncDispose]();
  });
});
