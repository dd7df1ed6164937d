/** Who is who in a cluster of the lab: tokens of users, certificates of the API server, the key of service accounts. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { labPki } from './pki.ts';

/** The first address of the services': where pods find the API server, as KUBERNETES_SERVICE_HOST. */
export const SERVICE_ADDRESS = '10.96.0.1';

/** Users of the API server: user name and groups; the token is made at each start. */
const USERS: Readonly<Record<string, string>> = {
  admin: 'system:masters',
  'system:kube-controller-manager': '',
  'system:kube-scheduler': '',
  'system:node:lab-node': 'system:nodes',
};

/** The name that kubelets know the API server by. */
export const OF_KUBELETS = 'kube-apiserver';

/** Certificates, keys and tokens of one cluster in a folder. */
export async function identities(folder: string, address: string) {
  const pki = await labPki({ names: [address, SERVICE_ADDRESS, 'kubernetes.default.svc'] });
  const account = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { format: 'pem', type: 'spki' },
    privateKeyEncoding: { format: 'pem', type: 'sec1' },
  });
  const files = { accountKey: join(folder, 'account.key'), accountPublic: join(folder, 'account.pub') };
  writeFileSync(files.accountKey, account.privateKey, { mode: 0o600 });
  writeFileSync(files.accountPublic, account.publicKey);
  const tokens = new Map(Object.keys(USERS).map((user) => [user, randomBytes(16).toString('hex')]));
  const tokenFile = join(folder, 'tokens.csv');
  const lines = Object.entries(USERS).map(([user, groups]) => `${tokens.get(user)},${user},${user},"${groups}"\n`);
  writeFileSync(tokenFile, lines.join(''), { mode: 0o600 });
  const toKubelets = await pki.issue({ commonName: OF_KUBELETS, usage: 'client' }, await pki.pair('operators'));
  return { pki, ...files, tokens, tokenFile, toKubelets };
}

export type Identities = Awaited<ReturnType<typeof identities>>;

/** @returns the path of a file for `user`, who has to be one of USERS */
export function kubeconfig(folder: string, url: string, { pki, tokens }: Identities, user: string): string {
  const token = tokens.get(user);
  if (token === undefined) throw new Error(`the cluster knows no ${user}`);
  const file = join(folder, `${user.replaceAll(':', '-')}.kubeconfig`);
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'lab',
        cluster: { server: url, 'certificate-authority-data': readFileSync(pki.caFile('controller'), 'base64') },
      },
    ],
    users: [{ name: user, user: { token } }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user } }],
    'current-context': 'lab',
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}
