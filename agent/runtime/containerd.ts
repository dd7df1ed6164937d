/** The runtime port for containers in any containerd namespace, without CRI: ctr, nerdctl, moby, or k8s.io itself. */

import { ExhibitError } from '../../evidence/error.ts';
import type { EndedRecord } from '../../evidence/manifest.ts';
import type { Container__Output } from '../../proto/gen/containerd/services/containers/v1/Container.ts';
import { missingCriu } from '../host/criu.ts';
import type { Host } from '../host/host.ts';
import { containerdImage } from './base-image.ts';
import { type ContainerdClient, containerdClient } from './containerd-client.ts';
import { describeContainerd } from './describe.ts';
import { endedTarget, noMoreProcesses } from './ended.ts';
import {
  containerPids,
  type FreezeMethod,
  freezeSpec,
  type Inspection,
  type Inspector,
  imageConfig,
  inspectContainer,
  inspectKept,
  ociRuntimeOf,
  type Pausing,
  runtimePause,
  timeOf,
} from './inspect.ts';
import { ownerOfCgroup, ownerOfPid } from './owner.ts';
import { AFTER_DUMP_MS, thawAfterDump } from './pause/dump.ts';
import { isNaming, pickContainer, pickEnded } from './pick.ts';
import { asContainerId, type ContainerSummary, type Runtime, type Selector, type Target } from './runtime.ts';
import { selectorText } from './select.ts';
import { openNamespace, type Task } from './tasks.ts';
import { tasksRung } from './tasks-rung.ts';

export interface ContainerdOptions {
  /** containerd's socket as the agent reaches it. */
  readonly socket: string;
  /** containerd's own word for a tenant: `default`, `moby`, `k8s.io`. */
  readonly namespace: string;
  readonly host: Host;
  /** Who stops a container; `auto` unless told. */
  readonly freeze?: FreezeMethod;
}

/** Connects with the first call. */
export function openContainerd({ socket, namespace, host, freeze }: ContainerdOptions): Runtime {
  const endpoint = openNamespace(socket, namespace);
  const pausing: Pausing = { socket, namespace, method: freeze };
  const client = containerdClient(endpoint);
  const list = async (signal: AbortSignal) => {
    const [containers, tasks] = await Promise.all([client.containers({ signal }), client.tasks.list({ signal })]);
    return summaries(containers, tasks);
  };
  return {
    kind: 'containerd',
    identify: async (signal) => ({ name: 'containerd', version: await client.version({ signal }) }),
    describe: (signal) => describeContainerd(client, namespace, signal),
    list,
    async resolve(selector, signal) {
      const summary = await find(client, host, selector, await list(signal), signal);
      const inspector = { client, host, signal };
      const found = await inspectContainer(inspector, summary.id);
      return withProcesses(inspector, pausing, await targetOf(inspector, summary, found), found.cgroup);
    },
    async resolveEnded(selector, signal) {
      if (!isNaming(selector)) throw noMoreProcesses(selector);
      const inspector = { client, host, signal };
      const summary = pickEnded(selector, await list(signal));
      const ended = endOf(await client.tasks.get(summary.id, { signal })) ?? {};
      return endedTarget(await targetOf(inspector, summary, await inspectKept(inspector, summary.id)), ended);
    },
    endOf: async (id, signal) => endOf(await client.tasks.get(id, { signal })),
    isRemoved: async ({ record }, signal) => !(await client.keepsLayer(record.id, { signal })),
    pids: (target, signal) => containerPids({ client, host, signal }, target),
    blob: client.blobChunks,
    rungs: [tasksRung(endpoint)],
    dumpObstacle: () => missingCriu(host, socket),
    pauseOf: (target) => runtimePause(pausing, target),
    async resumeIfPaused(target) {
      return thawAfterDump(runtimePause(pausing, target), host.procRoot, AFTER_DUMP_MS);
    },
    async [Symbol.asyncDispose]() {
      endpoint.client.close();
    },
  };
}

/** The one container that a selector of any kind means. */
export async function find(
  client: ContainerdClient,
  host: Host,
  selector: Selector,
  containers: readonly ContainerSummary[],
  signal: AbortSignal,
): Promise<ContainerSummary> {
  switch (selector.kind) {
    case 'pod':
    case 'container':
    case 'name':
    case 'labels':
      return pickContainer(selector, containers);
    case 'pid':
    case 'cgroup': {
      const known = new Set<string>(containers.map(({ id }) => id));
      const tasks = (await client.tasks.list({ signal })).filter(({ id }) => known.has(id));
      const id =
        selector.kind === 'pid'
          ? await ownerOfPid(host, selector.pid, tasks)
          : await ownerOfCgroup(host, selector.path, tasks);
      return pickContainer({ kind: 'container', id }, containers);
    }
    case 'unit':
      throw new ExhibitError(
        'target-not-found',
        `A container runtime knows no systemd units: ${selectorText(selector)} is not here`,
      );
    default:
      return selector satisfies never;
  }
}

