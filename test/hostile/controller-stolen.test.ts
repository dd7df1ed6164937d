import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import grpc from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import { describe, expect, test } from 'vitest';
import { createCaptures, type Execute } from '../../agent/capture/captures.ts';
import { openJournal } from '../../agent/capture/journal.ts';
import { openControllerTrigger } from '../../agent/trigger/controller.ts';
import type { AgentMessage__Output } from '../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import type { ControllerMessage } from '../../proto/gen/exhibit/controller/v1/ControllerMessage.ts';
import { loadLink } from '../../proto/load.ts';
import { collectLog } from '../lab/log-lines.ts';
import { labPki } from '../lab/pki.ts';
import { fakeRuntime, quickCapture, until } from '../unit/controller/link/lab.ts';

type Call = grpc.ServerDuplexStream<AgentMessage__Output, ControllerMessage>;

/** A controller in the wrong hands: it has the right certificate, and says what it likes to an agent that has greeted. */
async function stolen(say: (call: Call, connection: number) => void, execute: Execute = quickCapture) {
  const stack = new AsyncDisposableStack();
  const pki = stack.use(await labPki());
  const heard: AgentMessage__Output[] = [];
  const log = collectLog();
  let connections = 0;
  const server = new grpc.Server();
  server.addService(loadLink().AgentLink.service, {
    Connect: (call: Call) => {
      connections += 1;
      const connection = connections;
      call.on('error', () => undefined);
      call.on('data', (message: AgentMessage__Output) => {
        heard.push(message);
        if (message.hello) say(call, connection);
      });
    },
  });
  stack.defer(() => server.forceShutdown());
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const files = { cert: readFileSync(pki.server.certFile), key: readFileSync(pki.server.keyFile) };
  const listener = tls.createServer({ ...files, ALPNProtocols: ['h2'] }, (socket) => injector.injectConnection(socket));
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  stack.defer(() => void listener.close());
  const folder = await mkdtemp(join(tmpdir(), 'exhibit-stolen-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const journal = await openJournal(folder, () => undefined);
  const begun: string[] = [];
  const captures = createCaptures({
    ...{ journal, now: Date.now, log: log.log },
    execute: (captureId, request, hooks) => {
      begun.push(captureId);
      return execute(captureId, request, hooks);
    },
  });
  // Ends what still runs, and with it the last write to the journal, before the folder goes.
  stack.defer(() => captures.drain(0));
  let listings = 0;
  const runtime = {
    ...fakeRuntime(),
    list: async () => {
      listings += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return [];
    },
  };
  const trigger = openControllerTrigger({
    config: {
      address: `127.0.0.1:${(listener.address() as net.AddressInfo).port}`,
      caFile: pki.caFile('controller'),
      ...(await pki.agent('prod', 'n1')),
      serverName: 'localhost',
      reconnect: { firstMs: 10, maxMs: 20 },
    },
    ...{ captures, runtimes: [runtime], sinks: ['default'], problemOf: () => undefined, log: log.log },
    defaults: { artifacts: ['memory'], consistency: 'frozen', scope: 'container' },
    self: { cluster: 'prod', node: 'n1', agentVersion: 't', bootId: 'b', artifacts: [], sinks: [], pod: '' },
    ...{ now: Date.now, random: () => 0.5 },
  });
  stack.use(trigger);
  return {
    ...{ captures, journal, heard, begun, lines: log.lines },
    connections: () => connections,
    listings: () => listings,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

const welcome = { welcome: { protocol: 1, controllerVersion: 'x', heartbeatMs: 60_000 } };
const podOf = (pod: string) => ({ pod: { namespace: 'shop', pod, container: '' } });

describe('a stolen controller', () => {
  test.each<[string, ControllerMessage, string]>([
    ['speaks another protocol', { welcome: { protocol: 9 } }, 'speaks protocol 9'],
    [
      'commands before its welcome',
      { capture: { request: { captureId: uuidv7() } } },
      'something else before its welcome',
    ],
    ['says nothing', {}, 'something else before its welcome'],
    ['sends 2 MiB', { welcome: { protocol: 1, controllerVersion: 'x'.repeat(2 ** 21) } }, 'larger than max'],
  ])('that %s is left, and tried again', async (_what, message, words) => {
    await using lab = await stolen((call) => call.write(message));
    await until(() => lab.connections() >= 3);
    expect(lab.lines.some((line) => String(line.reason).includes(words))).toBe(true);
    expect(lab.begun).toEqual([]);
  });

  test('that floods with what means nothing is left', async () => {
    await using lab = await stolen((call) => {
      call.write(welcome);
      for (let count = 0; count < 700; count += 1) call.write({});
    });
    await until(() => lab.connections() >= 2);
    expect(lab.lines.some((line) => String(line.reason).includes('more than makes sense'))).toBe(true);
  });

  test('gets a reason for each command that is none', async () => {
    const [hostile, sink, artifact, ids] = [uuidv7(), uuidv7(), uuidv7(), uuidv7()];
    await using lab = await stolen((call) => {
      call.write(welcome);
      call.write({ capture: { request: { captureId: '../../../etc/passwd', selector: podOf('a') } } });
      call.write({ capture: { request: { captureId: hostile, selector: podOf('a/../b\n\u0000') } } });
      call.write({ capture: { request: { captureId: sink, selector: podOf('a'), sinks: ['s3://evil'] } } });
      call.write({ capture: { request: { captureId: artifact, selector: podOf('a'), artifacts: ['/etc/shadow'] } } });
      call.write({ capture: { request: { captureId: ids } } });
      call.write({ capture: {} });
      call.write({ cancel: { captureId: '0' } });
      call.write({ cancel: { captureId: uuidv7() } });
    });
    await until(() => lab.heard.filter(({ refusal }) => refusal).length === 5);
    const codes = lab.heard.flatMap(({ refusal }) => (refusal ? [refusal.code] : []));
    expect(codes).toEqual(['usage', 'usage', 'usage', 'usage', 'usage']);
    expect(lab.begun).toEqual([]);
    expect(lab.connections()).toBe(1);
  });

  test('cannot write more than a line into the journal as the one who asked', async () => {
    const captureId = uuidv7();
    const identity = `alice\n\u202E${'x'.repeat(10_000)}`;
    await using lab = await stolen((call) => {
      call.write(welcome);
      const requester = { trigger: 'api', identity, approvedBy: Array(500).fill('b\u0007ob') };
      call.write({ capture: { request: { captureId, selector: podOf('a') }, requester } });
    });
    await until(() => lab.journal.get(captureId)?.state === 'complete');
    const by = lab.journal.get(captureId)?.asked?.identity ?? '';
    expect(by.length).toBeLessThan(2_000);
    expect(by).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
    expect(by).toContain('through controller localhost');
  });

  test('has no more captures started than the bound, and a refusal for each of the rest', async () => {
    await using lab = await stolen(
      (call) => {
        call.write(welcome);
        for (let count = 0; count < 2_000; count += 1)
          call.write({ capture: { request: { captureId: uuidv7(), selector: podOf('a') } } });
      },
      (_id, _request, { signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        }),
    );
    await until(() => lab.heard.filter(({ refusal }) => refusal).length === 2_000 - 256);
    expect(lab.begun.length).toBe(256);
    expect(new Set(lab.heard.flatMap(({ refusal }) => (refusal ? [refusal.code] : [])))).toEqual(
      new Set(['rate-limited']),
    );
  });

  test('does not begin a capture twice by sending its command over and over', async () => {
    const captureId = uuidv7();
    await using lab = await stolen((call) => {
      call.write(welcome);
      for (let count = 0; count < 500; count += 1)
        call.write({ capture: { request: { captureId, selector: podOf('a') }, resume: count % 3 === 2 } });
    });
    await until(() => lab.heard.filter(({ received }) => received).length === 500);
    await until(() => lab.journal.get(captureId)?.state === 'complete');
    expect(lab.begun).toEqual([captureId]);
  });

  test('never begins a capture by resuming one', async () => {
    const captureId = uuidv7();
    await using lab = await stolen((call) => {
      call.write(welcome);
      call.write({ capture: { request: { captureId, selector: podOf('a') }, resume: true } });
    });
    await until(() => lab.heard.some(({ refusal }) => refusal));
    expect(lab.heard.flatMap(({ refusal }) => (refusal ? [refusal] : []))).toMatchObject([
      { captureId, code: 'capture-not-found' },
    ]);
    expect(lab.begun).toEqual([]);
  });

  test('cannot keep the runtime of the node busy with lookups', async () => {
    await using lab = await stolen((call) => {
      call.write(welcome);
      for (let count = 0; count < 5_000; count += 1) call.write({ lookup: { lookupId: String(count), namespace: '' } });
    });
    await until(() => lab.heard.filter(({ lookup }) => lookup).length === 5_000);
    const limited = lab.heard.filter(({ lookup }) => lookup?.code === 'rate-limited').length;
    expect(limited).toBeGreaterThan(4_000);
    // And the one or two by which the agent learns what pods to tell of.
    const beside = lab.listings() - (5_000 - limited);
    expect(beside).toBeGreaterThanOrEqual(0);
    expect(beside).toBeLessThanOrEqual(2);
  });
});
