import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { startFreezer, thawNow } from '../../../agent/capture/freeze.ts';
import { parseHierarchies } from '../../../agent/host/cgroup.ts';
import type { FreezeSpec } from '../../../agent/runtime/runtime.ts';
import { freezeSchema } from '../../../evidence/manifest.ts';

/** Plain processes of this machine, stopped and let go by the real guard. Cgroups need root and a writable hierarchy. */

const children: ChildProcess[] = [];
const cgroups: string[] = [];
const soon = () => AbortSignal.timeout(30_000);

afterEach(async () => {
  for (const folder of cgroups)
    for (const file of ['cgroup.freeze', 'freezer.state']) unfreeze(path.join(folder, file));
  for (const child of children.splice(0)) {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      process.kill(-child.pid, 'SIGKILL');
      await once(child, 'exit');
    }
  }
  for (const folder of cgroups.splice(0)) await removeCgroup(folder);
});

function unfreeze(file: string): void {
  if (existsSync(file)) writeFileSync(file, file.endsWith('.state') ? 'THAWED' : '0');
}

async function removeCgroup(folder: string): Promise<void> {
  for (let tries = 0; tries < 100 && existsSync(folder); tries += 1) {
    try {
      rmdirSync(folder);
    } catch {
      await sleep(10);
    }
  }
}

/** A shell that keeps a child, both busy now and then. */
async function workload(): Promise<{ child: ChildProcess; pids: number[] }> {
  const script = 'sh -c "while :; do sleep 0.01; done" & echo $!; while :; do sleep 0.01; done';
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  children.push(child);
  const [line] = await once(child.stdout ?? process.stdin, 'data');
  return { child, pids: [child.pid ?? 0, Number(String(line))] };
}

const state = (pid: number): string => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '?';

/** How often the process has gone to sleep by itself: it grows while the process runs. */
const turns = (pid: number): number =>
  Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

async function runs(pid: number): Promise<boolean> {
  const before = turns(pid);
  for (let tries = 0; tries < 200; tries += 1) {
    if (turns(pid) > before + 1) return true;
    await sleep(10);
  }
  return false;
}

async function stands(pid: number): Promise<boolean> {
  // The guard's reading of registers turns each thread once or twice as well.
  for (let tries = 0; tries < 5; tries += 1) {
    const before = turns(pid);
    await sleep(150);
    if (turns(pid) === before) return true;
  }
  return false;
}

function makeCgroup(version: 1 | 2): string | undefined {
  const mounted = parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'));
  const hierarchy = mounted.find(
    (one) => one.version === version && (version === 2 || one.controllers.includes('freezer')),
  );
  if (hierarchy === undefined || process.getuid?.() !== 0) return undefined;
  const folder = path.join(hierarchy.folder, `exhibit-freeze-test-${process.pid}-${cgroups.length}`);
  try {
    mkdirSync(folder);
  } catch {
    return undefined;
  }
  cgroups.push(folder);
  return folder;
}

const NO_CGROUP = 'needs root and a writable cgroup hierarchy with a freezer of this version';

