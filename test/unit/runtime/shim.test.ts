import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { outcomeOf } from '../../../agent/runtime/pause/resume.ts';
import { parseBootstrap, type Shim, shimClient } from '../../../agent/runtime/pause/shim.ts';
import { loadShim } from '../../../proto/load.ts';

describe('where a shim listens', () => {
  const at = (text: string) => parseBootstrap(text, '/host/run/containerd');

  test('the bootstrap file of containerd 2.1, reached where the agent sees the folder', () => {
    expect(at('{"version":3,"address":"unix:///run/containerd/s/89384162","protocol":"ttrpc"}')).toEqual({
      socket: '/host/run/containerd/s/89384162',
      service: 'containerd.task.v3.Task',
    });
  });

  test('the older address has version 2', () => {
    expect(at('{"version":2,"address":"unix:///run/containerd/s/ab\\n"}')?.service).toBe('containerd.task.v2.Task');
  });

  test.each([
    '',
    '{',
    '[]',
    '{"address":"unix:///x"}',
    '{"version":9,"address":"unix:///r/s/a"}',
    '{"version":3,"address":"unix:///r/s/a","protocol":"grpc"}',
  ])('%j names none that we can speak to', (text) => expect(at(text)).toBeUndefined());
});

describe('asking a shim', () => {
  let folder: string;
  let server: Server | undefined;
  const connections = new Set<Socket>();
  const { frames, task } = loadShim();

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-shim-'));
  });
  afterEach(() => {
    for (const one of connections) one.destroy();
    server?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function serve(socket: string, onData: (connection: Socket, data: Buffer) => void): Promise<Shim> {
    server = createServer((connection) => {
      connections.add(connection);
      connection.on('error', () => undefined);
      connection.on('data', (data) => onData(connection, data));
    });
    await new Promise<void>((resolve) => server?.listen(socket, resolve));
    return shimClient({ socket, service: 'containerd.task.v3.Task' }, 'abc');
  }

  const frame = (message: Buffer): Buffer => {
    const header = Buffer.alloc(10);
    header.writeUInt32BE(message.byteLength, 0);
    header.writeUInt32BE(1, 4);
    header.writeUInt8(2, 8);
    return Buffer.concat([header, message]);
  };
  const respond = (response: Parameters<typeof frames.Call.responseSerialize>[0]) =>
    frame(frames.Call.responseSerialize(response));
  const soon = () => AbortSignal.timeout(5_000);

  test('the request is a frame with service, method and the container; the answer may come byte by byte', async () => {
    let request: unknown;
    const shim = await serve(path.join(folder, 's'), (connection, data) => {
      expect(data.readUInt32BE(0)).toBe(data.byteLength - 10);
      request = frames.Call.requestDeserialize(data.subarray(10));
      const payload = task.State.responseSerialize({ id: 'abc', status: 'PAUSED' });
      for (const byte of respond({ payload })) connection.write(Buffer.from([byte]));
    });
    expect(await shim.state(soon())).toBe('PAUSED');
    expect(request).toMatchObject({ service: 'containerd.task.v3.Task', method: 'State' });
  });

  test('a container that it does not know is no error', async () => {
    const shim = await serve(path.join(folder, 's'), (connection) =>
      connection.write(respond({ status: { code: 5, message: 'gone' } })),
    );
    expect(await shim.state(soon())).toBeUndefined();
  });

  test('its errors keep their words', async () => {
    const shim = await serve(path.join(folder, 's'), (connection) =>
      connection.write(respond({ status: { code: 2, message: 'OCI runtime resume failed' } })),
    );
    await expect(shim.resume(soon())).rejects.toThrow('OCI runtime resume failed');
  });

  test('one that never answers is given up when the signal says so', async () => {
    const shim = await serve(path.join(folder, 's'), () => undefined);
    await expect(shim.resume(AbortSignal.timeout(100))).rejects.toMatchObject({ code: 'runtime-unreachable' });
  });

  test('garbage, a giant length and a hang-up are errors', async () => {
    const answers = [Buffer.from('HTTP/1.1 400 Bad Request\r\n'), Buffer.alloc(10, 0xff)];
    const shim = await serve(path.join(folder, 's'), (connection) => {
      const answer = answers.shift();
      if (answer === undefined) connection.destroy();
      else connection.write(answer);
    });
    for (let count = 0; count < 3; count += 1) await expect(shim.resume(soon())).rejects.toThrow();
  });

  test('a socket whose path is too long for connect(2) is reached all the same', async () => {
    const deep = path.join(folder, 'a'.repeat(90), 'b'.repeat(90));
    mkdirSync(deep, { recursive: true });
    const { execFileSync } = await import('node:child_process');
    const short = path.join(folder, 's');
    const shim = await serve(short, (connection) => connection.write(respond({})));
    execFileSync('mv', [short, path.join(deep, 's')]);
    void shim;
    await shimClient({ socket: path.join(deep, 's'), service: 'containerd.task.v3.Task' }, 'abc').resume(soon());
  });
});

describe('what a failed resume means', () => {
  test.each([
    ['no task', undefined, 'thawed', 'gone'],
    ['a stopped task', 'STOPPED', 'thawed', 'gone'],
    ['the cgroup gone', 'PAUSED', 'gone', 'gone'],
    ['running, and the kernel agrees', 'RUNNING', 'thawed', 'was-thawed'],
    ['running, with no cgroup to ask', 'RUNNING', 'unknown', 'was-thawed'],
    ['running, and the kernel disagrees', 'RUNNING', 'frozen', undefined],
    ['paused, and the kernel agrees', 'PAUSED', 'frozen', undefined],
    ['paused, with no cgroup to ask', 'PAUSED', 'unknown', undefined],
    ['paused, and the kernel runs it', 'PAUSED', 'thawed', 'stuck'],
  ] as const)('%s', (_, runtime, kernel, outcome) => {
    expect(outcomeOf(runtime, kernel)).toBe(outcome);
  });
});
