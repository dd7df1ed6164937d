import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, type TestContext, test } from 'vitest';
import { startFreezer, thawNow } from '../../agent/capture/freeze.ts';
import { expectRuns, expectStands } from '../contract/runtime.ts';
import {
  type AnyBench,
  expectHealthy,
  freezeBench,
  freezeFor,
  frozenAgent,
  guardOf,
  type SpecOf,
  soon,
  untilGone,
} from './freeze-bench.ts';

/** A container that the kernel's freezer stops (freeze.method: auto and cgroup), held by a real guard, under faults. */

/** What holds for either version. */
function everyFreezer(ready: (context: TestContext) => AnyBench & { spec: SpecOf<'cgroup-v1' | 'cgroup-v2'> }): void {
  test('stops the container and lets it go; containerd does not notice', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 20_000);
    await expectStands(at.node, at.initPid);
    const tasks = await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'ls']);
    expect(tasks.stdout.toString()).toMatch(new RegExp(`${at.containerId}\\s+${at.initPid}\\s+RUNNING`));
    expect(await frozen.thaw()).toMatchObject({ method: at.spec.kind, thawedBy: 'agent', notes: [] });
    await expectHealthy(at);
  });

  test('SIGKILL of the agent leaves a running container, and no guard', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    await expectStands(at.node, at.initPid);
    const guard = guardOf(agent.pid ?? 0);
    agent.kill('SIGKILL');
    await expectHealthy(at);
    await untilGone(guard);
  });

  test('SIGSTOP of the agent: the deadline thaws', async (context) => {
    const at = ready(context);
    const { agent, lines } = await frozenAgent(at.spec, 1_500);
    agent.kill('SIGSTOP');
    await sleep(2_000);
    await expectHealthy(at);
    agent.kill('SIGCONT');
    for (let tries = 0; tries < 200 && !lines.includes('expired'); tries += 1) await sleep(10);
    expect(lines).toContain('expired');
  });

  test('SIGKILL of the guard: the agent thaws in its place', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    process.kill(guardOf(process.pid), 'SIGKILL');
    await expectHealthy(at);
    expect((await frozen.thaw()).notes.join()).toContain('the agent thawed in its place');
    expect((await frozen.registers).note).toBeTypeOf('string');
  });

  test('SIGKILL of guard and agent: the next agent thaws what the journal names', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    const guard = guardOf(agent.pid ?? 0);
    process.kill(agent.pid ?? 0, 'SIGSTOP');
    process.kill(guard, 'SIGKILL');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    await expectStands(at.node, at.initPid);
    expect(await thawNow(at.spec)).toBe('thawed');
    await expectHealthy(at);
    expect(await thawNow(at.spec)).toBe('was-thawed');
  });

  test('containerd killed and started again during the freeze changes nothing', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    await at.node.killContainerd();
    await expectStands(at.node, at.initPid);
    await at.node.startContainerd();
    await sleep(600);
    await expectStands(at.node, at.initPid);
    expect(await frozen.thaw()).toMatchObject({ thawedBy: 'agent', notes: [] });
    await expectHealthy(at);
  });

  test('a cgroup that cannot be written for a while is thawed as soon as it can', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 500);
    await using readOnly = await lockCgroup(at);
    await sleep(1_500);
    await expectStands(at.node, at.initPid);
    await readOnly[Symbol.asyncDispose]();
    await expectHealthy(at);
    expect((await frozen.thaw()).thawedBy).toBe('guard');
  });
}

/** A read-only mount over the cgroup, on the node, until disposal. */
async function lockCgroup({
  node,
  spec,
}: AnyBench & { spec: SpecOf<'cgroup-v1' | 'cgroup-v2'> }): Promise<AsyncDisposable> {
  const folder = spec.path.slice(node.hostRoot.length);
  const run = async (...words: string[]) => {
    const { code, stderr } = await node.exec(words);
    if (code !== 0) throw new Error(`${words.join(' ')}: ${stderr}`);
  };
  await run('mount', '--bind', folder, folder);
  let locked = true;
  const unlock = async () => {
    if (locked) await run('umount', folder);
    locked = false;
  };
  await run('mount', '-o', 'remount,bind,ro', folder).catch(async (error: unknown) => {
    await unlock();
    throw error;
  });
  return { [Symbol.asyncDispose]: unlock };
}

