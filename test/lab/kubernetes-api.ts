/**
 * As much of the Kubernetes API, over real HTTPS, as `exhibit` and a real kubectl ask when they look for a pod and the agent beside
 * it: pods, nodes and one workload, discovery, `auth can-i`, and exec over WebSocket (kubectl 1.31 and newer), which runs a function.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import type { LabPki } from './pki.ts';

export interface LabPod {
  readonly namespace: string;
  readonly name: string;
  readonly node?: string;
  readonly phase?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly containers?: readonly string[];
  readonly isReady?: boolean;
}

export interface LabCluster {
  readonly pods: readonly LabPod[];
  /** `True`, `False` or `Unknown`, the condition Ready. */
  readonly nodes?: Readonly<Record<string, string>>;
  /** Of deployments: `namespace/name` and the labels that they select. */
  readonly deployments?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Refused with 403: `get pods`, `list pods exhibit` (in this namespace only), `create pods/exec`. */
  readonly forbidden?: readonly string[];
  /** Answers in place of the cluster. */
  readonly instead?: (request: IncomingMessage, response: ServerResponse) => void;
  readonly exec?: (command: readonly string[], pod: string) => Promise<Executed>;
}

export interface Executed {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

export interface LabKubernetes extends AsyncDisposable {
  readonly port: number;
  /** `GET /api/v1/...` in order, decoded. */
  readonly asked: string[];
  readonly kubeconfig: string;
  /** For `exhibit` as if in a pod of the namespace `exhibit`. */
  readonly podEnv: Readonly<Record<string, string>>;
}

const TOKEN = 'lab-token';
export const AGENT = { 'app.kubernetes.io/name': 'exhibit', 'app.kubernetes.io/component': 'agent' };

/** An agent's pod, as the DaemonSet makes it. */
export const agentPod = (name: string, node: string, more: Partial<LabPod> = {}): LabPod => ({
  namespace: 'exhibit',
  name,
  node,
  labels: AGENT,
  containers: ['agent'],
  ...more,
});

export async function startKubernetes(pki: LabPki, cluster: LabCluster): Promise<LabKubernetes> {
  const asked: string[] = [];
  const tls = { cert: readFileSync(pki.server.certFile), key: readFileSync(pki.server.keyFile) };
  const server = https.createServer(tls, (request, response) => {
    asked.push(`${request.method} ${decodeURIComponent(request.url ?? '').replaceAll('+', ' ')}`);
    if (cluster.instead === undefined) answer(cluster, request, response);
    else cluster.instead(request, response);
  });
  server.on('upgrade', (request, socket) => void upgrade(cluster, request, socket));
  server.on('clientError', (_error, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  // Of its own: the port may be that of an earlier one.
  const folder = await mkdtemp(path.join(pki.folder, 'cluster-'));
  const ca = readFileSync(pki.caFile('controller'));
  const files = { token: TOKEN, 'ca.crt': ca, namespace: 'exhibit', kubeconfig: kubeconfigOf(port, ca) };
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  return {
    port,
    asked,
    kubeconfig: path.join(folder, 'kubeconfig'),
    podEnv: {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(port),
      EXHIBIT_SERVICE_ACCOUNT: folder,
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function kubeconfigOf(port: number, ca: Buffer): string {
  const server = `https://127.0.0.1:${port}`;
  const context = (name: string, namespace: string) => ({ name, context: { cluster: 'lab', user: 'lab', namespace } });
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'lab', cluster: { server, 'certificate-authority-data': ca.toString('base64') } }],
    users: [{ name: 'lab', user: { token: TOKEN } }],
    contexts: [context('lab', 'prod'), context('other', 'shop')],
    'current-context': 'lab',
  });
}

const GROUPS: Readonly<Record<string, readonly (readonly [name: string, kind: string, namespaced: boolean])[]>> = {
  v1: [
    ['pods', 'Pod', true],
    ['nodes', 'Node', false],
  ],
  'apps/v1': [['deployments', 'Deployment', true]],
  'authorization.k8s.io/v1': [['selfsubjectaccessreviews', 'SelfSubjectAccessReview', false]],
};

function discovery(at: string): object | undefined {
  if (at === '/version') return { major: '1', minor: '32', gitVersion: 'v1.32.0' };
  if (at === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  if (at === '/apis') {
    const groups = Object.keys(GROUPS).filter((one) => one.includes('/'));
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(groupOf) };
  }
  const groupVersion = at.replace(/^\/apis?\//, '');
  const resources = GROUPS[groupVersion]?.map(([name, kind, namespaced]) => {
    const singularName = name.replace(/s$/, '');
    const shortNames = name === 'deployments' ? ['deploy'] : name === 'pods' ? ['po'] : [];
    return { name, singularName, kind, namespaced, shortNames, verbs: ['get', 'list', 'create'] };
  });
  return resources && { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources };
}

function groupOf(groupVersion: string): object {
  const [name, version] = groupVersion.split('/');
  const one = { groupVersion, version };
  return { name, versions: [one], preferredVersion: one };
}

type Say = (status: number, document: object) => void;

function answer(cluster: LabCluster, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '', 'https://lab');
  const say: Say = (status, document) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(document));
  };
  const known = discovery(url.pathname);
  if (request.headers.authorization !== `Bearer ${TOKEN}`) fail(say, 401, 'Unauthorized', 'Unauthorized');
  else if (known !== undefined) say(200, known);
  else if (url.pathname.endsWith('/selfsubjectaccessreviews')) void review(cluster, request, say);
  else answerObject(cluster, url, say);
}

const fail = (say: Say, code: number, reason: string, message: string): void =>
  say(code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });

