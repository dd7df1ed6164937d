import { once } from 'node:events';
import net from 'node:net';
import { pino } from 'pino';
import { describe, expect, test, vi } from 'vitest';
import { type MachinePort, openMachinePort, type Ready } from '../../agent/machine-port.ts';
import { closed } from '../lab/closed.ts';

const log = pino({ level: 'silent' });

interface Fake {
  ready: Ready;
  made: number;
  fail: boolean;
  text: string;
  connectionMs: number;
}

async function open(
  fake: Partial<Fake> = {},
): Promise<{ port: MachinePort; fake: Fake; at: (path: string) => string } & AsyncDisposable> {
  const state: Fake = {
    ready: { ready: true, reasons: [] },
    made: 0,
    fail: false,
    text: 'up_to_date 1\n',
    connectionMs: 10_000,
    ...fake,
  };
  const port = await openMachinePort(
    { listen: '127.0.0.1:0' },
    {
      log,
      connectionMs: state.connectionMs,
      ready: () => state.ready,
      metrics: async () => {
        state.made += 1;
        if (state.fail) throw new Error('the disk of the collector is full');
        return { text: state.text, contentType: 'text/plain; version=0.0.4' };
      },
    },
  );
  const at = (path: string) => `http://127.0.0.1:${port.port}${path}`;
  return { port, fake: state, at, [Symbol.asyncDispose]: () => port[Symbol.asyncDispose]() };
}

/** What the server says to these bytes until it closes. */
async function raw({ port }: MachinePort, bytes: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  let heard = '';
  socket.on('data', (chunk) => {
    heard += chunk.toString('latin1');
  });
  socket.write(bytes);
  await closed(socket);
  return heard;
}

