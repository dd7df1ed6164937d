/**
 * A throw-away PKI, made by `exhibit pki`'s own code in a temporary folder in some 50 ms: three authorities, the controller's
 * certificate for localhost, and as many agents and operators as a test wants. What `exhibit pki` never makes (expired, of a
 * stranger, with other names) is made with `issue`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type AuthorityName,
  authority,
  type Files,
  initPki,
  issueAgent,
  issueController,
  issueOperator,
  renewLists,
  revoke,
} from '../../cli/pki/folder.ts';
import { issueLeaf, type LeafSpec, type Pair } from '../../cli/pki/issue.ts';
import { listenerSchema } from '../../controller/tls/files.ts';
import type { ListenerOptions } from '../../controller/tls/tls.ts';
import { ownedName } from './leftovers.ts';

export interface LabPki extends AsyncDisposable {
  readonly folder: string;
  readonly trustDomain: string;
  /** Of the controller, for `localhost`, 127.0.0.1 and ::1, and what `names` added. */
  readonly server: Files;
  /** `ca.pem` and `crl.pem` of an authority. */
  caFile(name: AuthorityName): string;
  crlFile(name: AuthorityName): string;
  agent(cluster: string, node: string, days?: number): Promise<Files>;
  operator(name: string, days?: number): Promise<Files>;
  /** Writes the list of its authority anew. */
  revoke(certificate: Files): Promise<void>;
  renewLists(): Promise<void>;
  /** Replaces the controller's certificate in place: the same paths, a new key. */
  replaceServer(): Promise<void>;
  pair(name: AuthorityName): Promise<Pair>;
  /** Any certificate at all, of any issuer; certificates of `chain` stand below it in its file. */
  issue(spec: Partial<LeafSpec>, issuer: Pair, chain?: readonly Pair[]): Promise<Files>;
  /** What `openListener` takes for the agents' and the API port, on a free port of 127.0.0.1. */
  listener(of: 'agents' | 'operators'): Omit<ListenerOptions, 'handlers'>;
}

const HOUR_MS = 3_600_000;

export async function labPki(
  options: { readonly trustDomain?: string; readonly names?: readonly string[] } = {},
): Promise<LabPki> {
  const { trustDomain = 'exhibit', names = [] } = options;
  const folder = join(tmpdir(), ownedName());
  const all = ['localhost', '127.0.0.1', '::1', ...names];
  const server = await initPki(folder, { trustDomain, names: all });
  const caFile = (name: AuthorityName) => join(folder, name, 'ca.pem');
  const crlFile = (name: AuthorityName) => join(folder, name, 'crl.pem');
  const other = join(folder, 'other');
  await mkdir(other);
  let count = 0;
  const place = () => {
    count += 1;
    return join(other, String(count));
  };
  return {
    folder,
    trustDomain,
    server,
    caFile,
    crlFile,
    agent: (cluster, node, days) => issueAgent(folder, cluster, node, { out: place(), ...(days ? { days } : {}) }),
    operator: (name, days) => issueOperator(folder, name, { out: place(), ...(days ? { days } : {}) }),
    revoke: async ({ certFile }) => void (await revoke(folder, certFile)),
    renewLists: async () => void (await renewLists(folder)),
    async replaceServer() {
      const next = await issueController(folder, all, { out: place() });
      writeFileSync(server.keyFile, readFileSync(next.keyFile));
      writeFileSync(server.certFile, readFileSync(next.certFile));
    },
    pair: (name) => authority(folder, name),
    async issue(spec, issuer, chain = []) {
      const now = Date.now();
      const notBefore = new Date(now - HOUR_MS);
      const notAfter = new Date(now + HOUR_MS);
      const whole = { commonName: 'test', usage: 'client', names: [], notBefore, notAfter, ...spec } as const;
      return await save(place(), await issueLeaf(whole, issuer), chain);
    },
    listener: (of) => ({
      name: of,
      ...listenerSchema.parse({
        listen: '127.0.0.1:0',
        certFile: server.certFile,
        keyFile: server.keyFile,
        caFile: caFile(of),
        crlFile: crlFile(of),
      }),
      clientCertificate: of === 'agents' ? 'required' : 'asked',
    }),
    [Symbol.asyncDispose]: async () => await rm(folder, { recursive: true, force: true }),
  };
}

async function save(prefix: string, { certificate, key }: Pair, chain: readonly Pair[]): Promise<Files> {
  const files = { certFile: `${prefix}.pem`, keyFile: `${prefix}.key` };
  await writeFile(files.certFile, [certificate, ...chain.map((one) => one.certificate)].join(''));
  await writeFile(files.keyFile, key.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
  return { ...files, serial: certificate.serialNumber, notAfter: certificate.validToDate };
}
