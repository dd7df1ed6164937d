import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { packageVersion } from '../../cli/version.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { type LabPki, labPki } from '../lab/pki.ts';
import { RECORDED, RELEASES, rawCall, readCalls } from '../lab/recorded-call.ts';
import { laterMember, laterTypes } from '../lab/recorded-descriptor.ts';
import { codecOf, type Message, type RecordedController, recordedController, withIds } from '../lab/recorded-peer.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/** The agent as it is now on a containerd node, commanded by controllers and command lines of earlier releases. */

const [CLUSTER, NODE] = ['lab', 'node-1'];
const PATIENCE = { timeout: 30_000, interval: 50 };

const stack = new AsyncDisposableStack();
let node: LabNode;
let pki: LabPki;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = stack.use(await startNode());
  await node.runPod({ namespace: 'prod', name: 'web-0', labels: { app: 'web' }, containers: [{ name: 'app' }] });
  await node.runPod({ namespace: 'guarded', name: 'db-0', labels: { app: 'db' }, containers: [{ name: 'app' }] });
  pki = stack.use(await labPki());
}, 120_000);
afterAll(() => stack.disposeAsync(), 60_000);
beforeEach((context) => requireLab(context));

const tellsOf = (message: Message, captureId: string): boolean => JSON.stringify(message).includes(captureId);
const rowsOf = (answer: Message | undefined, field: string): Message[] => (answer?.[field] ?? []) as Message[];
const eventOf = ({ news }: Message): Message | undefined => (news as Message | undefined)?.event as Message | undefined;

