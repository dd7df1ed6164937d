import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createCaptures, type Execute } from '../../../agent/capture/captures.ts';
import { openJournal } from '../../../agent/capture/journal.ts';
import { openLogLevels } from '../../../agent/log-level.ts';
import type { Runtime } from '../../../agent/runtime/runtime.ts';
import { claimSocket, type ExecTrigger, serveExec } from '../../../agent/trigger/exec.ts';
import { type AgentClient, connectAgent } from '../../../cli/client.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const log = pino({ level: 'silent' });
const signal = AbortSignal.timeout(60_000);
let folder: string;
let socket: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-exec-'));
  socket = path.join(folder, 'api', 'exhibit.sock');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const runtime: Runtime = {
  kind: 'cri',
  identify: async () => ({ name: 'containerd', version: '2.1.9' }),
  list: async () => {
    throw new ExhibitError('runtime-unreachable', 'containerd does not answer');
  },
  resolve: () => Promise.reject(new Error('not used')),
  pids: () => Promise.reject(new Error('not used')),
  pauseOf: () => undefined,
  rungs: [],
  resumeIfPaused: () => Promise.reject(new Error('not used')),
  [Symbol.asyncDispose]: async () => undefined,
};

async function serve(execute: Execute): Promise<ExecTrigger> {
  await claimSocket(socket);
  const journal = await openJournal(folder, () => undefined);
  return serveExec({
    socket,
    captures: createCaptures({ journal, execute, now: Date.now, log }),
    runtime,
    defaults: { artifacts: ['processes', 'memory'], consistency: 'frozen', scope: 'container' },
    sinks: ['west', 'here'],
    problemOf: (sink) => (sink === 'west' ? 'S3 is away' : undefined),
    examine: async () => [{ group: 'evidence', name: 'sink', status: 'ok', found: 'f', meaning: 'm', mend: '' }],
    levels: openLogLevels(log),
    log,
  });
}

const quick: Execute = async (_id, _request, { emit }) => {
  emit({ kind: 'accepted', target: 'prod/web-0/web', bundleUrl: 'file:///e/x', stages: ['memory', 'seal'] });
  emit({ kind: 'stage-started', stage: 'memory' });
  emit({ kind: 'stage-progress', stage: 'memory', doneBytes: 2 ** 40, totalBytes: 0 });
  emit({
    kind: 'stage-ended',
    result: {
      stage: 'memory',
      status: 'partial',
      reason: 'r',
      storedBytes: 2 ** 33,
      wallMs: 12,
      pauseMs: 1.5,
      gapCount: 2,
    },
  });
  return { state: 'partial' };
};

const webPod = { pod: { namespace: 'prod', pod: 'web-0', container: '' } };

async function kinds(client: AgentClient, request: Parameters<AgentClient['capture']>[0]) {
  const events = [];
  for await (const event of client.capture(request, signal)) events.push(event);
  return events;
}

