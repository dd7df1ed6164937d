import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import grpc from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import { describe, expect, test } from 'vitest';
import { closed } from '../lab/closed.ts';
import { captureOf, controllerLab, until } from '../unit/controller/link/lab.ts';
import { hello, rawAgent, slowAgent } from '../unit/controller/link/raw-agent.ts';

const accepted = { target: 't', sinkUrl: 'file:///x', stages: [], created: true };

describe('an agent that the controller should not believe', () => {
  test('cannot pass for another node, and stands in the audit log once for all its attempts', async () => {
    await using lab = await controllerLab();
    for (const node of ['n2', 'n2', 'n3']) {
      using agent = await rawAgent(lab);
      agent.say({ hello: hello({ node }) });
      const { code, details } = await agent.end;
      expect(code).toBe(grpc.status.PERMISSION_DENIED);
      expect(details).toContain('certificate is of node prod/n1');
      expect(details).not.toContain('n2');
    }
    using elsewhere = await rawAgent(lab);
    elsewhere.say({ hello: hello({ cluster: 'other' }) });
    expect((await elsewhere.end).code).toBe(grpc.status.PERMISSION_DENIED);
    const audit = await lab.controller.store.audit({}, { afterSeq: 0, limit: 10 });
    expect(audit.map(({ action, actor }) => `${action} ${actor}`)).toEqual(['agent.refused agent prod/n1']);
    expect(await lab.controller.store.node({ cluster: 'prod', node: 'n2' })).toBeUndefined();
  });

  test('cannot be let in with a certificate that names an operator', async () => {
    await using lab = await controllerLab();
    const names = [{ uri: 'spiffe://exhibit/operator/alice' }];
    using agent = await rawAgent(lab, await lab.pki.issue({ names }, await lab.pki.pair('agents')));
    agent.say({ hello: hello() });
    expect((await agent.end).code).toBe(grpc.status.UNAUTHENTICATED);
    await until(async () => (await lab.controller.store.audit({}, { afterSeq: 0, limit: 2 })).length === 1);
  });

  test.each([
    ['protocol 2', { hello: hello({ protocol: 2 }) }, grpc.status.FAILED_PRECONDITION, /speaks protocol 1/],
    ['news before its greeting', { news: {} }, grpc.status.INVALID_ARGUMENT, /first message is a greeting/],
    ['a message that says nothing', {}, grpc.status.INVALID_ARGUMENT, /first message is a greeting/],
    [
      'a greeting of 4 MiB',
      { hello: hello({ pod: 'x'.repeat(4 * 2 ** 20) }) },
      grpc.status.RESOURCE_EXHAUSTED,
      /larger/,
    ],
    [
      'a greeting of many sinks',
      { hello: hello({ sinks: Array(65).fill('s') }) },
      grpc.status.FAILED_PRECONDITION,
      /more/,
    ],
  ])('is refused with %s', async (_what, message, code, words) => {
    await using lab = await controllerLab();
    using agent = await rawAgent(lab);
    agent.say(message);
    const end = await agent.end;
    expect(end.code).toBe(code);
    expect(end.details).toMatch(words);
    expect(lab.controller.links.connected()).toEqual([]);
  });

  test('is refused when it greets twice', async () => {
    await using lab = await controllerLab();
    using agent = await rawAgent(lab);
    agent.say({ hello: hello() });
    agent.say({ hello: hello() });
    expect(await agent.end).toMatchObject({ code: grpc.status.INVALID_ARGUMENT, details: 'A greeting comes once' });
  });

  test('is let go when it does not greet', async () => {
    let aheadMs = 0;
    await using lab = await controllerLab({ link: { now: () => Date.now() + aheadMs } });
    using agent = await rawAgent(lab);
    let ended = false;
    agent.call.on('status', () => {
      ended = true;
    });
    // Its stream opens in its own time; from then on it is held against the clock.
    await until(() => {
      aheadMs += 11_000;
      return ended;
    });
    expect((await agent.end).code).not.toBe(grpc.status.OK);
    expect(lab.controller.listener.connectionCount()).toBe(0);
  });

  test('cannot touch captures of another node', async () => {
    await using lab = await controllerLab();
    const row = captureOf('n2', { state: 'queued' });
    await lab.controller.store.addCaptures({ requestId: row.requestId, requestKey: 'k', captures: [row] }, []);
    using agent = await rawAgent(lab);
    agent.say({ hello: hello() });
    const { captureId } = row;
    const told = { captureId, state: 'complete', startedAtMs: 1, stages: [] };
    agent.say({ news: { event: { captureId, atMs: 1, accepted } } });
    agent.say({ news: { event: { captureId, atMs: 1, ended: told } } });
    agent.say({ refusal: { captureId, code: 'refused', reason: 'no' } });
    agent.say({ heartbeat: { atMs: 5 } });
    await until(() => agent.heard.some(({ heartbeat }) => heartbeat?.atMs === '5'));
    expect(await lab.controller.store.capture(captureId)).toEqual({ ...row });
    const audit = await lab.controller.store.audit({}, { afterSeq: 0, limit: 10 });
    expect(audit.map(({ action }) => action)).toEqual(['agent.refused']);
  });

  test('is ended when it says nothing that makes sense, over and over', async () => {
    await using lab = await controllerLab();
    using agent = await rawAgent(lab);
    agent.say({ hello: hello() });
    for (let count = 0; count < 30; count += 1)
      agent.say({ news: { event: { captureId: `../../etc/${count}'; drop table captures; --`, accepted } } });
    expect((await agent.end).code).toBe(grpc.status.INVALID_ARGUMENT);
    expect((await lab.controller.store.captures({}, { limit: 10 })).rows).toEqual([]);
  });

  test('cannot fill the store with captures of its own', { timeout: 60_000 }, async () => {
    await using lab = await controllerLab();
    using agent = await rawAgent(lab);
    agent.say({ hello: hello() });
    for (let count = 0; count < 1_050; count += 1)
      agent.say({ news: { event: { captureId: uuidv7(), atMs: 1, accepted }, trigger: 'schedule' } });
    agent.say({ heartbeat: { atMs: 7 } });
    // A thousand transactions, one after the other.
    await until(() => agent.heard.some(({ heartbeat }) => heartbeat?.atMs === '7'), 50_000);
    let rows = 0;
    let token: string | undefined;
    do {
      const page = await lab.controller.store.captures({}, { limit: 500, ...(token === undefined ? {} : { token }) });
      rows += page.rows.length;
      token = page.next;
    } while (token !== undefined);
    expect(rows).toBe(1_000);
  });

  test('has what it tells cut to what a person reads', async () => {
    await using lab = await controllerLab();
    using agent = await rawAgent(lab);
    agent.say({ hello: hello() });
    const captureId = uuidv7();
    const error = `\u0000${'x'.repeat(500_000)}`;
    const stages = Array.from({ length: 500 }, (_, index) => ({ stage: `s${index}`, reason: 'y'.repeat(300) }));
    const kinds = Array.from({ length: 500 }, () => ({ kind: 'k'.repeat(300), new: 1 }));
    const changes = { baseline: 'b'.repeat(100_000), kinds };
    agent.say({
      news: {
        event: { captureId, atMs: 1, ended: { captureId, state: 'failed', error, stages, changes } },
        trigger: 'schedule',
      },
    });
    const row = await lab.settled(captureId);
    expect(row.error.length).toBe(4_000);
    expect(row.error.startsWith('\uFFFDx')).toBe(true);
    expect(row.told?.stages.length).toBe(64);
    expect(row.told?.changes?.baseline.length).toBe(256);
    expect(row.told?.changes?.kinds.map(({ kind }) => kind.length)).toEqual(Array(32).fill(256));
  });

  test('cannot make the controller hold what it does not read', { timeout: 60_000 }, async () => {
    let aheadMs = 0;
    await using lab = await controllerLab({ link: { now: () => Date.now() + aheadMs } });
    const rows = Array.from({ length: 500 }, () => captureOf('n1', { expiresAtMs: Date.now() + 3_600_000 }));
    const captures = rows.map((row) => ({
      ...row,
      requestId: 'r',
      ...(row.command === null ? {} : { command: { ...row.command, reason: 'z'.repeat(8_000) } }),
    }));
    await lab.controller.store.addCaptures({ requestId: 'r', requestKey: 'k', captures }, []);
    using _agent = await slowAgent(lab);
    const sent = async () => (await lab.controller.store.captures({ states: ['sent'] }, { limit: 1_000 })).rows.length;
    let before = -1;
    await until(async () => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const now = await sent();
      const still = now > 0 && now === before;
      before = now;
      return still;
    });
    expect(before).toBeLessThan(100);
    aheadMs = 31_000;
    await until(() => lab.controller.links.connected().length === 0);
    await until(() => lab.controller.listener.connectionCount() === 0);
  });

  test('only hurts its own connection with bytes that are no HTTP/2', async () => {
    await using lab = await controllerLab();
    const node = await lab.node('n5');
    const { certFile, keyFile } = await lab.pki.agent('prod', 'n1');
    for (const bytes of [Buffer.alloc(70_000, 0xff), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from(preface())]) {
      const socket = tls.connect({
        ...{ host: '127.0.0.1', port: lab.controller.listener.port, servername: 'localhost', ALPNProtocols: ['h2'] },
        ...{ cert: readFileSync(certFile), key: readFileSync(keyFile), ca: readFileSync(lab.pki.caFile('controller')) },
      });
      socket.on('error', () => undefined);
      await once(socket, 'secureConnect');
      socket.write(bytes);
      socket.resume();
      await closed(socket);
    }
    const { captureId } = await lab.ask('n5');
    expect((await lab.settled(captureId)).state).toBe('complete');
    expect(node.begun).toEqual([captureId]);
  });
});

/** A good beginning, then a frame that says it is longer than any may be. */
function preface(): Uint8Array {
  const frame = Buffer.from([0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01]);
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    frame,
    Buffer.alloc(70_000),
  ]);
}
