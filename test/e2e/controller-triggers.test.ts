import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Answer } from '../../agent/trigger/folder-answer.ts';
import type { RequestRecord } from '../../evidence/manifest.ts';
import { type AgentOptions, runCli, startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { run } from '../lab/machine.ts';
import { type LabNetwork, type NetHost, netsObstacle, startNetwork } from '../lab/nets.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { certificateOf, type Operator, sampleAlert, startOperator } from '../lab/operator.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab, requireNets } from '../lab/requires.ts';
import { json } from './readers.ts';

/**
 * Every trigger there is, over networks: the controller, two containerd nodes, a machine without containers and the operator are
 * hosts of their own. Each capture is accounted for: its bundle, whom it names, and that the controller knows it once.
 */

type Agent = Awaited<ReturnType<typeof startAgent>>;

/** What a trigger promises of the captures that it made. */
interface Promised {
  readonly node: string;
  /** As the controller lists it. */
  readonly trigger: string;
  readonly by: RegExp;
  /** As the bundle tells it. */
  readonly requester: { readonly trigger: string; readonly identity: RegExp };
}

const CLI = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
const SECRET = 'a-secret-of-the-test-0123456789';
const BEARER = ['--header', `authorization: Bearer ${SECRET}`, '--header', 'content-type: application/json'];
const QUICK = { artifacts: ['processes'] };
const NODES = ['node-a', 'node-b', 'plain'] as const;
const BASELINE = {
  ...{ name: 'baseline', cron: '* * * * * *', jitterMs: 0, selector: { target: 'prod/web-1' }, reason: 'baseline' },
  ...QUICK,
};

const promised = new Map<string, Promised>();
const stack = new AsyncDisposableStack();
let network: LabNetwork;
let controller: LabController;
let operator: Operator;
let certificate: readonly string[];
const agents = new Map<string, Agent>();
const pods = new Map<string, LabPod>();
let nodeA: LabNode;
/** A process of the machine without containers. */
let victim = 0;

beforeEach((context) => {
  requireLab(context);
  requireNets(context);
});

beforeAll(async () => {
  if ((labObstacle() ?? netsObstacle()) !== undefined) return;
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-triggers-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const bearerFile = path.join(folder, 'secret');
  writeFileSync(bearerFile, SECRET);
  network = stack.use(await startNetwork());
  const host = await network.host('controller');
  controller = stack.use(await startController({ host, config: { alerts: alerts(bearerFile) } }));
  operator = stack.use(await startOperator('ada', await network.host('operator'), controller.pki));
  certificate = await certificateOf('ada', controller.pki);
  nodeA = await containers('node-a', 'web-0', { exits: { rules: [{ name: 'failed', match: { exitCodes: [3] } }] } });
  await containers('node-b', 'web-1', { schedules: [BASELINE], scheduleBudget: { capturesPerHour: 1 } });
  await machine('plain', await network.host('plain'), { requestFolder: { path: path.join(folder, 'requests') } });
  victim = await sleeper();
  await connected(NODES.length);
}, 180_000);
afterAll(() => stack.disposeAsync(), 60_000);

const alerts = (bearerFile: string) => ({
  sources: Object.fromEntries(
    ['falco', 'alertmanager', 'guardduty'].map((kind) => [
      kind,
      { kind, cluster: 'lab', secret: { bearerFile }, grants: [{ clusters: ['lab'], namespaces: ['prod'] }] },
    ]),
  ),
  rules: [{ name: 'any', do: { capture: QUICK } }],
});

/** A containerd node, its pod with the label app=web, and its agent, in the node's own network. */
async function containers(hostname: string, pod: string, config: Record<string, unknown>): Promise<LabNode> {
  const node = stack.use(await startNode({ hostname }));
  const spec = { namespace: 'prod', name: pod, labels: { app: 'web' }, containers: [{ name: 'app' }] };
  pods.set(pod, await node.runPod(spec));
  await machine(hostname, await network.host(hostname, node.initPid), config, node);
  return node;
}

async function machine(name: string, host: NetHost, more: Record<string, unknown>, node?: LabNode): Promise<void> {
  const section = { ...(await controller.agentSection('lab', name)), reconnect: { firstMs: 100, maxMs: 500 } };
  const options: AgentOptions = { host, config: { node: name, controller: section, ...more } };
  agents.set(name, stack.use(await startAgent(node, options)));
}

async function sleeper(): Promise<number> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(child, 'spawn');
  stack.defer(() => void child.kill('SIGKILL'));
  return child.pid ?? 0;
}

const ask = async (route: string, ...argv: string[]): Promise<unknown> =>
  JSON.parse(await operator.curl(controller, route, ...certificate, ...argv));

