import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { describePeer, peerCredentials } from '../../../agent/host/peer-credentials.ts';
import { closed } from '../../lab/closed.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-peer-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The server's end of a connection that this process makes. */
async function accepted(
  listen: (server: net.Server) => net.ListenOptions,
): Promise<AsyncDisposable & { end: net.Socket }> {
  const server = net.createServer();
  const options = listen(server);
  server.listen(options);
  await once(server, 'listening');
  const client = net.connect(
    options.path === undefined ? { port: (server.address() as net.AddressInfo).port } : { path: options.path },
  );
  const [end] = (await once(server, 'connection')) as [net.Socket];
  return {
    end,
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      end.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

describe('who is at the other end of a socket', () => {
  test('is what the kernel says of a Unix one', async () => {
    await using connection = await accepted(() => ({ path: path.join(folder, 's') }));
    const own = { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() };
    expect(peerCredentials(connection.end)).toEqual(own);
  });

  test('is not known of a TCP one, and not of one that is closed', async () => {
    await using connection = await accepted(() => ({ host: '127.0.0.1', port: 0 }));
    expect(peerCredentials(connection.end)).toBeUndefined();
    connection.end.destroy();
    await closed(connection.end);
    expect(peerCredentials(connection.end)).toBeUndefined();
  });

  test('has a program and a login above it, as far as /proc tells', () => {
    mkdirSync(path.join(folder, '17'));
    expect(describePeer({ pid: 17, uid: 0, gid: 5 }, folder)).toBe('uid 0, gid 5, pid 17');
    symlinkSync('/usr/bin/node', path.join(folder, '17', 'exe'));
    writeFileSync(path.join(folder, '17', 'loginuid'), '4294967295');
    expect(describePeer({ pid: 17, uid: 0, gid: 5 }, folder)).toBe('uid 0, gid 5, pid 17 (node)');
    writeFileSync(path.join(folder, '17', 'loginuid'), '1000');
    expect(describePeer({ pid: 17, uid: 0, gid: 5 }, folder)).toBe('uid 0, gid 5, pid 17 (node), login uid 1000');
    expect(describePeer({ pid: 0, uid: 0, gid: 0 }, folder)).toBe(
      "uid 0, gid 0, a process outside of the agent's pid namespace",
    );
  });
});
