/**
 * The runtime port for a Kubernetes node: pods and containers from CRI v1, and what CRI does not tell (pids, layers, pause)
 * from containerd's own services on the same socket.
 */
import { isDigest } from '../../evidence/base-image.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { EndedRecord } from '../../evidence/manifest.ts';
import type { Container__Output } from '../../proto/gen/runtime/v1/Container.ts';
import type { ContainerStatus__Output } from '../../proto/gen/runtime/v1/ContainerStatus.ts';
import type { PodSandbox__Output } from '../../proto/gen/runtime/v1/PodSandbox.ts';
import { loadCri } from '../../proto/load.ts';
import { missingCriu } from '../host/criu.ts';
import type { Host } from '../host/host.ts';
import { containerdImage, type ImageQuestion } from './base-image.ts';
import { type CallLimits, type Endpoint, unary } from './call.ts';
import { find, withProcesses } from './containerd.ts';
import { containerdClient } from './containerd-client.ts';
import { cleanCriLeftovers } from './cri-leftovers.ts';
import { describeContainerd, describeStatus } from './describe.ts';
import { endedTarget, noMoreProcesses, settledEnd } from './ended.ts';
import {
  containerPids,
  type FreezeMethod,
  type Inspection,
  type Inspector,
  imageConfig,
  inspectContainer,
  inspectKept,
  jsonDocument,
  ociRuntimeOf,
  type Pausing,
  runtimePause,
} from './inspect.ts';
import { AFTER_DUMP_MS, thawAfterDump } from './pause/dump.ts';
import { isNaming, pickEnded, withEnds } from './pick.ts';
import {
  asContainerId,
  asHostPath,
  type ContainerSummary,
  type Runtime,
  type SpecDocument,
  type Target,
} from './runtime.ts';
import { jsonOf } from './snapshot.ts';
import { openNamespace, type Task, unlessGone } from './tasks.ts';
import { tasksRung } from './tasks-rung.ts';

export interface CriOptions {
  /** The runtime's socket as the agent reaches it. */
  readonly socket: string;
  readonly host: Host;
  /** Where CRI keeps its containers in containerd; `k8s.io` unless somebody changed it. */
  readonly namespace?: string;
  /** Who stops a container; `auto` unless told. */
  readonly freeze?: FreezeMethod;
}