function answerObject(cluster: LabCluster, url: URL, say: Say): void {
  const [, namespace = '', kind = '', name = ''] =
    /^\/(?:api\/v1|apis\/apps\/v1)(?:\/namespaces\/([^/]+))?\/(pods|nodes|deployments)(?:\/([^/]+))?$/.exec(
      url.pathname,
    ) ?? [];
  const verb = `${name === '' ? 'list' : 'get'} ${kind}`;
  const key = namespace === '' ? name : `${namespace}/${name}`;
  const document = documentOf(cluster, kind, key);
  if (isForbidden(cluster, verb, namespace)) {
    fail(say, 403, 'Forbidden', `User "lab" cannot ${verb} in the namespace "${namespace}"`);
  } else if (kind === 'pods' && name === '') {
    const items = cluster.pods.filter((one) => fits(one, namespace, url.searchParams));
    const limit = Number(url.searchParams.get('limit') ?? '500');
    const metadata = { resourceVersion: '1', ...(items.length > limit ? { continue: 'more' } : {}) };
    say(200, { kind: 'PodList', apiVersion: 'v1', metadata, items: items.slice(0, limit).map(podDocument) });
  } else if (document !== undefined) say(200, document);
  else fail(say, 404, 'NotFound', `${kind} "${name}" not found`);
}

function documentOf(cluster: LabCluster, kind: string, key: string): object | undefined {
  const [namespace, name = key] = key.split('/');
  if (kind === 'pods') {
    const found = cluster.pods.find((one) => `${one.namespace}/${one.name}` === key);
    return found && podDocument(found);
  }
  if (kind === 'nodes') {
    const ready = cluster.nodes?.[key];
    const status = { conditions: [{ type: 'Ready', status: ready }] };
    return ready === undefined ? undefined : { kind: 'Node', apiVersion: 'v1', metadata: { name }, status };
  }
  const matchLabels = cluster.deployments?.[key];
  const spec = { selector: { matchLabels } };
  return matchLabels && { kind: 'Deployment', apiVersion: 'apps/v1', metadata: { name, namespace }, spec };
}

/** kubectl sends Protobuf, in which the words that it asks about stand as they are. */
async function review(cluster: LabCluster, request: IncomingMessage, say: Say): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const asksExec = Buffer.concat(chunks).includes('exec');
  const allowed = !asksExec || !isForbidden(cluster, 'create pods/exec', 'exhibit');
  say(201, { kind: 'SelfSubjectAccessReview', apiVersion: 'authorization.k8s.io/v1', spec: {}, status: { allowed } });
}

const isForbidden = ({ forbidden = [] }: LabCluster, verb: string, namespace: string): boolean =>
  forbidden.includes(verb) || forbidden.includes(`${verb} ${namespace}`);

function fits(one: LabPod, namespace: string, query: URLSearchParams): boolean {
  const wanted = (query.get('labelSelector') ?? '').split(',').filter(Boolean);
  const node = /^spec\.nodeName=(.*)$/.exec(query.get('fieldSelector') ?? '')?.[1];
  return (
    (namespace === '' || one.namespace === namespace) &&
    (node === undefined || one.node === node) &&
    wanted.every((pair) => {
      const [key = '', value] = pair.split('=');
      return one.labels?.[key] === value;
    })
  );
}

function podDocument(one: LabPod): object {
  const { namespace, name, node, phase = 'Running', labels = {}, containers = ['app'], isReady = true } = one;
  return {
    kind: 'Pod',
    apiVersion: 'v1',
    metadata: { namespace, name, labels, uid: '1' },
    spec: { ...(node === undefined ? {} : { nodeName: node }), containers: containers.map((of) => ({ name: of })) },
    status: { phase, conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }] },
  };
}

/** RFC 6455. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Channels of `v5.channel.k8s.io`: k8s.io/apimachinery, remotecommand/constants.go. */
const CHANNEL = { stdout: 1, stderr: 2, error: 3 };

async function upgrade(cluster: LabCluster, request: IncomingMessage, socket: Duplex): Promise<void> {
  const url = new URL(request.url ?? '', 'https://lab');
  const [, namespace = '', pod = ''] = /\/namespaces\/([^/]+)\/pods\/([^/]+)\/exec$/.exec(url.pathname) ?? [];
  socket.on('error', () => socket.destroy());
  if (cluster.exec === undefined || isForbidden(cluster, 'create pods/exec', namespace)) {
    const body = JSON.stringify({
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      code: 403,
      reason: 'Forbidden',
      message: `pods "${pod}" is forbidden: User "lab" cannot create resource "pods/exec"`,
    });
    socket.end(
      `HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    );
    return;
  }
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${WEBSOCKET_GUID}`).digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n` +
      'Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n',
  );
  socket.resume();
  const { stdout, stderr, code } = await cluster.exec(url.searchParams.getAll('command'), pod);
  send(socket, CHANNEL.stdout, stdout);
  send(socket, CHANNEL.stderr, stderr);
  const causes = [{ reason: 'ExitCode', message: String(code) }];
  const failure = { status: 'Failure', reason: 'NonZeroExitCode', message: 'it failed', details: { causes } };
  send(socket, CHANNEL.error, JSON.stringify({ metadata: {}, ...(code === 0 ? { status: 'Success' } : failure) }));
  socket.end(Buffer.from([0x88, 2, 1000 >> 8, 1000 & 0xff]));
}

/** One binary message, not masked, as servers send them. */
function send(socket: Duplex, channel: number, text: string): void {
  const payload = Buffer.concat([Buffer.from([channel]), Buffer.from(text)]);
  const head = payload.length < 126 ? Buffer.from([0x82, payload.length]) : Buffer.from([0x82, 126, 0, 0]);
  if (head.length === 4) head.writeUInt16BE(payload.length, 2);
  socket.write(Buffer.concat([head, payload]));
}
