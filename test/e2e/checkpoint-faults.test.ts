/** Agents that die while a runtime makes a checkpoint: nothing waits for them, nothing stays, the container runs. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { criuRuns } from '../../agent/runtime/process-tree.ts';
import { startAgent } from '../lab/agent.ts';
import type { LabNode } from '../lab/node.ts';
import { startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/** Random bytes, so that neither CRIU nor zstd is done with them at once. */
const HOLDER = (mib: number) =>
  `open my $r, '<:raw', '/dev/urandom'; my $held; read $r, $held, ${mib} << 20; print "ready\\n"; while (1) { select undef, undef, undef, 0.01 }`;

let node: LabNode;

beforeAll(async () => {
  if (labObstacle() === undefined) node = await startNode();
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
});

type Agent = Awaited<ReturnType<typeof startAgent>>;

async function holder(name: string, mib = 200): Promise<LabPod> {
  const pod = await node.runPod({
    namespace: 'prod',
    name,
    containers: [{ name: 'app', command: ['perl', '-e', `$| = 1; ${HOLDER(mib)}`] }],
  });
  const log = path.join(node.hostRoot, pod.logFolder, 'app/0.log');
  while (!existsSync(log) || !readFileSync(log, 'utf8').includes('ready')) await sleep(20);
  return pod;
}

async function until(what: string, seen: () => boolean, timeoutMs = 60_000): Promise<void> {
  const bound = Date.now() + timeoutMs;
  while (!seen()) {
    if (Date.now() > bound) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(5);
  }
}

const stateOf = (agent: Agent) => path.join(node.hostRoot, '/run/exhibit', path.basename(agent.folder));
const leftIn = (agent: Agent) => readdirSync(stateOf(agent)).filter((name) => /^(checkpoint|log)-/.test(name));
const mountsIn = (agent: Agent) =>
  readFileSync(path.join('/proc', String(node.initPid), 'mountinfo'), 'utf8')
    .split('\n')
    .filter((line) => line.includes(path.basename(agent.folder)));

