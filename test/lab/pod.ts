/** Pods as a kubelet makes them: a sandbox and containers over CRI, with kubelet's labels, log paths and cgroup names. */
import { randomUUID } from 'node:crypto';
import type { CriClient } from './cri.ts';
import { WORKLOAD_IMAGE } from './image.ts';
import type { ExecResult } from './machine.ts';

export interface ContainerSpec {
  name: string;
  /** WORKLOAD_IMAGE unless told. */
  image?: string;
  /** IDLE_COMMAND unless told. */
  command?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** Paths on the lab node, which must exist. */
  mounts?: readonly { hostPath: string; containerPath: string; readonly?: boolean }[];
  privileged?: boolean;
  /** Linux capabilities added to the runtime's default set, without the CAP_ prefix. */
  capabilities?: readonly string[];
  memoryLimitBytes?: number;
}

export interface PodSpec {
  namespace: string;
  name: string;
  /** A random one unless told: kubelet's folders on the node have it in their names. */
  uid?: string;
  labels?: Readonly<Record<string, string>>;
  annotations?: Readonly<Record<string, string>>;
  containers: readonly ContainerSpec[];
  /** True: the pod has the node's network (hostNetwork). */
  hostNetwork?: boolean;
  /** A user namespace whose ids from 0 on are these of the node (hostUsers: false); containerd maps the image for it. */
  userNamespace?: { hostId: number; length: number };
  /** True: one pid namespace for the pod (shareProcessNamespace). */
  shareProcesses?: boolean;
}

export interface LabPod {
  namespace: string;
  name: string;
  uid: string;
  sandboxId: string;
  /** Container ids by container name. */
  containers: Readonly<Record<string, string>>;
  /** Folder on the lab node that holds `<container>/0.log`. */
  logFolder: string;
  /** The container's id; throws when the pod has no such container. */
  containerId(container: string): string;
  /** Runs a program in a container, to its end, over CRI ExecSync. */
  exec(container: string, argv: readonly string[]): Promise<ExecResult>;
  /** Pid of the container's first process in the lab node's pid namespace. */
  pid(container: string): Promise<number>;
  /** Stops and removes containers and sandbox. */
  stop(): Promise<void>;
}

/** Longest a program of the lab runs inside a container. */
const EXEC_TIMEOUT_S = 60;

/**
 * One process that does nothing. Not `sleep`: CRIU interrupts its system call, busybox takes EINTR for the end of its
 * sleep, and a checkpoint would end the container.
 */
export const IDLE_COMMAND: readonly string[] = ['tail', '-f', '/dev/null'];

/** A process 1 without a handler for SIGTERM ignores it, so waiting longer is in vain. */
const STOP_GRACE_S = 1;

function sandboxConfig(spec: PodSpec, uid: string, cgroupParent: string) {
  const { namespace, name } = spec;
  return {
    metadata: { name, uid, namespace, attempt: 0 },
    // runc refuses to set a name in the node's own uts namespace, which host networking brings along.
    hostname: spec.hostNetwork ? '' : name,
    log_directory: `/var/log/pods/${namespace}_${name}_${uid}`,
    labels: {
      ...spec.labels,
      'io.kubernetes.pod.name': name,
      'io.kubernetes.pod.namespace': namespace,
      'io.kubernetes.pod.uid': uid,
    },
    annotations: { 'kubernetes.io/config.source': 'api', ...spec.annotations },
    linux: {
      cgroup_parent: `/${cgroupParent}/kubepods/besteffort/pod${uid}`,
      // containerd lets no container have more than its sandbox may.
      security_context: {
        namespace_options: namespaceOptions(spec),
        privileged: spec.containers.some(({ privileged }) => privileged),
      },
    },
  };
}

function namespaceOptions(spec: PodSpec) {
  const pid = spec.shareProcesses ? 'POD' : 'CONTAINER';
  return { network: spec.hostNetwork ? 'NODE' : 'POD', pid, ipc: 'POD', ...userNamespaceOptions(spec) };
}