describe('the port of metrics and probes', () => {
  test('tells metrics, and that the process lives', async () => {
    await using lab = await open();
    const metrics = await fetch(lab.at('/metrics?debug=1'));
    expect([metrics.status, metrics.headers.get('content-type'), await metrics.text()]).toEqual([
      200,
      'text/plain; version=0.0.4',
      'up_to_date 1\n',
    ]);
    const health = await fetch(lab.at('/healthz'));
    expect([health.status, await health.text(), health.headers.get('connection')]).toEqual([200, 'ok\n', 'close']);
  });

  test('says what keeps the program from its work, in text and in JSON', async () => {
    await using lab = await open();
    expect((await fetch(lab.at('/readyz'))).status).toBe(200);
    const reasons = ['the runtime does not answer', 'the mount /host\nis missing'];
    lab.fake.ready = { ready: false, reasons };
    const text = await fetch(lab.at('/readyz'));
    expect([text.status, await text.text()]).toEqual([
      503,
      'not ready\n- the runtime does not answer\n- the mount /host is missing\n',
    ]);
    const json = await fetch(lab.at('/readyz'), { headers: { accept: 'application/json' } });
    expect([json.status, await json.json()]).toEqual([503, { ready: false, reasons }]);
  });

  test('bounds what it says', async () => {
    await using lab = await open({ ready: { ready: false, reasons: Array(1000).fill('x'.repeat(10_000)) } });
    expect((await (await fetch(lab.at('/readyz'))).text()).length).toBeLessThan(32 * 510);
  });

  test.each(['/', '/metrics/', '/debug/pprof', '/healthz/..', '//metrics', '/v1/whoami'])('has no %s', async (path) => {
    await using lab = await open();
    expect(await raw(lab.port, `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`)).toMatch(/^HTTP\/1\.1 404 /);
  });

  test.each(['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE'])('refuses %s', async (method) => {
    await using lab = await open();
    expect(await raw(lab.port, `${method} /metrics HTTP/1.1\r\nhost: x\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 405 .*allow: GET/s,
    );
    expect(lab.fake.made).toBe(0);
  });

  test.each(['content-length: 5\r\n\r\nhello', 'transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'])(
    'reads no body: %j',
    async (rest) => {
      await using lab = await open();
      expect(await raw(lab.port, `GET /metrics HTTP/1.1\r\nhost: x\r\n${rest}`)).toMatch(/^HTTP\/1\.1 413 /);
    },
  );

  test.each([
    ['headers that are too long', `GET /metrics HTTP/1.1\r\nx: ${'y'.repeat(8_192)}\r\n\r\n`],
    ['what is no HTTP', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc'],
    ['a tunnel', 'CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n'],
  ])('hangs up on %s', async (_what, bytes) => {
    await using lab = await open();
    expect(await raw(lab.port, bytes)).toBe('');
    expect((await fetch(lab.at('/healthz'))).status).toBe(200);
  });

  test('answers one request a connection, whatever comes behind it', async () => {
    await using lab = await open();
    const twice = 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n\r\n'.repeat(2);
    expect((await raw(lab.port, twice)).match(/HTTP\/1\.1 200/g)).toHaveLength(1);
  });

  test('keeps nobody out for those who hold connections open: the oldest of them ends', async () => {
    await using lab = await open();
    const idle = Array.from({ length: 40 }, () => net.connect(lab.port.port, '127.0.0.1'));
    let ended = 0;
    const count = () => {
      ended += 1;
    };
    for (const socket of idle) socket.on('error', () => undefined).on('close', () => count());
    await Promise.all(idle.map((socket) => once(socket, 'connect')));
    idle.at(-1)?.write('GET /metrics HTTP/1.1\r\n');
    const [first] = idle;
    if (first !== undefined) await closed(first);
    expect((await fetch(lab.at('/healthz'))).status).toBe(200);
    expect(ended).toBeGreaterThan(6);
    expect(ended).toBeLessThan(40);
    for (const socket of idle) socket.destroy();
  });

  describe('that gives each connection so long', () => {
    const connectionMs = 300;

    test('ends one that says nothing, and one that sends a byte now and then', async () => {
      await using lab = await open({ connectionMs });
      const silent = net.connect(lab.port.port, '127.0.0.1');
      const slow = net.connect(lab.port.port, '127.0.0.1');
      const rest = [...`GET /healthz HTTP/1.1\r\nhost: ${'x'.repeat(1000)}\r\n\r\n`];
      // A thousand bytes at this pace are ten seconds.
      const timer = setInterval(() => slow.write(rest.shift() ?? ''), 10);
      await Promise.all([closed(silent), closed(slow)]);
      clearInterval(timer);
      expect(rest.length).toBeGreaterThan(500);
      expect((await fetch(lab.at('/healthz'))).status).toBe(200);
    });

    test('ends one that does not read its answer, and keeps nothing of it', async () => {
      // More than the kernel's buffers of both sides.
      await using lab = await open({ connectionMs, text: `# ${'x'.repeat(64 * 2 ** 20)}\n` });
      const idle = net.connect(lab.port.port, '127.0.0.1');
      idle.pause();
      await once(idle, 'connect');
      idle.write('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n');
      // Whoever reads nothing hears nothing of the end: that it came shows by what comes after the bound.
      await once(idle, 'readable');
      await new Promise((resolve) => setTimeout(resolve, connectionMs * 2));
      idle.resume();
      let heardBytes = 0;
      idle.on('data', (chunk: Buffer) => {
        heardBytes += chunk.length;
      });
      await closed(idle);
      expect(heardBytes).toBeLessThan(64 * 2 ** 20);
      expect((await fetch(lab.at('/healthz'))).status).toBe(200);
    });

    test('lets a chunk of headers come late, and answers it', async () => {
      await using lab = await open();
      const socket = net.connect(lab.port.port, '127.0.0.1');
      let heard = '';
      socket.on('data', (chunk) => {
        heard += chunk.toString('latin1');
      });
      for (const piece of ['GET /heal', 'thz HTTP/1.1\r\nho', 'st: x\r\n', '\r\n']) {
        socket.write(piece);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await closed(socket);
      expect(heard).toMatch(/^HTTP\/1\.1 200 /);
    });
  });

  test('makes the text once for all who ask at the same moment', async () => {
    await using lab = await open();
    const texts = await Promise.all(Array.from({ length: 20 }, async () => (await fetch(lab.at('/metrics'))).text()));
    expect(new Set(texts).size).toBe(1);
    expect(lab.fake.made).toBeLessThanOrEqual(2);
  });

  test('makes it anew after a second, also after one that failed', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      await using lab = await open({ fail: true });
      const status = async () => (await fetch(lab.at('/metrics'))).status;
      expect(await status()).toBe(500);
      lab.fake.fail = false;
      vi.advanceTimersByTime(1_001);
      expect(await status()).toBe(200);
      vi.advanceTimersByTime(1_000);
      expect(await status()).toBe(200);
      expect(lab.fake.made).toBe(2);
    } finally {
      vi.useRealTimers();
    }
  });

  test('is kept by nobody in between', async () => {
    await using lab = await open();
    for (const path of ['/metrics', '/healthz', '/readyz']) {
      const { headers } = await fetch(lab.at(path));
      expect([headers.get('cache-control'), headers.get('x-content-type-options')]).toEqual(['no-store', 'nosniff']);
    }
  });

  test('says that it failed, and not how', async () => {
    await using lab = await open({ fail: true });
    const answer = await fetch(lab.at('/metrics'));
    expect([answer.status, await answer.text()]).toEqual([500, 'failed; the log says why\n']);
    expect((await fetch(lab.at('/healthz'))).status).toBe(200);
  });

  test('fails in words where it cannot listen', async () => {
    await using lab = await open();
    const again = openMachinePort(
      { listen: `127.0.0.1:${lab.port.port}` },
      { log, ready: () => lab.fake.ready, metrics: async () => ({ text: '', contentType: '' }) },
    );
    await expect(again).rejects.toMatchObject({ code: 'config', message: expect.stringContaining('metrics.listen') });
  });

  test('closes at once, whoever is connected', async () => {
    const lab = await open();
    const socket = net.connect(lab.port.port, '127.0.0.1');
    await once(socket, 'connect');
    const gone = closed(socket);
    await lab[Symbol.asyncDispose]();
    await gone;
  });
});
