/**
 * The manifests before a real API server, with the controllers and the scheduler that make pods of them. Nodes are nothing but
 * objects here: kubernetes-node.test.ts has one that runs.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Cluster, kubernetesObstacle, manifestOf, requireKubernetes, startCluster } from '../lab/kubernetes.ts';
import { type KubernetesObject, MANIFESTS, nameOf, OVERLAYS, render, writeOverlay } from '../lab/manifests.ts';
import { KINDS, NODES, WITH_AGENT, wake } from './kubernetes-objects.ts';

let cluster: Cluster;

const CONTROLLERS_TIMEOUT_MS = 30_000;

beforeAll(async () => {
  if (kubernetesObstacle() !== undefined) return;
  cluster = await startCluster();
  await cluster.apply(...NODES, ...KINDS);
  await Promise.all(NODES.map(({ metadata }) => wake(cluster, metadata.name)));
  await cluster.kubectl('wait', '--for=condition=Established', 'customresourcedefinition', '--all', '--timeout=60s');
  await cluster.kubectl('apply', '--validate=strict', '--filename', join(MANIFESTS, 'base/namespace.yaml'));
}, 300_000);
afterAll(() => cluster?.[Symbol.asyncDispose]());
beforeEach((context) => requireKubernetes(context));

/** Where what was applied is not what is stored: `spec.replicas: 1 became 2`. What the server adds is not looked at. */
function lost(applied: unknown, stored: unknown, at: string): string[] {
  if (applied === null || (typeof applied === 'object' && Object.keys(applied).length === 0)) return [];
  if (Array.isArray(applied)) {
    if (!Array.isArray(stored) || stored.length !== applied.length)
      return [`${at}: ${applied.length} entries are not there`];
    return applied.flatMap((one, i) => lost(one, stored[i], `${at}[${i}]`));
  }
  // `hostIPC: false` and no such field are the same to it.
  if (applied === false && stored === undefined) return [];
  if (typeof applied !== 'object')
    return applied === stored ? [] : [`${at}: ${JSON.stringify(applied)} became ${JSON.stringify(stored)}`];
  const there: Record<string, unknown> = typeof stored === 'object' && stored !== null ? { ...stored } : {};
  return Object.entries(applied).flatMap(([key, value]) => lost(value, there[key], `${at}.${key}`));
}

const storedList = z.object({
  items: z.array(z.looseObject({ kind: z.string(), metadata: z.looseObject({ name: z.string() }) })),
});

/** Of every object, the fields that the API server did not keep as they were applied. */
async function lostOf(objects: readonly KubernetesObject[]): Promise<string[]> {
  const input = manifestOf(objects);
  const { stdout } = await cluster.tryKubectl(['get', '--filename=-', '--output=json'], { input });
  const { items } = storedList.parse(JSON.parse(stdout.toString()));
  return objects.flatMap((one) => {
    const stored = items.find((other) => nameOf(other as KubernetesObject) === nameOf(one));
    return lost(one, stored, nameOf(one));
  });
}

describe('the API server', () => {
  test.for([...OVERLAYS, 'examples/site'])('takes %s as it is, and drops no field of it', async (folder) => {
    const objects = render(folder);
    const rehearsed = await cluster.tryApply(objects, '--dry-run=server');
    expect(rehearsed.code, rehearsed.said).toBe(0);
    await cluster.kubectl('apply', '--validate=strict', '--kustomize', join(MANIFESTS, folder));
    expect(await lostOf(objects)).toEqual([]);
    // Nothing of it changes when it is applied again.
    const again = await cluster.kubectl('apply', '--validate=strict', '--kustomize', join(MANIFESTS, folder));
    const changed = again.split('\n').filter((line) => line !== '' && !line.endsWith(' unchanged'));
    // kubectl replaces a budget's selector whether it differs or not (patchStrategy of policy/v1).
    expect(changed.filter((line) => !line.startsWith('poddisruptionbudget.policy/'))).toEqual([]);
  });

  test('refuses a field that it does not know, so that the lines above say something', async () => {
    const objects = render('base').filter((one) => one.kind === 'DaemonSet');
    const wrong = objects.map((one) => ({ ...one, spec: { ...(one.spec as object), minReadySecond: 5 } }));
    expect((await cluster.tryApply(wrong, '--dry-run=server')).said).toContain('unknown field "spec.minReadySecond"');
  });
});

