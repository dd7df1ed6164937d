import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Files } from '../../cli/pki/folder.ts';
import { issueAuthority, type Pair } from '../../cli/pki/issue.ts';
import { agentIdentity, operatorName } from '../../controller/identity/certificates.ts';
import { type Listener, openListener } from '../../controller/tls/tls.ts';
import { collectLog, type LogLines } from '../lab/log-lines.ts';
import { type LabPki, labPki } from '../lab/pki.ts';

/** Each attempt ends with nobody let in, a line in the log that says why, and a listener that serves the next. */

const exec = promisify(execFile);
const HOUR_MS = 3_600_000;
const AGENT = 'spiffe://exhibit/cluster/prod/node/node-1';

let pki: LabPki;
/** Another installation: the same names all over, other keys. */
let stranger: LabPki;
beforeAll(async () => {
  pki = await labPki();
  stranger = await labPki();
});
afterAll(async () => {
  await pki[Symbol.asyncDispose]();
  await stranger[Symbol.asyncDispose]();
});

interface Port extends LogLines, AsyncDisposable {
  readonly listener: Listener;
  /** Who was let in, by name. */
  readonly letIn: string[];
}

async function open(of: 'agents' | 'operators', over: Partial<Parameters<typeof openListener>[0]> = {}): Promise<Port> {
  const letIn: string[] = [];
  const log = collectLog();
  const greet = (socket: TLSSocket) => {
    const { raw } = socket.getPeerCertificate();
    try {
      letIn.push(of === 'agents' ? agentIdentity({ raw }, 'exhibit').node : operatorName({ raw }, 'exhibit'));
      socket.write('welcome');
    } catch (error) {
      log.log.warn({ reason: String(error) }, 'not an identity');
      socket.destroy();
    }
  };
  const handlers = { h2: greet, 'http/1.1': greet };
  const listener = await openListener({ ...pki.listener(of), handlers, pollMs: 600_000, ...over }, log.log);
  return { ...log, letIn, listener, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() };
}

/** What the listener said before it hung up, or `welcome`. Believes every server: it is the client who is judged here. */
async function visit(port: Port, files?: Pick<Files, 'certFile' | 'keyFile'>): Promise<string> {
  const own = files === undefined ? {} : { cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) };
  const options = { host: '127.0.0.1', port: port.listener.port, rejectUnauthorized: false, ALPNProtocols: ['h2'] };
  const socket = tls.connect({ ...options, ...own });
  socket.on('error', () => undefined);
  let said = '';
  socket.on('data', (chunk) => {
    said += chunk;
    socket.destroy();
  });
  await closed(socket);
  return said;
}

async function stillServes(port: Port, of: 'agents' | 'operators'): Promise<void> {
  const before = port.letIn.length;
  expect(await visit(port, of === 'agents' ? await pki.agent('prod', 'good') : await pki.operator('good'))).toBe(
    'welcome',
  );
  expect(port.letIn.slice(before)).toEqual(['good']);
}

async function refused(files: Pick<Files, 'certFile' | 'keyFile'> | undefined, ...words: string[]): Promise<void> {
  await using port = await open('agents');
  expect(await visit(port, files)).toBe('');
  await port.line(...words);
  expect(port.letIn).toEqual([]);
  await stillServes(port, 'agents');
}

const agentOf = async (pair: Pair, over: object = {}, chain: readonly Pair[] = []) =>
  await pki.issue({ names: [{ uri: AGENT }], ...over }, pair, chain);

function authorityBelow(issuer: Pair | undefined, commonName: string): Promise<Pair> {
  const times = { notBefore: new Date(Date.now() - HOUR_MS), notAfter: new Date(Date.now() + HOUR_MS) };
  return issueAuthority({ commonName, usage: 'client', pathLength: 5, ...times }, issuer);
}

