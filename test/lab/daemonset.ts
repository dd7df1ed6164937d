/**
 * The DaemonSet's pod on a lab node, made over CRI as kubelet makes it: what the manifest says of namespaces, mounts,
 * capabilities, seccomp, environment and resources, and nothing that it does not say.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import type { ExecResult } from './machine.ts';
import type { LabNode } from './node.ts';

export const MANIFEST = fileURLToPath(new URL('../../manifests/base/agent/daemonset.yaml', import.meta.url));

const env = z.object({
  name: z.string(),
  value: z.string().optional(),
  valueFrom: z.strictObject({ fieldRef: z.object({ fieldPath: z.string() }) }).optional(),
});
const profile = z.strictObject({ type: z.enum(['RuntimeDefault', 'Unconfined']) });
const volumeMount = z.strictObject({
  name: z.string(),
  mountPath: z.string(),
  readOnly: z.boolean().default(false),
  recursiveReadOnly: z.enum(['Disabled', 'IfPossible', 'Enabled']).default('Disabled'),
  mountPropagation: z.enum(['None', 'HostToContainer', 'Bidirectional']).default('None'),
});
const volume = z.union([
  z.strictObject({ name: z.string(), hostPath: z.strictObject({ path: z.string(), type: z.string().optional() }) }),
  z.strictObject({ name: z.string(), configMap: z.strictObject({ name: z.string() }) }),
  z.strictObject({ name: z.string(), emptyDir: z.object({ medium: z.string().optional() }) }),
]);
/** Strict: a grant that this lab does not carry out would be one that no test has seen. */
const securityContext = z.strictObject({
  runAsUser: z.number(),
  runAsGroup: z.number(),
  readOnlyRootFilesystem: z.boolean(),
  privileged: z.boolean(),
  capabilities: z.strictObject({ drop: z.array(z.string()), add: z.array(z.string()) }),
  seccompProfile: profile,
  appArmorProfile: profile,
});
const container = z.object({
  name: z.string(),
  image: z.string(),
  args: z.array(z.string()),
  env: z.array(env),
  resources: z.object({ requests: z.record(z.string(), z.string()), limits: z.record(z.string(), z.string()) }),
  securityContext,
  volumeMounts: z.array(volumeMount),
});
const podSpec = z.object({
  automountServiceAccountToken: z.boolean(),
  terminationGracePeriodSeconds: z.number(),
  hostPID: z.boolean().default(false),
  hostNetwork: z.boolean().default(false),
  hostIPC: z.boolean().default(false),
  securityContext: z.undefined().optional(),
  initContainers: z.undefined().optional(),
  containers: z.tuple([container]),
  volumes: z.array(volume),
});
const daemonSet = z.object({
  kind: z.literal('DaemonSet'),
  metadata: z.object({ name: z.string(), namespace: z.string() }),
  spec: z.object({
    template: z.object({ metadata: z.object({ labels: z.record(z.string(), z.string()) }), spec: podSpec }),
  }),
});

export type DaemonSet = z.infer<typeof daemonSet>;
type Container = z.infer<typeof container>;
type PodSpec = z.infer<typeof podSpec>;

export const parseDaemonSet = (text: string): DaemonSet => daemonSet.parse(parse(text));

/** What the pod is granted, by the names of agent/doctor/grants.ts: `hostPID`, `cap:SYS_PTRACE`, `mount:/host`. */
export function grantsOf({ spec }: DaemonSet): string[] {
  const pod = spec.template.spec;
  const [{ securityContext, volumeMounts }] = pod.containers;
  return [
    ...(['hostPID', 'hostNetwork', 'hostIPC'] as const).filter((name) => pod[name]),
    ...(securityContext.privileged ? ['privileged'] : []),
    ...securityContext.capabilities.add.map((name) => `cap:${name}`),
    ...(['seccompProfile', 'appArmorProfile'] as const).filter((name) => securityContext[name].type === 'Unconfined'),
    ...volumeMounts.map(({ mountPath }) => `mount:${mountPath}`),
  ];
}

