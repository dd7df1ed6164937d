import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageVersion } from '../../cli/version.ts';
import { type LabController, startController } from '../lab/controller.ts';
import type { ApiClient } from '../lab/controller-client.ts';
import { RELEASES, rawCall, readCalls } from '../lab/recorded-call.ts';
import { codecOf, type Message, type RecordedAgent, recordedAgent, withIds } from '../lab/recorded-peer.ts';

/** The controller as it is now, a process of its own, with the agents and the command line of earlier releases. */

const [CLUSTER, NODE] = ['lab', 'node-1'];
const selector = { pod: { namespace: 'prod', pod: 'web-0' } };
const LONG = ['processes', 'memory', 'node', 'logs', 'image'];

describe.each(RELEASES)('an agent of %s', (release) => {
  const stack = new AsyncDisposableStack();
  let controller: LabController;
  let agent: RecordedAgent;
  let ada: ApiClient;

  const connect = async () => {
    const files = await controller.pki.agent(CLUSTER, NODE);
    agent = recordedAgent(release, { address: controller.agents, caFile: controller.pki.caFile('controller'), files });
    const there = async () => expect((await ada.call('ListNodes', { connectedOnly: true })).nodes).toHaveLength(1);
    await vi.waitFor(there, { timeout: 15_000, interval: 20 });
  };
  const inState = async (captureId: string, state: string) => {
    const look = async () => expect(await ada.call('GetCapture', { captureId })).toMatchObject({ state });
    await vi.waitFor(look, { timeout: 15_000, interval: 20 });
    return await ada.call('GetCapture', { captureId });
  };
  const ask = async (artifacts: string[], reason = '') =>
    (await ada.call('CreateCapture', { selector, artifacts, reason })).captures[0]?.captureId ?? '';
  const actions = async (captureId: string) =>
    (await ada.call('ListCustody', { captureId })).entries.map(({ action }) => action);

  beforeAll(async () => {
    const config = { approvals: [{ clusters: [CLUSTER], namespaces: ['guarded'] }] };
    controller = stack.use(await startController({ admins: ['ada', 'bob'], config }));
    ada = stack.use(await controller.client('ada'));
    await connect();
    stack.defer(() => agent[Symbol.asyncDispose]());
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  test('is taken in, and shown with its version', async () => {
    const { nodes, controllerVersion } = await ada.call('ListNodes', {});
    const agentVersion = expect.stringMatching(`^${release.replace('.', '\\.')}\\.`);
    expect(nodes).toMatchObject([{ cluster: CLUSTER, node: NODE, agentVersion, pod: 'exhibit/exhibit-agent-x7k2p' }]);
    expect(controllerVersion).toBe(packageVersion());
    expect(controller.log()).not.toContain('more than one minor version apart');
  });

  test('carries out a capture, of which every step is known', async () => {
    const captureId = await ask(['processes']);
    const ended = await inState(captureId, 'complete');
    expect(ended.capture).toMatchObject({ captureId, state: 'complete', target: 'prod/web-0/app', gapCount: 0 });
    expect(ended.capture?.stages.map(({ stage, status }) => `${stage} ${status}`)).toEqual([
      'processes captured',
      'seal captured',
    ]);
    expect(await actions(captureId)).toEqual(['capture.created', 'capture.accepted', 'capture.ended']);
  });

  test('is understood when it refuses', async () => {
    const captureId = await ask(['checkpoint']);
    const refused = await inState(captureId, 'refused');
    expect(refused.error).toContain('policy.artifacts: it does not allow the artifact checkpoint');
  });

  test('passes over that a limit should not hold, which it does not know', async () => {
    const { captures } = await ada.call('CreateCapture', { selector, artifacts: ['checkpoint'], force: true });
    const [{ captureId, force } = { captureId: '', force: false }] = captures;
    expect(force).toBe(true);
    expect((await inState(captureId, 'refused')).error).toContain('it does not allow the artifact checkpoint');
  });

  test('understands that a capture is cancelled', async () => {
    const captureId = await ask(LONG);
    await inState(captureId, 'running');
    await ada.call('CancelCapture', { captureId });
    const cancelled = await inState(captureId, 'cancelled');
    expect(cancelled.capture?.stages.map(({ stage }) => stage)).toContain('seal');
  });

  test('tells of captures of its node that nobody here asked for', async () => {
    const ids = agent.tellOwn();
    expect(ids).toHaveLength(2);
    for (const captureId of ids) {
      const adopted = await inState(captureId, 'complete');
      expect(adopted).toMatchObject({ trigger: 'socket', requestedBy: expect.stringContaining('uid 0') });
    }
  });

  test('is asked what became of a capture when it comes back, and tells it', async () => {
    const captureId = await ask(LONG);
    await inState(captureId, 'running');
    await agent[Symbol.asyncDispose]();
    await connect();
    const truncated = await inState(captureId, 'truncated');
    expect(truncated.capture?.error).toContain('the agent ended during the capture');
    expect(agent.heard.filter(({ capture }) => capture !== undefined)).toHaveLength(1);
  });

  test('answers what the command line of its release asks', async () => {
    const shell = await sayAgain();
    expect(shell.map(({ during, code }) => `${during}: ${grpc.status[code]}`)).toEqual(
      shell.map(({ during }) => `${during}: OK`),
    );
    for (const { live, recorded } of shell) expect(live).toMatchObject(recorded);
    expect(shell).toHaveLength(16);
  });

  /** The recorded requests, with the ids that this controller gave. What it answers, read by the release's own descriptors. */
  async function sayAgain() {
    using bob = await controller.client('bob');
    const { certFile, keyFile } = await controller.pki.operator('ada');
    const [ca, key, cert] = [controller.pki.caFile('controller'), keyFile, certFile].map((file) => readFileSync(file));
    const credentials = grpc.credentials.createSsl(ca ?? null, key, cert);
    const client = new grpc.Client(controller.api, credentials, { 'grpc.ssl_target_name_override': 'localhost' });
    const codec = codecOf(release);
    const ids = new Map<string, string>();
    const results = [];
    for (const { during, path, said, end } of readCalls(release, 'controller')) {
      const call = rawCall(client, path);
      const answers: Buffer[] = [];
      call.on('data', (bytes: Buffer) => answers.push(bytes));
      call.on('error', () => undefined);
      const ended = new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve));
      for (const { by, bytes } of said) if (by === 'client') call.write(withIds(bytes, ids));
      call.end();
      const { code } = await ended;
      const type = answerType(path);
      const recorded = said.filter(({ by }) => by === 'server').map(({ bytes }) => codec.decode(type, bytes));
      const live = answers.map((bytes) => codec.decode(type, bytes));
      if (path.endsWith('/CreateCapture')) ids.set(firstId(recorded[0]), firstId(live[0]));
      expect(end?.code).toBe(grpc.status.OK);
      results.push({ during, code, live: steadyOf(path, live), recorded: expected(path, recorded) });
      if (during.includes('to be approved')) {
        await bob.call('ApproveCapture', { captureId: firstId(live[0]) });
        await inState(firstId(live[0]), 'complete');
      }
      if (during.includes('to be denied')) await bob.call('DenyCapture', { captureId: firstId(live[0]), reason: 'no' });
    }
    client.close();
    return results;
  }
});

