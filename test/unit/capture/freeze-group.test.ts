import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { type Frozen, startFreezer, thawNow } from '../../../agent/capture/freeze.ts';
import { outcomeOf } from '../../../agent/runtime/pause/group.ts';
import { byHand, methodOf, preparePause } from '../../../agent/runtime/pause/pause.ts';
import type { FreezeSpec, SingleFreezeSpec } from '../../../agent/runtime/runtime.ts';
import { freezeSchema } from '../../../evidence/manifest.ts';

/** Two process trees of this machine, stopped and let go as one by the real guard. */

const children: ChildProcess[] = [];
const soon = () => AbortSignal.timeout(30_000);

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) continue;
    process.kill(-child.pid, 'SIGKILL');
    await once(child, 'exit');
  }
});

function workload(): { child: ChildProcess; pid: number; spec: SingleFreezeSpec } {
  const child = spawn('sh', ['-c', 'while :; do sleep 0.01; done'], { stdio: 'ignore', detached: true });
  children.push(child);
  const pid = child.pid ?? 0;
  return { child, pid, spec: { kind: 'signal', pids: [pid] } };
}

function two() {
  const [one, other] = [workload(), workload()];
  const group: FreezeSpec = { kind: 'group', members: [one.spec, other.spec] };
  return { one, other, group, pids: [one.pid, other.pid] };
}

/**
 * How often the process has gone to sleep by itself: it grows while the process runs, and when its registers are read while it
 * stands.
 */
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
  const before = turns(pid);
  await sleep(150);
  return turns(pid) === before;
}

/** Until the threads are back from the traps in which their registers were read. */
async function registersRead(frozen: Frozen): Promise<void> {
  await frozen.registers;
  await sleep(200);
}

const freeze = { deadlineMs: 10_000 };

