import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { cp, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { describe, expect, test } from 'vitest';
import { issueAuthority } from '../../../../cli/pki/issue.ts';
import { issueRevocationList, type Revoked } from '../../../../cli/pki/revoke.ts';
import { agentIdentity, operatorName } from '../../../../controller/identity/certificates.ts';
import { listenerSchema } from '../../../../controller/tls/files.ts';
import { type Listener, openListener } from '../../../../controller/tls/tls.ts';
import { collectLog } from '../../../lab/log-lines.ts';
import { type LabPki, labPki } from '../../../lab/pki.ts';

const exec = promisify(execFile);
/** Never by itself: tests that need it wait for it. */
const SLOW_POLL_MS = 600_000;
const FAST_POLL_MS = 20;

type Files = { readonly certFile: string; readonly keyFile: string };

const credentials = ({ certFile, keyFile }: Files) => ({ cert: readFileSync(certFile), key: readFileSync(keyFile) });

/** Serves `hello NAME` over HTTP/1.1, where NAME is the operator's or `nobody`. */
async function open(
  pki: LabPki,
  of: 'agents' | 'operators',
  over: Partial<Parameters<typeof openListener>[0]> = {},
): Promise<{ listener: Listener } & ReturnType<typeof collectLog> & AsyncDisposable> {
  const log = collectLog();
  const server = http.createServer((request, response) => {
    const { raw } = (request.socket as tls.TLSSocket).getPeerCertificate();
    if (raw === undefined) response.end('hello nobody');
    else if (of === 'agents') response.end(`hello ${agentIdentity({ raw }, 'exhibit').node}`);
    else response.end(`hello ${operatorName({ raw }, 'exhibit')}`);
  });
  const handlers = { 'http/1.1': (socket: tls.TLSSocket) => void server.emit('connection', socket) };
  const options = { ...pki.listener(of), handlers, pollMs: SLOW_POLL_MS, ...over };
  const listener = await openListener(options, log.log);
  return { ...log, listener, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() };
}

async function curl(pki: LabPki, listener: Listener, files?: Files, more: readonly string[] = []): Promise<string> {
  const own = files === undefined ? [] : ['--cert', files.certFile, '--key', files.keyFile];
  const args = ['-sS', '--max-time', '10', '--cacert', pki.caFile('controller'), ...own, ...more];
  const { stdout } = await exec('curl', [...args, `https://localhost:${listener.port}/`]);
  return stdout;
}

/** A connection that has got its answer, and stays. */
async function stay(pki: LabPki, listener: Listener, files: Files): Promise<tls.TLSSocket> {
  const ca = await readFile(pki.caFile('controller'));
  const socket = tls.connect({ host: 'localhost', port: listener.port, ca, ...credentials(files) });
  socket.on('error', () => undefined);
  socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await once(socket, 'data');
  return socket;
}

/** `once` of node:events fails with an error that comes before. */
function closed(socket: tls.TLSSocket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

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
    await using listener = await openListener({ ...pki.listener('agents'), handlers }, collectLog().log);
    const { cert, key } = credentials(await pki.agent('prod', 'node-1'));
    const ca = readFileSync(pki.caFile('controller'));
    const Client = grpc.makeGenericClientConstructor(healthService, 'health');
    const client = new Client(`localhost:${listener.port}`, grpc.credentials.createSsl(ca, key, cert));
    const answer = await new Promise((resolve, reject) => {
      client.check?.call(client, { service: '' }, (error: Error | null, response: unknown) =>
        error === null ? resolve(response) : reject(error),
      );
    });
    expect(answer).toMatchObject({ status: 'SERVING' });
    expect(peer).toBe('prod/node-1');
    client.close();
    server.forceShutdown();
  });

  test('answers curl with a certificate, and without one where it only asks for it', async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators');
    expect(await curl(pki, api.listener, await pki.operator('alice'))).toBe('hello alice');
    expect(await curl(pki, api.listener)).toBe('hello nobody');
  });

  test('serves IPv6, and IPv4 over it', async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators', { listen: '[::]:0' });
    const alice = await pki.operator('alice');
    expect(await curl(pki, api.listener, alice, ['-4'])).toBe('hello alice');
    expect(await curl(pki, api.listener, alice, ['-6', '--resolve', `localhost:${api.listener.port}:::1`])).toBe(
      'hello alice',
    );
    await expect(curl(pki, api.listener, await pki.agent('prod', 'node-1'), ['-4'])).rejects.toThrow();
    await api.line('refused', '[::ffff:127.0.0.1]:');
  });

  test('speaks TLS 1.3 alone unless told, and then 1.2 as well', async () => {
    await using pki = await labPki();
    const alice = await pki.operator('alice');
    await using api = await open(pki, 'operators');
    await expect(curl(pki, api.listener, alice, ['--tls-max', '1.2'])).rejects.toThrow();
    await api.line('only versions of TLS that are not allowed');
    await using old = await open(pki, 'operators', { minVersion: 'TLSv1.2' });
    expect(await curl(pki, old.listener, alice, ['--tls-max', '1.2'])).toBe('hello alice');
  });

  test.each(['-tls1_3', '-tls1_2'])(
    'resumes no session (%s): openssl s_client is a new one each time',
    async (version) => {
      await using pki = await labPki();
      await using api = await open(pki, 'operators', { minVersion: 'TLSv1.2' });
      const { certFile, keyFile } = await pki.operator('alice');
      const session = join(pki.folder, 'session');
      const args = ['s_client', '-connect', `127.0.0.1:${api.listener.port}`, version, '-quiet', '-ign_eof'];
      const own = ['-cert', certFile, '-key', keyFile, '-CAfile', pki.caFile('controller')];
      const run = (more: string[]) => {
        const child = exec('openssl', [...args.filter((one) => one !== '-quiet'), ...own, ...more]);
        child.child.stdin?.end('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
        return child;
      };
      expect((await run(['-sess_out', session])).stdout).toContain('hello alice');
      const second = await run(['-sess_in', session]);
      expect(second.stdout).toContain('hello alice');
      expect(second.stdout).toMatch(/^New, /m);
      expect(second.stdout).not.toMatch(/^Reused, /m);
    },
  );

  test('hands on what it serves by ALPN, and refuses what it does not', async () => {
    await using pki = await labPki();
    await using agents = await open(pki, 'agents', { handlers: { h2: (socket) => void socket.end() } });
    const agent = await pki.agent('prod', 'node-1');
    await expect(curl(pki, agents.listener, agent, ['--http1.1'])).rejects.toThrow(/alert|protocol/i);
    await expect(curl(pki, agents.listener, agent, ['--no-alpn'])).rejects.toThrow();
    await agents.line('named no protocol that is served here');
  });

  test('takes no more connections than it may, and no more without a certificate than a quarter', async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators', { maxConnections: 4 });
    const alice = await pki.operator('alice');
    const ca = readFileSync(pki.caFile('controller'));
    const nobody = tls.connect({ host: 'localhost', port: api.listener.port, ca });
    nobody.on('error', () => undefined).write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(nobody, 'data');
    await expect(curl(pki, api.listener)).rejects.toThrow();
    await api.line('there are 1 connections without a certificate already');
    const held = [nobody];
    for (let count = 0; count < 3; count += 1) held.push(await stay(pki, api.listener, alice));
    expect(api.listener.connectionCount()).toBe(4);
    await expect(curl(pki, api.listener, alice)).rejects.toThrow();
    await api.line('there are 4 connections already');
    for (const socket of held) socket.destroy();
  });
});