/** The agent's DaemonSet with something more on its one container. */
function agentWith(more: (container: Record<string, unknown>) => object): KubernetesObject[] {
  const whole = structuredClone(render('base').filter(({ kind }) => kind === 'DaemonSet'));
  for (const one of whole) {
    const { spec } = podTemplate.parse(one).spec.template;
    const [container = {}] = z.array(z.looseObject({})).parse(spec.containers);
    spec.containers = [{ ...container, ...more(container) }];
    one.spec = { ...(one.spec as object), template: { ...podTemplate.parse(one).spec.template, spec } };
  }
  return whole;
}

describe('what docs/privileges.md says that the agent cannot have', () => {
  test('a root of the node that is read-only all the way down, beside mounts that come and go', async () => {
    const mounts = (container: Record<string, unknown>) => ({
      volumeMounts: z
        .array(z.looseObject({ name: z.string() }))
        .parse(container.volumeMounts)
        .map((one) => (one.name === 'node' ? { ...one, recursiveReadOnly: 'IfPossible' } : one)),
    });
    const { said } = await cluster.tryApply(agentWith(mounts), '--dry-run=server');
    expect(said).toContain('may only be specified when mountPropagation is None');
  });
});

const podTemplate = z.looseObject({ spec: z.looseObject({ template: z.looseObject({ spec: z.looseObject({}) }) }) });

/** The pod that a DaemonSet or Deployment makes, in another namespace. */
function podOf(workload: KubernetesObject | undefined, namespace: string) {
  const { metadata, spec } = podTemplate.parse(workload).spec.template;
  const bare = { ...spec, serviceAccountName: undefined, priorityClassName: undefined };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { ...(metadata as object), name: 'trial', namespace }, spec: bare };
}

describe('Pod Security', () => {
  test.for([
    ['DaemonSet', 'baseline', 'hostPID=true'],
    ['DaemonSet', 'restricted', 'restricted volume types'],
    ['Deployment', 'baseline', undefined],
    ['Deployment', 'restricted', undefined],
  ] as const)('of a namespace: the pod of the %s at the level %s', async ([workload, level, refusal]) => {
    const labels = { 'pod-security.kubernetes.io/enforce': level };
    await cluster.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: level, labels } });
    const account = ['--namespace', level, 'serviceaccount', 'default'];
    await cluster.until(() => true, CONTROLLERS_TIMEOUT_MS, ...account);
    const pod = podOf(
      render('base').find((one) => one.kind === workload),
      level,
    );
    const { code, said } = await cluster.tryApply([pod], '--dry-run=server');
    if (refusal === undefined) expect(code, said).toBe(0);
    else expect(said).toContain(refusal);
  });

  test('lets the agents into their own namespace without a warning', async () => {
    const { code, said } = await cluster.tryApply(
      [
        podOf(
          render('base').find((one) => one.kind === 'DaemonSet'),
          'exhibit',
        ),
      ],
      '--dry-run=server',
    );
    expect(code, said).toBe(0);
    expect(said).not.toContain('Warning');
  });
});

const pods = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string(), ownerReferences: z.array(z.object({ name: z.string() })).optional() }),
      spec: z.object({
        nodeName: z.string().optional(),
        priorityClassName: z.string().optional(),
        affinity: z.unknown().optional(),
        containers: z.array(z.object({ image: z.string() })),
      }),
    }),
  ),
});
const AGENTS = ['pods', '--namespace=exhibit', '--selector=app.kubernetes.io/component=agent'];
const agentNodes = (answer: unknown) => pods.parse(answer).items.map(({ spec }) => spec.nodeName);

