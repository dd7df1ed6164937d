/** A container on a real containerd for each test, and what a test of a freeze asks of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, type TestContext } from 'vitest';
import type { Freezer } from '../../agent/capture/freeze.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import type { FreezeMethod } from '../../agent/runtime/inspect.ts';
import { processStat } from '../../agent/runtime/process-tree.ts';
import type { Runtime, SingleFreezeSpec } from '../../agent/runtime/runtime.ts';
import { parseSelector } from '../../agent/runtime/select.ts';
import { expectRuns } from '../contract/runtime.ts';
import { type LabNode, type NodeOptions, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { nodeObstacle } from '../lab/requires.ts';
import { BUSY } from './containers.ts';

export const soon = () => AbortSignal.timeout(60_000);

export type SpecOf<Kind extends SingleFreezeSpec['kind']> = Extract<SingleFreezeSpec, { kind: Kind }>;

export interface AnyBench {
  readonly node: LabNode;
  readonly pod: LabPod;
  readonly cri: Runtime;
  readonly containerId: string;
  /** In the node's pid namespace. */
  readonly initPid: number;
}

export interface Bench<Kind extends SingleFreezeSpec['kind']> extends AnyBench {
  readonly spec: SpecOf<Kind>;
}

const agents: ChildProcess[] = [];

/** One node for the file, one container for each test, which must run at its end. */
export function freezeBench<Kind extends SingleFreezeSpec['kind']>(
  kind: Kind,
  method: FreezeMethod,
  options: NodeOptions = {},
): (context: TestContext) => Bench<Kind> {
  const obstacle = nodeObstacle(options.release);
  let started: LabNode | undefined;
  let bench: Bench<Kind> | undefined;
  let pods = 0;
  beforeAll(async () => {
    if (obstacle === undefined) started = await startNode(options);
  });
  afterAll(async () => {
    await started?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    if (started === undefined) return;
    pods += 1;
    const name = `web-${pods}`;
    const pod = await started.runPod({ namespace: 'prod', name, containers: [{ name: 'app', command: BUSY }] });
    const cri = openCri({ socket: started.socket, host: started, freeze: method });
    const { freeze, record } = await cri.resolve(parseSelector(`prod/${name}`), soon());
    if (freeze?.kind !== kind) throw new Error(`the freeze is ${freeze?.kind}`);
    bench = { node: started, pod, cri, spec: freeze as SpecOf<Kind>, containerId: record.id, initPid: record.initPid };
  });
  afterEach(async () => {
    for (const agent of agents.splice(0)) agent.kill('SIGKILL');
    const { node, pod, cri } = bench ?? {};
    bench = undefined;
    await node?.startContainerd();
    await cri?.[Symbol.asyncDispose]();
    await pod?.stop();
  });
  return (context) => {
    if (obstacle !== undefined) context.skip(obstacle);
    if (bench === undefined) throw new Error('the node did not start');
    return bench;
  };
}

/** Runs, says so to whoever asks, and can be exec'ed into: the shim's view is true again. */
export async function expectHealthy(at: AnyBench): Promise<void> {
  const { node, pod, cri, initPid, containerId } = at;
  await expectRuns(node, initPid);
  const states = (await cri.list(soon())).filter(({ id }) => id === containerId).map(({ state }) => state);
  expect(states).toEqual(['running']);
  expect((await pod.exec('app', ['echo', 'alive'])).stdout.toString()).toBe('alive\n');
}

/** The agent's side in a process of its own, its target frozen. `starter`: a shell's words before it. */
export async function frozenAgent(
  spec: SingleFreezeSpec,
  deadlineMs: number,
  starter = '',
): Promise<{ agent: ChildProcess; lines: string[] }> {
  const script = path.join(import.meta.dirname, 'freeze-agent.ts');
  const words = [process.execPath, script, JSON.stringify(spec), String(deadlineMs)];
  const agent = spawn('sh', ['-c', `${starter} exec "$0" "$@"`, ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
  agents.push(agent);
  const lines: string[] = [];
  const reader = createInterface({ input: agent.stdout });
  reader.on('line', (line) => lines.push(line));
  await Promise.race([once(reader, 'line'), once(agent, 'exit')]);
  expect(lines[0]).toBe('frozen');
  return { agent, lines };
}

/** The guard below a process, found in /proc. */
export function guardOf(parent: number): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || processStat('/proc', Number(name))?.parent !== parent) continue;
    if (readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('guard.ts')) return Number(name);
  }
  throw new Error('there is no guard');
}

export async function untilGone(pid: number): Promise<void> {
  const state = () => processStat('/proc', pid)?.state ?? 'X';
  for (let tries = 0; tries < 1_000 && !'ZX'.includes(state()); tries += 1) await sleep(10);
  expect('ZX').toContain(state());
}

export const freezeFor = (freezer: Freezer, deadlineMs: number) => freezer.freeze({ deadlineMs, signal: soon() });