describe('what a listener reads again', () => {
  test('is a certificate that was replaced: the next client sees it, those connected stay', async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators');
    const alice = await pki.operator('alice');
    const socket = await stay(pki, api.listener, alice);
    const before = socket.getPeerCertificate().serialNumber;
    await pki.replaceServer();
    await api.listener.reload();
    const next = await stay(pki, api.listener, alice);
    expect(next.getPeerCertificate().serialNumber).not.toBe(before);
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(String(await once(socket, 'data'))).toContain('hello alice');
    socket.destroy();
    next.destroy();
  });

  test("is seen by itself, also through Kubernetes' links to a folder that is swapped", async () => {
    await using pki = await labPki();
    const mount = join(pki.folder, 'mount');
    const version = async (name: string) => {
      await mkdir(join(mount, name), { recursive: true });
      await cp(pki.server.certFile, join(mount, name, 'tls.crt'));
      await cp(pki.server.keyFile, join(mount, name, 'tls.key'));
      await symlink(name, join(mount, '..data_tmp'));
      await rename(join(mount, '..data_tmp'), join(mount, '..data'));
    };
    await version('..2026_1');
    const [certFile, keyFile] = [join(mount, 'tls.crt'), join(mount, 'tls.key')];
    await symlink('..data/tls.crt', certFile);
    await symlink('..data/tls.key', keyFile);
    await using api = await open(pki, 'operators', { certFile, keyFile, pollMs: FAST_POLL_MS });
    await pki.replaceServer();
    const serial = new X509Certificate(readFileSync(pki.server.certFile)).serialNumber;
    await version('..2026_2');
    await api.line('TLS files read', serial);
    const socket = await stay(pki, api.listener, await pki.operator('alice'));
    expect(socket.getPeerCertificate().serialNumber).toBe(serial);
    socket.destroy();
  });

  test.each([
    ['certFile', 'garbage', 'has no certificate in PEM'],
    ['certFile', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', 'is damaged'],
    ['keyFile', 'garbage', 'has no private key in PEM'],
    ['caFile', '', 'has no certificate in PEM'],
    ['crlFile', '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n', 'revocation list is damaged'],
    ['crlFile', 'garbage', 'has no revocation list in PEM'],
  ] as const)(
    'is not taken when %s is broken (%j): the old one stays, and the log says so once',
    async (key, text, words) => {
      await using pki = await labPki();
      await using api = await open(pki, 'operators', { pollMs: FAST_POLL_MS });
      const alice = await pki.operator('alice');
      const file = pki.listener('operators')[key] ?? '';
      const good = await readFile(file);
      await writeFile(file, text);
      await api.line('those from before stay in use', words);
      expect(await curl(pki, api.listener, alice)).toBe('hello alice');
      await api.listener.reload();
      expect(api.lines.filter(({ msg }) => String(msg).includes('stay in use'))).toHaveLength(1);
      await writeFile(file, good);
      await api.listener.reload();
      expect(api.lines.at(-1)?.msg).toBe('TLS files read');
    },
  );

  test("is not taken when the key is another certificate's, and no word of it is in the log", async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators');
    const other = await pki.operator('bob');
    const secret = (await readFile(other.keyFile, 'utf8')).split('\n')[1] ?? '';
    await writeFile(pki.server.keyFile, await readFile(other.keyFile));
    await api.listener.reload();
    await api.line('is not that of the certificate');
    expect(secret.length).toBeGreaterThan(20);
    expect(JSON.stringify(api.lines)).not.toContain(secret.slice(0, 20));
  });

  test('ends the connection of a certificate that was revoked, and of no other', async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators');
    const [alice, bob] = [await pki.operator('alice'), await pki.operator('bob')];
    const [hers, his] = [await stay(pki, api.listener, alice), await stay(pki, api.listener, bob)];
    const ended = closed(hers);
    await pki.revoke(alice);
    await api.listener.reload();
    await ended;
    expect(await api.line('connection ended', 'spiffe://exhibit/operator/alice')).toMatchObject({
      msg: 'connection ended: its certificate was revoked',
    });
    his.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(String(await once(his, 'data'))).toContain('hello bob');
    his.destroy();
    await expect(curl(pki, api.listener, alice)).rejects.toThrow();
    await api.line('refused', 'it was revoked', 'operator/alice');
  });

  test('ends the connections of an authority that is no longer trusted', async () => {
    await using pki = await labPki();
    await using other = await labPki();
    const caFile = join(pki.folder, 'both.pem');
    const ours = await readFile(pki.caFile('operators'), 'utf8');
    await writeFile(caFile, ours + (await readFile(other.caFile('operators'), 'utf8')));
    const crlFile = join(pki.folder, 'both-lists.pem');
    const lists = [pki, other].map((one) => readFileSync(one.crlFile('operators'), 'utf8'));
    await writeFile(crlFile, lists.join(''));
    await using api = await open(pki, 'operators', { caFile, crlFile });
    const [hers, his] = [
      await stay(pki, api.listener, await pki.operator('alice')),
      await stay(pki, api.listener, await other.operator('bob')),
    ];
    const ended = closed(his);
    await writeFile(caFile, ours);
    await writeFile(crlFile, lists[0] ?? '');
    await api.listener.reload();
    await ended;
    await api.line('no longer trusted', 'operator/bob');
    expect(hers.destroyed).toBe(false);
    hers.destroy();
  });
});