/** No kubelet says that a pod has ended, so they are taken away by force. */
async function clear(): Promise<void> {
  const exhibit = '--namespace=exhibit';
  await cluster.kubectl(exhibit, 'delete', 'daemonsets,deployments', '--all');
  await cluster.until(
    (answer) => pods.parse(answer).items.length === 0,
    CONTROLLERS_TIMEOUT_MS,
    'replicasets',
    exhibit,
  );
  await cluster.kubectl(exhibit, 'delete', 'pods', '--all', '--force', '--grace-period=0');
  await cluster.until((answer) => pods.parse(answer).items.length === 0, CONTROLLERS_TIMEOUT_MS, 'pods', exhibit);
}

describe('the controllers', () => {
  beforeEach(async () => {
    if (kubernetesObstacle() === undefined) await clear();
  });

  test('put an agent on every Linux node, tainted, evicting and cordoned ones too, and none on Fargate', async () => {
    await cluster.kubectl('apply', '--kustomize', join(MANIFESTS, 'overlays/eks-pod-identity'));
    const isScheduled = (answer: unknown) => {
      const nodes = agentNodes(answer);
      return nodes.length >= WITH_AGENT.length && nodes.every((name) => name !== undefined);
    };
    const answer = await cluster.until(isScheduled, CONTROLLERS_TIMEOUT_MS, ...AGENTS);
    expect(agentNodes(answer).sort()).toEqual(WITH_AGENT.sort());
    expect(new Set(pods.parse(answer).items.map(({ spec }) => spec.priorityClassName))).toEqual(
      new Set(['system-node-critical']),
    );
  });

  test('make one pod of the controller, and roll both workloads when the image changes', async () => {
    await cluster.kubectl('apply', '--kustomize', join(MANIFESTS, 'overlays/eks-pod-identity'));
    const generation = async (what: string) =>
      (await cluster.get<{ metadata: { generation: number } }>(what, '--namespace=exhibit')).metadata.generation;
    const before = await generation('daemonset/exhibit-agent');
    const images = [{ name: 'exhibit', newName: 'registry.example/exhibit', newTag: '0.2.1' }];
    using next = writeOverlay({ resources: ['overlays/eks-pod-identity'], images });
    await cluster.kubectl('apply', '--kustomize', next.folder);
    expect(await generation('daemonset/exhibit-agent')).toBe(before + 1);
    const rolled = (answer: unknown) =>
      pods.parse(answer).items.some(({ spec }) => spec.containers[0]?.image === 'registry.example/exhibit:0.2.1');
    await cluster.until(
      rolled,
      CONTROLLERS_TIMEOUT_MS,
      'pods',
      '--namespace=exhibit',
      '--selector=app.kubernetes.io/component=controller',
    );
    const revisions = ['rollout', 'history', 'daemonset/exhibit-agent', '--namespace=exhibit'];
    expect((await cluster.kubectl(...revisions)).trim().split('\n').length).toBeGreaterThan(2);
  });
});

describe('what an operator types', () => {
  test('takes an installation away whole, but for what others made', async () => {
    const folder = join(MANIFESTS, 'overlays/local');
    await cluster.kubectl('apply', '--kustomize', folder);
    await cluster.kubectl('create', 'clusterrole', 'of-others', '--verb=get', '--resource=pods');
    // No kubelet says that the pods have ended, so the namespace goes on ending.
    await cluster.kubectl('delete', '--kustomize', folder, '--wait=false');
    const gone = await cluster.tryKubectl([
      'get',
      'clusterrole',
      'exhibit-agent',
      '--ignore-not-found',
      '--output=name',
    ]);
    expect(gone.stdout.toString()).toBe('');
    await cluster.kubectl('get', 'clusterrole', 'of-others');
  });
});