describe("the agents' port", () => {
  test('lets nobody in without a certificate', async () => {
    await refused(undefined, 'refused: it showed no certificate');
  });

  test("lets nobody in of another installation's authority that has the same name", async () => {
    const files = await stranger.agent('prod', 'node-1');
    await refused(files, 'not issued by an authority that is trusted here', AGENT);
  });

  test("lets nobody in of another cluster's own authority, even when the authority is sent along", async () => {
    const other = await authorityBelow(undefined, 'ca of cluster dev');
    await refused(await agentOf(other), 'trusted here', AGENT);
    await refused(await agentOf(other, {}, [other]), 'trusted here', AGENT);
  });

  test('lets nobody in with an expired certificate', async () => {
    const times = { notBefore: new Date(Date.now() - 2 * HOUR_MS), notAfter: new Date(Date.now() - HOUR_MS) };
    await refused(await agentOf(await pki.pair('agents'), times), 'it has expired', AGENT);
  });

  test('lets nobody in with a certificate that is not valid yet', async () => {
    const times = { notBefore: new Date(Date.now() + HOUR_MS), notAfter: new Date(Date.now() + 2 * HOUR_MS) };
    await refused(await agentOf(await pki.pair('agents'), times), 'it is not valid yet', AGENT);
  });

  test("lets nobody in with an operator's certificate", async () => {
    await refused(await pki.operator('alice'), 'trusted here', 'spiffe://exhibit/operator/alice');
  });

  test("lets nobody in with the controller's own certificate", async () => {
    await refused(pki.server, 'trusted here', 'DNS:localhost');
  });

  test('lets nobody in with a certificate for servers, though its authority and name are right', async () => {
    const files = await agentOf(await pki.pair('agents'), { usage: 'server' });
    await refused(files, 'it is not for clients', AGENT);
  });

  test('lets nobody in below an authority that an authority may not make', async () => {
    const agents = await pki.pair('agents');
    const middle = await authorityBelow(agents, 'one too many');
    await refused(await agentOf(middle, {}, [middle]), 'not trusted here, or may not be one', AGENT);
    // The judge says why, when no revocation list is asked for: the path length.
    const files = await agentOf(middle, {}, [middle]);
    const args = ['verify', '-CAfile', pki.caFile('agents'), '-untrusted', files.certFile, files.certFile];
    await expect(exec('openssl', args)).rejects.toThrow(/path length constraint exceeded/);
  });

  test('lets nobody in below a leaf that plays the authority', async () => {
    const files = await pki.agent('prod', 'node-1');
    const leaf = { certificate: new X509Certificate(readFileSync(files.certFile)), key: await keyOf(files) };
    await refused(await agentOf(leaf, {}, [leaf]), 'refused: its certificate is refused', AGENT);
  });

  test('lets nobody in with names that the authority may not give', async () => {
    const agents = await pki.pair('agents');
    await refused(
      await agentOf(agents, { names: [{ uri: 'spiffe://evil/cluster/prod/node/node-1' }] }),
      'may not give',
    );
    await refused(await agentOf(agents, { names: [{ uri: AGENT }, { dns: 'kubernetes.default' }] }), 'may not give');
  });

  test.each([
    ['a second URI', [{ uri: AGENT }, { uri: 'spiffe://exhibit/cluster/prod/node/node-2' }]],
    ['a comma that makes one URI two', [{ uri: `spiffe://exhibit/cluster/a, URI:${AGENT}` }]],
    ['a NUL behind the name', [{ uri: `${AGENT}\0x` }]],
    ['an operator', [{ uri: 'spiffe://exhibit/operator/alice' }]],
  ])('takes a certificate of the right authority with %s for nobody', async (_, names) => {
    await refused(await agentOf(await pki.pair('agents'), { names }), 'not an identity', 'certificate is refused');
  });

  test('lets nobody in with a chain of 400 KiB', async () => {
    const middle = await authorityBelow(undefined, 'padding');
    const files = await agentOf(await pki.pair('agents'), {}, Array<Pair>(600).fill(middle));
    await refused(files, 'its certificate chain is too large');
  });

  test('lets a revoked agent go, while it is connected, and never in again', async () => {
    const own = await labPki();
    await using _ = own;
    await using port = await open('agents', { ...own.listener('agents') });
    const files = await own.agent('prod', 'node-1');
    const [cert, key] = [readFileSync(files.certFile), readFileSync(files.keyFile)];
    const socket = tls.connect({ host: '127.0.0.1', port: port.listener.port, rejectUnauthorized: false, cert, key });
    socket.on('error', () => undefined);
    expect(String(await once(socket, 'data'))).toBe('welcome');
    const ended = closed(socket);
    await own.revoke(files);
    await port.listener.reload();
    await ended;
    await port.line('connection ended: its certificate was revoked', AGENT);
    expect(await visit(port, files)).toBe('');
    await port.line('refused: its certificate is refused: it was revoked', AGENT);
    expect(port.letIn).toEqual(['node-1']);
    expect(await visit(port, await own.agent('prod', 'node-2'))).toBe('welcome');
  });

  test('lets nobody in while the revocation list is out of date, and says what to do', async () => {
    const own = await labPki();
    await using _ = own;
    const { issueRevocationList } = await import('../../cli/pki/revoke.ts');
    const { writeFile } = await import('node:fs/promises');
    const ago = (hours: number) => new Date(Date.now() - hours * HOUR_MS);
    const list = { number: 7n, revoked: [], thisUpdate: ago(2), nextUpdate: ago(1) };
    await writeFile(own.crlFile('agents'), await issueRevocationList(list, await own.pair('agents')));
    await using port = await open('agents', { ...own.listener('agents') });
    await port.line('a revocation list', 'nobody is let in: renew it');
    const files = await own.agent('prod', 'node-1');
    expect(await visit(port, files)).toBe('');
    await port.line('put a new one into crlFile');
    await own.renewLists();
    await port.listener.reload();
    expect(await visit(port, files)).toBe('welcome');
  });
});

