import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Check } from '../../agent/doctor/check.ts';
import type { Answer } from '../../agent/trigger/folder-answer.ts';
import type { Changes } from '../../evidence/diff/document.ts';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';
import { json } from './readers.ts';

/** One agent with every trigger, a policy and a controller, on a real containerd: what the triggers need of each other. */

const stack = new AsyncDisposableStack();
const WAIT = { timeout: 60_000, interval: 50 };
const LIGHT = 'processes,network,rootfs';
const DENIED = 'policy.namespaces.deny: it has kube-*';

let node: LabNode;
let victim: Victim;
let controller: LabController;
let agent: Awaited<ReturnType<typeof startAgent>>;
let requests: string;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = stack.use(await startNode());
  victim = await compromisedPod(node);
  await node.runPod({ namespace: 'kube-system', name: 'dns', containers: [{ name: 'dns' }] });
  controller = stack.use(await startController());
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-triggers-'));
  requests = path.join(folder, 'requests');
  const section = { ...(await controller.agentSection('lab', node.hostname)), reconnect: { firstMs: 50, maxMs: 300 } };
  agent = stack.use(
    await startAgent(node, {
      folder,
      config: {
        controller: section,
        requestFolder: { path: requests, sweepMs: 1000 },
        schedules: [
          {
            ...{ name: 'baseline', cron: '*/2 * * * * *', jitterMs: 0, keep: 1 },
            selector: { namespaces: ['prod', 'kube-system'] },
          },
        ],
        // Of each run one is refused.
        scheduleBudget: { capturesPerHour: 4 },
        policy: { namespaces: { deny: ['kube-*'] }, triggers: { schedule: { artifacts: LIGHT.split(',') } } },
        // Slow enough for a large file to be unfinished when the agent has to stop.
        compression: { level: 19 },
        exits: { rules: [{ name: 'failed', match: { exitCodes: 'nonzero' } }] },
      },
    }),
  );
}, 120_000);
afterAll(() => stack.disposeAsync(), 60_000);
beforeEach((context) => requireLab(context));

const base = () => path.join(agent.evidence, 'lab', node.hostname);
const bundles = (): { captureId: string; request: RequestRecord }[] =>
  (existsSync(base()) ? readdirSync(base()) : []).sort().map((captureId) => ({
    captureId,
    request: json<RequestRecord>(path.join(base(), captureId), 'request.json'),
  }));
const scheduled = () => bundles().filter(({ request }) => request.requester.trigger === 'schedule');
const changesOf = (captureId: string) => json<Changes>(path.join(base(), captureId), 'changes.json');

async function atController() {
  using ada = await controller.client('ada');
  return (await ada.call('ListCaptures', { pageSize: 100 })).captures;
}

async function asAda(...argv: string[]) {
  const { certFile, keyFile } = await controller.pki.operator('ada');
  const contexts = path.join(agent.folder, 'contexts.yaml');
  const files = ['--ca', controller.pki.caFile('controller'), '--cert', certFile, '--key', keyFile];
  await runCli(['context', 'set', 'ada', '--controller', controller.api, ...files], { EXHIBIT_CONTEXTS: contexts });
  return await runCli(['--context', 'ada', ...argv], { EXHIBIT_CONTEXTS: contexts });
}

async function checkOf(name: string): Promise<Check | undefined> {
  const { stdout } = await agent.exhibit('doctor', '--json');
  return (JSON.parse(stdout) as { checks: Check[] }).checks.find((one) => one.name === name);
}

function ask(name: string, request: object): void {
  writeFileSync(path.join(requests, `.${name}`), JSON.stringify(request), { mode: 0o600 });
  renameSync(path.join(requests, `.${name}`), path.join(requests, name));
}

async function answered(name: string): Promise<Answer> {
  const file = path.join(requests, `${name}.answer.json`);
  const read = (): Answer | undefined => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined);
  await expect.poll(() => read()?.state ?? 'accepted', WAIT).not.toBe('accepted');
  return read() as Answer;
}

async function failingPod(namespace: string, name: string): Promise<void> {
  await node.runPod({ namespace, name, containers: [{ name: 'job', command: ['sh', '-c', 'exit 3'] }] });
}