/** Connects with the first call. */
export function openCri({ socket, host, namespace = 'k8s.io', freeze }: CriOptions): Runtime {
  const endpoint = openNamespace(socket, namespace);
  const pausing: Pausing = { socket, namespace, method: freeze };
  const client = containerdClient(endpoint);
  const cri = criClient(endpoint);
  const list = async (signal: AbortSignal): Promise<ContainerSummary[]> => {
    const [containers, sandboxes, tasks] = await Promise.all([
      cri.containers({ signal }),
      cri.sandboxes({ signal }),
      client.tasks.list({ signal }),
    ]);
    return summaries(containers, sandboxes, tasks);
  };
  return {
    kind: 'cri',
    async identify(signal) {
      const { runtimeName, runtimeVersion } = await cri.version({ signal });
      return { name: runtimeName, version: runtimeVersion };
    },
    async describe(signal) {
      const [{ runtimeApiVersion }, status, containers] = await Promise.all([
        cri.version({ signal }),
        cri.status({ signal }),
        describeContainerd(client, namespace, signal),
      ]);
      return { ...containers, ...describeStatus(status), apiVersion: runtimeApiVersion };
    },
    list,
    async resolve(selector, signal) {
      const containers = await withEnds(
        selector,
        await list(signal),
        async (id) => (await endOf(cri, id, signal))?.finishedAt,
      );
      const summary = await find(client, host, selector, containers, signal);
      const inspector = { client, host, signal };
      const found = await inspectContainer(inspector, summary.id);
      const target = await targetOf(inspector, cri, summary, found);
      return withProcesses(inspector, pausing, target, found.cgroup);
    },
    async resolveEnded(selector, signal) {
      if (!isNaming(selector)) throw noMoreProcesses(selector);
      const inspector = { client, host, signal };
      const containers = await withEnds(
        selector,
        await list(signal),
        async (id) => (await endOf(cri, id, signal))?.finishedAt,
      );
      const summary = pickEnded(selector, containers);
      const ended = (await settledEnd(() => endOf(cri, summary.id, signal), signal)) ?? {};
      return endedTarget(await targetOf(inspector, cri, summary, await inspectKept(inspector, summary.id)), ended);
    },
    endOf: (id, signal) => endOf(cri, id, signal),
    isRemoved: async ({ record }, signal) => !(await client.keepsLayer(record.id, { signal })),
    pids: (target, signal) => containerPids({ client, host, signal }, target),
    blob: client.blobChunks,
    rungs: [
      tasksRung(endpoint),
      {
        name: 'cri',
        delivers: 'archive',
        checkpoint: ({ record }, location) => cri.checkpoint(record.id, location),
        clean: (containerId, sinceMs) => cleanCriLeftovers(client, { host, socket }, containerId, sinceMs),
      },
    ],
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

type CriClient = ReturnType<typeof criClient>;

function criClient(endpoint: Endpoint) {
  const { RuntimeService, ImageService } = loadCri();
  const runtime = RuntimeService.service;
  return {
    version: (limits: CallLimits) => unary(endpoint, runtime.Version, {}, limits),
    status: (limits: CallLimits) => unary(endpoint, runtime.Status, { verbose: true }, limits),
    containers: async (limits: CallLimits) => (await unary(endpoint, runtime.ListContainers, {}, limits)).containers,
    sandboxes: async (limits: CallLimits) => (await unary(endpoint, runtime.ListPodSandbox, {}, limits)).items,
    containerStatus: (containerId: string, limits: CallLimits) =>
      unlessGone(unary(endpoint, runtime.ContainerStatus, { containerId, verbose: true }, limits)),
    sandboxStatus: (podSandboxId: string, limits: CallLimits) =>
      unlessGone(unary(endpoint, runtime.PodSandboxStatus, { podSandboxId, verbose: true }, limits)),
    imageStatus: (image: string, limits: CallLimits) =>
      unlessGone(unary(endpoint, ImageService.service.ImageStatus, { image: { image }, verbose: true }, limits)),
    /** Neither deadline nor signal: cutting it off kills runc in mid-dump and can leave the task paused. */
    async checkpoint(containerId: string, location: string): Promise<void> {
      await unary(endpoint, runtime.CheckpointContainer, { containerId, location }, { timeoutMs: 'none' });
    },
  };
}

/** CRI counts nanoseconds since the epoch; 0 is no time. */
function timeOf(nanoseconds: string): string | undefined {
  const ms = Number(BigInt(nanoseconds) / 1_000_000n);
  return ms > 0 && ms < 8.64e15 ? new Date(ms).toISOString() : undefined;
}

function stateOf({ state }: Container__Output, task: Task | undefined): ContainerSummary['state'] {
  switch (state) {
    case 'CONTAINER_CREATED':
      return 'created';
    case 'CONTAINER_RUNNING':
      // CRI does not tell paused from running.
      return task?.status === 'PAUSED' || task?.status === 'PAUSING' ? 'paused' : 'running';
    case 'CONTAINER_EXITED':
      return 'exited';
    default:
      return 'unknown';
  }
}

function summaries(
  containers: readonly Container__Output[],
  sandboxes: readonly PodSandbox__Output[],
  tasks: readonly Task[],
): ContainerSummary[] {
  const pods = new Map(sandboxes.map((sandbox) => [sandbox.id, sandbox]));
  const byId = new Map(tasks.map((task) => [task.id, task]));
  return containers.map((container) => {
    const sandbox = pods.get(container.podSandboxId);
    const labels = new Map([...Object.entries(sandbox?.labels ?? {}), ...Object.entries(container.labels)]);
    const pod = podOf(container, sandbox);
    return {
      id: asContainerId(container.id),
      name: container.metadata?.name ?? container.id,
      ...(pod === undefined ? {} : { pod }),
      labels,
      image: container.image?.image ?? container.imageRef,
      state: stateOf(container, byId.get(container.id)),
      createdAt: timeOf(container.createdAt) ?? new Date(0).toISOString(),
    };
  });
}

/** From the sandbox; from kubelet's labels where that is gone already. */
function podOf(container: Container__Output, sandbox: PodSandbox__Output | undefined): ContainerSummary['pod'] {
  const sandboxId = container.podSandboxId;
  const metadata = sandbox?.metadata;
  if (metadata) return { namespace: metadata.namespace, name: metadata.name, uid: metadata.uid, sandboxId };
  const namespace = container.labels['io.kubernetes.pod.namespace'];
  const name = container.labels['io.kubernetes.pod.name'];
  if (namespace === undefined || name === undefined) return undefined;
  return { namespace, name, uid: container.labels['io.kubernetes.pod.uid'] ?? '', sandboxId };
}

/** CRI's list does not say when a container ended. */
async function endOf(cri: CriClient, id: string, signal: AbortSignal): Promise<EndedRecord | undefined> {
  const status = (await cri.containerStatus(id, { signal }))?.status;
  if (status?.state !== 'CONTAINER_EXITED') return undefined;
  const { exitCode, reason } = status;
  const finishedAt = timeOf(status.finishedAt);
  const at = finishedAt === undefined ? {} : { finishedAt };
  return { exitCode, ...at, ...(reason === '' ? {} : { reason }), oomKilled: reason === 'OOMKilled' };
}

async function targetOf(
  inspector: Inspector,
  cri: CriClient,
  summary: ContainerSummary,
  found: Inspection,
): Promise<Target> {
  const { id, name, pod, labels } = summary;
  const limits = { signal: inspector.signal };
  const answer = await cri.containerStatus(id, limits);
  if (!answer?.status)
    throw new ExhibitError('target-not-running', `container ${id.slice(0, 12)} has just been removed`);
  const { status, info } = answer;
  const sandbox = pod === undefined ? undefined : await cri.sandboxStatus(pod.sandboxId, limits);
  const podCreatedAt = timeOf(sandbox?.status?.createdAt ?? '0');
  const image = await imageDocument(inspector, cri, summary, status);
  const base = await containerdImage(inspector, imageQuestion(found, summary, image.id));
  const documents = [
    statusDocument('cri-container-status.json', status, info),
    ...(sandbox?.status ? [statusDocument('cri-pod-status.json', sandbox.status, sandbox.info)] : []),
    ...found.documents,
    ...(image.document === undefined ? [] : [image.document]),
    ...base.documents,
  ];
  return {
    record: {
      runtime: 'cri',
      kind: 'container',
      id,
      name,
      ...(pod === undefined ? {} : { pod }),
      labels: Object.fromEntries(labels),
      image: { name: summary.image, id: image.id },
      initPid: found.initPid,
      pids: [found.initPid],
      ...(found.cgroup === undefined ? {} : { cgroup: found.cgroup.path }),
    },
    createdAt: summary.createdAt,
    ...(podCreatedAt === undefined ? {} : { podCreatedAt }),
    ...ociRuntimeOf(found),
    freeze: undefined,
    rootfs: found.rootfs,
    image: base.image,
    mounts: found.mounts.length > 0 ? found.mounts : criMounts(status),
    logPath: status.logPath === '' ? undefined : asHostPath(status.logPath),
    documents,
    notes: [...found.notes, ...image.notes],
    companions: [],
  };
}

/** CRI knows images by their config's digest, and containerd has one of that name for each: a tag that moved does not matter. */
function imageQuestion({ container, rootfs }: Inspection, summary: ContainerSummary, id: string): ImageQuestion {
  const { image = '', snapshotter = '', snapshotKey = '' } = container ?? {};
  const configDigest = isDigest(id) ? id : undefined;
  const candidates = [id, image, summary.image];
  return { reference: summary.image, candidates, configDigest, snapshotter, snapshotKey, rootfs };
}

/** The verbose info is JSON in a string: opened, so that people can read it, and kept as text where it is not. */
function statusDocument(name: string, status: unknown, info: Readonly<Record<string, string>>): SpecDocument {
  const opened = Object.entries(info).map(([key, text]) => [key, jsonOf(text) ?? text]);
  return jsonDocument(name, { status, info: Object.fromEntries(opened) });
}

const criMounts = ({ mounts }: ContainerStatus__Output) =>
  mounts.map(({ containerPath, hostPath, readonly }) => ({
    containerPath,
    hostPath,
    type: 'bind',
    readOnly: readonly,
  }));

/** The config as the content store has it; where that was discarded, as CRI retells it. */
async function imageDocument(
  inspector: Inspector,
  cri: CriClient,
  summary: ContainerSummary,
  status: ContainerStatus__Output,
) {
  const answer = await cri.imageStatus(status.imageRef || summary.image, { signal: inspector.signal });
  const id = answer?.image?.id ?? status.imageRef;
  const name = 'image-config.json';
  const verbatim = /^sha256:[0-9a-f]{64}$/.test(id) ? await imageConfig(inspector, { digest: id }) : undefined;
  if (verbatim !== undefined) return { id, document: { name, bytes: verbatim }, notes: [] };
  const retold = jsonOf(answer?.info.info ?? '');
  if (typeof retold === 'object' && retold !== null && 'imageSpec' in retold) {
    const notes = ["image-config.json is CRI's retelling: the node does not keep the image's own config"];
    return { id, document: jsonDocument(name, retold.imageSpec), notes };
  }
  return { id, document: undefined, notes: [`the node does not keep the config of the image ${summary.image}`] };
}