describe('a freeze of several', () => {
  test('stops all and lets all go, again and again with one guard, and says how far apart they stood', async () => {
    const { group, pids } = two();
    await using freezer = await startFreezer(group, soon());
    for (let round = 0; round < 2; round += 1) {
      const frozen = await freezer.freeze({ ...freeze, signal: soon() });
      await registersRead(frozen);
      for (const pid of pids) expect(await stands(pid)).toBe(true);
      const record = freezeSchema.parse(await frozen.thaw());
      expect(record).toMatchObject({ consistency: 'frozen', thawedBy: 'agent' });
      const words =
        /^2 stopped together: the last was seen to stand [\d.]+ ms after the first, and [\d.]+ ms after the first was told$/;
      expect(record.notes).toContainEqual(expect.stringMatching(words));
      for (const pid of pids) expect(await runs(pid)).toBe(true);
    }
  });

  test('ends for all at the deadline', async () => {
    const { group, pids } = two();
    await using freezer = await startFreezer(group, soon());
    const frozen = await freezer.freeze({ deadlineMs: 1_000, signal: soon() });
    while (!frozen.expired) await sleep(20);
    for (const pid of pids) expect(await runs(pid)).toBe(true);
    expect((await frozen.thaw()).thawedBy).toBe('guard');
  });

  test('lets the others go when one cannot be stopped', async () => {
    const { one, other } = two();
    const self: SingleFreezeSpec = { kind: 'signal', pids: [process.pid] };
    await using freezer = await startFreezer({ kind: 'group', members: [one.spec, other.spec, self] }, soon());
    const failing = freezer.freeze({ ...freeze, signal: soon() });
    await expect(failing).rejects.toMatchObject({
      code: 'freeze-failed',
      message: expect.stringContaining('itself or one of its parents'),
    });
    for (const { pid } of [one, other]) expect(await runs(pid)).toBe(true);
  });

  test('is not begun when one cannot be prepared', async () => {
    const { one } = two();
    const broken: SingleFreezeSpec = { kind: 'cgroup-v2', path: '/proc' };
    const starting = startFreezer({ kind: 'group', members: [one.spec, broken] }, soon());
    await expect(starting).rejects.toMatchObject({ code: 'freeze-failed' });
    expect(await runs(one.pid)).toBe(true);
  });

  test('goes on without one that had ended, and says so', async () => {
    const { one, other, group } = two();
    process.kill(-other.pid, 'SIGKILL');
    await once(other.child, 'exit');
    await using freezer = await startFreezer(group, soon());
    const frozen = await freezer.freeze({ ...freeze, signal: soon() });
    await registersRead(frozen);
    expect(await stands(one.pid)).toBe(true);
    expect((await frozen.thaw()).notes).toContain(`pid ${other.pid} had ended before the freeze`);
    expect(await runs(one.pid)).toBe(true);
  });

  test('fails when all had ended', async () => {
    const { one, other, group } = two();
    for (const { pid, child } of [one, other]) {
      process.kill(-pid, 'SIGKILL');
      await once(child, 'exit');
    }
    await expect(startFreezer(group, soon())).rejects.toThrow(/nothing is left to freeze/);
    expect(await thawNow(group)).toBe('gone');
  });

  test('outlives one that is killed in it', async () => {
    const { one, other, group } = two();
    await using freezer = await startFreezer(group, soon());
    const frozen = await freezer.freeze({ ...freeze, signal: soon() });
    process.kill(-other.pid, 'SIGKILL');
    await once(other.child, 'exit');
    await registersRead(frozen);
    expect(await stands(one.pid)).toBe(true);
    const record = await frozen.thaw();
    expect(record.thawedBy).toBe('agent');
    expect(record.notes.join()).toContain(`pid ${other.pid}: the processes ended while they were stopped`);
    expect(await runs(one.pid)).toBe(true);
  });

  test('leaves what somebody else had stopped, and lets go of the rest', async () => {
    const { one, other, group } = two();
    process.kill(-other.pid, 'SIGSTOP');
    await sleep(50);
    await using freezer = await startFreezer(group, soon());
    const frozen = await freezer.freeze({ ...freeze, signal: soon() });
    const record = await frozen.thaw();
    expect(record.pauseMs).toBeGreaterThan(0);
    expect(record.notes.join()).toContain(`pid ${other.pid}: stopped already, by somebody else`);
    expect(await runs(one.pid)).toBe(true);
    expect(await stands(other.pid)).toBe(true);
    expect(await thawNow(group)).toBe('thawed');
    expect(await runs(other.pid)).toBe(true);
    expect(await thawNow(group)).toBe('was-thawed');
  });

  test('that is cancelled leaves all running', async () => {
    const { group, pids } = two();
    await using freezer = await startFreezer(group, soon());
    const abort = new AbortController();
    const freezing = freezer.freeze({ ...freeze, signal: abort.signal });
    abort.abort();
    await expect(freezing).rejects.toMatchObject({ code: 'cancelled' });
    for (const pid of pids) expect(await runs(pid)).toBe(true);
  });

  test('thaws everybody even when the thaw of one fails, and then says so', async () => {
    const { one, other, group } = two();
    await using pause = await preparePause(group, soon());
    await pause.freeze(soon());
    const kill = process.kill;
    process.kill = (pid, signal) => {
      if (pid === one.pid && signal === 'SIGCONT') throw Object.assign(new Error('no'), { code: 'EPERM' });
      return kill(pid, signal);
    };
    try {
      await expect(pause.thaw()).rejects.toThrow(/1 of 2 may still be frozen: pid \d+ cannot be continued/);
    } finally {
      process.kill = kill;
    }
    expect(await runs(other.pid)).toBe(true);
    expect(await thawNow(group)).toBe('thawed');
  });
});

describe('words for a freeze of several', () => {
  const members: SingleFreezeSpec[] = [
    { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'a' },
    { kind: 'cgroup-v2', path: '/g' },
    { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'b' },
  ];

  test('the method counts the ways', () => {
    expect(methodOf({ kind: 'group', members })).toBe('group: containerd x2, cgroup-v2 x1');
    expect(methodOf({ kind: 'cgroup-v1', path: '/g' })).toBe('cgroup-v1');
  });

  test('by hand is one command for each', () => {
    expect(byHand({ kind: 'group', members })).toBe(
      'ctr --address /s -n k8s.io tasks resume a; echo 0 > /g/cgroup.freeze; ctr --address /s -n k8s.io tasks resume b',
    );
  });

  test('one outcome stands for all', () => {
    expect(outcomeOf(['gone', 'thawed', 'left'])).toBe('thawed');
    expect(outcomeOf(['left', 'was-thawed'])).toBe('was-thawed');
    expect(outcomeOf(['gone', 'left'])).toBe('left');
    expect(outcomeOf(['gone', 'gone'])).toBe('gone');
  });
});