describe('a schedule whose artifacts are not named', () => {
  test('takes what the policy leaves of them, and a namespace that it denies is refused and logged', async () => {
    await expect.poll(() => agent.log(), WAIT).toMatch(/4 scheduled captures in the last hour/);
    const [last, ...others] = scheduled();
    expect(others).toEqual([]);
    expect(last?.request.plan.steps.map(({ artifact }) => artifact)).toEqual(expect.arrayContaining(LIGHT.split(',')));
    expect(last?.request.plan.steps.find(({ artifact }) => artifact === 'node')).toMatchObject({
      action: 'skip',
      reason: 'policy.triggers.schedule.artifacts does not allow it',
    });
    const refused = agent
      .log()
      .split('\n')
      .filter((line) => line.includes('scheduled capture not begun'));
    expect(refused).toHaveLength(2);
    expect(refused[0]).toContain(DENIED);
  });

  test('is a baseline that an incident is compared with, asked for on the node or at the controller', async () => {
    const baseline = scheduled()[0]?.captureId ?? '';
    const { code } = await victim.pod.exec(victim.container, [
      'sh',
      '-c',
      'cp /bin/busybox /tmp/sleep; setsid /tmp/sleep 999 < /dev/null > /dev/null 2>&1 &',
    ]);
    expect(code).toBe(0);
    const here = await agent.exhibit('capture', 'prod/web-0', '--artifacts', LIGHT, '--consistency', 'live', '--json');
    expect(here.code, here.stderr).toBe(0);
    const captureId = bundles().at(-1)?.captureId ?? '';
    expect(changesOf(captureId).diff?.before.captureId).toBe(baseline);
    expect(changesOf(captureId).diff?.kinds.processes?.new.map(({ key }) => key)).toEqual([
      expect.stringContaining('/tmp/sleep'),
    ]);
    const shown = await agent.exhibit('show', captureId);
    expect(shown.stdout).toMatch(new RegExp(`changes +processes: 1 new;.*\\(since ${baseline}\\)`));

    const ran = await asAda('capture', 'prod/web-0', '--artifacts', LIGHT, '--consistency', 'live', '--reason', 'x');
    expect(ran.code, ran.stderr).toBe(0);
    const [commanded] = (await atController()).filter(({ trigger }) => trigger === 'api');
    const id = commanded?.captureId ?? '';
    const changes = { baseline, kinds: expect.arrayContaining([{ kind: 'processes', new: 1, gone: 0, changed: 0 }]) };
    using ada = await controller.client('ada');
    expect((await ada.call('GetCapture', { captureId: id })).capture).toMatchObject({ state: 'complete', changes });
    expect(changesOf(id).diff?.before.captureId).toBe(baseline);
    for (const verb of ['show', 'watch']) {
      const told = await asAda(verb, id);
      expect(told.stdout, verb).toContain(`(since ${baseline})`);
      expect((await asAda(verb, id, '--json')).stdout, verb).toContain(baseline);
    }
    // `keep` has removed all but this one, which others name.
    expect(scheduled().map((one) => one.captureId)).toEqual([baseline]);
  });
});

describe('a capture that the policy of the node refuses', () => {
  test('is answered in the folder with the rule', async () => {
    ask('dns.json', { target: 'kube-system/dns' });
    expect(await answered('dns.json')).toMatchObject({ state: 'refused', error: expect.stringContaining(DENIED) });
  });

  test('is told to the controller with the rule', async () => {
    const ran = await asAda('capture', 'kube-system/dns', '--artifacts', 'processes', '--reason', 'x');
    expect(ran.code).toBe(1);
    expect(ran.stdout + ran.stderr).toContain(DENIED);
    const [row] = (await atController()).filter(({ namespace }) => namespace === 'kube-system');
    expect(row).toMatchObject({ state: 'refused', error: expect.stringContaining(DENIED) });
  });

  test('is counted by the doctor where a container had ended', async () => {
    await failingPod('kube-system', 'job-0');
    await expect.poll(() => agent.log(), WAIT).toMatch(/ended container not captured/);
    expect(await checkOf('exits')).toMatchObject({
      status: 'warning',
      found: '1 rule; 1 ended, 0 captured, 0 known before, 0 dropped, 1 failed',
    });
  });
});

