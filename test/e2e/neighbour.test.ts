import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { json } from './readers.ts';

/** An agent on a real node that has other work: one heavy capture at a time, and none where there is no room. */

let node: LabNode;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  // Read at 1 MiB/s, `large` takes long enough for others to come meanwhile.
  for (const [name, mib] of Object.entries({ large: 12, small: 1 })) {
    const command = `dd if=/dev/urandom of=/data bs=1048576 count=${mib} 2>/dev/null; sleep 3600`;
    await node.runPod({ namespace: 'shop', name, containers: [{ name: 'app', command: ['sh', '-c', command] }] });
  }
});

afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
});

beforeEach((context) => requireLab(context));

type Agent = Awaited<ReturnType<typeof startAgent>>;

const bundleOf = (agent: Agent, captureId: string) => path.join(agent.evidence, 'lab', node.hostname, captureId);
const manifestOf = (agent: Agent, captureId: string) => json<Manifest>(bundleOf(agent, captureId), 'manifest.json');

async function begin(agent: Agent, target: string, ...more: string[]): Promise<string> {
  const { code, stdout, stderr } = await agent.exhibit('capture', target, '--detach', ...more);
  if (code !== 0) throw new Error(stderr);
  return stdout.trim();
}

describe('captures that come while a heavy one runs', () => {
  test('go after it where they are heavy, at once where they are light, and are refused where the line is full', async () => {
    await using agent = await startAgent(node, {
      config: {
        limits: { cpuPercent: 0, readBytesPerSecond: '1MiB', queue: { length: 2 } },
        metrics: { listen: '127.0.0.1:0' },
      },
    });
    const large = await begin(agent, 'shop/large', '--artifacts', 'processes,rootfs');
    const [second, third] = await Promise.all([
      begin(agent, 'shop/small', '--artifacts', 'processes,rootfs,spec'),
      begin(agent, 'shop/small', '--artifacts', 'processes,memory'),
    ]);
    const refused = await agent.exhibit('capture', 'shop/small', '--artifacts', 'logs');
    expect(refused.stderr).toContain('2 captures wait for the one that runs, and limits.queue.length is 2');
    expect(refused.code).not.toBe(0);
    const light = await agent.exhibit('capture', 'shop/small', '--artifacts', 'processes,network', '--json');
    expect(light.code).toBe(0);
    // Whoever scrapes is answered meanwhile.
    const port = /"port":(\d+)[^\n]*"msg":"metrics and probes ready"/.exec(agent.log())?.[1];
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(text).toContain('exhibit_heavy_captures{state="running"} 1');
    expect(text).toContain('exhibit_room_refusals_total{short="queue"} 1');
    const cancelled = await agent.exhibit('cancel', third);
    expect(cancelled.code).toBe(0);
    const joined = (id: string, target: string, names: string) =>
      agent.exhibit('capture', target, '--artifacts', names, '--id', id);
    const ended = await joined(second, 'shop/small', 'processes,rootfs,spec');
    expect(ended.stderr).toMatch(/queue: waiting, [12] before it/);
    expect(ended.stderr).toMatch(/queue: waited /);
    expect(ended.code).toBe(0);

    const lightId = (JSON.parse(light.stdout.split('\n')[0] ?? '{}') as { captureId: string }).captureId;
    const [first, waited, passed, left] = [large, second, lightId, third].map((id) => manifestOf(agent, id));
    expect([first, waited, passed, left].map((one) => one?.outcome)).toEqual([
      'complete',
      'complete',
      'complete',
      'cancelled',
    ]);
    const stepOf = (manifest: Manifest | undefined, name: string) =>
      manifest?.artifacts.find((one) => one.name === name);
    const rootfs = stepOf(first, 'rootfs');
    expect(rootfs?.facts.pacedMs).toBeGreaterThan(0);
    expect(stepOf(waited, 'rootfs')?.startedAt ?? '').toSatisfy((at: string) => at >= (rootfs?.finishedAt ?? '~'));
    expect(stepOf(waited, 'processes')?.finishedAt ?? '~').toSatisfy((at: string) => at < (rootfs?.finishedAt ?? ''));
    expect(passed?.finishedAt ?? '~').toSatisfy((at: string) => at < (rootfs?.finishedAt ?? ''));
    // What is gone first was taken before it waited, and is sealed.
    expect(stepOf(left, 'processes')?.status).toBe('captured');
    expect(stepOf(left, 'memory')?.status).toBe('skipped');
  });
});

describe('a node with too little memory', () => {
  test('refuses a heavy capture in words, before anything is written, takes a light one, and lets --force pass', async () => {
    await using agent = await startAgent(node, {
      config: { limits: { memory: { minAvailableBytes: '100000GiB' }, override: ['socket'] } },
    });
    const heavy = (...more: string[]) => agent.exhibit('capture', 'shop/small', '--artifacts', 'memory', ...more);
    const refused = await heavy();
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(
      /There is no room for this capture: \d+ MiB of memory are available on the node, and limits\.memory\.minAvailableBytes is 102400000 MiB/,
    );
    expect(refused.stderr).toContain('Ask again with --force');
    expect(existsSync(agent.evidence) ? readdirSync(agent.evidence) : []).toEqual([]);
    expect((await agent.exhibit('captures', '--json')).stdout).not.toContain('captureId');

    const light = await agent.exhibit('capture', 'shop/small', '--artifacts', 'processes,network');
    expect(light.code).toBe(0);

    const forced = await begin(agent, 'shop/small', '--artifacts', 'memory', '--force');
    await agent.exhibit('capture', 'shop/small', '--artifacts', 'memory', '--id', forced);
    const record = json<RequestRecord>(bundleOf(agent, forced), 'request.json');
    expect(record.overridden).toEqual([expect.stringContaining('limits.memory.minAvailableBytes')]);
    expect(manifestOf(agent, forced).artifacts.map(({ name, status }) => [name, status])).toEqual([
      ['memory', 'captured'],
    ]);
  });
});
