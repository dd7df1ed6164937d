import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, rmdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isErrno } from '../../evidence/error.ts';
import { startAgent } from '../lab/agent.ts';
import { startController } from '../lab/controller.ts';
import { type ApiClient, refusal } from '../lab/controller-client.ts';
import { requirePostgres, startPostgres } from '../lab/postgres.ts';

/** The controller as a process whose store fails under it, and an agent as a process that captures a plain process of this machine. */

const NODE = 'this-machine';
const WAIT = { timeout: 60_000, interval: 50 };
const everywhere = { clusters: ['*'], namespaces: ['*'] };
const CONFIG = {
  identity: {
    operators: [{ name: 'ada', certificate: 'ada', grants: [{ role: 'admin', ...everywhere }] }],
    rate: { read: { perSecond: 1_000, burst: 10_000 }, write: { perSecond: 1_000, burst: 10_000 } },
  },
};

let stack: AsyncDisposableStack;
beforeEach(() => {
  stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync(), 60_000);

async function start(url: string) {
  const controller = stack.use(await startController({ config: { ...CONFIG, store: { url } } }));
  const section = { ...(await controller.agentSection('lab', NODE)), reconnect: { firstMs: 50, maxMs: 300 } };
  const agent = stack.use(await startAgent(undefined, { config: { controller: section } }));
  const sleeper = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(sleeper, 'spawn');
  stack.defer(() => void sleeper.kill('SIGKILL'));
  const ada = stack.use(await controller.client('ada'));
  await connected(ada);
  const ask = async (): Promise<string> => {
    const selector = { pid: sleeper.pid ?? 0 };
    const { captures } = await ada.call('CreateCapture', { selector, node: NODE, artifacts: ['processes'] });
    return captures[0]?.captureId ?? '';
  };
  return { controller, agent, ada, ask, pid: sleeper.pid ?? 0 };
}

async function connected(ada: ApiClient): Promise<void> {
  const look = async () => (await ada.call('ListNodes', {})).nodes.map((one) => one.connected);
  await expect.poll(() => look().catch(() => []), WAIT).toEqual([true]);
}

type Failure = Awaited<ReturnType<typeof refusal>>;

/** The id, or how it failed. */
const outcome = (work: Promise<string>): Promise<string | Failure> => work.catch(() => refusal(work));

const bundlesOf = ({ evidence }: { evidence: string }): string[] => {
  const base = path.join(evidence, 'lab', NODE);
  return existsSync(base) ? readdirSync(base).sort() : [];
};

/** Every row of the store, once each of them has ended. */
async function ended(ada: ApiClient) {
  const rows = async () => (await ada.call('ListCaptures', { pageSize: 1_000 })).captures;
  const open = async () => (await rows()).filter(({ state }) => ['queued', 'sent', 'running'].includes(state)).length;
  await expect.poll(() => open().catch(() => -1), WAIT).toBe(0);
  return await rows();
}

/** Until there is no room for a byte. */
function fill(file: string): void {
  const handle = openSync(file, 'w');
  for (let bytes = 256 * 1024; bytes >= 1; ) {
    try {
      writeSync(handle, Buffer.alloc(bytes));
    } catch (error) {
      if (!isErrno(error, 'ENOSPC')) throw error;
      bytes = Math.floor(bytes / 2);
    }
  }
  closeSync(handle);
}

function smallDisk(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-small-'));
  stack.defer(() => rmdirSync(folder));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'none', folder]);
  stack.defer(() => void execFileSync('umount', [folder]));
  return folder;
}

describe('a controller whose disk is full', () => {
  test('refuses in words, sends nothing that it did not store, and goes on when there is room', async (context) => {
    if (process.getuid?.() !== 0) context.skip('needs root: mounts a small file system');
    const disk = smallDisk();
    const { agent, ada, ask, pid } = await start(`sqlite:${path.join(disk, 'controller.db')}`);
    const stored = [await ask()];
    await ended(ada);

    fill(path.join(disk, 'ballast'));
    const refused: Failure[] = [];
    for (let tries = 0; tries < 200 && refused.length < 10; tries += 1) {
      const answer = await outcome(ask());
      if (typeof answer === 'string') stored.push(answer);
      else refused.push(answer);
    }
    expect(refused.length).toBe(10);
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['store-failed']));
    for (const { details } of refused)
      expect(details).toMatch(/is full; nothing was stored|has no room; nothing was stored/);
    // What the node does by itself does not wait for the controller.
    const own = await agent.exhibit('capture', `pid:${pid}`, '--artifacts', 'processes', '--json');
    expect(own.code, own.stderr).toBe(0);

    rmSync(path.join(disk, 'ballast'));
    await connected(ada);
    stored.push(await ask());
    await expect
      .poll(
        async () => (await ada.call('ListCaptures', { pageSize: 1_000 })).captures.map(({ trigger }) => trigger),
        WAIT,
      )
      .toContain('socket');
    const rows = await ended(ada);
    expect(rows.map(({ state }) => state)).toEqual(rows.map(() => 'complete'));
    const asked = rows.filter(({ trigger }) => trigger === 'api').map(({ captureId }) => captureId);
    expect(asked.sort()).toEqual(stored.sort());
    expect(bundlesOf(agent)).toEqual(rows.map(({ captureId }) => captureId).sort());
  });
});

describe('a controller whose PostgreSQL is restarted in the middle of commands', () => {
  beforeEach((context) => requirePostgres(context));

  test.each(['fast', 'immediate'] as const)('(%s) has each of them once, or says that it has not', async (how) => {
    const postgres = stack.use(await startPostgres());
    const { agent, ada, ask } = await start(await postgres.newDatabase());
    const outcomes: Promise<string | Failure>[] = [];
    const begin = () => outcomes.push(outcome(ask()));
    begin();
    await outcomes[0];
    for (let index = 0; index < 10; index += 1) begin();
    await Promise.race(outcomes.slice(1));
    const down = postgres.stop(how);
    for (let index = 0; index < 10; index += 1) begin();
    await down;
    for (let index = 0; index < 3; index += 1) begin();
    await Promise.race(outcomes.slice(-3));
    await postgres.start();
    const works = async () => {
      begin();
      return typeof (await outcomes.at(-1));
    };
    await expect.poll(works, WAIT).toBe('string');
    const all = await Promise.all(outcomes);
    const stored = all.filter((one) => typeof one === 'string');
    expect(stored).toContain(all[0]);
    for (const one of all)
      if (typeof one !== 'string')
        expect(['store-failed', 'agent-unreachable', 'target-not-found']).toContain(one.code);
    const rows = await ended(ada);
    expect(new Set(rows.map(({ captureId }) => captureId)).size).toBe(rows.length);
    const known = rows.map(({ captureId }) => captureId);
    // Who heard that it failed has nothing there either.
    expect([...known].sort()).toEqual([...stored].sort());
    expect(rows.map(({ state }) => state)).toEqual(rows.map(() => 'complete'));
    expect(bundlesOf(agent)).toEqual([...known].sort());
  });
});