describe('captures of the node’s own triggers', () => {
  test('are known to the controller once, also those that were taken while it was away', async () => {
    ask('web.json', { target: 'prod/web-0', artifacts: ['processes'], consistency: 'live' });
    await answered('web.json');
    await failingPod('prod', 'job-1');
    await expect
      .poll(() => bundles().filter(({ request }) => request.requester.trigger === 'exit').length, WAIT)
      .toBe(1);
    expect(await checkOf('controller')).toMatchObject({ status: 'ok', found: expect.stringContaining('stream since') });

    await controller.kill();
    ask('away.json', { target: 'prod/web-0', artifacts: ['processes'], consistency: 'live' });
    await answered('away.json');
    await failingPod('prod', 'job-2');
    await expect
      .poll(() => bundles().filter(({ request }) => request.requester.trigger === 'exit').length, WAIT)
      .toBe(2);
    await expect.poll(() => agent.log().match(/ended container captured/g)?.length, WAIT).toBe(2);
    expect(await checkOf('controller')).toMatchObject({
      status: 'failure',
      found: expect.stringMatching(/cannot be reached.*own certificate until/),
    });
    controller = stack.use(await startController({ after: controller }));
    const told = async () => (await atController()).filter(({ trigger }) => trigger === 'exit').length;
    await expect.poll(told, WAIT).toBe(2);
    await expect
      .poll(async () => (await atController()).filter(({ state }) => state === 'running').length, WAIT)
      .toBe(0);

    const rows = (await atController()).filter(({ trigger }) => trigger !== 'api');
    const there = { namespace: 'prod', node: node.hostname, cluster: 'lab' };
    const count = (trigger: string) => rows.filter((one) => one.trigger === trigger).length;
    // Of the schedule's two the agent has removed one bundle.
    expect([count('schedule'), count('socket'), count('folder'), count('exit')]).toEqual([2, 1, 2, 2]);
    for (const row of rows) expect(row).toMatchObject(there);
    const known = new Map(rows.map((row) => [row.captureId, row]));
    expect(known.size).toBe(rows.length);
    for (const { captureId, request } of bundles()) {
      if (request.requester.trigger === 'controller') continue;
      const { trigger, identity } = request.requester;
      expect(known.get(captureId)).toMatchObject({ trigger, requestedBy: identity, artifacts: [...request.artifacts] });
      expect(['complete', 'partial']).toContain(known.get(captureId)?.state);
    }
  });
});

describe('an agent that is told to stop', () => {
  test('ends what its triggers have begun, seals it, and leaves the container running', async () => {
    const fill = 'head -c 400000000 /dev/urandom > /tmp/large';
    expect((await victim.pod.exec(victim.container, ['sh', '-c', fill])).code).toBe(0);
    const job = { name: 'job', command: ['sh', '-c', `${fill}; exit 3`] };
    await node.runPod({ namespace: 'prod', name: 'job-3', containers: [job] });
    const running = () =>
      bundles().filter(({ captureId }) => !existsSync(path.join(base(), captureId, 'manifest.json')));
    await expect.poll(() => running().length, { ...WAIT, interval: 10 }).toBe(1);
    ask('large.json', { target: 'prod/web-0', artifacts: ['memory', 'rootfs'], consistency: 'frozen' });
    await expect.poll(() => running().length, { ...WAIT, interval: 10 }).toBe(2);
    const begun = running().map(({ captureId }) => captureId);
    await agent.stop();
    expect(agent.log()).toContain('"msg":"stopping"');
    for (const { captureId } of bundles()) {
      const verified = await runCli(['verify', path.join(base(), captureId)]);
      expect(verified.code, verified.stdout).toBe(0);
    }
    const outcomes = begun.map((captureId) => json<Manifest>(path.join(base(), captureId), 'manifest.json').outcome);
    // A fast machine may bring one of them to its end within the grace.
    expect(outcomes).toContain('cancelled');
    for (const outcome of outcomes) expect(['cancelled', 'complete', 'partial']).toContain(outcome);
    using ada = await controller.client('ada');
    for (const [index, captureId] of begun.entries())
      await expect.poll(async () => (await ada.call('GetCapture', { captureId })).state, WAIT).toBe(outcomes[index]);
    // In a container that stands still nothing can be run.
    expect((await victim.pod.exec(victim.container, ['true'])).code).toBe(0);
  });
});
