import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startFreezer } from '../../agent/capture/freeze.ts';
import { memoryCollector } from '../../agent/collect/memory.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import type { FreezeRecord } from '../../evidence/manifest.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';
import { type FakeContext, fakeContext } from '../unit/collect/memory-context.ts';
import { hasProgram, program } from './readers.ts';

/** The memory of every process of a container that containerd paused. */

let node: LabNode;
let victim: Victim;
let fake: FakeContext;
let record: FreezeRecord | undefined;
let pids: number[];

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  victim = await compromisedPod(node);
  const host = { procRoot: node.procRoot, hostRoot: node.hostRoot };
  const { signal } = new AbortController();
  await using runtime = openCri({ socket: node.socket, namespace: 'k8s.io', host });
  const target = await runtime.resolve({ kind: 'pod', namespace: 'prod', pod: 'web-0' }, signal);
  pids = await runtime.pids(target, signal);
  if (target.freeze === undefined) throw new Error('the container cannot be paused');
  await using freezer = await startFreezer(target.freeze, signal);
  const freeze = async () => {
    const frozen = await freezer.freeze({ deadlineMs: 20_000, signal });
    const thaw = async () => (record = await frozen.thaw());
    return {
      deadline: frozen.deadline,
      registers: frozen.registers,
      get expired() {
        return frozen.expired;
      },
      thaw,
      [Symbol.asyncDispose]: async () => void (await thaw()),
    };
  };
  fake = fakeContext({ pids: [], real: { target, runtime, host }, freeze });
  await memoryCollector().collect(fake.context);
}, 120_000);

afterAll(async () => {
  fake?.[Symbol.dispose]();
  await node?.[Symbol.asyncDispose]();
}, 60_000);

beforeEach((context) => requireLab(context));

describe('a container paused through containerd', () => {
  test('every process of it has a core, all of one moment', () => {
    expect(pids.length).toBeGreaterThanOrEqual(3);
    for (const pid of pids) expect(fake.members.has(`${pid}/core`), `pid ${pid}`).toBe(true);
    expect(fake.facts.get('liveBytes')).toBe(0);
    expect(fake.gaps).toEqual([]);
    expect(record).toMatchObject({ consistency: 'frozen', method: 'cgroup-v2', thawedBy: 'agent' });
  });

  test('every thread stood still, so its position is known', () => {
    expect(fake.notes.join('\n')).not.toContain('no registers');
  });

  test('gdb finds the secret by searching the mappings that could hold it', (context) => {
    if (!hasProgram('gdb')) context.skip('needs gdb');
    const letters = [...victim.secret].map((letter) => `'${letter}'`).join(',');
    const commands = fake
      .regions(victim.secretPid)
      .filter((each) => each.capturedBytes > 0 && each.permissions.startsWith('rw'))
      .flatMap((each) => ['-ex', `find ${each.start}, +${BigInt(each.end) - BigInt(each.start)}, ${letters}`]);
    const core = fake.file(`${victim.secretPid}/core`);
    const { stdout } = program('gdb', ['-nx', '-batch', '-ex', `core-file ${core}`, ...commands]);
    const address = /^0x[0-9a-f]+/m.exec(stdout)?.[0];
    expect(address, stdout).toBeDefined();
    const shown = program('gdb', ['-nx', '-batch', '-ex', `core-file ${core}`, '-ex', `x/s ${address}`]).stdout;
    expect(shown).toContain(victim.secret);
  });

  test('the container runs on', async () => {
    const { stdout } = await victim.pod.exec(victim.container, ['echo', 'alive']);
    expect(stdout.toString()).toBe('alive\n');
    const status = readFileSync(path.join(node.procRoot, String(victim.secretPid), 'status'), 'latin1');
    expect(status).toMatch(/State:\t[SR]/);
  });
});