test('a listener without revocation lists has no end of one', async () => {
  await using pki = await labPki();
  await using api = await open(pki, 'operators', { crlFile: undefined });
  expect(api.listener.listsNotAfterMs()).toBeUndefined();
});

describe('an authority between the trusted one and its clients', () => {
  async function withMiddle(pki: LabPki) {
    const times = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 600_000) };
    const root = await issueAuthority({ commonName: 'root', usage: 'client', pathLength: 1, ...times });
    const middle = await issueAuthority({ commonName: 'middle', usage: 'client', ...times }, root);
    const [caFile, crlFile] = [join(pki.folder, 'root.pem'), join(pki.folder, 'lists.pem')];
    const writeLists = async (revoked: Revoked[], soonerMs = 0) => {
      const list = { number: 1n, thisUpdate: times.notBefore, nextUpdate: new Date(+times.notAfter - soonerMs) };
      const ofRoot = await issueRevocationList({ ...list, revoked }, root);
      // Its list can be checked only with its own certificate, so that stands in caFile too.
      await writeFile(crlFile, ofRoot + (await issueRevocationList({ ...list, revoked: [] }, middle)));
    };
    await writeFile(caFile, `${root.certificate}${middle.certificate}`);
    await writeLists([]);
    const alice = await pki.issue({ names: [{ uri: 'spiffe://exhibit/operator/alice' }] }, middle, [middle]);
    return { caFile, crlFile, middle, alice, writeLists };
  }

  test('is followed, and its clients stay when the files are read again', async () => {
    await using pki = await labPki();
    const { caFile, crlFile, alice, writeLists } = await withMiddle(pki);
    await using api = await open(pki, 'operators', { caFile, crlFile });
    const socket = await stay(pki, api.listener, alice);
    const endMs = api.listener.listsNotAfterMs() ?? 0;
    await writeLists([], 300_000);
    await api.listener.reload();
    // The first of both, to the second.
    expect((api.listener.listsNotAfterMs() ?? 0) - endMs).toBe(-300_000);
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(String(await once(socket, 'data'))).toContain('hello alice');
    socket.destroy();
  });

  test('takes its clients with it when it is revoked', async () => {
    await using pki = await labPki();
    const { caFile, crlFile, alice, middle, writeLists } = await withMiddle(pki);
    await using api = await open(pki, 'operators', { caFile, crlFile });
    const ended = closed(await stay(pki, api.listener, alice));
    await writeLists([{ serial: middle.certificate.serialNumber, at: new Date() }]);
    await api.listener.reload();
    await ended;
    await api.line('connection ended: its certificate was revoked', 'operator/alice');
    await expect(curl(pki, api.listener, alice)).rejects.toThrow();
    await api.line('refused', 'it was revoked');
  });
});

