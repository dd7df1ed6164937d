import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { startFreezer, thawNow } from '../../agent/capture/freeze.ts';
import { expectRuns, expectStands } from '../contract/runtime.ts';
import { expectHealthy, freezeBench, freezeFor, type SpecOf, soon } from './freeze-bench.ts';
import { everyFreezer } from './freeze-cases.ts';

/** A container that the kernel's freezer stops (freeze.method: auto and cgroup), held by a real guard, under faults. */

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
