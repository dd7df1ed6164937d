/**
 * A real kubelet starts the DaemonSet's pod as the manifests have it, beside a real containerd; its probes find it ready, and
 * `kubectl exec` into it captures a pod that the same kubelet runs. The controller's pod as well, with an agent that dials it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { runCli } from '../lab/agent.ts';
import { parseDaemonSet, runDaemonSet } from '../lab/daemonset.ts';
import { exhibitImage, imageObstacle, requireExhibitImage } from '../lab/exhibit-image.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { findKubectl } from '../lab/kubectl.ts';
import { KUBELET_ADDRESS, type KubeNode, startKubeNode } from '../lab/kubelet.ts';
import { kubernetesObstacle, requireKubernetes } from '../lab/kubernetes.ts';
import { run } from '../lab/machine.ts';
import { MANIFESTS, render, writeOverlay } from '../lab/manifests.ts';
import { labObstacle, requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';
import { manifestIn, wayToS3 } from '../lab/s3-way.ts';
import { gapsOf } from './daemonset-node.ts';

/** A pod's start takes seconds, on a machine with other work many. */
const POD_TIMEOUT_MS = 120_000;

const AGENTS = ['--namespace=exhibit', '--selector=app.kubernetes.io/component=agent'];
const SECRET = 'K8S-NEEDLE-4711';

let lab: KubeNode;

beforeAll(async () => {
  if (labObstacle() ?? imageObstacle() ?? kubernetesObstacle(['kubelet'])) return;
  lab = await startKubeNode([(await exhibitImage()).tar]);
  await lab.cluster.kubectl('create', 'namespace', 'prod');
  await apply(target('web-0'));
  await lab.cluster.kubectl('--namespace=prod', 'wait', '--for=condition=Ready', 'pod/web-0', '--timeout=110s');
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach((context) => {
  requireLab(context);
  requireExhibitImage(context);
  requireKubernetes(context, ['kubelet']);
});

const target = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'prod' },
  spec: {
    terminationGracePeriodSeconds: 1,
    containers: [
      {
        name: 'web',
        image: WORKLOAD_IMAGE,
        imagePullPolicy: 'Never',
        command: ['sh', '-c', `echo ${SECRET} > /tmp/hello; exec tail -f /dev/null`],
        readinessProbe: { exec: { command: ['cat', '/tmp/hello'] } },
      },
    ],
  },
});

async function apply(...objects: readonly object[]): Promise<void> {
  const input = objects.map((one) => stringify(one)).join('---\n');
  const { code, stderr } = await lab.cluster.tryKubectl(['apply', '--validate=strict', '--filename=-'], { input });
  if (code !== 0) throw new Error(stderr);
}

const podSchema = z.object({
  metadata: z.object({ name: z.string(), deletionTimestamp: z.string().optional() }),
  spec: z.object({ containers: z.tuple([z.looseObject({ image: z.string() })]) }),
  status: z.looseObject({
    podIP: z.string().optional(),
    containerStatuses: z
      .array(z.object({ ready: z.boolean(), restartCount: z.number(), containerID: z.string().optional() }))
      .optional(),
  }),
});
const podsSchema = z.object({ items: z.array(podSchema) });
type Pod = z.infer<typeof podSchema>;

/** Rolls an overlay out to its end, and gives the agent's pod. */
async function rollOut(folder: string): Promise<Pod> {
  await lab.cluster.kubectl('apply', '--kustomize', folder);
  const status = ['rollout', 'status', 'daemonset/exhibit-agent', '--timeout=110s'];
  await lab.cluster.kubectl('--namespace=exhibit', ...status);
  return await agentPod();
}

/** The one that is not about to end. */
async function agentPod(): Promise<Pod> {
  const { items } = podsSchema.parse(await lab.cluster.get('pods', ...AGENTS));
  const staying = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const [pod] = staying;
  if (pod === undefined || staying.length > 1) throw new Error(`${staying.length} agents run on one node`);
  return pod;
}

/** `kubectl exec` of `exhibit` in the agent, by the default container's annotation. */
const exhibitIn = ({ metadata }: Pod, ...argv: readonly string[]) =>
  lab.cluster.tryKubectl(['--namespace=exhibit', 'exec', metadata.name, '--', 'exhibit', ...argv]);

