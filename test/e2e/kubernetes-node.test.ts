import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { z } from 'zod';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli } from '../lab/agent.ts';
import { wayTo } from '../lab/aws-identity.ts';
import { exhibitImage } from '../lab/exhibit-image.ts';
import { findKubectl } from '../lab/kubectl.ts';
import { KUBELET_ADDRESS, type KubeNode } from '../lab/kubelet.ts';
import { run } from '../lab/machine.ts';
import { MANIFESTS, writeOverlay } from '../lab/manifests.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { renderedAgent } from '../lab/rendered-pod.ts';
import { requireS3 } from '../lab/requires.ts';
import { startPod } from '../lab/running-pod.ts';
import { type LabS3, startS3 } from '../lab/s3.ts';
import { gapsOf } from './daemonset-node.ts';
import {
  AGENTS,
  agentPod,
  ofDaemonSet,
  type Pod,
  podsSchema,
  requireNodeWithTarget,
  rollOut,
  startNodeWithTarget,
  target,
} from './kubernetes-pods.ts';

/** A pod's start takes seconds, on a machine with other work many. */
const POD_TIMEOUT_MS = 120_000;

let lab: KubeNode;

beforeAll(async () => {
  const node = await startNodeWithTarget();
  if (node !== undefined) lab = node;
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach(requireNodeWithTarget);

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

test('an installation that was not configured runs, is not ready, and says why', async () => {
  await lab.cluster.kubectl('apply', '--kustomize', join(MANIFESTS, 'overlays/eks-pod-identity'));
  const started = (answer: unknown) => {
    const pod = podsSchema.parse(answer).items[0];
    return pod?.status.containerStatuses?.[0]?.containerID !== undefined;
  };
  await lab.cluster.until(started, POD_TIMEOUT_MS, 'pods', ...AGENTS);
  const pod = await agentPod(lab.cluster);
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
  expect((await agentPod(lab.cluster)).status.containerStatuses?.[0]).toMatchObject({ ready: false, restartCount: 0 });
});

test('kubelet finds the agent ready, and kubectl exec into it captures a pod into S3, whole', async (context) => {
  requireS3(context);
  await using s3 = await startS3();
  await using way = await wayTo(lab.node, s3.endpoint, KUBELET_ADDRESS);
  using overlay = overlayTo(way.endpoint, s3);
  const pod = await rollOut(lab.cluster, overlay.folder);
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

/** @param bundle `s3://BUCKET/KEY`, without a slash at its end */
async function manifestIn(s3: LabS3, bundle: string): Promise<Manifest> {
  const client = s3.client();
  try {
    const key = `${new URL(bundle).pathname.slice(1)}/manifest.json`;
    const { Body } = await client.send(new GetObjectCommand({ Bucket: s3.bucket, Key: key }));
    return JSON.parse((await Body?.transformToString()) ?? '');
  } finally {
    client.destroy();
  }
}

test('a change of the configuration rolls the agents, and kubectl exhibit captures through the new one', async () => {
  const before = await agentPod(lab.cluster);
  const pod = await rollOut(lab.cluster, join(MANIFESTS, 'overlays/local'));
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
  return await run(program, words, {
    env: { PATH, KUBECONFIG: lab.cluster.kubeconfig, HOME: dirname(lab.cluster.kubeconfig) },
  });
}

test('an agent that is asked for a pod of another node looks it up with the rights of its token, and says whom to ask', async () => {
  const pod = await rollOut(lab.cluster, join(MANIFESTS, 'overlays/local'));
  await using stack = new AsyncDisposableStack();
  stack.defer(() =>
    lab.cluster.kubectl('delete', 'node/far', 'pod/far-0', '--namespace=prod', '--force').then(() => {}),
  );
  const spec = { ...target('far-0').spec, nodeName: 'far' };
  await lab.cluster.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'far' } }, { ...target('far-0'), spec });
  const { code, stderr } = await exhibitIn(pod, 'capture', 'prod/far-0');
  expect(code).toBe(1);
  expect(stderr).toContain('prod/far-0 is Pending, on node far, and no agent runs there');
});

test('exec into an agent is granted by the verb create', async () => {
  const pod = await rollOut(lab.cluster, join(MANIFESTS, 'overlays/local'));
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
    await lab.cluster.apply(mayRead(verb));
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
  const pod = await rollOut(lab.cluster, join(MANIFESTS, folder));
  const id = pod.status.containerStatuses?.[0]?.containerID?.replace('containerd://', '') ?? '';
  // On a node without a kubelet, which would take away a pod that its API server does not know.
  await using bare = await startNode();
  const { tar } = await exhibitImage();
  await bare.importImage(tar);
  await using byHand = await startPod(bare, { pod: renderedAgent(folder) });
  expect(await specOf(bare, byHand.containerId)).toEqual(await specOf(lab.node, id));
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
async function specOf(node: LabNode, id: string) {
  const { stdout } = await node.exec(['ctr', '--namespace', 'k8s.io', 'containers', 'info', id]);
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
