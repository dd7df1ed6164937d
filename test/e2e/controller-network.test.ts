import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { type Middlebox, startMiddlebox } from '../lab/middlebox.ts';
import { type LabNetwork, type NetHost, netsObstacle, startNetwork } from '../lab/nets.ts';
import { type Operator, startOperator } from '../lab/operator.ts';
import { labPki } from '../lab/pki.ts';
import { requireNets } from '../lab/requires.ts';

/** A network that is against us, between a controller and an agent that are hosts of their own: all that passes goes through a middlebox. */

const stack = new AsyncDisposableStack();
let network: LabNetwork;
let controller: LabController;
let operator: Operator;
let box: Middlebox;
let agent: Awaited<ReturnType<typeof startAgent>>;
let victim = 0;

beforeEach((context) => requireNets(context));
beforeAll(async () => {
  if (netsObstacle() !== undefined) return;
  network = stack.use(await startNetwork());
  controller = stack.use(await startController({ host: await network.host('controller') }));
  operator = stack.use(await startOperator('ada', await network.host('operator'), controller.pki));
  box = stack.use(await startMiddlebox(await network.host('middlebox'), controller.agents));
  agent = stack.use(await dialling(await network.host('plain'), box.address));
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(child, 'spawn');
  stack.defer(() => void child.kill('SIGKILL'));
  victim = child.pid ?? 0;
  await connected(true);
}, 120_000);
afterAll(() => stack.disposeAsync(), 60_000);
afterEach(() => box?.set({}));

async function dialling(host: NetHost, address: string, over: Record<string, unknown> = {}) {
  const section = await controller.agentSection('lab', host.name);
  const reconnect = { firstMs: 100, maxMs: 500 };
  const config = { node: host.name, controller: { ...section, address, serverName: 'localhost', reconnect, ...over } };
  return await startAgent(undefined, { host, config });
}

async function connected(isThere: boolean): Promise<void> {
  using ada = await operator.client(controller);
  const look = async () => {
    const { nodes } = await ada.call('ListNodes', {});
    expect(nodes.map((one) => [one.node, one.connected])).toEqual([['plain', isThere]]);
  };
  await vi.waitFor(look, { timeout: 60_000, interval: 100 });
}

const capture = (...more: string[]) =>
  operator.exhibit(controller, 'capture', `pid:${victim}`, '--node', 'plain', '--artifacts', 'processes', ...more);

const idIn = (text: string): string =>
  /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}/.exec(text)?.[0] ?? expect.fail(`no capture in: ${text}`);

const bundles = (): string[] => {
  const base = path.join(agent.evidence, 'lab', 'plain');
  if (!existsSync(base)) return [];
  return readdirSync(base).map((id) => path.join(base, id));
};

/** They end as they should, and there is one bundle more for each, which verifies. */
async function endOnce(captureIds: readonly string[], before: readonly string[]): Promise<void> {
  for (const captureId of captureIds) {
    const watched = await operator.exhibit(controller, 'watch', captureId);
    expect(watched.stdout, watched.stderr).toContain('complete');
    expect(agent.log().match(new RegExp(`${captureId}.*"capture sealed"`, 'g'))).toHaveLength(1);
  }
  const made = bundles().filter((bundle) => !before.includes(bundle));
  expect(made.map((bundle) => path.basename(bundle)).sort()).toEqual([...captureIds].sort());
  for (const bundle of made) expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
}

describe('a capture through a network that is against us', () => {
  test('is taken where every byte is 300 ms late in each direction', async () => {
    box.set({ delayMs: 300 });
    // The stream that is there, and one that has to be made.
    const first = await capture();
    expect(first.code, first.stderr).toBe(0);
    box.set({ resetAfterBytes: 1 });
    await connected(false);
    box.set({ delayMs: 300 });
    await connected(true);
    const taken = await capture();
    expect(taken.code, taken.stderr).toBe(0);
    expect(bundles().map((bundle) => path.basename(bundle))).toEqual([idIn(first.stdout), idIn(taken.stdout)].sort());
    box.set({});
  });

  test('is taken once when the connection is reset in the middle of the command', async () => {
    const before = bundles();
    const { stdout, stderr, code } = await capture('--detach');
    box.set({ resetAfterBytes: 1 });
    expect(code, stderr).toBe(0);
    await connected(false);
    box.set({});
    await endOnce([idIn(stdout)], before);
  });

  test('waits for an agent whose connections are reset in their TLS handshake', async () => {
    const before = bundles();
    const { stdout, stderr, code } = await capture('--detach');
    // A ClientHello passes, and what answers it does not; the stream that is there has passed more on already.
    box.set({ resetAfterBytes: 1000 });
    expect(code, stderr).toBe(0);
    const { resets } = box;
    await vi.waitFor(() => expect(box.resets).toBeGreaterThan(resets + 3), 60_000);
    box.set({});
    await endOnce([idIn(stdout)], before);
  });

  test('outlasts a middlebox that takes everything and passes nothing on', async () => {
    const before = bundles();
    const { stdout, stderr, code } = await capture('--detach');
    box.set({ stalled: true });
    expect(code, stderr).toBe(0);
    // The stream looks as if it were there: the command is stored, and told when the agent is back.
    const meanwhile = await capture('--detach');
    expect(meanwhile.code, meanwhile.stderr).toBe(0);
    await connected(false);
    box.set({});
    await endOnce([idIn(stdout), idIn(meanwhile.stdout)], before);
  }, 180_000);
});

describe('an agent on another host', () => {
  const refusals = async (): Promise<string> => {
    const { stdout, stderr, code } = await operator.exhibit(controller, 'audit');
    expect(code, stderr).toBe(0);
    return stdout;
  };

  test('with the certificate of another cluster does not pass for a node of this one', async () => {
    const files = await controller.pki.agent('other', 'plain');
    const over = { certFile: files.certFile, keyFile: files.keyFile };
    await using thief = await dialling(await network.host('plain'), controller.agents, over);
    await vi.waitFor(() => expect(thief.log()).toContain('certificate is of node other/plain'), 20_000);
    expect(await refusals()).toMatch(/agent\.refused.*other\/plain|other\/plain.*agent\.refused/);
    await connected(true);
    expect(thief.log()).not.toContain('stream to the controller is up');
  });

  test('with a certificate of other authorities is not let in, and does not take the controller for its own', async () => {
    await using stranger = await labPki();
    const files = await stranger.agent('lab', 'plain');
    const host = await network.host('plain');
    {
      const over = { certFile: files.certFile, keyFile: files.keyFile };
      await using one = await dialling(host, controller.agents, over);
      await vi.waitFor(() => expect(one.log()).toContain('no stream to the controller'), 20_000);
      expect(one.log()).not.toContain('stream to the controller is up');
      expect(controller.log()).toMatch(new RegExp(`${host.address.replaceAll('.', '\\.')}.*`));
    }
    await using two = await dialling(host, controller.agents, { caFile: stranger.caFile('controller') });
    await vi.waitFor(
      () => expect(two.log()).toMatch(/verify the first certificate.*no stream to the controller/),
      20_000,
    );
    await connected(true);
  });
});