function userNamespaceOptions({ userNamespace }: PodSpec) {
  if (userNamespace === undefined) return {};
  const { hostId, length } = userNamespace;
  const mapping = [{ host_id: hostId, container_id: 0, length }];
  return { userns_options: { mode: 'POD', uids: mapping, gids: mapping } };
}

function containerConfig(pod: PodSpec, uid: string, spec: ContainerSpec) {
  const envs = { KUBERNETES_SERVICE_HOST: '10.100.0.1', KUBERNETES_SERVICE_PORT: '443', ...spec.env };
  return {
    metadata: { name: spec.name, attempt: 0 },
    image: { image: spec.image ?? WORKLOAD_IMAGE },
    command: spec.command ?? IDLE_COMMAND,
    envs: Object.entries(envs).map(([key, value]) => ({ key, value })),
    mounts: (spec.mounts ?? []).map((mount) => ({
      container_path: mount.containerPath,
      host_path: mount.hostPath,
      readonly: mount.readonly ?? false,
    })),
    labels: {
      'io.kubernetes.container.name': spec.name,
      'io.kubernetes.pod.name': pod.name,
      'io.kubernetes.pod.namespace': pod.namespace,
      'io.kubernetes.pod.uid': uid,
    },
    annotations: {
      'io.kubernetes.container.restartCount': '0',
      'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      'io.kubernetes.pod.terminationGracePeriod': '30',
    },
    log_path: `${spec.name}/0.log`,
    linux: {
      resources: { memory_limit_in_bytes: spec.memoryLimitBytes ?? 0, oom_score_adj: 1000 },
      security_context: {
        privileged: spec.privileged ?? false,
        capabilities: { add_capabilities: spec.capabilities ?? [] },
        namespace_options: namespaceOptions(pod),
      },
    },
  };
}

async function containerPid(cri: CriClient, containerId: string): Promise<number> {
  const { info } = await cri.call('ContainerStatus', { container_id: containerId, verbose: true });
  const details: unknown = JSON.parse(info.info ?? '{}');
  const pid = typeof details === 'object' && details !== null && 'pid' in details ? Number(details.pid) : 0;
  if (pid === 0) throw new Error(`container ${containerId} has no process`);
  return pid;
}

/** Starts sandbox and containers in order; on failure what was started is stopped with the node. */
export async function runPod(cri: CriClient, spec: PodSpec, cgroupParent: string): Promise<LabPod> {
  const uid = spec.uid ?? randomUUID();
  const config = sandboxConfig(spec, uid, cgroupParent);
  const { pod_sandbox_id: sandboxId } = await cri.call('RunPodSandbox', { config });
  const containers: Record<string, string> = {};
  for (const container of spec.containers) {
    const { container_id } = await cri.call('CreateContainer', {
      pod_sandbox_id: sandboxId,
      config: containerConfig(spec, uid, container),
      sandbox_config: config,
    });
    await cri.call('StartContainer', { container_id });
    containers[container.name] = container_id;
  }
  const containerId = (name: string): string => {
    const id = containers[name];
    if (id === undefined) throw new Error(`pod ${spec.namespace}/${spec.name} has no container ${name}`);
    return id;
  };
  return {
    namespace: spec.namespace,
    name: spec.name,
    uid,
    sandboxId,
    containers,
    logFolder: config.log_directory,
    containerId,
    async exec(container, argv) {
      const request = { container_id: containerId(container), cmd: argv, timeout: EXEC_TIMEOUT_S };
      const answer = await cri.call('ExecSync', request);
      return { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr.toString() };
    },
    pid: (container) => containerPid(cri, containerId(container)),
    async stop() {
      for (const container_id of Object.values(containers)) {
        await cri.call('StopContainer', { container_id, timeout: STOP_GRACE_S });
        await cri.call('RemoveContainer', { container_id });
      }
      await cri.call('StopPodSandbox', { pod_sandbox_id: sandboxId });
      await cri.call('RemovePodSandbox', { pod_sandbox_id: sandboxId });
    },
  };
}