describe.each(RELEASES)('under a controller of %s, the agent', (release) => {
  let controller: RecordedController;
  let agent: Awaited<ReturnType<typeof startAgent>>;
  const own = new AsyncDisposableStack();

  beforeAll(async () => {
    if (labObstacle() !== undefined) return;
    controller = own.use(await recordedController(release, { server: pki.server, caFile: pki.caFile('agents') }));
    const { certFile, keyFile } = await pki.agent(CLUSTER, NODE);
    const files = { certFile, keyFile, caFile: pki.caFile('controller') };
    const config = {
      ...{
        cluster: CLUSTER,
        node: NODE,
        policy: { artifacts: ['processes', 'spec', 'memory', 'node', 'logs', 'image'] },
      },
      controller: { address: `localhost:${controller.port}`, ...files, reconnect: { firstMs: 100, maxMs: 500 } },
    };
    agent = own.use(await startAgent(node, { config }));
    await vi.waitFor(() => expect(agent.log()).toContain('stream to the controller is up'), PATIENCE);
  }, 120_000);
  afterAll(() => own.disposeAsync(), 60_000);

  const ended = async (captureId: string): Promise<Message> => {
    const find = () => {
      const last = controller.heard.map(eventOf).find((one) => one?.ended !== undefined && tellsOf(one, captureId));
      expect(last).toBeDefined();
      return last?.ended as Message;
    };
    return await vi.waitFor(find, PATIENCE);
  };

  test('greets so that it is understood', () => {
    const [greeting] = controller.heard.flatMap(({ hello }) => (hello === undefined ? [] : [hello as Message]));
    expect(greeting).toMatchObject({ protocol: 1, cluster: CLUSTER, node: NODE, agent_version: packageVersion() });
    expect(agent.log()).not.toContain('more than one minor version apart');
  });

  test('carries out a capture, and tells every step', async () => {
    const captureId = uuidv7();
    controller.command('an alert', captureId);
    expect(await ended(captureId)).toMatchObject({ state: 'complete', target: 'prod/web-0/app', case_id: 'INC-1' });
    const told = controller.heard.filter((one) => tellsOf(one, captureId));
    const kinds = told.map((one) => (one.received ? 'received' : Object.keys(eventOf(one) ?? {}).at(-1)));
    expect(kinds).toEqual(expect.arrayContaining(['received', 'accepted', 'stage_started', 'stage_ended', 'ended']));
    const verified = await runCli(['verify', join(agent.evidence, CLUSTER, NODE, captureId)]);
    expect(verified.code, verified.stdout + verified.stderr).toBe(0);
  });

  test('begins none a second time, and tells what became of it', async () => {
    const captureId = uuidv7();
    controller.command('to be approved', captureId);
    await ended(captureId);
    const before = controller.heard.length;
    controller.command('to be approved', captureId);
    await vi.waitFor(
      () =>
        expect(controller.heard.slice(before).map(eventOf)).toContainEqual(
          expect.objectContaining({ ended: expect.anything() }),
        ),
      PATIENCE,
    );
    expect(readdirSync(join(agent.evidence, CLUSTER, NODE)).filter((name) => name === captureId)).toHaveLength(1);
  });

  test('says why it refuses what it may not do', async () => {
    const captureId = uuidv7();
    controller.command('', captureId);
    const refused = () =>
      expect(controller.heard.filter(({ refusal }) => refusal)).toMatchObject([
        { refusal: { capture_id: captureId, code: 'refused', reason: expect.stringContaining('checkpoint') } },
      ]);
    await vi.waitFor(refused, PATIENCE);
  });

  test('cancels a capture that is under way', async () => {
    const captureId = uuidv7();
    controller.command('cancelled', captureId);
    const begun = () =>
      expect(controller.heard.map(eventOf).some((one) => one?.accepted && tellsOf(one, captureId))).toBe(true);
    await vi.waitFor(begun, PATIENCE);
    controller.cancel(captureId);
    expect(await ended(captureId)).toMatchObject({ state: 'cancelled' });
  });

  test('says that it knows nothing of a capture that another agent had', async () => {
    const captureId = uuidv7();
    controller.command('killed', captureId, { resume: true });
    const said = () =>
      expect(controller.heard.at(-1)).toMatchObject({ refusal: { capture_id: captureId, code: 'capture-not-found' } });
    await vi.waitFor(said, PATIENCE);
  });

  test('lists its containers', async () => {
    controller.lookup();
    const answer = await vi.waitFor(() => {
      const found = controller.heard.find(({ lookup }) => lookup !== undefined)?.lookup as Message | undefined;
      expect(found).toBeDefined();
      return found;
    }, PATIENCE);
    const names = rowsOf(answer, 'containers').map((one) => `${one.namespace}/${one.pod}/${one.name}`);
    expect(names).toEqual(expect.arrayContaining(['prod/web-0/app', 'guarded/db-0/app']));
  });

  test('answers what the command line of that release asks at the socket', async () => {
    const codec = codecOf(release);
    const client = new grpc.Client(`unix:${agent.socket}`, grpc.credentials.createInsecure());
    const ids = new Map<string, string>();
    const answers: Record<string, Message[]> = {};
    for (const { during, path, said } of readCalls(release, 'agent')) {
      const call = rawCall(client, path);
      const type = `exhibit.v1.${{ Capture: 'CaptureEvent', Cancel: 'Capture' }[path.split('/').at(-1) ?? ''] ?? `${path.split('/').at(-1)}Response`}`;
      const heard: Message[] = [];
      call.on('data', (bytes: Buffer) => heard.push(codec.decode(type, bytes)));
      call.on('error', () => undefined);
      const end = new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve));
      for (const { by, bytes } of said) if (by === 'client') call.write(withIds(bytes, ids));
      call.end();
      expect({ during, code: (await end).code }).toEqual({ during, code: grpc.status.OK });
      const recorded = said.filter(({ by }) => by === 'server').map(({ bytes }) => codec.decode(type, bytes));
      if (path.endsWith('/Capture')) ids.set(String(recorded[0]?.capture_id), String(heard[0]?.capture_id));
      answers[during] = heard;
    }
    client.close();
    const captures = Object.entries(answers).filter(([during]) => during.startsWith('exhibit capture '));
    expect(captures.map(([, events]) => (events.at(-1)?.ended as Message | undefined)?.state)).toEqual([
      'complete',
      'complete',
    ]);
    const [containers] = answers['exhibit containers'] ?? [];
    expect(rowsOf(containers, 'containers').map(({ pod }) => pod)).toEqual(expect.arrayContaining(['web-0', 'db-0']));
    expect(rowsOf(answers['exhibit doctor']?.[0], 'checks').length).toBeGreaterThan(10);
  });

  test('passes over what a later release says, and does what it understands of it', async () => {
    const { encode } = laterTypes();
    const type = 'exhibit.controller.v1.ControllerMessage';
    const before = controller.connected;
    for (let count = 0; count < 100; count += 1) controller.say(encode(type, laterMember()));
    const captureId = uuidv7();
    const request = {
      capture_id: captureId,
      selector: { pod: { namespace: 'prod', pod: 'web-0' } },
      artifacts: ['spec'],
    };
    controller.say(encode(type, { capture: { request, requester: { trigger: 'api', identity: 'ada' } } }));
    expect(await ended(captureId)).toMatchObject({ state: 'complete' });
    // A way to name a target that is not known yet is refused, and never taken for every target.
    const [strange, unknown] = [uuidv7(), 'later'];
    controller.say(
      encode(type, { capture: { request: { ...request, capture_id: strange, selector: laterMember() } } }),
    );
    controller.say(encode(type, { lookup: { lookup_id: unknown, selector: laterMember() } }));
    await vi.waitFor(() => {
      expect(controller.heard).toContainEqual({
        refusal: expect.objectContaining({ capture_id: strange, code: 'usage' }),
      });
      expect(controller.heard).toContainEqual({
        lookup: expect.objectContaining({ lookup_id: unknown, code: 'usage' }),
      });
    }, PATIENCE);
    expect(controller.connected).toBe(before);
    expect(agent.log().match(/stream to the controller is up/g)).toHaveLength(1);
    expect(agent.log().match(/which is passed over: it is newer/g)).toHaveLength(1);
  });
});