const acceptedSchema = z.object({ event: z.literal('accepted'), sinkUrl: z.string() });
const sinkUrlOf = (stdout: Buffer): string =>
  acceptedSchema.parse(JSON.parse(stdout.toString().split('\n')[0] ?? '')).sinkUrl;

/** S3 of the lab in place of AWS's. */
function overlayTo(
  endpoint: string,
  s3: { bucket: string; region: string; accessKeyId: string; secretAccessKey: string },
) {
  const sink = {
    url: `s3://${s3.bucket}/cases`,
    region: s3.region,
    endpoint,
    forcePathStyle: true,
    ifNoneMatch: false,
  };
  const config = {
    cluster: 'lab',
    metrics: { listen: '0.0.0.0:9464' },
    sink,
    memory: { bufferBytes: '64MiB' },
    spool: { bytes: '64MiB' },
    policy: { namespaces: { deny: ['exhibit'] } },
  };
  const env = [
    { name: 'AWS_ACCESS_KEY_ID', value: s3.accessKeyId },
    { name: 'AWS_SECRET_ACCESS_KEY', value: s3.secretAccessKey },
    { name: 'AWS_REGION', value: s3.region },
  ];
  const kustomization = {
    resources: ['overlays/eks-pod-identity'],
    components: ['components/without-controller'],
    configMapGenerator: [{ name: 'exhibit-agent', namespace: 'exhibit', behavior: 'replace', files: ['agent.yaml'] }],
    patches: [{ patch: stringify(ofDaemonSet({ containers: [{ name: 'agent', env }] })) }],
  };
  return writeOverlay(kustomization, { 'agent.yaml': stringify(config) });
}

const ofDaemonSet = (spec: object) => ({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'exhibit-agent', namespace: 'exhibit' },
  spec: { template: { spec } },
});

test('an installation that was not configured runs, is not ready, and says why', async () => {
  await lab.cluster.kubectl('apply', '--kustomize', join(MANIFESTS, 'overlays/eks-pod-identity'));
  const started = (answer: unknown) => {
    const pod = podsSchema.parse(answer).items[0];
    return pod?.status.containerStatuses?.[0]?.containerID !== undefined;
  };
  await lab.cluster.until(started, POD_TIMEOUT_MS, 'pods', ...AGENTS);
  const pod = await agentPod();
  const events = z.object({ items: z.array(z.object({ message: z.string() })) });
  const unhealthy = ['events', '--namespace=exhibit', '--field-selector=reason=Unhealthy'];
  const answer = await lab.cluster.until(
    (list) => events.parse(list).items.some(({ message }) => message.includes('503')),
    POD_TIMEOUT_MS,
    ...unhealthy,
  );
  expect(
    events
      .parse(answer)
      .items.map(({ message }) => message)
      .join('\n'),
  ).toContain('Readiness probe failed');
  const said = await exhibitIn(pod, 'doctor');
  expect(said.stdout.toString() + said.stderr).toContain('a capture would fail');
  expect((await agentPod()).status.containerStatuses?.[0]).toMatchObject({ ready: false, restartCount: 0 });
});

test('kubelet finds the agent ready, and kubectl exec into it captures a pod into S3, whole', async (context) => {
  requireS3(context);
  await using s3 = await startS3();
  await using way = await wayToS3(s3, lab.node, KUBELET_ADDRESS);
  using overlay = overlayTo(way.endpoint, s3);
  const pod = await rollOut(overlay.folder);
  expect(pod.status.containerStatuses?.[0]).toMatchObject({ ready: true, restartCount: 0 });

  const { code, stdout, stderr } = await exhibitIn(pod, 'capture', 'prod/web-0', '--case', 'K8S-1', '--json');
  expect(code, stderr).toBe(0);
  const sinkUrl = sinkUrlOf(stdout);
  const env = { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, AWS_REGION: s3.region };
  const where = [sinkUrl, '--endpoint', s3.endpoint, '--region', s3.region, '--path-style'];
  const verified = await runCli(['verify', ...where], env);
  expect(verified.code, verified.stdout + verified.stderr).toBe(0);
  expect(verified.stdout).toContain('INTACT');
  const manifest = await manifestIn(s3, sinkUrl);
  expect(manifest.outcome).toBe('complete');
  expect(gapsOf(manifest)).toEqual([]);
  expect(manifest.artifacts).toHaveLength(9);
  const pulled = await runCli(['extract', ...where.slice(0, 1), 'rootfs', '--list', ...where.slice(1)], env);
  expect(pulled.stdout, pulled.stderr).toContain('tmp/hello');
});