describe('a stream', () => {
  test('ends when the certificate of its client expires', async () => {
    await using pki = await labPki();
    await using api = await open(pki, 'operators');
    const spec = { names: [{ uri: 'spiffe://exhibit/operator/alice' }], notAfter: new Date(Date.now() + 3_000) };
    const socket = await stay(pki, api.listener, await pki.issue(spec, await pki.pair('operators')));
    await closed(socket);
    expect(Date.now()).toBeGreaterThanOrEqual(Math.floor(spec.notAfter.getTime() / 1000) * 1000);
    await api.line('connection ended: its certificate has expired', 'operator/alice');
  });
});

describe('the configuration of a listener', () => {
  const files = { certFile: '/a', keyFile: '/b', caFile: '/c' };
  test.each(['0.0.0.0:7443', '[::]:7443', 'localhost:0'])('takes %s', (listen) => {
    expect(listenerSchema.parse({ listen, ...files })).toMatchObject({ listen, minVersion: 'TLSv1.3' });
  });
  test.each(['7443', ':7443', '::1:7443', 'host:port', 'a b:1'])('refuses %s', (listen) => {
    expect(listenerSchema.safeParse({ listen, ...files }).success).toBe(false);
  });
  test('fails at once, with words, for a file that is not there and for a port that is taken', async () => {
    await using pki = await labPki();
    await expect(open(pki, 'agents', { caFile: '/nowhere/ca.pem' })).rejects.toThrow(
      'Cannot read caFile /nowhere/ca.pem',
    );
    await using first = await open(pki, 'agents');
    await expect(open(pki, 'agents', { listen: `127.0.0.1:${first.listener.port}` })).rejects.toThrow(
      'Cannot listen on',
    );
  });
});
