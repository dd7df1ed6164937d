/**
 * What EKS does around a pod, so that it has a role of AWS: what its two webhooks add to the pod, the agent of Pod Identity on the node, and
 * a way from the pod to servers of this machine.
 */
import { rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownedName } from './leftovers.ts';
import { startMiddlebox } from './middlebox.ts';
import { type LabNode, NODE_ADDRESS, POD_IDENTITY_ADDRESS } from './node.ts';
import type { PodInputs } from './pod-translation.ts';
import type { RenderedPod } from './rendered-pod.ts';

type Added = Required<Pick<PodInputs, 'env' | 'injected'>>;

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const POD_IDENTITY_FOLDER = '/var/run/secrets/pods.eks.amazonaws.com/serviceaccount';
const IRSA_FOLDER = '/var/run/secrets/eks.amazonaws.com/serviceaccount';
const ROLE = 'eks.amazonaws.com/role-arn';
const REGIONAL = 'eks.amazonaws.com/sts-regional-endpoints';
const HOUR_MS = 3_600_000;

interface Way extends AsyncDisposable {
  /** HOST:PORT in the network of the node. */
  readonly address: string;
}

/** A port of the node that leads to `target`, HOST:PORT or a Unix socket of this machine: pods of the lab have no other way out. */
async function openWay(node: LabNode, target: string, address: string): Promise<Way> {
  await using stack = new AsyncDisposableStack();
  let socket = target;
  if (!target.startsWith('/')) {
    socket = join(tmpdir(), `${ownedName()}.sock`);
    stack.defer(() => rmSync(socket, { force: true }));
    stack.use(await startMiddlebox({ name: 'this machine', address: '127.0.0.1', enter: [] }, target, socket));
  }
  const enter = ['nsenter', `--net=/proc/${node.initPid}/ns/net`, '--'];
  const box = stack.use(await startMiddlebox({ name: 'the node', address, enter }, socket));
  const open = stack.move();
  return { address: box.address, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

/**
 * @param endpoint of a server on this machine. Returns the same as a pod of the node reaches it.
 * @param address of the node; that of its pods' network unless told
 */
export async function wayTo(
  node: LabNode,
  endpoint: string,
  address: string = NODE_ADDRESS,
): Promise<{ endpoint: string } & AsyncDisposable> {
  const way = await openWay(node, new URL(endpoint).host, address);
  return { endpoint: `http://${way.address}`, [Symbol.asyncDispose]: () => way[Symbol.asyncDispose]() };
}

/** EKS' Pod Identity: its agent on the node gives `credentials` for the token that the webhook puts into the pod, and for no other. */
export async function podIdentity(
  node: LabNode,
  region: string,
  { accessKeyId, secretAccessKey }: Credentials,
): Promise<Added & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const token = ownedName();
  const socket = join(tmpdir(), `${ownedName()}.sock`);
  const server = createServer((request, response) => {
    const known = request.url === '/v1/credentials' && request.headers.authorization === token;
    // radosgw knows no session tokens.
    const keys = { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: '' };
    const body = { ...keys, AccountId: '111122223333', Expiration: new Date(Date.now() + HOUR_MS).toISOString() };
    response.writeHead(known ? 200 : 400, { 'content-type': 'application/json' });
    response.end(JSON.stringify(known ? body : { message: 'who are you?' }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socket, resolve);
  });
  stack.defer(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { code, stderr } = await node.exec(['ip', 'address', 'replace', `${POD_IDENTITY_ADDRESS}/32`, 'dev', 'lo']);
  if (code !== 0) throw new Error(`ip: ${stderr}`);
  const way = stack.use(await openWay(node, socket, POD_IDENTITY_ADDRESS));
  const open = stack.move();
  return {
    env: {
      AWS_REGION: region,
      AWS_DEFAULT_REGION: region,
      AWS_STS_REGIONAL_ENDPOINTS: 'regional',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://${way.address}/v1/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: `${POD_IDENTITY_FOLDER}/eks-pod-identity-token`,
    },
    injected: { [POD_IDENTITY_FOLDER]: { 'eks-pod-identity-token': token } },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** What the webhook of IRSA adds, by the annotations of the rendered service account; throws where they name no role. */
export function irsa({ serviceAccountAnnotations: annotations }: RenderedPod, region: string, token: string): Added {
  const role = annotations[ROLE];
  if (role === undefined) throw new Error(`the service account has no annotation ${ROLE}`);
  return {
    env: {
      AWS_REGION: region,
      AWS_DEFAULT_REGION: region,
      AWS_ROLE_ARN: role,
      AWS_WEB_IDENTITY_TOKEN_FILE: `${IRSA_FOLDER}/token`,
      ...(annotations[REGIONAL] === 'true' ? { AWS_STS_REGIONAL_ENDPOINTS: 'regional' } : {}),
    },
    injected: { [IRSA_FOLDER]: { token } },
  };
}