describe('the API on the node', () => {
  test('is a socket that only root can open, in a folder that only root can enter', async () => {
    await using _trigger = await serve(quick);
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(socket))).mode & 0o777).toBe(0o700);
  });

  test('streams a capture to its end, large sizes included', async () => {
    await using _trigger = await serve(quick);
    using client = await connectAgent(socket, signal);
    const events = await kinds(client, { selector: webPod });
    expect(events.map((event) => event.event)).toEqual([
      'accepted',
      'stageStarted',
      'stageProgress',
      'stageEnded',
      'ended',
    ]);
    expect(events[2]?.stageProgress?.doneBytes).toBe(String(2 ** 40));
    expect(events.at(-1)?.ended).toMatchObject({
      state: 'partial',
      storedBytes: String(2 ** 33),
      gapCount: 2,
      pauseMs: 1.5,
    });
  });

  test('says who asked as the kernel knows it, not as the caller says', async () => {
    const asked: string[] = [];
    await using _trigger = await serve(async (id, request, hooks) => {
      asked.push(request.requester.identity);
      return quick(id, request, hooks);
    });
    using client = await connectAgent(socket, signal);
    await kinds(client, { selector: webPod });
    const [uid, gid] = [process.getuid?.(), process.getgid?.()];
    expect(asked).toEqual([expect.stringMatching(`^uid ${uid}, gid ${gid}, pid ${process.pid} \\(node\\)`)]);
  });

  test('passes on which sinks, exhibit number and acquirer were asked for, and nothing where none were', async () => {
    const asked: unknown[] = [];
    await using _trigger = await serve(async (id, { sinks, exhibitNumber, acquirer, ...rest }, hooks) => {
      asked.push([sinks, exhibitNumber, acquirer]);
      return quick(id, rest, hooks);
    });
    using client = await connectAgent(socket, signal);
    await kinds(client, { selector: webPod });
    await kinds(client, { selector: webPod, sinks: ['here'], exhibitNumber: 'KD/7', acquirer: 'DC Müller' });
    expect(asked).toEqual([
      [undefined, undefined, undefined],
      [['here'], 'KD/7', 'DC Müller'],
    ]);
  });

  test.each([
    [
      { sinks: ['here', 's3://attacker/x'] },
      'There is no sink "s3://attacker/x" in the agent\'s configuration; choose among west, here',
    ],
    [{ sinks: [''] }, 'There is no sink ""'],
    [{ sinks: ['__proto__'] }, 'There is no sink "__proto__"'],
    [{ exhibitNumber: 'x'.repeat(101) }, 'The exhibit number is 101 characters long; 100 is the most'],
    [{ exhibitNumber: 'A1\nacquirer: root' }, 'The exhibit number holds the control character U+000A'],
    [{ acquirer: 'x'.repeat(201) }, "The acquirer's name is 201 characters long; 200 is the most"],
    [{ acquirer: 'Ann\u202eeb' }, "The acquirer's name holds the control character U+202E"],
    [{ acquirer: '  ' }, "The acquirer's name is nothing but spaces"],
  ])('refuses %j in words', async (given, words) => {
    await using _trigger = await serve(() => Promise.reject(new Error('not to be asked')));
    using client = await connectAgent(socket, signal);
    await expect(kinds(client, { selector: webPod, ...given })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining(words),
    });
  });

  test('passes the default artifacts and the selector on', async () => {
    const asked: unknown[] = [];
    await using _trigger = await serve(async (id, request, hooks) => {
      asked.push([request.selector, request.artifacts, request.consistency, request.scope]);
      return quick(id, request, hooks);
    });
    using client = await connectAgent(socket, signal);
    await kinds(client, { selector: webPod });
    await kinds(client, { selector: webPod, scope: 'pod' });
    expect(asked).toEqual([
      ['prod/web-0', ['processes', 'memory'], 'frozen', 'container'],
      ['prod/web-0', ['processes', 'memory'], 'frozen', 'pod'],
    ]);
  });

  test('goes on with a capture whose caller hangs up', async () => {
    const gate = Promise.withResolvers<void>();
    await using _trigger = await serve(async (_id, _request, hooks) => {
      hooks.emit({ kind: 'accepted', target: 't', bundleUrl: 'file:///e', stages: [] });
      await gate.promise;
      return { state: 'complete' };
    });
    using client = await connectAgent(socket, signal);
    let captureId = '';
    for await (const event of client.capture({ selector: webPod }, signal)) {
      captureId = event.captureId;
      break;
    }
    expect((await client.getCapture(captureId, signal)).state).toBe('running');
    gate.resolve();
    await expect.poll(async () => (await client.getCapture(captureId, signal)).state).toBe('complete');
  });

  test('answers errors with our code and one sentence', async () => {
    await using _trigger = await serve(() =>
      Promise.reject(new ExhibitError('target-not-found', 'no pod prod/web-0 here')),
    );
    using client = await connectAgent(socket, signal);
    await expect(kinds(client, { selector: webPod })).rejects.toMatchObject({
      code: 'target-not-found',
      message: expect.stringContaining('no pod prod/web-0 here'),
    });
    await expect(client.listContainers(signal)).rejects.toMatchObject({ code: 'runtime-unreachable' });
    await expect(client.getCapture('nope', signal)).rejects.toMatchObject({ code: 'capture-not-found' });
    await expect(kinds(client, { selector: webPod, artifacts: ['memroy'] })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('memory'),
    });
    await expect(kinds(client, { selector: webPod, consistency: 'warm' })).rejects.toMatchObject({ code: 'usage' });
    await expect(kinds(client, { selector: webPod, scope: 'node' })).rejects.toMatchObject({ code: 'usage' });
    await expect(kinds(client, {})).rejects.toMatchObject({ code: 'usage' });
  });

  test('takes over the socket of an agent that was killed, but not of one that lives', async () => {
    await using _first = await serve(quick);
    await expect(serve(quick)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringContaining('Another agent'),
    });
  });

  test('replaces a dead socket and refuses to replace a file', async () => {
    const dead = net.createServer().listen(path.join(folder, 'x.sock'));
    await new Promise((resolve) => dead.once('listening', resolve));
    socket = path.join(folder, 'x.sock');
    dead.unref();
    await expect(serve(quick)).rejects.toMatchObject({ code: 'config' });
    dead.close();
    await using trigger = await serve(quick);
    expect(trigger.socket).toBe(socket);
    socket = path.join(folder, 'file');
    await writeFile(socket, 'precious');
    await expect(serve(quick)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringContaining('not a socket'),
    });
  });

  test('answers grpc.health.v1', async () => {
    await using _trigger = await serve(quick);
    const client = new (grpc.makeGenericClientConstructor(healthService, 'Health'))(
      `unix:${socket}`,
      grpc.credentials.createInsecure(),
    );
    const answer = await new Promise((resolve, reject) => {
      client.check?.({ service: 'exhibit.v1.Agent' }, (error: unknown, response: unknown) =>
        error === null ? resolve(response) : reject(error),
      );
    });
    client.close();
    expect(answer).toMatchObject({ status: 'SERVING' });
  });

  test('reports its examination', async () => {
    await using _trigger = await serve(quick);
    using client = await connectAgent(socket, signal);
    expect((await client.doctor(signal)).checks).toMatchObject([{ name: 'sink', status: 'ok' }]);
  });
});