describe.each(RELEASES)('in the place of an agent of %s that was killed, the agent', (release) => {
  test('seals its capture, knows its captures and goes on with its chain', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'exhibit-agent-'));
    const state = join('/dev/shm', basename(folder));
    const recorded = join(RECORDED, release);
    mkdirSync(state, { mode: 0o700 });
    cpSync(join(recorded, 'state'), state, { recursive: true });
    chmodSync(join(state, 'spool.key'), 0o600);
    cpSync(join(recorded, 'unsealed'), join(folder, 'evidence'), { recursive: true });
    try {
      await using agent = await startAgent(undefined, { folder, config: { cluster: CLUSTER, node: NODE } });
      expect(agent.log()).not.toMatch(/set aside|begun anew|cannot be read|chain of captures lost/);
      const list = async () =>
        JSON.parse((await agent.exhibit('captures', '--json')).stdout) as { captures: Message[] };
      const journal = readdirSync(join(recorded, 'state/journal')).map((name) => name.replace('.json', ''));
      const unsealed = readdirSync(join(recorded, 'unsealed', CLUSTER, NODE));
      const settled = async () => {
        const { captures } = await list();
        expect(captures.map((one) => String(one.captureId)).sort()).toEqual(journal.sort());
        expect(captures.find((one) => one.captureId === unsealed[0])).toMatchObject({
          state: 'truncated',
          waitingSinks: [],
        });
      };
      await vi.waitFor(settled, PATIENCE);
      const bundle = join(agent.evidence, CLUSTER, NODE, unsealed[0] ?? '');
      const verified = await runCli(['verify', bundle, '--json']);
      expect(verified.code, verified.stdout).toBe(0);
      const manifest = JSON.parse(readFileSync(join(bundle, 'manifest.json'), 'utf8')) as Message;
      expect(manifest).toMatchObject({ outcome: 'truncated', chain: { previous: { captureId: expect.any(String) } } });
      expect(journal).toContain(((manifest.chain as Message).previous as Message).captureId);
    } finally {
      rmSync(folder, { recursive: true, force: true });
      rmSync(state, { recursive: true, force: true });
    }
  });
});