async function connected(count: number): Promise<void> {
  const look = async () => {
    const { nodes } = (await ask('/v1/nodes?connectedOnly=true')) as { nodes: object[] };
    expect(nodes).toHaveLength(count);
  };
  await vi.waitFor(look, { timeout: 60_000, interval: 200 });
}

const agentOf = (name: string): Agent => agents.get(name) ?? expect.fail(`no agent ${name}`);
const podOf = (name: string): LabPod => pods.get(name) ?? expect.fail(`no pod ${name}`);

/** A capture that the controller commanded, in the name of `by`. */
function promise(node: string, trigger: 'api' | 'alert', by: string, captureId: string | undefined): void {
  const identity = new RegExp(`^${by}.* through controller ${controller.agents.split(':')[0]}`);
  const whole = { node, trigger, by: new RegExp(`^${by}$`), requester: { trigger: 'controller', identity } };
  promised.set(captureId ?? expect.fail(`no capture for ${by}`), whole);
}

/** A capture that began on the node. */
function promiseLocal(node: string, trigger: string, identity: RegExp, captureId: string): void {
  promised.set(captureId, { node, trigger, by: identity, requester: { trigger, identity } });
}

const idIn = (text: string): string =>
  /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}/.exec(text)?.[0] ?? expect.fail(`no capture in: ${text}`);

/** The id of the only bundle of this trigger on a node, once it is sealed. */
async function bundleOf(node: string, trigger: string): Promise<string> {
  const base = path.join(agentOf(node).evidence, 'lab', node);
  return await vi.waitFor(
    () => {
      const made = readdirSync(base).filter((id) => {
        if (!readdirSync(path.join(base, id)).includes('manifest.json')) return false;
        return json<RequestRecord>(path.join(base, id), 'request.json').requester.trigger === trigger;
      });
      expect(made, agentOf(node).log()).toHaveLength(1);
      return made[0] ?? '';
    },
    { timeout: 60_000, interval: 100 },
  );
}

describe('captures by every trigger', () => {
  test('the command line, over the networks, of a pod and of a process elsewhere', async () => {
    const pod = await operator.exhibit(controller, 'capture', 'prod/web-0', '--artifacts', 'processes');
    expect(pod.code, pod.stderr).toBe(0);
    promise('node-a', 'api', 'ada', idIn(pod.stdout));
    const argv = ['capture', `pid:${victim}`, '--node', 'plain', '--artifacts', 'processes,memory'];
    const process_ = await operator.exhibit(controller, ...argv);
    expect(process_.code, process_.stderr).toBe(0);
    promise('plain', 'api', 'ada', idIn(process_.stdout));
  });

  test('gRPC', async () => {
    using ada = await operator.client(controller);
    const selector = { pod: { namespace: 'prod', pod: 'web-1' } };
    const { captures } = await ada.call('CreateCapture', { selector, artifacts: ['processes', 'memory'] });
    expect(captures).toHaveLength(1);
    promise('node-b', 'api', 'ada', captures[0]?.captureId);
  });

  test('JSON by curl, of every pod with a label on both nodes', async () => {
    const body = JSON.stringify({ target: 'app=web', namespace: 'prod', ...QUICK });
    const told = await ask('/v1/captures', '--header', 'content-type: application/json', '--data', body);
    const { captures } = told as { captures: { captureId: string; node: string }[] };
    expect(captures.map(({ node }) => node).sort()).toEqual(['node-a', 'node-b']);
    for (const { captureId, node } of captures) promise(node, 'api', 'ada', captureId);
  });

  const now = () => new Date().toISOString();
  const webhooks = [
    {
      ...{ kind: 'falco', node: 'node-a', sample: 'falco-shell' },
      adapt: (event: object) => ({
        ...event,
        time: now(),
        output_fields: { 'container.id': podOf('web-0').containerId('app').slice(0, 12) },
      }),
    },
    {
      ...{ kind: 'alertmanager', node: 'node-b', sample: 'alertmanager-group' },
      adapt: (group: { alerts: { labels: object }[] }) => {
        const [first] = group.alerts;
        const labels = { ...first?.labels, namespace: 'prod', pod: 'web-1', container: 'app' };
        return { ...group, alerts: [{ ...first, startsAt: now(), labels }] };
      },
    },
    {
      ...{ kind: 'guardduty', node: 'node-a', sample: 'guardduty-runtime' },
      adapt: (event: { detail: { resource: { kubernetesDetails: object } } }) => {
        const container = { id: `containerd://${podOf('web-0').containerId('app')}`, name: 'app' };
        const workload = { type: 'pods', name: 'web-0', namespace: 'prod', containers: [container] };
        const kubernetesDetails = { kubernetesWorkloadDetails: workload };
        const resource = { ...event.detail.resource, kubernetesDetails };
        return { ...event, detail: { ...event.detail, resource, updatedAt: now() } };
      },
    },
  ];
  test.each(webhooks)('the webhook of $kind', async ({ kind, node, sample, adapt }) => {
    const body = JSON.stringify(adapt(sampleAlert(sample) as never));
    const answer = await operator.curl(controller, `/v1/alerts/${kind}`, ...BEARER, '--data', body);
    const told = JSON.parse(answer) as { alerts: { outcome: string; captureIds: string[] }[] };
    expect(told).toMatchObject({ alerts: [{ outcome: 'captured' }] });
    promise(node, 'alert', `alert:${kind}/any`, told.alerts[0]?.captureIds[0]);
  });

  test('the socket on the node, from within its namespaces as kubectl exec does', async () => {
    const agent = agentOf('node-a');
    const inside = ['-t', String(agent.pid), '--net', '--pid', '--', process.execPath, CLI, '--socket', agent.socket];
    const taken = await run('nsenter', [...inside, 'capture', 'prod/web-0', '--artifacts', 'processes']);
    expect(taken.code, taken.stderr).toBe(0);
    promiseLocal('node-a', 'socket', /^uid 0|pid/, idIn(taken.stdout.toString()));
  });

  test('the request folder', async () => {
    const config = readFileSync(path.join(agentOf('plain').folder, 'config.yaml'), 'utf8');
    const folder = /path: (\S+requests)/.exec(config)?.[1] ?? '';
    const partial = path.join(folder, '.one.tmp');
    writeFileSync(partial, JSON.stringify({ target: `pid:${victim}`, ...QUICK }), { mode: 0o600 });
    renameSync(partial, path.join(folder, 'one.json'));
    const answer = await vi.waitFor(
      () => {
        const told = JSON.parse(readFileSync(path.join(folder, 'one.json.answer.json'), 'utf8')) as Answer;
        expect(told.state).not.toBe('accepted');
        return told;
      },
      { timeout: 60_000, interval: 100 },
    );
    expect(answer, agentOf('plain').log()).toMatchObject({ state: 'complete' });
    promiseLocal('plain', 'folder', /^uid 0, one\.json, sha256 [0-9a-f]{64}$/, answer.captureId ?? '');
  });

  test('the end of a container', async () => {
    const command = ['sh', '-c', 'echo gone > /tmp/left; exit 3'];
    await nodeA.runPod({ namespace: 'prod', name: 'job-0', containers: [{ name: 'job', command }] });
    promiseLocal('node-a', 'exit', /^rule failed$/, await bundleOf('node-a', 'exit'));
  });

  test('a schedule', async () => {
    promiseLocal('node-b', 'schedule', /^baseline$/, await bundleOf('node-b', 'schedule'));
  });
});

