import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { startFreezer } from '../../agent/capture/freeze.ts';
import { expectStands } from '../contract/runtime.ts';
import { cgroupMounts } from '../lab/leftovers.ts';
import { expectHealthy, freezeBench, freezeFor, frozenAgent, guardOf, soon } from './freeze-bench.ts';
import { everyPause } from './freeze-cases.ts';

/**
 * A container that containerd pauses (freeze.method: runtime), held by a real guard, under every fault of issue 3's list. It
 * must run afterwards. The kernel's freezer is tried in freeze-cgroup.test.ts.
 */

const ready = freezeBench('containerd', 'runtime');

everyPause(ready);

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