describe('the version 2 freezer', () => {
  const ready = freezeBench('cgroup-v2', 'auto');
  everyFreezer(ready);

  test('a container killed while it is frozen ends the freeze quietly', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    process.kill(at.node.hostPid(at.initPid), 'SIGKILL');
    await sleep(300);
    expect((await frozen.thaw()).notes.join()).toContain('ended while it was frozen');
    // containerd could not delete it before, and tries again by itself.
    await untilFolderGone(at);
    expect(await thawNow(at.spec)).toBe('gone');
    await expect(startFreezer(at.spec, soon())).rejects.toMatchObject({ code: 'freeze-failed' });
  });

  test('a container that somebody paused through containerd is left paused', async (context) => {
    const at = ready(context);
    await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'pause', at.containerId]);
    {
      await using freezer = await startFreezer(at.spec, soon());
      const frozen = await freezeFor(freezer, 20_000);
      const record = await frozen.thaw();
      expect(record).toMatchObject({ consistency: 'frozen', pauseMs: 0 });
      expect(record.notes.join()).toContain('somebody else');
      expect(record.thawedAt).toBeUndefined();
    }
    await expectStands(at.node, at.initPid);
    const resumed = await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'resume', at.containerId]);
    expect(resumed.code).toBe(0);
    await expectHealthy(at);
  });

  test('nobody pauses, resumes or enters it through containerd meanwhile', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 20_000);
    for (const order of ['pause', 'resume']) {
      const { code } = await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', order, at.containerId]);
      expect(code).not.toBe(0);
      await expectStands(at.node, at.initPid);
    }
    const began = performance.now();
    const exec = await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'exec', '--exec-id', 'x', at.containerId, 'true']);
    expect(exec.code).not.toBe(0);
    expect(exec.stderr.toString()).toContain('paused');
    expect(performance.now() - began).toBeLessThan(10_000);
    expect((await frozen.thaw()).notes).toEqual([]);
    await expectHealthy(at);
  });

  test('processes in cgroups below stand too; one that was frozen there before stays so', async (context) => {
    const at = ready(context);
    const below = path.join(at.spec.path, 'below');
    mkdirSync(below);
    await at.pod.exec('app', ['sh', '-c', 'while :; do sleep 0.02; done >/dev/null 2>&1 </dev/null &']);
    const other = procsOf(at.spec.path).find((pid) => pid !== at.node.hostPid(at.initPid) && isShell(pid)) ?? 0;
    writeFileSync(path.join(below, 'cgroup.procs'), String(other));
    writeFileSync(path.join(below, 'cgroup.freeze'), '1');
    await using freezer = await startFreezer(at.spec, soon());
    await (await freezeFor(freezer, 20_000)).thaw();
    await expectRuns(at.node, at.initPid);
    expect(readFileSync(path.join(below, 'cgroup.events'), 'utf8')).toContain('frozen 1');
    writeFileSync(path.join(below, 'cgroup.freeze'), '0');
    await expectHealthy(at);
    process.kill(other, 'SIGKILL');
    await sleep(200);
    if (existsSync(below)) rmdirSync(below);
  });

  test('the time that a freeze costs without work in it', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const pauses: number[] = [];
    for (let round = 0; round < 20; round += 1) pauses.push((await (await freezeFor(freezer, 10_000)).thaw()).pauseMs);
    pauses.sort((a, b) => a - b);
    console.log(`freeze and thaw, median of 20: ${pauses[10]?.toFixed(1)} ms, least ${pauses[0]?.toFixed(1)} ms`);
    expect(pauses[0]).toBeLessThan(200);
  });
});

describe('the version 1 freezer', () => {
  const ready = freezeBench('cgroup-v1', 'cgroup', { cgroup: 'v1' });
  everyFreezer(ready);
});

const procsOf = (folder: string): number[] =>
  readFileSync(path.join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);

const isShell = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'sh';
  } catch {
    return false;
  }
};

async function untilFolderGone(at: { spec: SpecOf<'cgroup-v2'> }): Promise<void> {
  for (let tries = 0; tries < 1_000 && existsSync(at.spec.path); tries += 1) await sleep(10);
}