test('a change of the configuration rolls the agents, and kubectl exhibit captures through the new one', async () => {
  const before = await agentPod();
  const pod = await rollOut(join(MANIFESTS, 'overlays/local'));
  expect(pod.metadata.name).not.toBe(before.metadata.name);
  const refused = await exhibitIn(pod, 'capture', `exhibit/${pod.metadata.name}`);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('namespace');

  const plugin = fileURLToPath(new URL('../../cli/kubectl-exhibit', import.meta.url));
  const captured = await throughPlugin(plugin, 'capture', 'pod/web-0', '-n', 'prod', '--case', 'K8S-2', '--json');
  expect(captured.stderr).toContain(`prod/web-0 is on node ${lab.node.hostname}, asking exhibit/${pod.metadata.name}`);
  expect(captured.code, captured.stderr).toBe(0);
  // Copied: a path through /proc/PID/root does not outlive realpath(3).
  const folder = await mkdtemp(join(tmpdir(), 'exhibit-bundle-'));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true }));
  await cp(join(lab.node.hostRoot, new URL(sinkUrlOf(captured.stdout)).pathname), folder, { recursive: true });
  const verified = await runCli(['verify', folder]);
  expect(verified.stdout, verified.stderr).toContain('INTACT');
});

/** The script with the lab's kubectl, in the network of the API server. */
async function throughPlugin(plugin: string, ...argv: readonly string[]) {
  const [program = '', ...words] = [...lab.enter, 'sh', plugin, ...argv];
  const PATH = `${findKubectl()?.folder}:${process.env.PATH}`;
  return await run(program, words, { env: { PATH, KUBECONFIG: lab.cluster.kubeconfig, HOME: '/nonexistent' } });
}

test('an agent that is asked for a pod of another node looks it up with the rights of its token, and says whom to ask', async () => {
  const pod = await rollOut(join(MANIFESTS, 'overlays/local'));
  await using stack = new AsyncDisposableStack();
  stack.defer(() =>
    lab.cluster.kubectl('delete', 'node/far', 'pod/far-0', '--namespace=prod', '--force').then(() => {}),
  );
  const spec = { ...target('far-0').spec, nodeName: 'far' };
  await apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'far' } }, { ...target('far-0'), spec });
  const { code, stderr } = await exhibitIn(pod, 'capture', 'prod/far-0');
  expect(code).toBe(1);
  expect(stderr).toContain('prod/far-0 is Pending, on node far, and no agent runs there');
});

test('exec into an agent is granted by the verb create', async () => {
  const pod = await rollOut(join(MANIFESTS, 'overlays/local'));
  const ask = async (verb: string) => {
    const rights = [`--role=may-${verb}`, `--user=may-${verb}`];
    await lab.cluster.kubectl(
      '--namespace=exhibit',
      'create',
      'role',
      `may-${verb}`,
      '--verb',
      verb,
      '--resource=pods/exec',
    );
    await apply(mayRead(verb));
    await lab.cluster.kubectl('--namespace=exhibit', 'create', 'rolebinding', `may-${verb}`, ...rights);
    const exec = ['exec', pod.metadata.name, '--', 'exhibit', '--help'];
    return await lab.cluster.tryKubectl(['--namespace=exhibit', '--as', `may-${verb}`, ...exec]);
  };
  const withGet = await ask('get');
  expect(withGet.stderr).toContain('cannot create resource "pods/exec"');
  expect((await ask('create')).stdout.toString()).toContain('Usage');
});

/** kubectl asks for the pod before it asks for exec. */
const mayRead = (verb: string) => ({
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: `read-${verb}` },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'exhibit-agent' },
  subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: `may-${verb}` }],
});

