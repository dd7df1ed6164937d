import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { writeEvents } from '../../controller/api/http-watch.ts';
import { closed } from '../lab/closed.ts';
import { fakeApi } from '../lab/fake-api.ts';
import { type HttpLab, startHttpLab, TOKEN } from '../lab/http-controller.ts';

/** Bytes that no client of ours would send, over TLS to the HTTP side of the API. */

async function dial(lab: HttpLab): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    port: lab.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: lab.ca,
    ALPNProtocols: ['http/1.1'],
  });
  await once(socket, 'secureConnect');
  return socket;
}

/** Everything until the other end closes. */
async function readAll(socket: net.Socket): Promise<string> {
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes;
  });
  await closed(socket);
  return text;
}

const AUTH = `authorization: Bearer ${TOKEN}\r\n`;
const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n${AUTH}${more}\r\n`;

describe('the HTTP side of the API', () => {
  test('answers bytes that are no HTTP, and closes', async () => {
    await using lab = await startHttpLab({ api: fakeApi().api });
    for (const bytes of [
      '\0\x01\x02\x03\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      'GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ]) {
      const socket = await dial(lab);
      socket.write(bytes);
      const text = await readAll(socket);
      expect(text).toMatch(/^HTTP\/1.1 400 /);
      expect(JSON.parse(text.split('\r\n\r\n')[1] ?? '')).toMatchObject({ error: { code: 'usage' } });
    }
  });

  test('refuses two lengths of one body, which proxies read in two ways', async () => {
    const fake = fakeApi();
    await using lab = await startHttpLab({ api: fake.api });
    const socket = await dial(lab);
    const head = `POST /v1/captures HTTP/1.1\r\nhost: localhost\r\n${AUTH}content-type: application/json\r\n`;
    socket.write(`${head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${get('/v1/whoami')}`);
    expect(await readAll(socket)).toMatch(/^HTTP\/1.1 400 /);
    expect(fake.calls).toEqual([]);
  });

  test('refuses headers of more than 16 KiB', async () => {
    await using lab = await startHttpLab({ api: fakeApi().api });
    const socket = await dial(lab);
    socket.write(`GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`);
    expect(await readAll(socket)).toMatch(/^HTTP\/1.1 431 /);
  });

  test('ends a request whose headers trickle in, and one whose body does', async () => {
    const limits = { headersTimeoutMs: 300, requestTimeoutMs: 600, checkMs: 100 };
    await using lab = await startHttpLab({ api: fakeApi().api, limits });
    const starts = [
      'GET /healthz HTTP/1.1\r\n',
      `POST /v1/captures HTTP/1.1\r\nhost: localhost\r\n${AUTH}content-type: application/json\r\ncontent-length: 1000\r\n\r\n`,
    ];
    for (const start of starts) {
      const socket = await dial(lab);
      socket.write(start);
      const trickle = setInterval(() => socket.write('x'), 50);
      const text = await readAll(socket);
      clearInterval(trickle);
      expect(text).toMatch(/^HTTP\/1.1 408 /);
    }
  });

  test('closes a connection that never asks anything', async () => {
    await using lab = await startHttpLab({
      api: fakeApi().api,
      limits: { headersTimeoutMs: 300, requestTimeoutMs: 600, checkMs: 100 },
    });
    const socket = await dial(lab);
    await readAll(socket);
    expect(socket.destroyed).toBe(true);
  });

  test('takes so many connections and no more, and others again when they are gone', async () => {
    await using lab = await startHttpLab({ api: fakeApi().api, limits: { maxConnections: 3 } });
    const first = await Promise.all([dial(lab), dial(lab), dial(lab)]);
    for (const socket of first) {
      socket.write(get('/healthz'));
      await once(socket, 'data');
    }
    const fourth = await dial(lab);
    expect(await readAll(fourth)).toBe('');
    const gone = first.map((socket) => closed(socket));
    for (const socket of first) socket.destroy();
    await Promise.all(gone);
    await expect.poll(async () => (await lab.curl(lab.url('/healthz'))).text).toBe('{"status":"ok"}');
  });

  test('answers pipelined requests in their order, and refuses those beyond the bound', async () => {
    const waiting: (() => void)[] = [];
    const fake = fakeApi({
      GetCapture: (request) => new Promise((resolve) => waiting.push(() => resolve({ captureId: request.captureId }))),
    });
    await using lab = await startHttpLab({ api: fake.api });
    const socket = await dial(lab);
    const read = readAll(socket);
    socket.write(Array.from({ length: 100 }, (_, index) => get(`/v1/captures/c${index}`)).join(''));
    await expect.poll(() => waiting.length).toBeGreaterThan(0);
    await expect.poll(() => fake.calls.length).toBe(16);
    for (const answer of waiting.reverse()) answer();
    const text = await read;
    const ids = [...text.matchAll(/"captureId":"(c\d+)"/g)].map(([, id]) => id);
    expect(ids).toEqual(Array.from({ length: 16 }, (_, index) => `c${index}`));
    expect(text).toContain('HTTP/1.1 429 ');
    expect(fake.calls.length).toBe(16);
  });

  test('tells a call that its caller hung up', async () => {
    const { promise: begun, resolve: begin } = Promise.withResolvers<AbortSignal>();
    const fake = fakeApi({
      GetCapture: async (_request, { signal }) => {
        begin(signal);
        await once(signal, 'abort');
        return {};
      },
    });
    await using lab = await startHttpLab({ api: fake.api });
    const socket = await dial(lab);
    socket.write(get('/v1/captures/abc'));
    const signal = await begun;
    expect(signal.aborted).toBe(false);
    const aborted = once(signal, 'abort');
    socket.destroy();
    await aborted;
  });

  test('ends a watch when its reader hangs up', async () => {
    const { promise: ended, resolve: end } = Promise.withResolvers<boolean>();
    const fake = fakeApi({
      WatchCapture: async function* (_request, { signal }) {
        try {
          yield { capture: { captureId: 'abc', state: 'running' } };
          await once(signal, 'abort');
        } finally {
          end(signal.aborted);
        }
      },
    });
    await using lab = await startHttpLab({ api: fake.api });
    const socket = await dial(lab);
    socket.write(get('/v1/captures/abc/watch'));
    await once(socket, 'data');
    socket.destroy();
    expect(await ended).toBe(true);
  });

  test('holds no more than the socket does for a reader of a watch who stops to read', async () => {
    let told = 0;
    const fake = fakeApi({
      WatchCapture: async function* () {
        for (; ; told += 1) yield { capture: { captureId: 'abc', state: 'running', reason: 'r'.repeat(10_000) } };
      },
    });
    await using lab = await startHttpLab({ api: fake.api });
    const socket = await dial(lab);
    socket.write(get('/v1/captures/abc/watch'));
    await once(socket, 'data');
    socket.pause();
    // The kernel's buffers fill, then nothing more is asked for.
    let before = -1;
    await expect
      .poll(
        () => {
          const isStill = told === before;
          before = told;
          return isStill;
        },
        { interval: 300, timeout: 10_000 },
      )
      .toBe(true);
    expect(told * 10_000).toBeLessThan(32 * 1024 * 1024);
    socket.destroy();
  });

  test('cuts off a reader of a watch who takes nothing for too long', async () => {
    let told = 0;
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    async function* updates() {
      try {
        for (; ; told += 1) yield { reason: 'r'.repeat(100_000) };
      } finally {
        end();
      }
    }
    const server = http.createServer((_request, response) => {
      void writeEvents(response, {}, updates(), new AbortController().signal, 300);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    socket.pause();
    await ended;
    expect(told).toBeGreaterThan(0);
    await expect.poll(() => new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))).toBe(0);
    socket.destroy();
    server.close();
  });
});
