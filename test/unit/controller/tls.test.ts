import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { cp, mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import pino from 'pino';
import { describe, expect, test } from 'vitest';
import { agentIdentity } from '../../../controller/identity/certificates.ts';
import { type Listener, openListener } from '../../../controller/tls.ts';
import { collectLog } from '../../lab/log-lines.ts';
import { labPki } from '../../lab/pki.ts';

const exec = promisify(execFile);
const quiet = pino({ level: 'silent' });

function connect(listener: Listener, options: tls.ConnectionOptions): tls.TLSSocket {
  const socket = tls.connect({ host: '127.0.0.1', port: listener.port, ALPNProtocols: ['http/1.1'], ...options });
  socket.on('error', () => undefined);
  return socket;
}

const credentials = (files: { certFile: string; keyFile: string }) => ({
  cert: readFileSync(files.certFile),
  key: readFileSync(files.keyFile),
});

describe('a listener', () => {
  test('serves gRPC to a client whose certificate is good, and tells the handler who it is', async () => {
    await using pki = await labPki();
    const server = new grpc.Server();
    let peer = '';
    server.addService(healthService, {
      check: (call: grpc.ServerUnaryCall<unknown, unknown>, callback: grpc.sendUnaryData<unknown>) => {
        const certificate = call.getAuthContext().sslPeerCertificate;
        const { cluster, node } = agentIdentity(certificate ?? { raw: Buffer.alloc(0) }, 'exhibit');
        peer = `${cluster}/${node}`;
        callback(null, { status: 'SERVING' });
      },
      watch: () => undefined,
      list: () => undefined,
    });
    const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    const handlers = { h2: (socket: tls.TLSSocket) => injector.injectConnection(socket) };
    await using listener = await openListener({ ...pki.listener('agents'), handlers }, quiet);
    const agent = await pki.agent('prod', 'node-1');
    const ca = readFileSync(pki.caFile('controller'));
    const { cert, key } = credentials(agent);
    const Client = grpc.makeGenericClientConstructor(healthService, 'health');
    const client = new Client(`localhost:${listener.port}`, grpc.credentials.createSsl(ca, key, cert));
    const check = client.check;
    const answer = await new Promise((resolve, reject) => {
      check?.call(client, { service: '' }, (error: Error | null, response: unknown) =>
        error === null ? resolve(response) : reject(error),
      );
    });
    expect(answer).toMatchObject({ status: 'SERVING' });
    expect(peer).toBe('prod/node-1');
    client.close();
    server.forceShutdown();
  });
});
