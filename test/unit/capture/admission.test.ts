import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openAdmission } from '../../../agent/capture/admission.ts';
import { captureExecutor } from '../../../agent/capture/capture.ts';
import { type CaptureRequest, type Captures, createCaptures } from '../../../agent/capture/captures.ts';
import { createChain } from '../../../agent/capture/chain.ts';
import { openDelivery } from '../../../agent/capture/delivery.ts';
import { openJournal } from '../../../agent/capture/journal.ts';
import { whoseTarget } from '../../../agent/capture/whose.ts';
import { parseConfig } from '../../../agent/config.ts';
import { membershipsOf } from '../../../agent/host/cgroup.ts';
import { openHostRuntime } from '../../../agent/runtime/host.ts';
import { asContainerId, asPid, type ContainerSummary, type Runtime } from '../../../agent/runtime/runtime.ts';
import { openSink } from '../../../agent/sink/open.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { openVault } from '../../../agent/sink/vault.ts';
import { ARTIFACTS, type ArtifactName } from '../../../evidence/layout.ts';
import type { RequestRecord } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { type Collect, fakeFreezer, oneFile, runtime, target } from './spine.ts';

/** The policy at its place in the spine: fakes count what a refused capture would have touched. */

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-policy-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const freezing: Collect = async (context) => {
  if (context.consistency === 'frozen') await (await context.freeze()).thaw();
  await oneFile('memory')(context);
};

interface Touched {
  /** Objects that were opened in the sink, writes into the vault, questions of the runtime after `resolve`. */
  readonly objects: string[];
  readonly vault: string[];
  readonly freezes: string[];
  readonly collected: string[];
  readonly logged: Record<string, unknown>[];
}

interface Started extends AsyncDisposable {
  readonly captures: Captures;
  readonly touched: Touched;
  ask(over?: Partial<CaptureRequest>): Promise<string>;
  request(captureId: string): Promise<RequestRecord>;
}

async function start(policy: string, memory: Collect = freezing): Promise<Started> {
  const touched: Touched = { objects: [], vault: [], freezes: [], collected: [], logged: [] };
  const config = parseConfig(`sink: { url: "file://${folder}/sink" }\nnode: n1\npolicy: ${policy}`, 'test', {});
  const host = { procRoot: '/proc', hostRoot: '' };
  const log = pino({ level: 'warn' }, { write: (line: string) => touched.logged.push(JSON.parse(line)) });
  const sinks = config.sinks.map(({ name, sink }) => {
    const opened = openSink(sink);
    const open: Sink['open'] = (key, ...rest) => {
      touched.objects.push(key);
      return opened.open(key, ...rest);
    };
    return { name, sink: { ...opened, open } };
  });
  const real = await openVault(path.join(folder, 'vault'), Buffer.alloc(32));
  const vault: typeof real = {
    ...real,
    append: (name, ...rest) => {
      touched.vault.push(name);
      return real.append(name, ...rest);
    },
  };
  const sealer = createSealer(generateSigner());
  const chain = createChain({ vault, log });
  const delivery = openDelivery({
    ...{ sinks, sealer, chain, version: '0.0.0', now: Date.now, log },
    onDelivered: async () => undefined,
  });
  const journal = await openJournal(path.join(folder, 'state'), () => undefined);
  const runtimes = [runtime];
  const collector = (artifact: ArtifactName): Collect => {
    const collect = artifact === 'memory' ? memory : oneFile(artifact);
    return (context) => {
      touched.collected.push(artifact);
      return collect(context);
    };
  };
  const execute = captureExecutor({
    ...{ config, host, sinks, runtimes, sealer, vault, delivery, log, version: '0.0.0', now: Date.now },
    admission: openAdmission({ config, host, sinks, runtimes, journal, now: Date.now, log }),
    collectors: Object.fromEntries(
      ARTIFACTS.map((artifact) => [artifact, { artifact, collect: collector(artifact) }]),
    ) as Parameters<typeof captureExecutor>[0]['collectors'],
    startFreezer: fakeFreezer({ log: touched.freezes }),
  });
  const captures = createCaptures({ journal, execute, now: Date.now, log });
  return {
    ...{ captures, touched },
    async ask(over = {}) {
      const handle = await captures.start({
        captureId: '',
        selector: 'prod/web-0',
        artifacts: ['processes', 'memory'],
        caseId: '',
        reason: '',
        consistency: 'frozen',
        scope: 'container',
        requester: { trigger: 'controller', identity: 'test' },
        ...over,
      });
      for await (const _ of handle.events());
      return handle.captureId;
    },
    request: async (captureId) => {
      const file = path.join(folder, 'sink', 'local', 'n1', captureId, 'request.json');
      return JSON.parse(await readFile(file, 'utf8')) as RequestRecord;
    },
    async [Symbol.asyncDispose]() {
      await captures.drain(0);
      await delivery[Symbol.asyncDispose]();
    },
  };
}

