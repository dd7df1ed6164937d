import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { ownedName } from '../lab/leftovers.ts';
import { type ExecResult, run } from '../lab/machine.ts';
import { startMiddlebox } from '../lab/middlebox.ts';
import { type NetHost, slowObstacle, startNetwork } from '../lab/nets.ts';
import { requireNets } from '../lab/requires.ts';

/** The networks that other tests cut are held to what they promise, with curl as the one who is cut off. */

beforeEach((context) => requireNets(context));

/** Exit codes of curl(1). */
const [COULD_NOT_CONNECT, TIMED_OUT, RECEIVE_ERROR] = [7, 28, 56];

const HERE = ['-c', 'import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=0, bind="0.0.0.0")'];

/** Python's web server in a host's network: `ADDRESS:PORT`. */
async function webServer(host: NetHost): Promise<{ address: string } & AsyncDisposable> {
  const argv = [...host.enter, 'python3', '-u', ...HERE];
  const child = spawn(argv[0] ?? '', argv.slice(1), { cwd: '/proc/self/fdinfo', stdio: ['ignore', 'pipe', 'ignore'] });
  const gone = once(child, 'close');
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
  const port = /port (\d+)/.exec(chunk.toString())?.[1];
  return {
    address: `${host.address}:${port}`,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

async function curl(host: NetHost, address: string, ...more: string[]): Promise<ExecResult> {
  const argv = [...host.enter, 'curl', '-sS', '--max-time', '2', '-w', '%{http_code} %{time_total}', '-o', '/dev/null'];
  return await run(argv[0] ?? '', [...argv.slice(1), ...more, `http://${address}/`]);
}

describe('a network of the lab', () => {
  test('joins hosts by a router, and is not seen in the network of this machine', async () => {
    const before = readFileSync('/proc/net/dev', 'utf8').split('\n').length;
    await using network = await startNetwork();
    const [one, two] = [await network.host('one'), await network.host('two')];
    await using web = await webServer(two);
    expect((await curl(one, web.address)).stdout.toString()).toContain('200');
    expect(readFileSync('/proc/net/dev', 'utf8').split('\n').length).toBe(before);
    expect((await run('curl', ['-sS', '--max-time', '1', `http://${web.address}/`])).code).not.toBe(0);
  });

  test('lets connections hang behind a blackhole, has none at all without a link, and heals of both', async () => {
    await using network = await startNetwork();
    const [one, two] = [await network.host('one'), await network.host('two')];
    await using web = await webServer(two);
    await two.cut('blackhole');
    expect((await curl(one, web.address)).code).toBe(TIMED_OUT);
    await one.cut('down');
    expect((await curl(one, web.address)).code).toBe(COULD_NOT_CONNECT);
    await one.heal();
    expect((await curl(one, web.address)).code).toBe(TIMED_OUT);
    await two.heal();
    expect((await curl(one, web.address)).code).toBe(0);
  });

  test('is slow where the kernel can make it so', async (context) => {
    const reason = slowObstacle();
    if (reason !== undefined) context.skip(reason);
    await using network = await startNetwork();
    const [one, two] = [await network.host('one'), await network.host('two')];
    await using web = await webServer(two);
    await using _slow = await two.slow(150);
    const seconds = Number((await curl(one, web.address)).stdout.toString().split(' ')[1]);
    // The handshake and the request: two round trips.
    expect(seconds).toBeGreaterThan(0.6);
  });
});

describe('a middlebox', () => {
  test('passes on late, not at all, or resets in the middle', async () => {
    await using network = await startNetwork();
    const [one, two, three] = [await network.host('one'), await network.host('two'), await network.host('three')];
    await using web = await webServer(two);
    await using box = await startMiddlebox(three, web.address);
    expect((await curl(one, box.address)).code).toBe(0);
    box.set({ delayMs: 300 });
    const late = await curl(one, box.address);
    expect(Number(late.stdout.toString().split(' ')[1])).toBeGreaterThan(0.6);
    box.set({ stalled: true });
    expect((await curl(one, box.address)).code).toBe(TIMED_OUT);
    box.set({ resetAfterBytes: 10 });
    expect((await curl(one, box.address)).code).toBe(RECEIVE_ERROR);
  });

  test('lets this process reach into a network through a path', async () => {
    const path = join(tmpdir(), `${ownedName()}.sock`);
    await using network = await startNetwork();
    const [one, two] = [await network.host('one'), await network.host('two')];
    await using web = await webServer(two);
    await using box = await startMiddlebox(one, web.address, path);
    expect(box.address).toBe(`unix:${path}`);
    const { code } = await run('curl', ['-sS', '--unix-socket', path, '-o', '/dev/null', 'http://two/']);
    rmSync(path, { force: true });
    expect(code).toBe(0);
    // A name of the file system is no address of the network: nothing of this machine listens for it.
    const server = createServer().listen(0, one.address);
    await expect(once(server, 'listening')).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' });
  });
});