test("the lab's own translation of the DaemonSet is that of kubelet", async () => {
  const folder = 'overlays/local';
  const pod = await rollOut(join(MANIFESTS, folder));
  const id = pod.status.containerStatuses?.[0]?.containerID?.replace('containerd://', '') ?? '';
  const rendered = render(folder).find(({ kind }) => kind === 'DaemonSet');
  const config = { cluster: 'lab', sink: { url: 'file:///run/exhibit/evidence' } };
  const daemonSet = parseDaemonSet(stringify(rendered, { aliasDuplicateObjects: false }));
  await using byHand = await runDaemonSet(lab.node, { image: 'exhibit:0.2.0', config, daemonSet });
  expect(await specOf(byHand.containerId)).toEqual(await specOf(id));
});

const ociSpec = z.looseObject({
  process: z.looseObject({ env: z.array(z.string()) }),
  mounts: z.array(z.looseObject({ destination: z.string(), source: z.string() })),
  linux: z.looseObject({
    cgroupsPath: z.string(),
    maskedPaths: z.array(z.string()),
    readonlyPaths: z.array(z.string()),
  }),
});

/** Of the pod itself and of the cluster's services, which differ from pod to pod. */
const OF_POD = /^(HOSTNAME|POD_NAME|EXHIBIT_POD|KUBERNETES_[A-Z0-9_]+)=/;

/** What runc was told, without names, ids and pids. */
async function specOf(id: string) {
  const { stdout } = await lab.node.exec(['ctr', '--namespace', 'k8s.io', 'containers', 'info', id]);
  const { annotations, ...spec } = ociSpec.parse(
    z.object({ Spec: z.unknown() }).parse(JSON.parse(stdout.toString())).Spec,
  );
  const plain = JSON.stringify(spec)
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UID')
    .replaceAll(/[0-9a-f]{64}/g, 'ID')
    .replaceAll(/"\/proc\/\d+\//g, '"/proc/PID/')
    .replaceAll(/kube-api-access-\w+/g, 'kube-api-access')
    .replaceAll(/UID\/containers\/agent\/[0-9a-f]+/g, 'UID/termination-log');
  const { process, linux, ...rest } = ociSpec.parse(JSON.parse(plain));
  const { cgroupsPath, maskedPaths, readonlyPaths, ...others } = linux;
  return {
    ...rest,
    process: { ...process, env: process.env.filter((one) => !OF_POD.test(one)).sort() },
    linux: { ...others, maskedPaths: maskedPaths.sort(), readonlyPaths: readonlyPaths.sort() },
  };
}

test('the controller runs as its pod, and an agent that dials it takes what an operator asks for', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'exhibit-pki-'));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true }));
  const pki = join(folder, 'pki');
  await secretsBy(pki);
  const store = join(lab.node.hostRoot, 'var/lib/exhibit-store');
  mkdirSync(store, { recursive: true });
  // kubelet gives fsGroup to volumes of drivers alone.
  chownSync(store, 65532, 65532);
  await apply(STORE);

  // There is no DNS in the lab: the agents are told the address of the controller's name when it has one.
  using first = linked();
  await lab.cluster.kubectl('apply', '--kustomize', first.folder);
  await lab.cluster.kubectl(
    '--namespace=exhibit',
    'rollout',
    'status',
    'deployment/exhibit-controller',
    '--timeout=110s',
  );
  const controllers = ['pods', '--namespace=exhibit', '--selector=app.kubernetes.io/component=controller'];
  const [controller] = podsSchema.parse(await lab.cluster.get(...controllers)).items;
  using second = linked(controller?.status.podIP);
  await rollOut(second.folder);

  const forward = await portForward('service/exhibit-controller', 8443);
  stack.use(forward);
  const ada = join(pki, 'operators/people/ada');
  const whom = ['--controller', 'localhost:8443', '--ca', join(pki, 'controller/ca.pem')];
  const exhibit = async (...argv: readonly string[]) => {
    const [program = '', ...words] = [...lab.enter, process.execPath, CLI, ...argv];
    const answer = await run(program, [...words, ...whom, '--cert', `${ada}.pem`, '--key', `${ada}.key`]);
    if (answer.code !== 0) throw new Error(`exhibit ${argv.join(' ')}: ${answer.stderr}${answer.stdout}`);
    return answer.stdout.toString();
  };
  expect(await exhibit('nodes')).toContain(lab.node.hostname);
  const capture = await exhibit('capture', 'prod/web-0', '--reason', 'a trial', '--json');
  expect(capture).toContain('"complete"');
});

