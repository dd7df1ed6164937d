import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import { startFreezer, thawNow } from '../../agent/capture/freeze.ts';
import { openDocker } from '../../agent/runtime/docker.ts';
import { processStat } from '../../agent/runtime/process-tree.ts';
import { parseSelector } from '../../agent/runtime/select.ts';
import { expectRuns, expectStands } from '../contract/runtime.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { dockerObstacle, requireDocker } from '../lab/requires.ts';
import { freezeFor, frozenAgent, guardOf, type SpecOf, soon, untilGone } from './freeze-bench.ts';

/**
 * A container that Docker pauses (freeze.method: runtime), held by a real guard, under the faults that containerd's pause is
 * tried with. It must run afterwards, and Docker must know it.
 */

interface DockerBench {
  readonly node: LabDocker;
  readonly spec: SpecOf<'docker'>;
  readonly id: string;
  /** In the node's pid namespace. */
  readonly initPid: number;
}

function dockerBench(cgroup: 'v2' | 'v1'): (context: TestContext) => DockerBench {
  let node: LabDocker | undefined;
  let bench: DockerBench | undefined;
  beforeAll(async () => {
    if (dockerObstacle() === undefined) node = await startDocker({ cgroup, liveRestore: true });
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    if (node === undefined) return;
    const command = ['sh', '-c', 'while :; do sleep 0.01; done'];
    const id = await node.docker('run', '-d', '--network', 'none', WORKLOAD_IMAGE, ...command);
    await using runtime = openDocker({ socket: node.socket, host: node, freeze: 'runtime' });
    const { freeze, record } = await runtime.resolve(parseSelector(id), soon());
    if (freeze?.kind !== 'docker') throw new Error(`the freeze is ${freeze?.kind}`);
    bench = { node, spec: freeze, id, initPid: record.initPid };
  });
  afterEach(async () => {
    await node?.startDockerd();
    if (bench !== undefined) await node?.docker('rm', '-f', bench.id);
    bench = undefined;
  });
  return (context) => {
    requireDocker(context);
    if (bench === undefined) throw new Error('the node did not start');
    return bench;
  };
}

const stateOf = ({ node, id }: DockerBench) => node.docker('inspect', '-f', '{{.State.Status}} {{.State.Paused}}', id);

/** Runs, Docker says so, and it can be exec'ed into: the shim's view is true again. */
async function expectHealthy(at: DockerBench): Promise<void> {
  await expectRuns(at.node, at.initPid);
  expect(await stateOf(at)).toBe('running false');
  expect(await at.node.docker('exec', at.id, 'echo', 'alive')).toBe('alive');
}

describe.each(['v2', 'v1'] as const)('Docker’s pause on cgroup %s', (cgroup) => {
  const ready = dockerBench(cgroup);

  test('is Docker’s own: it says Paused meanwhile, and running afterwards', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 20_000);
    await expectStands(at.node, at.initPid);
    expect(await stateOf(at)).toBe('paused true');
    expect(await frozen.thaw()).toMatchObject({ method: 'docker', thawedBy: 'agent', notes: [] });
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

  test('dockerd killed during the pause: thawed through the shim, and Docker knows it when it is back', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    await at.node.killDockerd();
    await expectRuns(at.node, at.initPid, 5_000);
    const record = await frozen.thaw();
    expect(record.thawedBy).toBe('guard');
    expect(record.notes.join()).toContain('its shim');
    await at.node.startDockerd();
    await expectHealthy(at);
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
});

describe('Docker’s pause in other trouble', () => {
  const ready = dockerBench('v2');

  test('dockerd and the agent killed together', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    agent.kill('SIGKILL');
    await at.node.killDockerd();
    await expectRuns(at.node, at.initPid, 10_000);
    await at.node.startDockerd();
    await expectHealthy(at);
  });

  test('dockerd dead and the shim silent: the kernel thaws, and the view is mended later', async (context) => {
    const at = ready(context);
    const { agent } = await frozenAgent(at.spec, 60_000);
    const guard = guardOf(agent.pid ?? 0);
    const shim = processStat('/proc', at.node.hostPid(at.initPid))?.parent ?? 0;
    process.kill(shim, 'SIGSTOP');
    try {
      await at.node.killDockerd();
      await expectRuns(at.node, at.initPid, 15_000);
    } finally {
      process.kill(shim, 'SIGCONT');
    }
    agent.kill('SIGKILL');
    await untilGone(guard);
    await at.node.startDockerd();
    await expectHealthy(at);
  });

  test('a dockerd that hangs in the pause is gone round, and finds the container running', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    const { dockerdPid } = at.node;
    process.kill(dockerdPid, 'SIGSTOP');
    try {
      const began = performance.now();
      expect((await frozen.thaw()).notes.join()).toContain('its shim');
      expect(performance.now() - began).toBeLessThan(5_000);
      await expectRuns(at.node, at.initPid);
    } finally {
      process.kill(dockerdPid, 'SIGCONT');
    }
    await expect.poll(() => stateOf(at), { timeout: 10_000 }).toBe('running false');
    await expectHealthy(at);
  });

  test('a pause that hangs is given up at the deadline, and undone when it comes after all', async (context) => {
    const at = ready(context);
    const freezer = await startFreezer(at.spec, soon());
    const guard = guardOf(process.pid);
    const { dockerdPid } = at.node;
    process.kill(dockerdPid, 'SIGSTOP');
    try {
      await expect(freezeFor(freezer, 500)).rejects.toThrow(/deadline/);
      await expectRuns(at.node, at.initPid);
    } finally {
      process.kill(dockerdPid, 'SIGCONT');
    }
    await freezer[Symbol.asyncDispose]();
    await untilGone(guard);
    await expectHealthy(at);
  });

  test('a container that somebody else paused is left paused', async (context) => {
    const at = ready(context);
    await at.node.docker('pause', at.id);
    {
      await using freezer = await startFreezer(at.spec, soon());
      const record = await (await freezeFor(freezer, 20_000)).thaw();
      expect(record).toMatchObject({ consistency: 'frozen', pauseMs: 0 });
      expect(record.notes.join()).toContain('somebody else');
    }
    expect(await stateOf(at)).toBe('paused true');
    expect(await thawNow(at.spec)).toBe('thawed');
    await expectHealthy(at);
  });

  test('a container that somebody else resumed is said to have been', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 20_000);
    await at.node.docker('unpause', at.id);
    expect((await frozen.thaw()).notes.join()).toContain('resumed by somebody else');
    await expectHealthy(at);
  });

  test('a container killed while it is frozen ends the freeze quietly', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const frozen = await freezeFor(freezer, 60_000);
    process.kill(at.node.hostPid(at.initPid), 'SIGKILL');
    await sleep(500);
    expect((await frozen.thaw()).notes.join()).toContain('ended while it was paused');
    expect(await thawNow(at.spec)).toBe('gone');
    await expect(startFreezer(at.spec, soon())).rejects.toMatchObject({ code: 'freeze-failed' });
  });

  test('the time that a freeze costs without work in it', async (context) => {
    const at = ready(context);
    await using freezer = await startFreezer(at.spec, soon());
    const pauses: number[] = [];
    for (let round = 0; round < 20; round += 1) pauses.push((await (await freezeFor(freezer, 10_000)).thaw()).pauseMs);
    pauses.sort((a, b) => a - b);
    console.log(
      `docker pause and unpause, median of 20: ${pauses[10]?.toFixed(1)} ms, least ${pauses[0]?.toFixed(1)} ms`,
    );
    expect(pauses[0]).toBeLessThan(1_000);
  });
});
