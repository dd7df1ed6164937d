import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { loadLink } from '../../../../proto/load.ts';
import { type RawClientCall, rawCall } from '../../../lab/recorded-call.ts';
import { laterMember, laterTypes } from '../../../lab/recorded-descriptor.ts';
import { codecOf, type Message } from '../../../lab/recorded-peer.ts';
import { type ControllerLab, captureOf, controllerLab, until } from './lab.ts';

/** An agent of a later release: with fields, members and words that this controller does not know. */

const TYPE = 'exhibit.controller.v1.AgentMessage';
const { encode } = laterTypes();
const codec = codecOf('0.1');

interface LaterAgent extends Disposable {
  readonly heard: Message[];
  readonly end: Promise<grpc.StatusObject>;
  say(message: object): void;
}

async function laterAgent(lab: ControllerLab, agentVersion: string): Promise<LaterAgent> {
  const { certFile, keyFile } = await lab.pki.agent('prod', 'n1');
  const read = (file: string) => readFileSync(file);
  const credentials = grpc.credentials.createSsl(read(lab.pki.caFile('controller')), read(keyFile), read(certFile));
  const client = new grpc.Client(`localhost:${lab.controller.listener.port}`, credentials);
  const call: RawClientCall = rawCall(client, loadLink().AgentLink.service.Connect.path);
  const heard: Message[] = [];
  call.on('data', (bytes: Buffer) => heard.push(codec.decode('exhibit.controller.v1.ControllerMessage', bytes)));
  call.on('error', () => undefined);
  const end = new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve));
  const say = (message: object) => void call.write(encode(TYPE, message));
  const hello = { protocol: 1, cluster: 'prod', node: 'n1', agent_version: agentVersion, boot_id: 'b' };
  say({ hello: { ...hello, artifacts: ['memory', 'dreams'] } });
  await until(() => heard.some(({ welcome }) => welcome !== undefined));
  return {
    ...{ heard, end, say },
    [Symbol.dispose]: () => {
      call.cancel();
      client.close();
    },
  };
}

describe('an agent of a later release', () => {
  test('is taken in, and what it says beyond this controller is passed over', async () => {
    await using lab = await controllerLab();
    using agent = await laterAgent(lab, '0.9.0');
    const row = await lab.ask('n1');
    await until(() => agent.heard.some(({ capture }) => capture !== undefined));
    const { captureId } = row;
    const news = (event: object) => agent.say({ news: { event: { capture_id: captureId, at_ms: 1, ...event } } });
    for (let count = 0; count < 100; count += 1) {
      agent.say(laterMember());
      news(laterMember());
    }
    agent.say({ received: { capture_id: captureId } });
    news({ accepted: { target: 'shop/web-0/web', sink_url: 'file:///e', stages: ['memory', 'dreams'] } });
    news({ stage_ended: { stage: 'dreams', status: 'interpreted' } });
    news({ ended: { capture_id: captureId, state: 'complete', target: 'shop/web-0/web' } });
    expect(await lab.settled(captureId)).toMatchObject({ state: 'complete', told: { target: 'shop/web-0/web' } });
    agent.say({ heartbeat: { at_ms: 5 } });
    await until(() => agent.heard.some(({ heartbeat }) => (heartbeat as Message | undefined)?.at_ms === '5'));
    expect(await lab.controller.store.node({ cluster: 'prod', node: 'n1' })).toMatchObject({ agentVersion: '0.9.0' });
  });

  test('ends a capture in a way that is not known here, and it ends: not well, and not without evidence', async () => {
    await using lab = await controllerLab();
    using agent = await laterAgent(lab, '0.9.0');
    const { captureId } = await lab.ask('n1', captureOf('n1'));
    await until(() => agent.heard.some(({ capture }) => capture !== undefined));
    agent.say({
      news: { event: { capture_id: captureId, at_ms: 1, ended: { capture_id: captureId, state: 'dreamt' } } },
    });
    expect(await lab.settled(captureId)).toMatchObject({ state: 'partial', told: { state: 'dreamt' } });
  });

  test('is let go when it floods with what is not known', async () => {
    await using lab = await controllerLab();
    using agent = await laterAgent(lab, '0.9.0');
    for (let count = 0; count < 700; count += 1) agent.say(laterMember());
    expect(await agent.end).toMatchObject({
      code: grpc.status.INVALID_ARGUMENT,
      details: expect.stringContaining('more than'),
    });
  });

  test('that is too far ahead is told of once for each version, and works', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
    await using lab = await controllerLab({ log, link: { version: '0.2.0' } });
    for (const version of ['0.1.0', '0.3.0', '0.9.0', '0.9.0']) {
      using _agent = await laterAgent(lab, version);
    }
    const told = lines.map((line) => (JSON.parse(line) as { msg: string }).msg).filter((msg) => msg.includes('apart'));
    expect(told).toEqual([expect.stringContaining('the controller is 0.2.0 and the agent 0.9.0, more than one minor')]);
  });
});