/** The same DaemonSet with one grant less. Throws when it has no such grant. */
export function without(whole: DaemonSet, grant: string): DaemonSet {
  if (!grantsOf(whole).includes(grant)) throw new Error(`the DaemonSet does not grant ${grant}`);
  const less = structuredClone(whole);
  const pod = less.spec.template.spec;
  const [{ securityContext, volumeMounts }] = pod.containers;
  const [kind, name] = grant.split(':');
  const { capabilities } = securityContext;
  if (kind === 'cap') capabilities.add = capabilities.add.filter((one) => one !== name);
  else if (kind === 'mount') pod.containers[0].volumeMounts = volumeMounts.filter((one) => one.mountPath !== name);
  else if (kind === 'seccompProfile' || kind === 'appArmorProfile') securityContext[kind].type = 'RuntimeDefault';
  else if (kind === 'hostPID') pod.hostPID = false;
  else throw new Error(`the lab cannot take ${grant} away`);
  return less;
}

export interface DaemonOptions {
  /** In place of the manifest's; imported on the node. */
  readonly image: string;
  /** The ConfigMap: its key agent.yaml. */
  readonly config: Record<string, unknown>;
  /** The manifest's own unless told. */
  readonly daemonSet?: DaemonSet;
  /** Over that of the manifest; for example what Pod Identity injects. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface DaemonPod extends AsyncDisposable {
  readonly containerId: string;
  /** As `kubectl exec` runs it. */
  exec(argv: readonly string[]): Promise<ExecResult>;
  /** The agent's log so far. */
  log(): string;
  /** Until the API answers; rejects with the log when the container ends before. */
  ready(): Promise<void>;
  /** Whether the container's process 1 runs. */
  isRunning(): Promise<boolean>;
  /** On this machine. */
  pid(): Promise<number>;
  /** SIGTERM and the grace period of the manifest, then the pod is removed. */
  stop(): Promise<void>;
}

/** Node, the code and a rehearsal, on a machine that does other things. */
const READY_TIMEOUT_MS = 60_000;
const EXEC_TIMEOUT_S = 100;
const POLL_MS = 50;

/** What kubelet asks the runtime to hide and to protect in a container that is not privileged (pkg/securitycontext). */
const MASKED = [
  ...['acpi', 'asound', 'interrupts', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi', 'timer_list'].map(
    (name) => `/proc/${name}`,
  ),
  ...['/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware'],
];
const READ_ONLY = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((name) => `/proc/${name}`);

/** kubelet's for every container, whether it has a limit or not. */
const CPU_PERIOD_US = 100_000;

const PROPAGATION = {
  None: 'PROPAGATION_PRIVATE',
  HostToContainer: 'PROPAGATION_HOST_TO_CONTAINER',
  Bidirectional: 'PROPAGATION_BIDIRECTIONAL',
} as const;

interface Identity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly nodeName: string;
}

/** The downward API and $(VARIABLE), as kubelet fills them in. */
function environment({ env }: Container, pod: Identity, over: Readonly<Record<string, string>>) {
  const fields: Record<string, string> = {
    'metadata.namespace': pod.namespace,
    'metadata.name': pod.name,
    'metadata.uid': pod.uid,
    'spec.nodeName': pod.nodeName,
  };
  const values = new Map<string, string>();
  for (const { name, value, valueFrom } of env) {
    const field = valueFrom && fields[valueFrom.fieldRef.fieldPath];
    const text = field ?? value?.replaceAll(/\$\(([A-Z_]+)\)/g, (whole, other: string) => values.get(other) ?? whole);
    if (text === undefined) throw new Error(`the lab has no value for ${name}`);
    values.set(name, text);
  }
  for (const [name, value] of Object.entries(over)) values.set(name, value);
  return [...values].map(([key, value]) => ({ key, value }));
}

