import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import type { CaptureUpdate__Output } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { type ApiClient, refusal } from '../lab/controller-client.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod } from '../lab/victim.ts';

/** A controller and an agent as processes, a container on a real containerd, and one capture asked for over gRPC. */

const stack = new AsyncDisposableStack();
let node: LabNode;
let controller: LabController;
let agent: Awaited<ReturnType<typeof startAgent>>;

const config = { approvals: [{ clusters: ['lab'], namespaces: ['guarded', 'prod'] }] };
const admins = ['ada', 'bob'];

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = stack.use(await startNode());
  await compromisedPod(node);
  controller = stack.use(await startController({ config, admins }));
  const section = { ...(await controller.agentSection('lab', node.hostname)), reconnect: { firstMs: 100, maxMs: 500 } };
  agent = stack.use(await startAgent(node, { config: { controller: section } }));
  await connected(true);
}, 120_000);
afterAll(() => stack.disposeAsync(), 60_000);
beforeEach((context) => requireLab(context));

async function connected(isThere: boolean): Promise<void> {
  using ada = await controller.client('ada');
  const look = async () => {
    const { nodes } = await ada.call('ListNodes', {});
    expect(nodes.map((one) => one.connected)).toEqual([isThere]);
  };
  await vi.waitFor(look, { timeout: 30_000, interval: 100 });
}

async function untilItEnds(client: ApiClient, captureId: string): Promise<CaptureUpdate__Output[]> {
  const updates: CaptureUpdate__Output[] = [];
  for await (const update of client.watch(captureId)) updates.push(update as CaptureUpdate__Output);
  return updates;
}

describe('a capture that is asked for at the controller', () => {
  test('waits for a second person, outlives a controller that is killed, and is taken with every step known', async () => {
    using first = await controller.client('ada');
    await first.call('OpenCase', { caseId: 'INC-7', title: 'odd traffic' });
    const { captures } = await first.call('CreateCapture', {
      selector: { pod: { namespace: 'prod', pod: 'web-0' } },
      artifacts: ['processes', 'memory'],
      caseId: 'INC-7',
      reason: 'odd traffic',
    });
    const place = { cluster: 'lab', node: node.hostname, namespace: 'prod', selector: 'prod/web-0/web' };
    expect(captures).toMatchObject([{ ...place, state: 'awaiting-approval' }]);
    const captureId = captures[0]?.captureId ?? '';

    await controller.kill();
    controller = stack.use(await startController({ config, admins, after: controller }));
    using ada = await controller.client('ada');
    using bob = await controller.client('bob');
    const watching = untilItEnds(ada, captureId);
    await connected(true);
    expect(await bob.call('ApproveCapture', { captureId })).toMatchObject({ approvals: [{ by: 'bob' }] });
    const updates = await watching;
    const last = updates.at(-1)?.capture;
    expect(last).toMatchObject({ state: 'complete', caseId: 'INC-7', requestedBy: 'ada', trigger: 'api' });
    expect(last?.capture).toMatchObject({ captureId, state: 'complete', reason: 'odd traffic' });
    const stages = updates.flatMap(({ event }) => (event?.stageEnded ? [event.stageEnded.stage] : []));
    expect(stages).toEqual(expect.arrayContaining(['processes', 'memory', 'seal']));

    const bundle = path.join(agent.evidence, 'lab', node.hostname, captureId);
    const request = JSON.parse(readFileSync(path.join(bundle, 'request.json'), 'utf8')) as RequestRecord;
    const identity = expect.stringMatching(/ada.*bob/);
    expect(request.requester).toMatchObject({ trigger: 'controller', identity });
    const verified = await runCli(['verify', bundle]);
    expect(verified.stdout + verified.stderr).toContain(captureId);
    const manifest = JSON.parse(readFileSync(path.join(bundle, 'manifest.json'), 'utf8')) as Manifest;
    expect(manifest.outcome).toBe('complete');

    const { entries } = await ada.call('ListCustody', { captureId });
    expect(entries.map(({ action, actor }) => `${action} ${actor}`)).toEqual([
      'capture.created ada',
      'capture.approved bob',
      `capture.accepted agent lab/${node.hostname}`,
      `capture.ended agent lab/${node.hostname}`,
    ]);
    expect(await ada.call('GetCase', { caseId: 'INC-7' })).toMatchObject({ captureCount: 1 });
  });

  test('is refused at once when no agent knows the name, or the node is away', async () => {
    using ada = await controller.client('ada');
    const gone = await refusal(ada.call('CreateCapture', { selector: { pod: { namespace: 'prod', pod: 'gone-0' } } }));
    expect(gone).toMatchObject({ code: 'target-not-found', details: expect.stringContaining('knows prod/gone-0') });
    await agent.kill();
    await connected(false);
    const away = await refusal(ada.call('CreateCapture', { selector: { pid: 1 }, node: node.hostname }));
    expect(away).toMatchObject({ code: 'agent-unreachable', details: expect.stringContaining('is not connected') });
  });

  test('leaves one JSON line an event in the log of a controller that stops when it is told', async () => {
    expect(await controller.stop()).toBe(0);
    const lines = controller.log().trimEnd().split('\n');
    expect(lines.map((line) => typeof (JSON.parse(line) as { msg: unknown }).msg)).toEqual(lines.map(() => 'string'));
  });
});
