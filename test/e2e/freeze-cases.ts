/** What must hold of a freeze on every node: run by freeze.test.ts, freeze-cgroup.test.ts and freeze-matrix.test.ts. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, type TestContext, test } from 'vitest';
import { startFreezer, thawNow } from '../../agent/capture/freeze.ts';
import { processStat } from '../../agent/runtime/process-tree.ts';
import { expectRuns, expectStands } from '../contract/runtime.ts';
import {
  type AnyBench,
  type Bench,
  expectHealthy,
  freezeFor,
  frozenAgent,
  guardOf,
  type SpecOf,
  soon,
  untilGone,
} from './freeze-bench.ts';

/** A container that containerd pauses. */
export function everyPause(ready: (context: TestContext) => Bench<'containerd'>): void {
  test('a freeze stops the container, and a thaw lets it go', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 20_000);
    await expectStands(at.node, at.initPid);
    const record = await frozen.thaw();
    expect(record).toMatchObject({ method: 'containerd', thawedBy: 'agent', notes: [] });
    await expectHealthy(at);
  });

  test('SIGKILL of the agent in mid-freeze leaves a running container, and no guard', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    await expectStands(at.node, at.initPid);
    const guard = guardOf(agent.pid ?? 0);
    agent.kill('SIGKILL');
    await expectHealthy(at);
    await untilGone(guard);
  });

  test('SIGKILL of guard and agent: the next agent thaws what the journal names', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    const guard = guardOf(agent.pid ?? 0);
    // The guard first, both before either can act.
    process.kill(agent.pid ?? 0, 'SIGSTOP');
    process.kill(guard, 'SIGKILL');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    await expectStands(at.node, at.initPid);
    expect(await thawNow(at.spec)).toBe('thawed');
    await expectHealthy(at);
    expect(await thawNow(at.spec)).toBe('was-thawed');
  });

  test('a container killed while it is frozen ends the freeze quietly, at once or with the thaw', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    const pid = at.node.hostPid(at.initPid);
    process.kill(pid, 'SIGKILL');
    await sleep(300);
    const { notes } = await frozen.thaw();
    // The version 1 freezer holds those that are to die as well.
    if (at.spec.cgroup?.version === 1) expect(notes).toEqual([]);
    else expect(notes.join()).toContain('ended while it was paused');
    await untilGone(pid);
    await expect.poll(() => thawNow(at.spec), { timeout: 3_000 }).toBe('gone');
    await expect(startFreezer(at.spec, soon())).rejects.toMatchObject({ code: 'freeze-failed' });
  });

  test('containerd killed during the pause: thawed through the shim, and kubelet still sees a running container', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    await at.node.killContainerd();
    await expectRuns(at.node, at.initPid, 5_000);
    await at.node.startContainerd();
    await sleep(600);
    await expectHealthy(at);
    const record = await frozen.thaw();
    expect(record.thawedBy).toBe('guard');
    expect(record.notes.join()).toContain('its shim');
  });

  test('containerd and the agent killed together during the pause', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    agent.kill('SIGKILL');
    await at.node.killContainerd();
    await expectRuns(at.node, at.initPid, 10_000);
    await at.node.startContainerd();
    await sleep(600);
    await expectHealthy(at);
  });

  test('containerd and shim both silent: the kernel thaws, and the runtime’s view is mended later', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    const guard = guardOf(agent.pid ?? 0);
    const containerd = at.node.containerdPid;
    const shim = processStat('/proc', at.node.hostPid(at.initPid))?.parent ?? 0;
    process.kill(containerd, 'SIGSTOP');
    process.kill(shim, 'SIGSTOP');
    try {
      agent.kill('SIGKILL');
      await expectRuns(at.node, at.initPid, 15_000);
    } finally {
      process.kill(shim, 'SIGCONT');
      process.kill(containerd, 'SIGCONT');
    }
    await untilGone(guard);
    await expectHealthy(at);
  });

  test('a pause that hangs is given up at the deadline, and undone when it comes after all', async (context) => {
    const at = ready(context);
    const freezer = await startFreezer(at.spec, soon());
    const guard = guardOf(process.pid);
    process.kill(at.node.containerdPid, 'SIGSTOP');
    try {
      const began = performance.now();
      await expect(freezeFor(freezer, 500)).rejects.toThrow(/deadline/);
      expect(performance.now() - began).toBeLessThan(15_000);
      await expectRuns(at.node, at.initPid);
    } finally {
      process.kill(at.node.containerdPid, 'SIGCONT');
    }
    await freezer[Symbol.asyncDispose]();
    await untilGone(guard);
    await expectHealthy(at);
  });

  test('a container that somebody else paused is left paused', async (context) => {
    const at = ready(context);
    await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'pause', at.spec.containerId]);
    {
      await using freezer = await startFreezer(at.spec, soon());
      const frozen = await freezeFor(freezer, 20_000);
      const record = await frozen.thaw();
      expect(record).toMatchObject({ consistency: 'frozen', pauseMs: 0 });
      expect(record.notes.join()).toContain('somebody else');
      expect(record.thawedAt).toBeUndefined();
    }
    await expectStands(at.node, at.initPid);
    expect(await thawNow(at.spec)).toBe('thawed');
    await expectHealthy(at);
  });

  test('a container that somebody else resumed is said to have been', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 20_000);
    await at.node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'resume', at.spec.containerId]);
    expect((await frozen.thaw()).notes.join()).toContain('resumed by somebody else');
    await expectHealthy(at);
  });
}

/** A container that the kernel's freezer stops, of either version. */
export function everyFreezer(
  ready: (context: TestContext) => AnyBench & { spec: SpecOf<'cgroup-v1' | 'cgroup-v2'> },
): void {
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
    // Where it was killed before it had read them all, that is said.
    const { threads, note } = await frozen.registers;
    expect(threads.size > 0 || typeof note === 'string').toBe(true);
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