/** Makes the volumes on the node and gives the container's mounts, with those that kubelet adds by itself. */
function mounts(node: LabNode, spec: PodSpec, pod: Identity, configMap: Readonly<Record<string, string>>) {
  const folder = `/var/lib/kubelet/pods/${pod.uid}`;
  const make = (path: string, files: Readonly<Record<string, string>>): string => {
    mkdirSync(join(node.hostRoot, path), { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(node.hostRoot, path, name), text);
    return path;
  };
  const volumes = new Map(spec.volumes.map((one) => [one.name, one]));
  const hostPathOf = (name: string): string => {
    const one = volumes.get(name);
    if (one === undefined) throw new Error(`the pod has no volume ${name}`);
    if ('configMap' in one) return make(`${folder}/volumes/kubernetes.io~configmap/${name}`, configMap);
    if ('emptyDir' in one) return make(`${folder}/volumes/kubernetes.io~empty-dir/${name}`, {});
    const { path, type } = one.hostPath;
    if (type === 'DirectoryOrCreate') make(path, {});
    else if (!existsSync(join(node.hostRoot, path))) throw new Error(`hostPath type check failed: ${path}`);
    return path;
  };
  const asked = spec.containers[0].volumeMounts.map((one) => ({
    container_path: one.mountPath,
    host_path: hostPathOf(one.name),
    readonly: one.readOnly,
    propagation: PROPAGATION[one.mountPropagation],
    recursive_read_only: one.recursiveReadOnly !== 'Disabled',
  }));
  const token = make(`${folder}/volumes/kubernetes.io~projected/kube-api-access`, {
    token: 'none',
    namespace: pod.namespace,
    'ca.crt': '',
  });
  make(folder, { 'etc-hosts': '127.0.0.1\tlocalhost\n', 'termination-log': '' });
  return [
    ...asked,
    ...(spec.automountServiceAccountToken
      ? [{ container_path: '/var/run/secrets/kubernetes.io/serviceaccount', host_path: token, readonly: true }]
      : []),
    { container_path: '/etc/hosts', host_path: `${folder}/etc-hosts`, readonly: false },
    { container_path: '/dev/termination-log', host_path: `${folder}/termination-log`, readonly: false },
  ];
}

/** `2Gi`, `512Mi`. */
function bytesOf(quantity: string): number {
  const [, number = '', unit = ''] = /^(\d+)(Ki|Mi|Gi)?$/.exec(quantity) ?? [];
  if (number === '') throw new Error(`the lab does not read ${quantity}`);
  return Number(number) * ({ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 }[unit] ?? 1);
}

/** `50m` as kubelet turns it into weights of control groups (pkg/kubelet/cm, MilliCPUToShares). */
function sharesOf(quantity: string): number {
  const [, number = '', milli = ''] = /^(\d+)(m?)$/.exec(quantity) ?? [];
  if (number === '') throw new Error(`the lab does not read ${quantity}`);
  return Math.max(2, Math.floor((Number(number) * (milli === '' ? 1000 : 1) * 1024) / 1000));
}

const profileOf = ({ type }: z.infer<typeof profile>) => ({ profile_type: type });

function configs(node: LabNode, whole: DaemonSet, options: DaemonOptions) {
  const { metadata, spec: set } = whole;
  const { spec, metadata: template } = set.template;
  const [agent] = spec.containers;
  const uid = randomUUID();
  const pod = {
    namespace: metadata.namespace,
    name: `${metadata.name}-${uid.slice(0, 5)}`,
    uid,
    nodeName: node.hostname,
  };
  const labels = {
    ...template.labels,
    'io.kubernetes.pod.name': pod.name,
    'io.kubernetes.pod.namespace': pod.namespace,
    'io.kubernetes.pod.uid': uid,
  };
  const mode = (ofNode: boolean, other: 'POD' | 'CONTAINER') => (ofNode ? 'NODE' : other);
  const namespaces = {
    network: mode(spec.hostNetwork, 'POD'),
    pid: mode(spec.hostPID, 'CONTAINER'),
    ipc: mode(spec.hostIPC, 'POD'),
  };
  const { securityContext: granted } = agent;
  const sandbox = {
    metadata: { name: pod.name, uid, namespace: pod.namespace, attempt: 0 },
    hostname: pod.name,
    log_directory: `/var/log/pods/${pod.namespace}_${pod.name}_${uid}`,
    labels,
    annotations: { 'kubernetes.io/config.source': 'api' },
    linux: {
      cgroup_parent: `/${node.cgroupParent}/kubepods/burstable/pod${uid}`,
      security_context: {
        namespace_options: namespaces,
        privileged: granted.privileged,
        seccomp: { profile_type: 'RuntimeDefault' },
      },
    },
  };
  const container = {
    metadata: { name: agent.name, attempt: 0 },
    image: { image: options.image },
    args: agent.args,
    envs: [
      ...environment(agent, pod, options.env ?? {}),
      { key: 'KUBERNETES_SERVICE_HOST', value: '10.100.0.1' },
      { key: 'KUBERNETES_SERVICE_PORT', value: '443' },
    ],
    mounts: mounts(node, spec, pod, { 'agent.yaml': stringify(options.config) }),
    labels: { ...labels, 'io.kubernetes.container.name': agent.name },
    annotations: { 'io.kubernetes.container.restartCount': '0' },
    log_path: `${agent.name}/0.log`,
    linux: {
      resources: {
        cpu_period: CPU_PERIOD_US,
        cpu_shares: sharesOf(agent.resources.requests.cpu ?? '0'),
        memory_limit_in_bytes: bytesOf(agent.resources.limits.memory ?? '0'),
        oom_score_adj: -997,
        // kubelet's on cgroup v2: what is killed for want of memory takes the whole container along.
        unified: { 'memory.oom.group': '1' },
      },
      security_context: {
        capabilities: { add_capabilities: granted.capabilities.add, drop_capabilities: granted.capabilities.drop },
        privileged: granted.privileged,
        namespace_options: namespaces,
        run_as_user: { value: granted.runAsUser },
        run_as_group: { value: granted.runAsGroup },
        readonly_rootfs: granted.readOnlyRootFilesystem,
        masked_paths: granted.privileged ? [] : MASKED,
        readonly_paths: granted.privileged ? [] : READ_ONLY,
        seccomp: profileOf(granted.seccompProfile),
        apparmor: profileOf(granted.appArmorProfile),
      },
    },
  };
  return { sandbox, container, graceSeconds: spec.terminationGracePeriodSeconds };
}

/** Starts the pod; it is not waited for, see `ready`. */
export async function runDaemonSet(node: LabNode, options: DaemonOptions): Promise<DaemonPod> {
  const whole = options.daemonSet ?? parseDaemonSet(readFileSync(MANIFEST, 'utf8'));
  const { sandbox, container, graceSeconds } = configs(node, whole, options);
  const { cri } = node;
  const { pod_sandbox_id } = await cri.call('RunPodSandbox', { config: sandbox });
  const remove = async () => {
    await cri.call('StopPodSandbox', { pod_sandbox_id });
    await cri.call('RemovePodSandbox', { pod_sandbox_id });
  };
  let containerId: string;
  try {
    const made = await cri.call('CreateContainer', { pod_sandbox_id, config: container, sandbox_config: sandbox });
    containerId = made.container_id;
    await cri.call('StartContainer', { container_id: containerId });
  } catch (error) {
    await remove();
    throw error;
  }
  const exec = async (argv: readonly string[]): Promise<ExecResult> => {
    const answer = await cri.call('ExecSync', { container_id: containerId, cmd: argv, timeout: EXEC_TIMEOUT_S });
    return { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr.toString() };
  };
  const status = () => cri.call('ContainerStatus', { container_id: containerId, verbose: true });
  const isRunning = async () => Number((await status()).status.state) === 1;
  const log = () => logText(join(node.hostRoot, sandbox.log_directory, container.log_path));
  const stop = async () => {
    await cri.call('StopContainer', { container_id: containerId, timeout: graceSeconds });
    await cri.call('RemoveContainer', { container_id: containerId });
    await remove();
  };
  let stopped: Promise<void> | undefined;
  const stopOnce = () => (stopped ??= stop());
  return {
    containerId,
    exec,
    log,
    isRunning,
    async ready() {
      const deadline = Date.now() + READY_TIMEOUT_MS;
      while (!log().includes('API ready')) {
        if (!(await isRunning())) throw new Error(`the agent ended at its start: ${log()}`);
        if (Date.now() > deadline) throw new Error(`the agent does not get ready: ${log()}`);
        await sleep(POLL_MS);
      }
    },
    async pid() {
      const details = JSON.parse((await status()).info.info ?? '{}') as { pid?: number };
      return node.hostPid(details.pid ?? 0);
    },
    stop: stopOnce,
    [Symbol.asyncDispose]: stopOnce,
  };
}

/** Of a CRI log, whose lines are `TIME STREAM TAG TEXT`. */
function logText(file: string): string {
  if (!existsSync(file)) return '';
  return readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.split(' ').slice(3).join(' '))
    .join('\n');
}