const ANSWERS: Readonly<Record<string, string>> = {
  GetCapture: 'ControlledCapture',
  CancelCapture: 'ControlledCapture',
  WatchCapture: 'CaptureUpdate',
  OpenCase: 'Case',
  NoteCase: 'Case',
  GetCase: 'Case',
  CloseCase: 'Case',
};

function answerType(path: string): string {
  const name = path.split('/').at(-1) ?? '';
  return `exhibit.controller.v1.${ANSWERS[name] ?? `${name}Response`}`;
}

function firstId(answer: Message | undefined): string {
  const [capture] = (answer?.captures ?? []) as Message[];
  return String(capture?.capture_id ?? '');
}

/** Lists also hold what other tests left, so of those only the fields are compared; of a stream the last message says it all. */
function steadyOf(path: string, answers: readonly Message[]): Message {
  if (/\/List(Captures|Custody|Cases|Nodes)$/.test(path)) return { fields: fieldsOf(answers[0] ?? {}) };
  const last = path.endsWith('/WatchCapture') ? (answers.at(-1)?.capture as Message) : answers[0];
  return steady(last ?? {}) as Message;
}

function expected(path: string, answers: readonly Message[]): Message {
  const { fields, ...rest } = steadyOf(path, answers);
  return fields === undefined ? rest : { fields: expect.arrayContaining(fields as string[]) };
}

function fieldsOf(answer: Message): string[] {
  const rows = Object.values(answer).flatMap((value) => (Array.isArray(value) ? (value as Message[]) : []));
  return [...new Set(rows.flatMap((row) => Object.keys(row)))].sort();
}

const MOVING = /_ms$|_id$|^(id|by|digest|previous|created_at|bundle_url|capture_count|error)$|bytes|version$/;

function steady(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(steady);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !MOVING.test(key))
      .map(([key, inner]) => [key, steady(inner)]),
  );
}
