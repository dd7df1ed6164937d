import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { createConnections } from '../../../../controller/tls/connections.ts';
import { collectLog } from '../../../lab/log-lines.ts';
import { labPki } from '../../../lab/pki.ts';

const IDLE_MS = 300_000;

/** As one whose handshake is done; `moved` is what it has read. */
function someSocket(moved: { bytes: number }): TLSSocket {
  const socket = new TLSSocket(new net.Socket());
  Object.defineProperty(socket, 'bytesRead', { get: () => moved.bytes });
  Object.defineProperty(socket, 'bytesWritten', { value: 0 });
  return socket;
}

describe('a connection', () => {
  test('without a certificate is closed when it has moved no byte in five minutes, and not before', () => {
    const connections = createConnections(10, collectLog().log);
    const [silent, alive] = [{ bytes: 100 }, { bytes: 100 }];
    const sockets = [someSocket(silent), someSocket(alive)];
    for (const socket of sockets) connections.add(socket, [], {});
    const startMs = Date.now() + 1_000;
    connections.sweep(startMs);
    alive.bytes += 1;
    connections.sweep(startMs + IDLE_MS - 1);
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([false, false]);
    connections.sweep(startMs + IDLE_MS);
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true, false]);
    connections.endAll();
  });

  test('with a certificate may be silent until that expires', async () => {
    await using pki = await labPki();
    const { log, line } = collectLog();
    const connections = createConnections(10, log);
    const certificate = new X509Certificate(readFileSync((await pki.agent('prod', 'node-1')).certFile));
    const socket = someSocket({ bytes: 0 });
    connections.add(socket, [certificate], { peer: '10.0.0.1:1' });
    const endMs = certificate.validToDate.getTime();
    connections.sweep(endMs - 1);
    expect(socket.destroyed).toBe(false);
    connections.sweep(endMs);
    expect(socket.destroyed).toBe(true);
    await line('10.0.0.1:1', 'its certificate has expired');
  });

  test('that is gone makes room for another', async () => {
    const connections = createConnections(1, collectLog().log);
    const socket = someSocket({ bytes: 0 });
    connections.add(socket, [], {});
    expect(connections.obstacle(true)).toBe('there are 1 connections already');
    const gone = new Promise((resolve) => socket.once('close', resolve));
    socket.destroy();
    await gone;
    expect(connections.obstacle(true)).toBeUndefined();
    expect(connections.obstacle(false)).toBeUndefined();
    expect(connections.size).toBe(0);
  });
});
