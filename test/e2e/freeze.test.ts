import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { startFreezer, thawNow } from '../../agent/capture/freeze.ts';
import { processStat } from '../../agent/runtime/process-tree.ts';
import { expectRuns, expectStands } from '../contract/runtime.ts';
import { cgroupMounts } from '../lab/leftovers.ts';
import { expectHealthy, freezeBench, freezeFor, frozenAgent, guardOf, soon, untilGone } from './freeze-bench.ts';

/**
 * A container that containerd pauses (freeze.method: runtime), held by a real guard, under every fault of issue 3's list. It
 * must run afterwards. The kernel's freezer is tried in freeze-cgroup.test.ts.
 */

const ready = freezeBench('containerd', 'runtime');

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

test('the kill of everything in the agent’s cgroup spares the guard, which thaws', async (context) => {
  const at = ready(context);
  const top = cgroupMounts().find(
    (folder) => existsSync(path.join(folder, 'cgroup.procs')) && existsSync(path.join(folder, 'cgroup.controllers')),
  );
  if (top === undefined) return context.skip('needs a mounted cgroup v2');
  const folder = path.join(top, `exhibit-agent-test-${process.pid}`);
  mkdirSync(folder);
  try {
    const { agent } = await frozenAgent(at.spec, 60_000, `echo $$ > ${folder}/cgroup.procs;`);
    await expectStands(at.node, at.initPid);
    expect(readFileSync(`${folder}/cgroup.procs`, 'utf8').trim()).toBe(String(agent.pid));
    writeFileSync(`${folder}/cgroup.kill`, '1');
    await once(agent, 'exit');
    await expectHealthy(at);
  } finally {
    writeFileSync(`${folder}/cgroup.kill`, '1');
    for (let tries = 0; tries < 100 && existsSync(folder); tries += 1) {
      try {
        rmdirSync(folder);
      } catch {
        await sleep(10);
      }
    }
  }
});

test('SIGSTOP of the agent: the deadline thaws all the same, and the agent knows when it goes on', async (context) => {
  const at = ready(context);
  const { agent, lines } = await frozenAgent(at.spec, 1_500);
  agent.kill('SIGSTOP');
  await sleep(2_000);
  await expectHealthy(at);
  agent.kill('SIGCONT');
  for (let tries = 0; tries < 200 && !lines.includes('expired'); tries += 1) await sleep(10);
  expect(lines).toContain('expired');
});

for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`${name} to the guard thaws`, async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    process.kill(guardOf(process.pid), name);
    await expectHealthy(at);
    const record = await frozen.thaw();
    expect(record.thawedBy).toBe('guard');
    expect(record.notes.join()).toContain(name);
    expect(frozen.expired).toBe(true);
  });
}

test('SIGKILL of the guard: the agent thaws in its place', async (context) => {
  const at = ready(context);
  await using freezer = await startFreezer(at.spec, soon());
  const frozen = await freezeFor(freezer, 60_000);
  process.kill(guardOf(process.pid), 'SIGKILL');
  await expectHealthy(at);
  const record = await frozen.thaw();
  expect(record.notes.join()).toContain('the agent thawed in its place');
  await expect(freezeFor(freezer, 1_000)).rejects.toMatchObject({ code: 'freeze-failed' });
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

test('a container killed while it is frozen ends the freeze quietly', async (context) => {
  const at = ready(context);
  await using freezer = await startFreezer(at.spec, soon());
  const frozen = await freezeFor(freezer, 60_000);
  process.kill(at.node.hostPid(at.initPid), 'SIGKILL');
  await sleep(300);
  const record = await frozen.thaw();
  expect(record.notes.join()).toContain('ended while it was paused');
  expect(await thawNow(at.spec)).toBe('gone');
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

test('the time that a freeze costs without work in it', async (context) => {
  const at = ready(context);
  const began = performance.now();
  await using freezer = await startFreezer(at.spec, soon());
  const startMs = performance.now() - began;
  const pauses: number[] = [];
  for (let round = 0; round < 20; round += 1) pauses.push((await (await freezeFor(freezer, 10_000)).thaw()).pauseMs);
  pauses.sort((a, b) => a - b);
  console.log(
    `guard start ${startMs.toFixed(0)} ms; pause and resume, median of 20: ${pauses[10]?.toFixed(1)} ms, least ${pauses[0]?.toFixed(1)} ms`,
  );
  expect(pauses[0]).toBeLessThan(1_000);
});
