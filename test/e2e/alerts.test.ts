import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';

/** Webhooks to a controller and an agent as processes, and a container on a real containerd. All that is HTTP is done by curl. */

const exec = promisify(execFile);
const SECRET = 'a-secret-of-the-test-0123456789';
const SAMPLE = JSON.parse(
  readFileSync(path.join(import.meta.dirname, '../unit/fixtures/alerts/falco-shell.json'), 'utf8'),
);

const stack = new AsyncDisposableStack();
let node: LabNode;
let victim: Victim;
let controller: LabController;
let agent: Awaited<ReturnType<typeof startAgent>>;
let certificate: readonly string[];

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-alert-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const bearerFile = path.join(folder, 'secret');
  await writeFile(bearerFile, SECRET);
  const grants = [{ clusters: ['lab'], namespaces: ['prod'] }];
  const alerts = {
    sources: { falco: { kind: 'falco', cluster: 'lab', nodeFrom: 'hostname', secret: { bearerFile }, grants } },
    rules: [
      {
        name: 'shells',
        match: { tags: ['shell'] },
        do: { capture: { artifacts: ['processes'] }, case: 'falco-{namespace}' },
        perHour: 2,
      },
    ],
  };
  node = stack.use(await startNode());
  victim = await compromisedPod(node);
  controller = stack.use(await startController({ config: { alerts } }));
  const { certFile, keyFile } = await controller.pki.operator('ada');
  certificate = ['--cert', certFile, '--key', keyFile];
  const section = { ...(await controller.agentSection('lab', node.hostname)), reconnect: { firstMs: 100, maxMs: 500 } };
  agent = stack.use(await startAgent(node, { config: { controller: section } }));
  await vi.waitFor(
    async () => expect(await ask('/v1/nodes?connectedOnly=true')).toMatchObject({ nodes: [{ node: node.hostname }] }),
    {
      timeout: 30_000,
      interval: 100,
    },
  );
}, 120_000);
afterAll(() => stack.disposeAsync(), 60_000);
beforeEach((context) => requireLab(context));

async function curl(route: string, ...args: readonly string[]): Promise<string> {
  const [, port] = /:(\d+)$/.exec(controller.api) ?? [];
  const fixed = [
    '--silent',
    '--show-error',
    '--fail-with-body',
    '--max-time',
    '60',
    '--cacert',
    controller.pki.caFile('controller'),
  ];
  return (await exec('curl', [...fixed, ...args, `https://localhost:${port}${route}`])).stdout;
}
const ask = async (route: string, ...args: readonly string[]): Promise<unknown> =>
  JSON.parse(await curl(route, ...certificate, ...args));

interface Told {
  readonly alerts: readonly {
    readonly outcome: string;
    readonly note?: string;
    readonly captureIds?: readonly string[];
  }[];
}
async function alert(id: string, fields: object): Promise<Told> {
  const event = { ...SAMPLE, uuid: id, time: new Date().toISOString(), hostname: node.hostname, output_fields: fields };
  const body = ['--header', 'content-type: application/json; charset=utf-8', '--data', JSON.stringify(event)];
  return JSON.parse(await curl('/v1/alerts/falco', '--header', `authorization: Bearer ${SECRET}`, ...body));
}

describe('an alert of Falco', () => {
  test('captures the container that it names, into the case of its rule, as the rule', async () => {
    const fields = {
      'container.id': victim.pod.containerId(victim.container).slice(0, 12),
      'k8s.ns.name': 'prod',
      'k8s.pod.name': 'web-0',
    };
    const told = await alert('one', fields);
    expect(told).toMatchObject({ alerts: [{ outcome: 'captured', rule: 'shells' }] });
    expect(await alert('two', fields)).toMatchObject({ alerts: [{ outcome: 'duplicate' }] });

    const captureId = told.alerts[0]?.captureIds?.[0] ?? '';
    const events = (await curl(`/v1/captures/${captureId}/watch`, '--no-buffer', ...certificate)).split('\n\n');
    expect(events.at(-2)).toBe('event: end\ndata: {}');
    const last = JSON.parse(events.at(-3)?.replace('event: update\ndata: ', '') ?? '');
    expect(last.capture).toMatchObject({
      state: 'complete',
      requestedBy: 'alert:falco/shells',
      trigger: 'alert',
      caseId: 'falco-prod',
    });

    const bundle = path.join(agent.evidence, 'lab', node.hostname, captureId);
    const read = (name: string): unknown => JSON.parse(readFileSync(path.join(bundle, name), 'utf8'));
    const { requester, reason } = read('request.json') as RequestRecord;
    expect(requester).toMatchObject({ trigger: 'controller', identity: expect.stringContaining('alert:falco/shells') });
    expect(reason).toBe('falco: Terminal shell in container');
    expect((read('manifest.json') as Manifest).captureId).toBe(captureId);
    expect(await ask('/v1/cases/falco-prod')).toMatchObject({
      state: 'open',
      openedBy: 'alert:falco/shells',
      captureCount: 1,
    });
  });

  test('is told in the audit log, also when nothing came of it', async () => {
    expect(await alert('three', { 'k8s.ns.name': 'kube-system', 'k8s.pod.name': 'proxy' })).toMatchObject({
      alerts: [{ outcome: 'forbidden' }],
    });
    expect(await alert('four', { 'container.id': 'feedfeedfeed' })).toMatchObject({
      alerts: [{ outcome: 'over-budget' }],
    });
    await vi.waitFor(
      async () => {
        const { entries } = (await ask('/v1/custody?pageSize=1000')) as {
          entries: { actor: string; action: string }[];
        };
        const actions = entries.filter(({ actor }) => actor === 'alert:falco/shells').map(({ action }) => action);
        expect(actions).toEqual(
          expect.arrayContaining([
            'case.opened',
            'capture.created',
            'alert.fired',
            'alert.duplicate',
            'alert.forbidden',
            'alert.over-budget',
          ]),
        );
      },
      { timeout: 10_000, interval: 100 },
    );
    expect(controller.log()).not.toContain(SECRET);
  });
});