describe('a capture that the policy refuses', () => {
  test.each([
    ['{ namespaces: { deny: [prod] } }', 'policy.namespaces.deny'],
    ['{ artifacts: [processes] }', 'policy.artifacts'],
    ['{ freeze: { perHourMs: 0 } }', 'policy.freeze.perHourMs'],
    ['{ triggers: { controller: { namespaces: { allow: [shop] } } } }', 'policy.triggers.controller.namespaces.allow'],
  ])('by %s touches nothing, writes nothing, and is logged', async (policy, rule) => {
    await using agent = await start(policy);
    await expect(agent.ask()).rejects.toMatchObject({ code: 'refused', message: expect.stringContaining(`${rule}:`) });
    const { logged, ...touched } = agent.touched;
    expect(touched).toEqual({ objects: [], vault: [], freezes: [], collected: [] });
    expect(logged).toMatchObject([{ rule, selector: 'prod/web-0', requester: { trigger: 'controller' } }]);
    expect(agent.captures.list(10)).toEqual([]);
  });

  test('may be asked for again with the same id when less is asked for', async () => {
    const captureId = '01a20000-0000-7000-8000-000000000001';
    await using agent = await start('{ artifacts: [processes] }');
    await expect(agent.ask({ captureId })).rejects.toMatchObject({ code: 'refused' });
    await agent.ask({ captureId, artifacts: ['processes'] });
    expect(agent.captures.get(captureId).state).toBe('complete');
  });
});

describe('a capture that the policy narrows', () => {
  test('leaves out what was not named, and says so in the plan', async () => {
    await using agent = await start('{ artifacts: [processes] }');
    const { plan, artifacts } = await agent.request(await agent.ask({ artifactsByDefault: true }));
    expect(artifacts).toEqual(['processes', 'memory']);
    expect(plan.steps.map(({ artifact, action, reason }) => [artifact, action, reason])).toEqual([
      ['processes', 'collect', expect.any(String)],
      ['memory', 'skip', 'policy.artifacts does not allow it'],
    ]);
    expect(agent.touched).toMatchObject({ collected: ['processes'], freezes: [] });
  });

  test('stands still no longer than it may', async () => {
    await using agent = await start('{ freeze: { perCaptureMs: 250 } }');
    expect((await agent.request(await agent.ask())).plan.freezeDeadlineMs).toBe(250);
  });

  test('is taken live when the hour is spent, and says why', async () => {
    await using agent = await start('{ freeze: { perHourMs: 0, whenSpent: live } }');
    const { plan } = await agent.request(await agent.ask());
    expect(plan.consistency).toBe('live');
    expect(plan.steps[1]).toMatchObject({ artifact: 'memory', frozen: false, action: 'collect' });
    expect(plan.steps[1]?.reason).toContain('taken live: policy.freeze.perHourMs is 0');
    expect(agent.touched.freezes).toEqual([]);
  });
});

