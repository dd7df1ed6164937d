import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Check } from '../../agent/doctor/check.ts';
import type { RequestRecord } from '../../evidence/manifest.ts';
import { expectRuns } from '../contract/runtime.ts';
import { startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { json } from './readers.ts';

/** A real agent that must not touch the namespace kube-system, however its containers are named. */

let node: LabNode;
let dns: LabPod;
let agent: Awaited<ReturnType<typeof startAgent>>;

const BUSY = ['sh', '-c', 'while :; do sleep 0.01; done'];

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  dns = await node.runPod({ namespace: 'kube-system', name: 'dns', containers: [{ name: 'dns', command: BUSY }] });
  await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web', command: BUSY }] });
  agent = await startAgent(node, {
    config: {
      policy: {
        namespaces: { deny: ['kube-*'] },
        freeze: { perCaptureMs: 900 },
        triggers: { socket: { artifacts: ['processes', 'memory', 'spec'] } },
      },
    },
  });
});

afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await node?.[Symbol.asyncDispose]();
});

beforeEach((context) => requireLab(context));

const capture = (target: string, ...more: string[]) =>
  agent.exhibit('capture', target, '--artifacts', 'processes,memory', ...more);

/** The cgroup of the denied container's pod, and the one above all pods, as /proc has them. */
function cgroups(pid: number): { pod: string; all: string } {
  const text = readFileSync(path.join(node.procRoot, String(pid), 'cgroup'), 'utf8');
  const container = /^0::(.*)$/m.exec(text)?.[1] ?? '';
  const pod = path.posix.dirname(container);
  return { pod, all: pod.slice(0, pod.indexOf('/kubepods') + '/kubepods'.length) };
}

describe('an agent whose policy denies a namespace', () => {
  test.each([
    ['its pod', async () => 'kube-system/dns'],
    ['its container', async () => dns.containerId('dns').slice(0, 12)],
    ['its process', async () => `pid:${await dns.pid('dns')}`],
    ["its pod's cgroup", async () => `cgroup:${cgroups(await dns.pid('dns')).pod}`],
    ['the cgroup of all pods', async () => `cgroup:${cgroups(await dns.pid('dns')).all}`],
  ])('refuses %s, stores nothing, and leaves it running', async (_, name) => {
    const { code, stderr } = await capture(await name());
    expect(stderr).toContain(
      'policy.namespaces.deny: it has kube-*, and the target reaches into the namespace kube-system',
    );
    expect(code).not.toBe(0);
    expect(existsSync(agent.evidence) ? readdirSync(agent.evidence) : []).toEqual([]);
    expect((await agent.exhibit('captures', '--json')).stdout).not.toContain('captureId');
    await expectRuns({ procRoot: node.procRoot, hostRoot: node.hostRoot }, await dns.pid('dns'));
    const refused = agent.log().match(/"msg":"capture refused by the policy"/g) ?? [];
    expect(refused.length).toBeGreaterThan(0);
    expect(agent.log()).not.toContain('"msg":"capture sealed"');
  });

  test('tells the doctor which policy is in force', async () => {
    const { checks } = JSON.parse((await agent.exhibit('doctor', '--json')).stdout) as { checks: Check[] };
    expect(checks.find(({ name }) => name === 'policy')?.found).toBe(
      'not namespaces kube-*, a freeze 900 ms; socket: artifacts processes, memory, spec',
    );
  });

  test('takes what is allowed, as briefly and as little as is allowed', async () => {
    const named = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'rootfs');
    expect(named.stderr).toContain('policy.triggers.socket.artifacts: it does not allow the artifact rootfs');
    const { code, stderr } = await agent.exhibit('capture', 'prod/web-0');
    expect(code, stderr).toBe(0);
    const base = path.join(agent.evidence, 'lab', node.hostname);
    const [id = ''] = readdirSync(base);
    const { plan } = json<RequestRecord>(path.join(base, id), 'request.json');
    expect(plan.freezeDeadlineMs).toBe(900);
    const taken = plan.steps.filter(({ action }) => action === 'collect').map(({ artifact }) => artifact);
    expect(taken).toEqual(['processes', 'memory', 'spec']);
    expect(plan.steps.find(({ artifact }) => artifact === 'rootfs')?.reason).toBe(
      'policy.triggers.socket.artifacts does not allow it',
    );
  });
});
