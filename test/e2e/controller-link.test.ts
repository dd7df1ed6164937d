import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { startAgent } from '../lab/agent.ts';
import { type ControllerLab, captureOf, controllerLab, until } from '../unit/controller/link/lab.ts';

/** The agent as a process, over TLS, with what it captures in a folder. */
async function realAgent(lab: ControllerLab, folder?: string) {
  const { certFile, keyFile } = await lab.pki.agent('prod', 'n1');
  const controller = {
    address: `127.0.0.1:${lab.controller.listener.port}`,
    ...{ caFile: lab.pki.caFile('controller'), certFile, keyFile, serverName: 'localhost' },
    reconnect: { firstMs: 50, maxMs: 200 },
  };
  const config = { cluster: 'prod', node: 'n1', pod: 'exhibit/agent-x', controller };
  return await startAgent(undefined, { config, ...(folder === undefined ? {} : { folder }) });
}

async function victim() {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(child, 'spawn');
  return { pid: child.pid ?? 0, [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

function commandFor(pid: number) {
  const row = captureOf('n1', {
    selector: `pid:${pid}`,
    approvals: [{ by: 'bob', atMs: 1 }],
    artifacts: ['processes'],
  });
  if (row.command === null) throw new Error('the row has no command');
  const command = { ...row.command, artifacts: ['processes'], selector: { pid, by: 'pid' as const } };
  return { ...row, command };
}

describe('a capture that the controller commands', () => {
  test('is taken by a real agent, whose bundle says who asked and who approved', async () => {
    await using lab = await controllerLab();
    await using agent = await realAgent(lab);
    using target = await victim();
    const { captureId } = await lab.ask('n1', commandFor(target.pid));
    const row = await lab.settled(captureId);
    expect(row).toMatchObject({ state: 'complete', error: '' });
    const request = JSON.parse(readFileSync(join(agent.evidence, 'prod', 'n1', captureId, 'request.json'), 'utf8'));
    expect(JSON.stringify(request)).toContain('alice, approved by bob, through controller localhost');
    expect(row.told?.bundleUrl).toContain(captureId);
    expect(await lab.controller.store.node({ cluster: 'prod', node: 'n1' })).toMatchObject({
      pod: 'exhibit/agent-x',
      bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    });
  });

  test('finds the target of a process selector by a lookup', async () => {
    await using lab = await controllerLab();
    await using _agent = await realAgent(lab);
    using target = await victim();
    await until(() => lab.controller.links.connected().length === 1);
    const selector = { pid: target.pid, by: 'pid' as const };
    const found: string[] = [];
    const signal = AbortSignal.timeout(10_000);
    for await (const one of lab.controller.links.lookup(() => true, { selector, namespace: '' }, signal))
      found.push(...(one.kind === 'found' ? one.containers.map(({ id }) => id) : [one.reason]));
    expect(found.length).toBe(1);
    expect(found[0]).toContain(String(target.pid));
  });

  test('does not keep an agent from its work while the controller is away, and is told of it later', async () => {
    await using lab = await controllerLab();
    const { port } = lab.controller.listener;
    await using agent = await realAgent(lab);
    await lab.controller.kill();
    using target = await victim();
    const taken = await agent.exhibit('capture', `pid:${target.pid}`, '--artifacts', 'processes');
    expect(taken.stderr + taken.stdout).not.toContain('controller');
    expect(taken.code).toBe(0);
    expect(agent.log()).toContain('no stream to the controller');
    await lab.restart();
    // On another port: the one of before may be taken by now.
    expect(lab.controller.listener.port).not.toBe(port);
    await agent.stop();
    await using _next = await realAgent(lab, agent.folder);
    await until(async () => (await lab.controller.store.captures({}, { limit: 5 })).rows[0]?.state === 'complete');
    const { rows } = await lab.controller.store.captures({}, { limit: 5 });
    expect(rows).toMatchObject([{ trigger: 'socket', selector: `pid:${target.pid}`, state: 'complete' }]);
  });

  test('ends in one state when the agent is killed during it', async () => {
    await using lab = await controllerLab();
    const agent = await realAgent(lab);
    using target = await victim();
    const { captureId } = await lab.ask('n1', commandFor(target.pid));
    await lab.settled(captureId, ['sent', 'running', 'complete']);
    await agent.kill();
    await using _next = await realAgent(lab, agent.folder);
    const { state } = await lab.settled(captureId);
    // Where the kill falls is not in our hands: before it began, during it, or after it.
    expect(['complete', 'truncated', 'interrupted', 'refused']).toContain(state);
  });
});