export function stateOf(task: Task | undefined): ContainerSummary['state'] {
  switch (task?.status) {
    case undefined:
      return 'exited';
    case 'CREATED':
      return 'created';
    case 'RUNNING':
      return 'running';
    case 'PAUSED':
    case 'PAUSING':
      return 'paused';
    case 'STOPPED':
      return 'exited';
    default:
      return 'unknown';
  }
}

/** Sandboxes of pods hold namespaces and no workload. */
const isSandbox = ({ labels }: Container__Output): boolean => labels['io.cri-containerd.kind'] === 'sandbox';

function summaries(containers: readonly Container__Output[], tasks: readonly Task[]): ContainerSummary[] {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  return containers
    .filter((container) => !isSandbox(container))
    .map((container) => {
      const labels = new Map(Object.entries(container.labels));
      const name = labels.get('io.kubernetes.container.name') ?? labels.get('nerdctl/name') ?? container.id;
      const pod = podOf(labels, container.sandbox);
      const createdAt = timeOf(container.createdAt) ?? new Date(0).toISOString();
      const id = asContainerId(container.id);
      const state = stateOf(byId.get(container.id));
      return { id, name, ...(pod === undefined ? {} : { pod }), labels, image: container.image, state, createdAt };
    });
}

function podOf(labels: ReadonlyMap<string, string>, sandboxId: string): ContainerSummary['pod'] {
  const namespace = labels.get('io.kubernetes.pod.namespace');
  const name = labels.get('io.kubernetes.pod.name');
  if (namespace === undefined || name === undefined) return undefined;
  return { namespace, name, uid: labels.get('io.kubernetes.pod.uid') ?? '', sandboxId };
}

/** Whoever made the container deletes its task when it likes; then nobody says how it ended. */
function endOf(task: Task | undefined): EndedRecord | undefined {
  if (task?.status !== 'STOPPED') return undefined;
  const finishedAt = timeOf(task.exitedAt);
  return { exitCode: task.exitStatus, ...(finishedAt === undefined ? {} : { finishedAt }) };
}

async function targetOf(inspector: Inspector, summary: ContainerSummary, found: Inspection): Promise<Target> {
  const { id, name, pod, labels, image } = summary;
  const config = await imageConfig(inspector, { name: image });
  const { snapshotter = '', snapshotKey = '' } = found.container ?? {};
  const question = { reference: image, candidates: [image], snapshotter, snapshotKey, rootfs: found.rootfs };
  const base = await containerdImage(inspector, question);
  const notes = [
    ...found.notes,
    ...(config === undefined ? [`the node does not keep the config of the image ${image}`] : []),
  ];
  return {
    record: {
      runtime: 'containerd',
      kind: 'container',
      id,
      name,
      ...(pod === undefined ? {} : { pod }),
      labels: Object.fromEntries(labels),
      ...(image === '' ? {} : { image: { name: image, id: '' } }),
      initPid: found.initPid,
      pids: [found.initPid],
      ...(found.cgroup === undefined ? {} : { cgroup: found.cgroup.path }),
    },
    createdAt: summary.createdAt,
    ...ociRuntimeOf(found),
    freeze: undefined,
    rootfs: found.rootfs,
    mounts: found.mounts,
    logPath: undefined,
    image: base.image,
    documents: [
      ...found.documents,
      ...(config === undefined ? [] : [{ name: 'image-config.json', bytes: config }]),
      ...base.documents,
    ],
    notes,
    companions: [],
  };
}

/** Adds who is in the container now, and how it can be stopped. */
export async function withProcesses(
  inspector: Inspector,
  pausing: Pausing,
  target: Target,
  cgroup: Parameters<typeof freezeSpec>[2]['cgroup'],
): Promise<Target> {
  const pids = await containerPids(inspector, target);
  const { freeze, notes } = await freezeSpec(inspector.host, pausing, { id: target.record.id, pids, cgroup });
  return { ...target, record: { ...target.record, pids }, freeze, notes: [...target.notes, ...notes] };
}