describe("the operators' port", () => {
  test("lets nobody in with an agent's certificate, though it does not ask for one", async () => {
    await using port = await open('operators');
    expect(await visit(port, await pki.agent('prod', 'node-1'))).toBe('');
    await port.line('trusted here', AGENT);
    expect(port.letIn).toEqual([]);
    await stillServes(port, 'operators');
  });
});

describe('what is no TLS', () => {
  async function send(port: Port, bytes: Uint8Array | string): Promise<void> {
    const socket = net.connect(port.listener.port, '127.0.0.1');
    socket.on('error', () => undefined).on('data', () => undefined);
    await once(socket, 'connect');
    socket.write(bytes);
    await closed(socket);
  }

  test.each([
    ['garbage', Buffer.alloc(4096, 0xa5), 'it did not speak TLS'],
    ['zeros', Buffer.alloc(4096), 'refused: '],
    ['HTTP', 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', 'it spoke HTTP without TLS'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'refused: '],
    ['a record that says it is longer than TLS allows', Buffer.from('16030107ffff', 'hex'), 'refused: '],
    [
      'a ClientHello of garbage',
      Buffer.concat([Buffer.from('1603010200010001fc0303', 'hex'), Buffer.alloc(505, 0xff)]),
      'refused: ',
    ],
  ] as const)('is refused: %s', async (_, bytes, words) => {
    await using port = await open('agents');
    if (words === 'refused: ') {
      const socket = net.connect(port.listener.port, '127.0.0.1');
      socket.on('error', () => undefined).on('data', () => undefined);
      await once(socket, 'connect');
      // Some of these are the beginning of what could still become a handshake.
      socket.end(bytes);
      await closed(socket);
    } else await send(port, bytes);
    await port.line(words);
    expect(port.letIn).toEqual([]);
    await stillServes(port, 'agents');
  });

  test('is said to a log a few times only: a flood of it does not fill a disk', async () => {
    await using port = await open('agents');
    for (let count = 0; count < 200; count += 1) await send(port, 'GET / HTTP/1.1\r\n\r\n');
    await port.listener[Symbol.asyncDispose]();
    const told = port.lines.filter(({ msg }) => String(msg).startsWith('refused'));
    expect(told.length).toBeLessThanOrEqual(100);
    const untold = port.lines.flatMap(({ untold: count }) => (typeof count === 'number' ? [count] : []));
    expect(untold.reduce((sum, one) => sum + one, told.length)).toBe(200);
  });
});

describe('a thousand handshakes that are never finished', () => {
  test('keep no honest client out', async () => {
    await using port = await open('agents');
    const sockets = await Promise.all(
      Array.from({ length: 1_000 }, async (_, index) => {
        const socket = net.connect(port.listener.port, '127.0.0.1');
        socket.on('error', () => undefined);
        await once(socket, 'connect');
        // Half of them say nothing at all, half begin a record.
        if (index % 2 === 0) socket.write(Buffer.from('160301', 'hex'));
        return socket;
      }),
    );
    await stillServes(port, 'agents');
    expect(sockets.filter(({ destroyed }) => destroyed)).toEqual([]);
    for (const socket of sockets) socket.destroy();
    await stillServes(port, 'agents');
    expect(port.listener.connectionCount()).toBeLessThanOrEqual(2);
  });
});

/** `once` of node:events fails with the errors that are the other end's to make here. */
function closed(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

async function keyOf({ keyFile }: Pick<Files, 'keyFile'>) {
  const { createPrivateKey } = await import('node:crypto');
  return createPrivateKey(readFileSync(keyFile));
}
