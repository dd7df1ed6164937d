import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { openListener, type Protocol } from '../../../controller/tls.ts';
import { labPki } from '../../lab/pki.ts';

describe('the API port', () => {
  test.each<[string[], Protocol]>([
    [['h2'], 'h2'],
    [['h2', 'http/1.1'], 'http/1.1'],
    [['http/1.1'], 'http/1.1'],
    [[], 'http/1.1'],
  ])('gives a client that offers %j to %s', async (offered, taken) => {
    await using pki = await labPki();
    const { promise, resolve } = Promise.withResolvers<Protocol>();
    const take = (protocol: Protocol) => (socket: tls.TLSSocket) => {
      resolve(protocol);
      socket.destroy();
    };
    const handlers = { h2: take('h2'), 'http/1.1': take('http/1.1') };
    await using listener = await openListener({ ...pki.listener('operators'), handlers }, pino({ level: 'silent' }));
    const ca = readFileSync(pki.caFile('controller'));
    const { port } = listener;
    const client = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ca, ALPNProtocols: offered });
    client.on('error', () => undefined);
    await once(client, 'secureConnect');
    expect(await promise).toBe(taken);
    client.destroy();
  });
});
