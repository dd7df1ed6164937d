/** A node with a real kubelet and a pod to capture, and the pods that the manifests make on it. */
import { z } from 'zod';
import { exhibitImage, imageObstacle, requireExhibitImage } from '../lab/exhibit-image.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { type KubeNode, startKubeNode } from '../lab/kubelet.ts';
import { type Cluster, kubernetesObstacle, requireKubernetes } from '../lab/kubernetes.ts';
import { labObstacle, requireLab, type Skippable } from '../lab/requires.ts';

export const AGENTS = ['--namespace=exhibit', '--selector=app.kubernetes.io/component=agent'];

/** A node with the image of exhibit, and the pod `web-0` in the namespace `prod` to capture; undefined where it cannot be had. */
export async function startNodeWithTarget(): Promise<KubeNode | undefined> {
  if (labObstacle() ?? imageObstacle() ?? kubernetesObstacle(['kubelet'])) return undefined;
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await startKubeNode([(await exhibitImage()).tar]));
  await node.cluster.kubectl('create', 'namespace', 'prod');
  await node.cluster.apply(target('web-0'));
  await node.cluster.kubectl('--namespace=prod', 'wait', '--for=condition=Ready', 'pod/web-0', '--timeout=110s');
  stack.move();
  return node;
}

/** Skips the test, with the reason, where there is none. */
export function requireNodeWithTarget(context: Skippable): void {
  requireLab(context);
  requireExhibitImage(context);
  requireKubernetes(context, ['kubelet']);
}

export const target = (name: string) => ({
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
        command: ['sh', '-c', 'echo hello > /tmp/hello; exec tail -f /dev/null'],
        readinessProbe: { exec: { command: ['cat', '/tmp/hello'] } },
      },
    ],
  },
});

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
export const podsSchema = z.object({ items: z.array(podSchema) });
export type Pod = z.infer<typeof podSchema>;

/** Rolls an overlay out to its end, and gives the agent's pod. */
export async function rollOut(cluster: Cluster, folder: string): Promise<Pod> {
  await cluster.kubectl('apply', '--kustomize', folder);
  const status = ['rollout', 'status', 'daemonset/exhibit-agent', '--timeout=110s'];
  await cluster.kubectl('--namespace=exhibit', ...status);
  return await agentPod(cluster);
}

/** The one that is not about to end. */
export async function agentPod(cluster: Cluster): Promise<Pod> {
  const { items } = podsSchema.parse(await cluster.get('pods', ...AGENTS));
  const staying = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const [pod] = staying;
  if (pod === undefined || staying.length > 1) throw new Error(`${staying.length} agents run on one node`);
  return pod;
}

/** A patch of the agent's pod. */
export const ofDaemonSet = (spec: object) => ({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'exhibit-agent', namespace: 'exhibit' },
  spec: { template: { spec } },
});