const CLI = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/** Step 7 of docs/install-eks.md. */
async function secretsBy(pki: string): Promise<void> {
  const names = ['exhibit-controller.exhibit.svc', 'exhibit-controller.exhibit.svc.cluster.local', 'localhost'];
  for (const argv of [
    ['init', '--out', pki, '--san', ...names],
    ['operator', 'ada', '--pki', pki],
    ['agent', 'prod', lab.node.hostname, '--pki', pki],
  ]) {
    const { code, stderr } = await runCli(['pki', ...argv]);
    if (code !== 0) throw new Error(stderr);
  }
  await lab.cluster.tryKubectl(['apply', '--filename', join(MANIFESTS, 'base/namespace.yaml')]);
  const create = (...argv: readonly string[]) =>
    lab.cluster.kubectl('--namespace=exhibit', 'create', 'secret', ...argv);
  const server = ['--cert', join(pki, 'controller/server.pem'), '--key', join(pki, 'controller/server.key')];
  await create('tls', 'exhibit-controller-tls', ...server);
  for (const name of ['agents', 'operators']) {
    const from = ['ca.crt=ca.pem', 'crl.pem=crl.pem'].map((pair) => pair.replace('=', `=${join(pki, name)}/`));
    await create('generic', `exhibit-${name}-ca`, ...from.map((one) => `--from-file=${one}`));
  }
  const own = ['pem', 'key'].map((end) => `--from-file=${join(pki, 'agents/nodes/prod', lab.node.hostname)}.${end}`);
  await create('generic', 'exhibit-agent-tls', `--from-file=ca.pem=${join(pki, 'controller/ca.pem')}`, ...own);
}

/** For the claim of the base, which names no class. */
const STORE = {
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name: 'lab-store' },
  spec: {
    capacity: { storage: '10Gi' },
    accessModes: ['ReadWriteOncePod'],
    hostPath: { path: '/var/lib/exhibit-store', type: 'Directory' },
  },
};

/** Agents with components/controller-link, and who the operator Ada is. @param address of the controller's name */
function linked(address?: string) {
  const agent = {
    cluster: 'prod',
    metrics: { listen: '0.0.0.0:9464' },
    sink: { url: 'file:///run/exhibit/evidence' },
    memory: { bufferBytes: '64MiB' },
    spool: { bytes: '64MiB' },
  };
  const ada = { name: 'Ada', certificate: 'ada', grants: [{ role: 'admin', clusters: ['*'], namespaces: ['*'] }] };
  const base = parse(readFileSync(join(MANIFESTS, 'base/controller/config.yaml'), 'utf8')) as object;
  const hostAliases = address && [{ ip: address, hostnames: ['exhibit-controller.exhibit.svc'] }];
  const generator = (name: string, file: string) => ({
    name,
    namespace: 'exhibit',
    behavior: 'replace',
    files: [file],
  });
  return writeOverlay(
    {
      resources: ['overlays/eks-pod-identity'],
      components: ['components/controller-link'],
      configMapGenerator: [
        generator('exhibit-agent', 'agent.yaml'),
        generator('exhibit-controller', 'controller.yaml'),
      ],
      patches: hostAliases ? [{ patch: stringify(ofDaemonSet({ hostAliases })) }] : [],
    },
    { 'agent.yaml': stringify(agent), 'controller.yaml': stringify({ ...base, identity: { operators: [ada] } }) },
  );
}

/** Until disposed of, in the network of the API server. */
async function portForward(what: string, port: number): Promise<AsyncDisposable> {
  const [program = '', ...words] = [...lab.enter, join(findKubectl()?.folder ?? '', 'kubectl')];
  const env = { KUBECONFIG: lab.cluster.kubeconfig, HOME: '/nonexistent', PATH: process.env.PATH ?? '' };
  const argv = [...words, '--namespace=exhibit', 'port-forward', what, String(port)];
  const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'inherit'], env });
  const gone = once(child, 'exit');
  await Promise.race([
    once(child.stdout, 'data'),
    gone.then(() => Promise.reject(new Error('port-forward has ended'))),
  ]);
  return {
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}