describe('the account', () => {
  test('has each of them once at the controller, ended, with its trigger and the one who asked', async () => {
    using ada = await operator.client(controller);
    const listed = await vi.waitFor(
      async () => {
        const { captures } = await ada.call('ListCaptures', {});
        expect(captures.map(({ captureId }) => captureId).sort()).toEqual([...promised.keys()].sort());
        for (const { captureId, state } of captures)
          expect(['complete', 'partial'], `${captureId} ${state}`).toContain(state);
        return captures;
      },
      { timeout: 60_000, interval: 250 },
    );
    for (const { captureId, node, trigger, requestedBy } of listed) {
      const expected = promised.get(captureId);
      expect({ captureId, node, trigger }).toEqual({ captureId, node: expected?.node, trigger: expected?.trigger });
      expect(requestedBy).toMatch(expected?.by ?? /^$/);
    }
    const table = listed.map((one) => `${one.captureId} ${one.node} ${one.trigger} ${one.state} ${one.requestedBy}`);
    process.stdout.write(`${table.join('\n')}\n`);
    expect(new Set(listed.map(({ trigger }) => trigger)).size).toBe(6);
  });

  test('has each of them as one bundle on its node, which verifies and names the one who asked', async () => {
    for (const name of NODES) {
      const base = path.join(agentOf(name).evidence, 'lab', name);
      const here = [...promised].filter(([, { node }]) => node === name).map(([id]) => id);
      expect(readdirSync(base).sort()).toEqual(here.sort());
      for (const id of here) {
        const bundle = path.join(base, id);
        const verified = await runCli(['verify', bundle]);
        expect(verified.code, verified.stdout + verified.stderr).toBe(0);
        const { requester } = json<RequestRecord>(bundle, 'request.json');
        const { trigger, identity } = promised.get(id)?.requester ?? expect.fail(`nobody asked for ${id}`);
        expect(requester.trigger).toBe(trigger);
        expect(requester.identity).toMatch(identity);
      }
    }
  });
});
