import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openEndpoint, serverStream, statusOf, unary } from '../../../agent/runtime/call.ts';
import { openCri } from '../../../agent/runtime/cri.ts';
import { openNamespace, tasksClient } from '../../../agent/runtime/tasks.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { loadContainerd, loadTasks } from '../../../proto/load.ts';

/** Well under a second, with room for a machine that does ten things at once. */
const SOON_MS = 2_000;

let folder: string;
let socket: string;
const closing: (() => void)[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-call-'));
  socket = path.join(folder, 'runtime.sock');
});

afterEach(() => {
  for (const close of closing.splice(0)) close();
  rmSync(folder, { recursive: true, force: true });
});

const { Get, Pause } = loadTasks().Tasks.service;

function ask(limits: Parameters<typeof unary>[3] = {}) {
  const endpoint = openEndpoint(socket);
  closing.push(() => endpoint.client.close());
  return unary(endpoint, Get, { containerId: 'x' }, limits);
}

async function fault(promise: Promise<unknown>): Promise<ExhibitError> {
  const error = await promise.then(
    () => new Error('nothing failed'),
    (cause: unknown) => cause,
  );
  if (!(error instanceof ExhibitError)) throw error;
  return error;
}

/** The Tasks service with one method of ours; the others are unimplemented. */
async function serveGet(
  answer: (reply: (error: Partial<ServiceError> | null, value?: object) => void) => void,
): Promise<void> {
  const server = new Server();
  server.addService({ Get }, { Get: (_: unknown, reply: Parameters<typeof answer>[0]) => answer(reply) });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
    error ? reject(error) : resolve(),
  );
  closing.push(() => server.forceShutdown());
  await promise;
}

async function listen(onConnection: (connection: Socket) => void): Promise<NetServer> {
  const connections = new Set<Socket>();
  const server = createServer((connection) => {
    connections.add(connection);
    connection.on('error', () => undefined);
    onConnection(connection);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(socket, resolve);
  closing.push(() => {
    for (const one of connections) one.destroy();
    server.close();
  });
  await promise;
  return server;
}

describe('a runtime that is not there', () => {
  test('a missing socket fails at once and says what to do', async () => {
    const began = performance.now();
    const error = await fault(ask());
    expect(performance.now() - began).toBeLessThan(SOON_MS);
    expect(error.code).toBe('runtime-unreachable');
    expect(error.message).toContain(`there is no runtime socket at ${socket}`);
    expect(error.message).toContain('configuration');
  });

  test('it still fails at once the tenth time', async () => {
    const endpoint = openEndpoint(socket);
    closing.push(() => endpoint.client.close());
    const began = performance.now();
    for (let count = 0; count < 10; count += 1) await fault(unary(endpoint, Get, { containerId: 'x' }, {}));
    expect(performance.now() - began).toBeLessThan(SOON_MS);
  });

  test('a socket that nobody listens on says so', async () => {
    const server = await listen(() => undefined);
    // Node unlinks the socket when it closes; a killed server leaves it behind.
    const { execFileSync } = await import('node:child_process');
    execFileSync('mv', [socket, `${socket}.kept`]);
    server.close();
    execFileSync('mv', [`${socket}.kept`, socket]);
    const error = await fault(ask());
    expect(error.code).toBe('runtime-unreachable');
    expect(error.message).toContain('nothing listens');
  });

  test('the whole CRI runtime says so too', async () => {
    await using cri = openCri({ socket, host: { procRoot: '/proc', hostRoot: '' } });
    const error = await fault(cri.list(AbortSignal.timeout(10_000)));
    expect(error.code).toBe('runtime-unreachable');
  });

  test('it is found again soon after it came up', async () => {
    const endpoint = openEndpoint(socket);
    closing.push(() => endpoint.client.close());
    await fault(unary(endpoint, Get, { containerId: 'x' }, {}));
    await serveGet((reply) => reply(null, { process: { id: 'x', pid: 7 } }));
    const until = performance.now() + 10_000;
    for (;;) {
      const answer = await unary(endpoint, Get, { containerId: 'x' }, {}).catch(() => undefined);
      if (answer?.process?.pid === 7) break;
      expect(performance.now()).toBeLessThan(until);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
});

describe('a runtime that answers badly', () => {
  test('one that never answers is unreachable after the deadline', async () => {
    await serveGet(() => undefined);
    const error = await fault(ask({ timeoutMs: 200 }));
    expect(error.code).toBe('runtime-unreachable');
    expect(error.message).toContain('did not answer Tasks.Get within 0.2 s');
  });

  test('one that takes connections and says nothing is unreachable after the deadline', async () => {
    await listen(() => undefined);
    expect((await fault(ask({ timeoutMs: 200 }))).code).toBe('runtime-unreachable');
  });

  test('one that hangs up is unreachable', async () => {
    await listen((connection) => connection.destroy());
    expect((await fault(ask({ timeoutMs: 2_000 }))).code).toBe('runtime-unreachable');
  });

  test('one that speaks something else is unreachable', async () => {
    await listen((connection) => connection.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    expect((await fault(ask({ timeoutMs: 2_000 }))).code).toBe('runtime-unreachable');
  });

  test('a call that it does not have is unsupported', async () => {
    await serveGet((reply) => reply(null, {}));
    const endpoint = openEndpoint(socket);
    closing.push(() => endpoint.client.close());
    const error = await fault(unary(endpoint, Pause, { containerId: 'x' }, {}));
    expect(error.code).toBe('runtime-unsupported');
    expect(error.message).toContain('Tasks.Pause');
  });

  test('any other status is a failure with its own words and its own status', async () => {
    await serveGet((reply) => reply({ code: status.FAILED_PRECONDITION, details: 'task is a teapot' }));
    const error = await fault(ask());
    expect(error).toMatchObject({ code: 'runtime-failed', message: 'Tasks.Get failed: task is a teapot' });
    expect(statusOf(error)).toBe(status.FAILED_PRECONDITION);
  });

  test('a task that is gone is no error', async () => {
    await serveGet((reply) => reply({ code: status.NOT_FOUND, details: 'no running task' }));
    const endpoint = openNamespace(socket, 'k8s.io');
    closing.push(() => endpoint.client.close());
    expect(await tasksClient(endpoint).get('x', {})).toBeUndefined();
  });
});

describe('a call that is no longer wanted', () => {
  test('is cancelled by its signal', async () => {
    await serveGet(() => undefined);
    const abort = new AbortController();
    const asked = ask({ signal: abort.signal, timeoutMs: 'none' });
    setTimeout(() => abort.abort(), 50);
    expect((await fault(asked)).code).toBe('cancelled');
  });

  test('is not sent when the signal was aborted before', async () => {
    expect((await fault(ask({ signal: AbortSignal.abort() }))).code).toBe('cancelled');
  });

  test('a stream is cancelled as well', async () => {
    await listen(() => undefined);
    const endpoint = openEndpoint(socket);
    closing.push(() => endpoint.client.close());
    const { Read } = loadContainerd().content.v1.Content.service;
    const stream = serverStream(endpoint, Read, { digest: 'sha256:0' }, { signal: AbortSignal.timeout(100) });
    expect((await fault(stream.next())).code).toBe('cancelled');
  });
});
