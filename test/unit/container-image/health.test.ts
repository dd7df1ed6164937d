import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { questionFor } from '../../../cli/health.ts';

const PROGRAM = fileURLToPath(new URL('../../../cli/health.ts', import.meta.url));

describe('the health check asks', () => {
  test.each([
    [{ metrics: { listen: '0.0.0.0:9999' } }, { kind: 'http', host: '127.0.0.1', port: 9999 }],
    [{ metrics: { listen: '[::]:9999' } }, { kind: 'http', host: '::1', port: 9999 }],
    [
      { metrics: { listen: '10.1.2.3:9464' }, agents: {} },
      { kind: 'http', host: '10.1.2.3', port: 9464 },
    ],
    [{ sink: { url: 'file:///e' } }, { kind: 'socket', path: '/run/exhibit/exhibit.sock' }],
    [{ socket: '/run/x.sock' }, { kind: 'socket', path: '/run/x.sock' }],
    [{ agents: { certFile: '/c' } }, { kind: 'tcp', host: '127.0.0.1', port: 8443 }],
    [
      { agents: {}, api: { listen: '10.0.0.1:7000' } },
      { kind: 'tcp', host: '10.0.0.1', port: 7000 },
    ],
    [undefined, { kind: 'socket', path: '/run/exhibit/exhibit.sock' }],
    ['no map', { kind: 'socket', path: '/run/exhibit/exhibit.sock' }],
  ])('%j: %j', (config, question) => {
    expect(questionFor(config)).toEqual(question);
  });

  test('where the environment says, as the programs do', () => {
    expect(questionFor({}, { EXHIBIT_SOCKET: '/run/y.sock' })).toEqual({ kind: 'socket', path: '/run/y.sock' });
    const listening = { EXHIBIT_API_LISTEN: '0.0.0.0:9000' };
    expect(questionFor({ agents: {} }, listening)).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 9000 });
  });
});

describe('the health check as a program', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-health-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Its exit code, with this configuration. */
  async function check(config: string): Promise<number> {
    const file = path.join(folder, 'config.yaml');
    writeFileSync(file, config);
    const env = { PATH: process.env.PATH ?? '' };
    return await promisify(execFile)(process.execPath, [PROGRAM, file], { env }).then(
      () => 0,
      ({ code }: { code: number }) => code,
    );
  }

  test('ends with 0 while the port of another number answers, and with 1 when it says no or is away', async () => {
    let status = 200;
    const asked: string[] = [];
    const server = http.createServer((request, response) => {
      asked.push(request.url ?? '');
      response.writeHead(status).end();
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const config = `metrics: { listen: "0.0.0.0:${(server.address() as AddressInfo).port}" }`;
    expect(await check(config)).toBe(0);
    status = 500;
    expect(await check(config)).toBe(1);
    server.close();
    await once(server, 'close');
    expect(await check(config)).toBe(1);
    expect(asked).toEqual(['/healthz', '/healthz']);
  });

  test('ends with 0 while the socket of an agent without metrics takes connections', async () => {
    const socket = path.join(folder, 'api.sock');
    expect(await check(`socket: ${socket}`)).toBe(1);
    const server = net.createServer((one) => one.destroy());
    await once(server.listen(socket), 'listening');
    expect(await check(`socket: ${socket}`)).toBe(0);
    server.close();
  });
});
