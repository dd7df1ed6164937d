import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import pino from 'pino';
import type { AlertsConfig } from '../../controller/alerts/config.ts';
import type { Api } from '../../controller/api/api.ts';
import { openHttp } from '../../controller/api/http.ts';
import type { HttpLimits } from '../../controller/api/http-server.ts';
import type { Caller, Identity } from '../../controller/identity/identity.ts';
import type { NewAudit, Store } from '../../controller/store/store.ts';
import { ExhibitError } from '../../evidence/error.ts';

/** The HTTP side of the controller behind a TLS listener of its own, with certificates that openssl makes, over an `Api` of the test. */
export interface HttpLab extends AsyncDisposable {
  readonly port: number;
  readonly folder: string;
  /** Of the server's and the operator's certificates. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly audit: NewAudit[];
  /** curl's exit code, and what it printed. Trusts the CA; says who it is where the test says so. */
  curl(...args: string[]): Promise<{ readonly code: number; readonly text: string }>;
  url(path: string): string;
}

export interface HttpLabOptions {
  readonly api: Partial<Api>;
  readonly alerts?: AlertsConfig;
  readonly limits?: Partial<HttpLimits>;
  readonly store?: Pick<Store, 'claim' | 'spend' | 'appendAudit'>;
  readonly now?: () => number;
}

export const TOKEN = 'a-token-that-the-test-made-up';

const exec = promisify(execFile);

export async function startHttpLab(options: HttpLabOptions): Promise<HttpLab> {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-http-'));
  await makeCertificates(folder);
  const [ca, cert, key, serverCert, serverKey] = await Promise.all(
    ['ca.pem', 'alice.pem', 'alice.key', 'server.pem', 'server.key'].map((name) =>
      readFile(path.join(folder, name), 'utf8'),
    ),
  );
  const audit: NewAudit[] = [];
  const http = await openHttp({
    api: options.api as Api,
    identity,
    store: options.store ?? memoryStore(audit),
    log: pino({ level: 'silent' }),
    ...(options.alerts === undefined ? {} : { alerts: options.alerts }),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...(options.now === undefined ? {} : { now: options.now }),
  });
  const listener = tls.createServer(
    { cert: serverCert, key: serverKey, ca, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] },
    (socket) => http.accept(socket),
  );
  listener.on('tlsClientError', (_error, socket) => socket.destroy());
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  return {
    port,
    folder,
    ca: ca ?? '',
    cert: cert ?? '',
    key: key ?? '',
    audit,
    url: (route) => `https://localhost:${port}${route}`,
    curl: async (...args) => {
      const fixed = ['--silent', '--show-error', '--max-time', '20', '--cacert', path.join(folder, 'ca.pem')];
      try {
        return { code: 0, text: (await exec('curl', [...fixed, ...args])).stdout };
      } catch (error) {
        const { code, stdout } = error as { code: number; stdout: string };
        return { code, text: stdout };
      }
    },
    [Symbol.asyncDispose]: async () => {
      listener.close();
      await http[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A certificate's common name, or the one token. */
const identity: Identity = {
  authenticate: async ({ certificate, authorization }): Promise<Caller> => {
    const grants = [{ role: 'admin' as const, clusters: ['*'], namespaces: ['*'] }];
    if (authorization === `Bearer ${TOKEN}`) return { name: 'https://issuer#tester', by: 'oidc', grants };
    const name = certificate?.subject.CN;
    if (typeof name === 'string') return { name, by: 'certificate', grants };
    throw new ExhibitError('unauthenticated', 'Show a client certificate or a token');
  },
};

/** As the store's port says it, in memory and for one process. */
export function memoryStore(audit: NewAudit[]): Pick<Store, 'claim' | 'spend' | 'appendAudit'> {
  const claims = new Map<string, number>();
  const spent = new Map<string, { atMs: number; amount: number }[]>();
  return {
    claim: async (key, nowMs, windowMs) => {
      const until = claims.get(key);
      if (until !== undefined && until > nowMs) return false;
      claims.set(key, nowMs + windowMs);
      return true;
    },
    spend: async (budget, amount, { most, windowMs }, nowMs) => {
      const recent = (spent.get(budget) ?? []).filter(({ atMs }) => atMs > nowMs - windowMs);
      if (recent.reduce((sum, one) => sum + one.amount, 0) + amount > most) return false;
      spent.set(budget, [...recent, { atMs: nowMs, amount }]);
      return true;
    },
    appendAudit: async (entries) => void audit.push(...entries),
  };
}

/** A made-up id that is the same for the same words. */
export const idOf = (words: string): string => {
  const hex = createHash('sha256').update(words).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
};

async function makeCertificates(folder: string): Promise<void> {
  const openssl = async (...args: string[]) => void (await exec('openssl', args, { cwd: folder }));
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=ca', '-days', '2');
  await writeFile(path.join(folder, 'names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  for (const name of ['server', 'alice']) {
    await openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    const signed = [
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
    ];
    await openssl(...signed, '-out', `${name}.pem`, ...(name === 'server' ? ['-extfile', 'names'] : []));
  }
}