describe('the budgets', () => {
  test('outlive the agent', async () => {
    // The fake stands still for 12 ms.
    const policy = '{ freeze: { perHourMs: 25 }, rate: { captures: 3, perMs: 60000 } }';
    for (const left of [25, 13]) {
      await using agent = await start(policy);
      expect((await agent.request(await agent.ask())).plan.freezeDeadlineMs).toBe(left);
    }
    await using agent = await start(policy);
    await expect(agent.ask()).rejects.toThrow('policy.freeze.perHourMs: it is 25, of which the last hour took 24');
    await agent.ask({ consistency: 'live' });
    await expect(agent.ask({ consistency: 'live' })).rejects.toThrow('policy.rate: it allows 3 in 60 s, and 3 began');
  });

  test('reserve what a capture that runs may yet take, and how many may run', async () => {
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    await using agent = await start(
      '{ freeze: { perCaptureMs: 20, perHourMs: 30 }, rate: { concurrent: 2 } }',
      async (context) => {
        reached.resolve();
        await go.promise;
        await freezing(context);
      },
    );
    const first = agent.ask();
    await reached.promise;
    const second = agent.ask({ artifacts: ['memory'] });
    await expect(agent.ask()).rejects.toThrow('policy.rate.concurrent: it is 2');
    go.resolve();
    const deadlines = [];
    for (const id of [await first, await second]) deadlines.push((await agent.request(id)).plan.freezeDeadlineMs);
    expect(deadlines).toEqual([20, 10]);
    await expect(agent.ask()).rejects.toThrow('of which the last hour took 24');
  });

  test('count all that a capture which was cut off may have taken', async () => {
    const reached = Promise.withResolvers<void>();
    await using agent = await start('{ freeze: { perCaptureMs: 500, perHourMs: 500 } }', async ({ signal }) => {
      reached.resolve();
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    });
    const captureId = '01a20000-0000-7000-8000-000000000002';
    const ending = agent.ask({ captureId });
    await reached.promise;
    await agent.captures.cancel(captureId);
    await ending;
    await expect(agent.ask()).rejects.toThrow('of which the last hour took 500');
  });
});

describe('whose a target is', () => {
  const host = { procRoot: '/proc', hostRoot: '' };
  const signal = new AbortController().signal;
  const listing = (containers: readonly ContainerSummary[]): Runtime => ({
    ...runtime,
    list: async () => [...containers],
  });
  const summary = (id: string, namespace: string): ContainerSummary => ({
    ...{ id: asContainerId(id), name: 'web', labels: new Map(), image: 'i', state: 'running', createdAt: '' },
    pod: { namespace, name: 'web-0', uid: 'u', sandboxId: 's' },
  });

  test("is said by the target, and by each of the pod's other containers", async () => {
    const other = {
      ...target,
      record: { ...target.record, pod: { ...(target.record.pod ?? never()), namespace: 'dev' } },
    };
    expect(await whoseTarget({ host, runtimes: [] }, { ...target, companions: [other] }, true, signal)).toEqual({
      namespaces: ['prod', 'dev'],
    });
  });

  test('is learned of each process of a tree, by the cgroup that it is in', async () => {
    await using runtimeOfHost = openHostRuntime({ host });
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    const pid = asPid(child.pid ?? 0);
    const tree = await runtimeOfHost.resolve({ kind: 'pid', pid }, signal);
    const ids = (await membershipsOf(host, pid))
      .flatMap((one) => one.path.split('/'))
      .filter((part) => part.length >= 32);
    const known = listing([summary(ids[0] ?? 'f'.repeat(64), 'kube-system')]);
    const whose = await whoseTarget({ host, runtimes: [known, runtimeOfHost] }, tree, true, signal);
    expect(whose).toEqual({ namespaces: ids.length > 0 ? ['kube-system'] : [], outside: 'a process-tree' });
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  test('is not known while a runtime does not say which containers there are', async () => {
    await using runtimeOfHost = openHostRuntime({ host });
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    const tree = await runtimeOfHost.resolve({ kind: 'pid', pid: asPid(child.pid ?? 0) }, signal);
    const silent: Runtime = { ...runtime, list: () => Promise.reject(new Error('containerd is away')) };
    expect(await whoseTarget({ host, runtimes: [silent] }, tree, true, signal)).toEqual({
      namespaces: [],
      outside: 'a process-tree',
      unknown: 'cannot be learned: containerd is away',
    });
    expect(await whoseTarget({ host, runtimes: [silent] }, tree, false, signal)).toEqual({
      namespaces: [],
      outside: 'a process-tree',
    });
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  test('is not known of a container of CRI whose pod is gone', async () => {
    const { pod: _, ...record } = target.record;
    expect(await whoseTarget({ host, runtimes: [] }, { ...target, record }, true, signal)).toMatchObject({
      unknown: 'cannot be learned: its pod is gone',
    });
  });
});

function never(): never {
  throw new Error('the fake has a pod');
}
