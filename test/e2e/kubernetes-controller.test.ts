/** The controller's pod as the manifests have it, under a real kubelet, and an agent that dials it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { runCli } from '../lab/agent.ts';
import { findKubectl } from '../lab/kubectl.ts';
import type { KubeNode } from '../lab/kubelet.ts';
import { run } from '../lab/machine.ts';
import { MANIFESTS, writeOverlay } from '../lab/manifests.ts';
import { ofDaemonSet, podsSchema, requireNodeWithTarget, rollOut, startNodeWithTarget } from './kubernetes-pods.ts';

let lab: KubeNode;

beforeAll(async () => {
  const node = await startNodeWithTarget();
  if (node !== undefined) lab = node;
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach(requireNodeWithTarget);

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
  await lab.cluster.apply(STORE);

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
  await rollOut(lab.cluster, second.folder);

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
  const env = {
    KUBECONFIG: lab.cluster.kubeconfig,
    HOME: dirname(lab.cluster.kubeconfig),
    PATH: process.env.PATH ?? '',
  };
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