/** Bytes of the checkpoint that have reached the folder so far. */
function storedBytes(agent: Agent): number {
  if (!existsSync(agent.evidence)) return 0;
  return readdirSync(agent.evidence, { recursive: true, encoding: 'utf8' })
    .filter((name) => path.basename(name).startsWith('.checkpoint.tar.zst.'))
    .reduce((sum, name) => sum + (statSync(path.join(agent.evidence, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

async function expectRuns(pod: LabPod): Promise<void> {
  const { stdout } = await node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'ls']);
  expect(stdout.toString()).toMatch(new RegExp(`${pod.containerId('app')}\\s+\\d+\\s+RUNNING`));
  const freeze = path.join(node.hostRoot, 'sys/fs/cgroup', await cgroupOf(pod), 'cgroup.freeze');
  expect(readFileSync(freeze, 'utf8').trim()).toBe('0');
  expect((await pod.exec('app', ['true'])).code).toBe(0);
}

async function cgroupOf(pod: LabPod): Promise<string> {
  const text = readFileSync(path.join(node.procRoot, String(await pod.pid('app')), 'cgroup'), 'utf8');
  return /^0::(.*)$/m.exec(text)?.[1] ?? '';
}

const images = async () => {
  const { stdout } = await node.exec([
    'ctr',
    '-n',
    'k8s.io',
    'images',
    'ls',
    '-q',
    'labels."containerd.io/checkpoint"==true',
  ]);
  return stdout.toString().trim().split('\n').filter(Boolean);
};

/** A capture of the checkpoint alone, under way. */
async function underWay(pod: LabPod, rung: 'tasks' | 'cri', level = 1): Promise<Agent> {
  const agent = await startAgent(node, { config: { checkpoint: { rungs: [rung] }, compression: { level } } });
  void agent.exhibit('capture', pod.containerId('app'), '--artifacts', 'checkpoint');
  return agent;
}

describe('an agent that is killed while a checkpoint is made', () => {
  test('by the Tasks rung: the dump ends, its memory is given back, the container runs', async (context) => {
    requireLab(context);
    const pod = await holder('killed-tasks');
    await using agent = await underWay(pod, 'tasks');
    await until('CRIU', () => criuRuns(node.procRoot));
    expect(mountsIn(agent)).toHaveLength(2);
    await agent.kill();
    await until('the guard’s work', () => leftIn(agent).length === 0);
    expect(criuRuns(node.procRoot)).toBe(false);
    expect(mountsIn(agent)).toEqual([]);
    await expectRuns(pod);
    await pod.stop();
  });

  test('by the Tasks rung, while it stores: the memory is given back all the same', async (context) => {
    requireLab(context);
    const pod = await holder('killed-storing');
    await using agent = await underWay(pod, 'tasks', 19);
    await until('the first bytes', () => storedBytes(agent) > 0);
    expect(criuRuns(node.procRoot)).toBe(false);
    expect(mountsIn(agent)).toHaveLength(2);
    await agent.kill();
    await until('the guard’s work', () => leftIn(agent).length === 0);
    expect(mountsIn(agent)).toEqual([]);
    await expectRuns(pod);
    await pod.stop();
  });

  test('by the CRI rung, in the dump: the container runs, the FIFO goes', async (context) => {
    requireLab(context);
    const pod = await holder('killed-cri');
    await using agent = await underWay(pod, 'cri');
    await until('CRIU', () => criuRuns(node.procRoot));
    await agent.kill();
    await until('the container to run', () => !criuRuns(node.procRoot));
    await sleep(1_000);
    await expectRuns(pod);
    await pod.stop();
  });

  test('by the CRI rung, while containerd writes: containerd is read dry and cleans up after itself', async (context) => {
    requireLab(context);
    const pod = await holder('killed-fifo');
    await using agent = await underWay(pod, 'cri', 19);
    await until('the first bytes', () => storedBytes(agent) > 0);
    expect(await images()).toHaveLength(1);
    await agent.kill();
    await until('the guard’s work', () => leftIn(agent).length === 0);
    const bound = Date.now() + 20_000;
    while ((await images()).length > 0 && Date.now() < bound) await sleep(50);
    expect(await images()).toEqual([]);
    await expectRuns(pod);
    await pod.stop();
  });

  test('by the Tasks rung, and its guard with it: the next agent gives the memory back', async (context) => {
    requireLab(context);
    const pod = await holder('killed-both-tasks');
    const agent = await underWay(pod, 'tasks');
    await until('CRIU', () => criuRuns(node.procRoot));
    process.kill(guardOf(agent), 'SIGKILL');
    await agent.kill();
    await until('the end of the dump', () => !criuRuns(node.procRoot));
    expect(mountsIn(agent)).toHaveLength(2);
    await using next = await startAgent(node, { folder: agent.folder });
    expect(leftIn(next)).toEqual([]);
    expect(mountsIn(next)).toEqual([]);
    await expectRuns(pod);
    await pod.stop();
  });

  test('by the CRI rung, and its guard with it: the next agent does what is left', async (context) => {
    requireLab(context);
    const pod = await holder('killed-both');
    const agent = await underWay(pod, 'cri', 19);
    await until('the first bytes', () => storedBytes(agent) > 0);
    process.kill(guardOf(agent), 'SIGKILL');
    await agent.kill();
    await sleep(300);
    expect(leftIn(agent)).toHaveLength(1);
    await using next = await startAgent(node, { folder: agent.folder });
    await until('the next agent’s work', () => leftIn(next).length === 0);
    expect(await images()).toEqual([]);
    await expectRuns(pod);
    const { stdout } = await next.exhibit('captures', '--json');
    expect(stdout).toContain('truncated');
    await pod.stop();
  });
});

function guardOf(agent: Agent): number {
  const children = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, 'latin1').trim().split(' ');
  const found = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('dump-guard'));
  if (found === undefined) throw new Error('no dump guard runs');
  return Number(found);
}

describe('containerd that is killed while it makes a checkpoint', () => {
  // Whatever became of the test: the next one needs it.
  afterEach(async () => await node?.startContainerd());

  test('in the dump leaves a folder with the memory, which the next agent removes', async (context) => {
    requireLab(context);
    // containerd may still be removing that of the test before, and pages there are not those of this dump.
    await until('the end of earlier checkpoints', () => temporaryFolders().length === 0);
    const pod = await holder('killed-containerd-1');
    const agent = await underWay(pod, 'cri');
    // Late enough for pages to be in it.
    await until('CRIU’s pages', () => temporaryFolders().some((name) => existsSync(`${name}/pages-1.img`)));
    await node.killContainerd();
    await until('the container to be let go', () => agent.log().includes('capture sealed'));
    await node.startContainerd();
    expect(temporaryFolders()).toHaveLength(1);
    await expectRuns(pod);
    await agent.kill();
    await using next = await startAgent(node, { folder: agent.folder });
    expect(next.log()).toContain('removed what was left of a checkpoint');
    expect(temporaryFolders()).toEqual([]);
    await pod.stop();
  });

  test('in the write leaves an image, which the agent removes when containerd is back', async (context) => {
    requireLab(context);
    const pod = await holder('killed-containerd-2');
    await using agent = await underWay(pod, 'cri', 19);
    await until('the first bytes', () => storedBytes(agent) > 0);
    await node.killContainerd();
    await node.startContainerd();
    await until('the end of the capture', () => agent.log().includes('capture sealed'));
    expect(await images()).toEqual([]);
    await expectRuns(pod);
    await pod.stop();
  });

  test('and the agent and its guard with it: the next agent removes the image', async (context) => {
    requireLab(context);
    const pod = await holder('killed-all');
    const agent = await underWay(pod, 'cri', 19);
    await until('the first bytes', () => storedBytes(agent) > 0);
    process.kill(guardOf(agent), 'SIGKILL');
    await agent.kill();
    await node.killContainerd();
    await node.startContainerd();
    expect(await images()).toHaveLength(1);
    await using next = await startAgent(node, { folder: agent.folder });
    expect(next.log()).toContain('removed what was left of a checkpoint');
    expect(await images()).toEqual([]);
    await expectRuns(pod);
    await pod.stop();
  });
});

const temporaryFolders = () =>
  readdirSync(path.join(node.hostRoot, 'tmp'))
    .filter((name) => name.startsWith('ctrd-checkpoint'))
    .map((name) => path.join(node.hostRoot, 'tmp', name));
