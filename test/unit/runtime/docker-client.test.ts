import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openDocker } from '../../../agent/runtime/docker.ts';
import { type DockerClient, dockerClient } from '../../../agent/runtime/docker-client.ts';
import { taskStatus } from '../../../agent/runtime/pause/docker.ts';
import { dockerRequest } from '../../../agent/runtime/pause/docker-socket.ts';

/** What becomes of a socket that is not there, is not Docker's, hangs, or answers nonsense. */

const soon = () => AbortSignal.timeout(10_000);
let folder: string;
let socket: string;
let server: Server | undefined;
const connections = new Set<Socket>();
let client: DockerClient;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-docker-'));
  socket = path.join(folder, 'docker.sock');
  client = dockerClient(socket);
});
afterEach(() => {
  client[Symbol.dispose]();
  for (const one of connections) one.destroy();
  connections.clear();
  server?.close();
  server = undefined;
  rmSync(folder, { recursive: true, force: true });
});

async function listen(started: Server): Promise<void> {
  server = started;
  started.on('connection', (connection) => connections.add(connection));
  await new Promise<void>((resolve) => started.listen(socket, resolve));
}
const serve = (answer: RequestListener) => listen(createHttpServer(answer));
const refuse = (status: number, message: string) =>
  serve((_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ message }));
  });

const fault = async (asked: Promise<unknown>): Promise<{ code?: string; message: string }> => {
  try {
    await asked;
  } catch (error) {
    return error as Error & { code: string };
  }
  throw new Error('nothing failed');
};

describe('a socket', () => {
  test('that is not there says how to name it', async () => {
    const { code, message } = await fault(client.version({ signal: soon() }));
    expect(code).toBe('runtime-unreachable');
    expect(message).toContain(`no Docker socket at ${socket}`);
  });

  test('on which nobody listens', async () => {
    const gone = createServer();
    await new Promise<void>((resolve) => gone.listen(path.join(folder, 'other'), resolve));
    writeFileSync(socket, '');
    gone.close();
    expect(await fault(client.version({ signal: soon() }))).toMatchObject({
      code: 'runtime-unreachable',
      message: expect.stringContaining('nothing listens'),
    });
  });

  test('of a server that speaks no HTTP', async () => {
    await listen(createServer((connection) => connection.end(Buffer.from('000006040000000000000000', 'hex'))));
    expect(await fault(client.version({ signal: soon() }))).toMatchObject({
      code: 'runtime-unreachable',
      message: expect.stringContaining("does not speak Docker's API"),
    });
  });

  test('of a server that hangs up', async () => {
    await listen(createServer((connection) => connection.destroy()));
    expect(await fault(client.version({ signal: soon() }))).toMatchObject({
      code: 'runtime-unreachable',
      message: expect.stringContaining('dropped the connection'),
    });
  });

  test('of a web server that is not Docker', async () => {
    await serve((_, response) => response.end('<html>hello</html>'));
    await using runtime = openDocker({ socket, host: { procRoot: '/proc', hostRoot: '' } });
    expect(await fault(runtime.list(soon()))).toMatchObject({
      code: 'runtime-failed',
      message: expect.stringContaining("not Docker's"),
    });
    expect(await fault(runtime.identify(soon()))).toMatchObject({ code: 'runtime-failed' });
  });

  test('named by DOCKER_HOST does not take the place of the configured one', async () => {
    await serve((_, response) => response.end('{"Version":"28.5.2","ApiVersion":"1.51"}'));
    const before = process.env.DOCKER_HOST;
    process.env.DOCKER_HOST = 'tcp://127.0.0.1:1';
    try {
      using other = dockerClient(socket);
      expect((await other.version({ signal: soon() })).toString()).toContain('28.5.2');
    } finally {
      if (before === undefined) delete process.env.DOCKER_HOST;
      else process.env.DOCKER_HOST = before;
    }
  });
});