describe.each(['signal', 'cgroup-v2', 'cgroup-v1'] as const)('a freeze by %s', (kind) => {
  async function target(
    skip: (note: string) => void,
  ): Promise<{ spec: FreezeSpec; pids: number[]; child: ChildProcess }> {
    const { child, pids } = await workload();
    if (kind === 'signal') return { spec: { kind, pids: pids.slice(0, 1) }, pids, child };
    const folder = makeCgroup(kind === 'cgroup-v2' ? 2 : 1);
    if (folder === undefined) {
      skip(NO_CGROUP);
      throw new Error(NO_CGROUP);
    }
    for (const pid of pids) writeFileSync(path.join(folder, 'cgroup.procs'), String(pid));
    return { spec: { kind, path: folder }, pids, child };
  }

  test('stops every process and lets it go, again and again with one guard', async ({ skip }) => {
    const { spec, pids } = await target(skip);
    await using freezer = await startFreezer(spec, soon());
    for (let round = 0; round < 3; round += 1) {
      const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
      for (const pid of pids) expect(await stands(pid)).toBe(true);
      expect(frozen.expired).toBe(false);
      const record = freezeSchema.parse(await frozen.thaw());
      expect(record).toMatchObject({ consistency: 'frozen', method: kind, thawedBy: 'agent' });
      expect(record.pauseMs).toBeGreaterThan(100);
      for (const pid of pids) expect(await runs(pid)).toBe(true);
      expect(await frozen.thaw()).toEqual(record);
      expect(frozen.expired).toBe(false);
    }
  });

  test('ends at its deadline without the agent', async ({ skip }) => {
    const { spec, pids } = await target(skip);
    await using freezer = await startFreezer(spec, soon());
    const before = performance.now();
    const frozen = await freezer.freeze({ deadlineMs: 1_500, signal: soon() });
    expect(frozen.deadline).toBeGreaterThanOrEqual(before + 1_500);
    while (!frozen.expired) await sleep(20);
    for (const pid of pids) expect(await runs(pid)).toBe(true);
    const record = await frozen.thaw();
    expect(record.thawedBy).toBe('guard');
    // The timer starts a little before the clock that is measured.
    expect(record.pauseMs).toBeGreaterThan(1_450);
    expect(record.notes.join()).toContain('deadline');
  });

  test('ends by disposal', async ({ skip }) => {
    const { spec, pids } = await target(skip);
    await using freezer = await startFreezer(spec, soon());
    {
      await using _frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
    }
    for (const pid of pids) expect(await runs(pid)).toBe(true);
  });

  test('ends when the freezer is disposed of with the freeze still on', async ({ skip }) => {
    const { spec, pids } = await target(skip);
    {
      await using freezer = await startFreezer(spec, soon());
      await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
    }
    for (const pid of pids) expect(await runs(pid)).toBe(true);
  });

  test('a target that ends while it is frozen is no failure', async ({ skip }) => {
    const { spec, child } = await target(skip);
    await using freezer = await startFreezer(spec, soon());
    const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    // Frozen tasks of version 1 die when they thaw.
    if (kind !== 'cgroup-v1') await once(child, 'exit');
    expect((await frozen.thaw()).thawedBy).toBe('agent');
    if (child.signalCode === null) await once(child, 'exit');
  });

  test('what somebody else froze is left as it was, and said', async ({ skip }) => {
    const { spec, pids } = await target(skip);
    if (spec.kind === 'cgroup-v2') writeFileSync(path.join(spec.path, 'cgroup.freeze'), '1');
    else if (spec.kind === 'cgroup-v1') writeFileSync(path.join(spec.path, 'freezer.state'), 'FROZEN');
    else for (const pid of pids) process.kill(pid, 'SIGSTOP');
    await sleep(50);
    if (spec.kind === 'signal') {
      // Their own children, the sleeps, end or stand as well.
      await sleep(50);
    }
    await using freezer = await startFreezer(spec, soon());
    const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
    const record = await frozen.thaw();
    expect(record.notes.join()).toContain('somebody else');
    for (const pid of pids) expect(await stands(pid)).toBe(true);
    expect(await thawNow(spec)).toBe('thawed');
    for (const pid of pids) expect(await runs(pid)).toBe(true);
    expect(await thawNow(spec)).toBe('was-thawed');
  });

  test('a cancelled freeze leaves the target running', async ({ skip }) => {
    const { spec, pids } = await target(skip);
    await using freezer = await startFreezer(spec, soon());
    await expect(freezer.freeze({ deadlineMs: 10_000, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'cancelled',
    });
    const abort = new AbortController();
    const freezing = freezer.freeze({ deadlineMs: 10_000, signal: abort.signal });
    abort.abort();
    await expect(freezing).rejects.toMatchObject({ code: 'cancelled' });
    for (const pid of pids) expect(await runs(pid)).toBe(true);
    await using again = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
    expect(again.expired).toBe(false);
  });
});

test('the agent is not asked to stop itself', async () => {
  const spec: FreezeSpec = { kind: 'signal', pids: [process.pid] };
  await using freezer = await startFreezer(spec, soon());
  await expect(freezer.freeze({ deadlineMs: 1_000, signal: soon() })).rejects.toThrow(/itself or one of its parents/);
});

test('a process that took over a pid is left alone', async () => {
  const { child } = await workload();
  const spec: FreezeSpec = { kind: 'signal', pids: [child.pid ?? 0], startTicks: [1] };
  await expect(startFreezer(spec, soon())).rejects.toMatchObject({ code: 'freeze-failed' });
  expect(await thawNow(spec)).toBe('gone');
});

test('a cgroup that is not there cannot be frozen', async () => {
  await expect(startFreezer({ kind: 'cgroup-v2', path: '/nowhere' }, soon())).rejects.toMatchObject({
    code: 'freeze-failed',
  });
});

test('containerd that is not there: the reason is the sentence about its socket', async () => {
  const spec: FreezeSpec = {
    kind: 'containerd',
    socket: '/nowhere/containerd.sock',
    namespace: 'k8s.io',
    containerId: 'x',
  };
  await expect(startFreezer(spec, soon())).rejects.toThrow(/there is no runtime socket at \/nowhere/);
});

test('a process tree that keeps forking is stopped whole', async () => {
  const script = 'while :; do (sleep 0.005 & sleep 0.005) & sleep 0.002; done';
  const child = spawn('sh', ['-c', script], { stdio: 'ignore', detached: true });
  children.push(child);
  await sleep(200);
  await using freezer = await startFreezer({ kind: 'signal', pids: [child.pid ?? 0] }, soon());
  const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
  expect(await stands(child.pid ?? 0)).toBe(true);
  // D: in vfork, held by a child that was stopped before its exec. One whose child got just past it is R for as long as the
  // kernel needs to find the stop that waits for it, and runs no instruction of its own.
  expect(['T', 'D']).toContain(state(child.pid ?? 0));
  await frozen.thaw();
  expect(await runs(child.pid ?? 0)).toBe(true);
});
