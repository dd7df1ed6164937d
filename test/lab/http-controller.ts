import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import pino from 'pino';
import type { AlertsConfig } from '../../controller/alerts/config.ts';
import type { Api } from '../../controller/api/api.ts';
import { openHttp } from '../../controller/api/http.ts';
import type { HttpLimits } from '../../controller/api/http-server.ts';
import { createIdentity } from '../../controller/identity/authenticate.ts';
import type { Caller, Identity } from '../../controller/identity/identity.ts';
import { identitySchema } from '../../controller/identity/operators.ts';
import type { NewAudit, Store } from '../../controller/store/store.ts';
import { openListener } from '../../controller/tls/tls.ts';
import { type LabPki, labPki } from './pki.ts';

/** The HTTP side of the controller behind its own listener and identity, with throw-away certificates, over an `Api` of the test. */
export interface HttpLab extends AsyncDisposable {
  readonly port: number;
  /** Of the server's certificate. */
  readonly ca: string;
  readonly caFile: string;
  /** What curl needs to show the certificate of the operator alice. */
  readonly asAlice: readonly string[];
  readonly asBea: readonly string[];
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
  const pki = await labPki();
  const [alice, bea] = [await pki.operator('alice'), await pki.operator('bea')];
  const log = pino({ level: 'silent' });
  const audit: NewAudit[] = [];
  const { alerts, limits, now } = options;
  const http = await openHttp({
    api: options.api as Api,
    identity: identityOf(pki),
    store: options.store ?? memoryStore(audit),
    log,
    ...(alerts === undefined ? {} : { alerts }),
    ...(limits === undefined ? {} : { limits }),
    ...(now === undefined ? {} : { now }),
  });
  const listener = await openListener({ ...pki.listener('operators'), handlers: { 'http/1.1': http.accept } }, log);
  const caFile = pki.caFile('controller');
  return {
    port: listener.port,
    ca: await readFile(caFile, 'utf8'),
    caFile,
    asBea: ['--cert', bea.certFile, '--key', bea.keyFile],
    asAlice: ['--cert', alice.certFile, '--key', alice.keyFile],
    audit,
    url: (route) => `https://localhost:${listener.port}${route}`,
    curl: async (...args) => {
      const fixed = ['--silent', '--show-error', '--max-time', '20', '--cacert', caFile];
      try {
        return { code: 0, text: (await exec('curl', [...fixed, ...args])).stdout };
      } catch (error) {
        const { code, stdout } = error as { code: number; stdout: string };
        return { code, text: stdout };
      }
    },
    [Symbol.asyncDispose]: async () => {
      listener.stopAccepting();
      await http[Symbol.asyncDispose]();
      await listener[Symbol.asyncDispose]();
      await pki[Symbol.asyncDispose]();
    },
  };
}

/** Certificates as the controller knows them, and one token that no issuer made. */
function identityOf({ trustDomain }: LabPki): Identity {
  const grants = [{ role: 'admin' as const, clusters: ['*'], namespaces: ['*'] }];
  const operators = ['alice', 'bea'].map((name) => ({ name, certificate: name, grants }));
  const real = createIdentity(identitySchema.parse({ trustDomain, operators }), pino({ level: 'silent' }));
  return {
    authenticate: async (credentials): Promise<Caller> => {
      if (credentials.authorization !== `Bearer ${TOKEN}`) return await real.authenticate(credentials);
      return { name: 'https://issuer#tester', by: 'oidc', grants };
    },
  };
}

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