describe('a Docker that hangs', () => {
  test.each([
    ['before its answer', () => undefined],
    ['in the middle of it', (response: { write(text: string): unknown }) => response.write('{"Version"')],
  ])('%s is given up after the time-out', async (_, begin) => {
    await serve((_request, response) => void begin(response));
    const began = performance.now();
    const { code, message } = await fault(client.version({ timeoutMs: 200 }));
    expect(code).toBe('runtime-unreachable');
    expect(message).toContain('did not answer version within 0.2 s');
    expect(performance.now() - began).toBeLessThan(3_000);
  });

  test('is left at once when the caller is told to stop', async () => {
    await serve(() => undefined);
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 50);
    expect(await fault(client.info({ signal: stop.signal }))).toMatchObject({ code: 'cancelled' });
    expect(await fault(client.info({ signal: stop.signal }))).toMatchObject({ code: 'cancelled' });
  });

  test('is no deadline for a checkpoint', async () => {
    await serve((request, response) => {
      request.resume();
      setTimeout(() => response.writeHead(201).end(), 400);
    });
    await client.createCheckpoint('abc', '/run/x', 'images');
  });
});

describe('what Docker answers', () => {
  test('names and ids with odd characters stay one step of the path', async () => {
    const asked: string[] = [];
    await serve((request, response) => {
      asked.push(request.url ?? '');
      response.end('{}');
    });
    await client.inspect('../a b?c#d', { signal: soon() });
    await client.image('lab/x:1', { signal: soon() });
    await client.logs('é', 5, { signal: soon() });
    expect(asked).toEqual([
      '/containers/..%2Fa%20b%3Fc%23d/json',
      '/images/lab%2Fx%3A1/json',
      '/containers/%C3%A9/logs?stdout=true&stderr=true&timestamps=true&tail=5',
    ]);
  });

  test('no such container is no error, any other refusal is one with its own words', async () => {
    await refuse(404, 'No such container: x');
    expect(await client.inspect('x', { signal: soon() })).toBeUndefined();
    expect(await fault(client.top('x', '-ef', { signal: soon() }))).toMatchObject({
      code: 'runtime-failed',
      message: 'docker top failed: No such container: x',
    });
  });

  test('a page that is not found and an experimental one are unsupported', async () => {
    await refuse(404, 'page not found');
    expect(await fault(client.inspect('x', { signal: soon() }))).toMatchObject({ code: 'runtime-unsupported' });
    server?.close();
    rmSync(socket, { force: true });
    await refuse(501, 'This experimental feature is disabled by default.');
    expect(await fault(client.createCheckpoint('x', '/run/x', 'images'))).toMatchObject({
      code: 'runtime-unsupported',
      message: expect.stringContaining('has no `docker checkpoint create`: This experimental feature'),
    });
  });

  test('no changes are an empty list', async () => {
    await serve((_, response) => response.end('null\n'));
    expect((await client.changes('x', { signal: soon() })).toString()).toBe('[]\n');
  });

  test('an answer without end is refused at its bound', async () => {
    await serve((_, response) => {
      const more = Buffer.alloc(1 << 20);
      const write = () => {
        if (!response.destroyed) response.write(more, write);
      };
      write();
    });
    expect(await fault(client.info({ signal: soon() }))).toMatchObject({
      message: expect.stringContaining('larger than'),
    });
    expect(await fault(dockerRequest(socket, 'GET', '/info', soon()))).toMatchObject({
      code: 'runtime-unreachable',
      message: expect.stringContaining('larger than'),
    });
  });
});

describe('the guard’s own request', () => {
  test('is bounded by its signal', async () => {
    await serve(() => undefined);
    expect(await fault(dockerRequest(socket, 'POST', '/x', AbortSignal.timeout(100)))).toMatchObject({
      code: 'runtime-unreachable',
      message: expect.stringContaining('no answer in time'),
    });
  });

  test.each([
    ['running', 'RUNNING'],
    ['paused', 'PAUSED'],
    ['created', 'CREATED'],
    ['exited', 'STOPPED'],
    ['dead', 'STOPPED'],
  ])('reads %s as %s', (status, expected) => {
    expect(taskStatus(Buffer.from(JSON.stringify({ State: { Status: status } })))).toBe(expected);
  });

  test.each([
    '',
    '<html>',
    'null',
    '[]',
    '{}',
    '{"State":null}',
    '{"State":{"Status":7}}',
    '{"State":{"Status":"odd"}}',
  ])('reads no state from %j', (text) => {
    expect(() => taskStatus(Buffer.from(text))).toThrowError(expect.objectContaining({ code: 'runtime-failed' }));
  });
});
