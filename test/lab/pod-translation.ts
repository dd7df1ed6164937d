/**
 * What kubelet makes of a pod for the runtime: its volumes on the node, and the two configurations of CRI (RunPodSandbox,
 * CreateContainer), with nothing that the pod does not say but what kubelet adds to every one.
 *
 * Not as kubelet does it: the token of the service account is no token and there is no API server, a volume of a claim is a folder,
 * limits of CPU are not set (the manifests have none), and nobody asks the probes again and again (`probe` of running-pod.ts asks once).
 */
import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AddedEnvironment, configText, type OtherSections } from './lab-differences.ts';
import type { LabNode } from './node.ts';
import { type Container, type PodSpec, podOf, type RenderedPod } from './rendered-pod.ts';

/** The part of a node that a pod is made on. */
export type PodNode = Pick<LabNode, 'hostname' | 'hostRoot' | 'cgroupParent'>;

export interface PodInputs {
  readonly pod: RenderedPod;
  /** Of the configuration: see lab-differences.ts. */
  readonly config?: OtherSections;
  readonly env?: AddedEnvironment;
  /** Content by file name, by the Secret's name. */
  readonly secrets?: Readonly<Record<string, Readonly<Record<string, string | Buffer>>>>;
  /** What webhooks of EKS mount beside: content by file name, by the folder in the container. */
  readonly injected?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export interface Identity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly nodeName: string;
}

export function identityOf({ workload }: RenderedPod, nodeName: string): Identity {
  const uid = randomUUID();
  const { name, namespace } = workload.metadata;
  return { namespace, name: `${name}-${uid.slice(0, 5)}`, uid, nodeName };
}

/** What kubelet asks the runtime to hide and to protect in a container that is not privileged (pkg/securitycontext). */
const MASKED = [
  ...['acpi', 'asound', 'interrupts', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi', 'timer_list'].map(
    (name) => `/proc/${name}`,
  ),
  ...['/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware'],
];
const READ_ONLY = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((name) => `/proc/${name}`);

const PROPAGATION = {
  None: 'PROPAGATION_PRIVATE',
  HostToContainer: 'PROPAGATION_HOST_TO_CONTAINER',
  Bidirectional: 'PROPAGATION_BIDIRECTIONAL',
} as const;

/** The downward API and $(VARIABLE), as kubelet fills them in. */
export function environment({ env }: Container, pod: Identity, added: AddedEnvironment): Map<string, string> {
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
  for (const [name, value] of Object.entries(added)) values.set(name, value);
  return values;
}

/** A volume of kubelet's own, below its folder of the pod. */
interface Owned {
  readonly kind: 'configmap' | 'secret' | 'empty-dir' | 'csi' | 'projected';
  readonly files?: Readonly<Record<string, string | Buffer>>;
  readonly mode?: number;
}

/** Makes the pod's volumes on the node. Returns where each is there, by its name. */
export function makeVolumes(node: Pick<PodNode, 'hostRoot'>, spec: PodSpec, pod: Identity, inputs: PodInputs) {
  const { fsGroup } = spec.securityContext;
  const make = (name: string, { kind, files = {}, mode = 0o644 }: Owned): string => {
    const path = `/var/lib/kubelet/pods/${pod.uid}/volumes/kubernetes.io~${kind}/${name}`;
    const folder = join(node.hostRoot, path);
    mkdirSync(folder, { recursive: true });
    // emptyDir is everybody's; a fresh disk is root's, until it is given to the group.
    chmodSync(folder, kind === 'empty-dir' ? 0o777 : 0o755);
    for (const [file, text] of Object.entries(files)) {
      writeFileSync(join(folder, file), text);
      chmodSync(join(folder, file), mode);
      chownSync(join(folder, file), 0, fsGroup ?? 0);
    }
    if (fsGroup !== undefined) {
      chownSync(folder, 0, fsGroup);
      chmodSync(folder, 0o2775);
    }
    return path;
  };
  const textsOf = (name: string) =>
    Object.fromEntries(
      Object.entries(inputs.pod.configMaps.get(name) ?? {}).map(([file, text]) => [
        file,
        configText(text, inputs.config ?? {}),
      ]),
    );
  const made = new Map<string, string>();
  for (const one of spec.volumes) {
    const { name } = one;
    if ('hostPath' in one) made.set(name, hostPath(node, one.hostPath));
    else if ('configMap' in one) made.set(name, make(name, { kind: 'configmap', files: textsOf(one.configMap.name) }));
    else if ('emptyDir' in one) made.set(name, make(name, { kind: 'empty-dir' }));
    else if ('secret' in one) {
      const files = inputs.secrets?.[one.secret.secretName];
      if (files === undefined) throw new Error(`MountVolume.SetUp failed: secret ${one.secret.secretName} not found`);
      made.set(name, make(name, { kind: 'secret', files, mode: one.secret.defaultMode }));
    } else made.set(name, make(name, { kind: 'csi' }));
  }
  for (const [at, files] of Object.entries(inputs.injected ?? {}))
    made.set(at, make(at.replaceAll('/', '-'), { kind: 'projected', files }));
  if (spec.automountServiceAccountToken) {
    const files = { token: 'none', namespace: pod.namespace, 'ca.crt': '' };
    made.set(TOKEN_FOLDER, make('kube-api-access', { kind: 'projected', files }));
  }
  return made;
}

const TOKEN_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

function hostPath(
  { hostRoot }: Pick<PodNode, 'hostRoot'>,
  { path, type }: { path: string; type?: string | undefined },
) {
  const there = join(hostRoot, path);
  if (type === 'DirectoryOrCreate') mkdirSync(there, { recursive: true });
  else if (!existsSync(there) || (type === 'Directory' && !statSync(there).isDirectory()))
    throw new Error(`hostPath type check failed: ${path}`);
  return path;
}

/** The mounts of CRI, with those that kubelet adds by itself. */
function mounts(node: PodNode, spec: PodSpec, pod: Identity, inputs: PodInputs) {
  const volumes = makeVolumes(node, spec, pod, inputs);
  const folder = `/var/lib/kubelet/pods/${pod.uid}`;
  for (const [name, text] of Object.entries({ 'etc-hosts': '127.0.0.1\tlocalhost\n', 'termination-log': '' })) {
    mkdirSync(join(node.hostRoot, folder), { recursive: true });
    writeFileSync(join(node.hostRoot, folder, name), text, { mode: name === 'termination-log' ? 0o666 : 0o644 });
  }
  const besides = [...Object.keys(inputs.injected ?? {}), ...(spec.automountServiceAccountToken ? [TOKEN_FOLDER] : [])];
  const [{ volumeMounts }] = spec.containers;
  return [
    ...volumeMounts.map((one) => {
      const host_path = volumes.get(one.name);
      if (host_path === undefined) throw new Error(`the pod has no volume ${one.name}`);
      return {
        container_path: one.mountPath,
        host_path,
        readonly: one.readOnly,
        propagation: PROPAGATION[one.mountPropagation],
        recursive_read_only: one.recursiveReadOnly !== 'Disabled',
      };
    }),
    ...besides.map((at) => ({ container_path: at, host_path: volumes.get(at), readonly: true })),
    // Writable also where the root is not: seen of kubelet 1.36.
    { container_path: '/etc/hosts', host_path: `${folder}/etc-hosts`, readonly: false },
    { container_path: '/dev/termination-log', host_path: `${folder}/termination-log`, readonly: false },
  ];
}

/** `2Gi`, `512Mi`. */
export function bytesOf(quantity: string): number {
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

/** kubelet's for every container, whether it has a limit or not. */
const CPU_PERIOD_US = 100_000;

/** oom_score_adj of a critical pod, and of one with less memory asked for than its limit (pkg/kubelet/qos; between 2 and 999). */
const OOM_SCORE = { critical: -997, burstable: 900 } as const;

/** Makes the volumes, and gives what CRI is asked for. */
export function asKubelet(node: PodNode, inputs: PodInputs) {
  const { workload } = inputs.pod;
  const spec = podOf(workload);
  const [main, ...others] = [...spec.containers, ...spec.initContainers];
  if (main === undefined || others.length > 0) throw new Error('the lab runs pods of one container');
  const [container] = spec.containers;
  const pod = identityOf(inputs.pod, node.hostname);
  const labels = {
    ...workload.spec.template.metadata.labels,
    'io.kubernetes.pod.name': pod.name,
    'io.kubernetes.pod.namespace': pod.namespace,
    'io.kubernetes.pod.uid': pod.uid,
  };
  const mode = (ofNode: boolean, other: 'POD' | 'CONTAINER') => (ofNode ? 'NODE' : other);
  const namespaces = {
    network: mode(spec.hostNetwork, 'POD'),
    pid: mode(spec.hostPID, 'CONTAINER'),
    ipc: mode(spec.hostIPC, 'POD'),
  };
  const { securityContext: own } = container;
  const around = spec.securityContext;
  const profileOf = (type: string | undefined) => ({ profile_type: type ?? 'Unconfined' });
  const user = own.runAsUser ?? around.runAsUser;
  const group = own.runAsGroup ?? around.runAsGroup;
  const sandbox = {
    metadata: { name: pod.name, uid: pod.uid, namespace: pod.namespace, attempt: 0 },
    hostname: pod.name,
    log_directory: `/var/log/pods/${pod.namespace}_${pod.name}_${pod.uid}`,
    labels,
    annotations: { 'kubernetes.io/config.source': 'api' },
    linux: {
      cgroup_parent: `/${node.cgroupParent}/kubepods/burstable/pod${pod.uid}`,
      security_context: {
        namespace_options: namespaces,
        privileged: own.privileged,
        seccomp: { profile_type: 'RuntimeDefault' },
      },
    },
  };
  const envs = [...environment(container, pod, inputs.env ?? {})].map(([key, value]) => ({ key, value }));
  const created = {
    metadata: { name: container.name, attempt: 0 },
    image: { image: container.image },
    args: container.args,
    envs: [
      ...envs,
      { key: 'KUBERNETES_SERVICE_HOST', value: '10.100.0.1' },
      { key: 'KUBERNETES_SERVICE_PORT', value: '443' },
    ],
    mounts: mounts(node, spec, pod, inputs),
    labels: { ...labels, 'io.kubernetes.container.name': container.name },
    annotations: { 'io.kubernetes.container.restartCount': '0' },
    log_path: `${container.name}/0.log`,
    linux: {
      resources: {
        cpu_period: CPU_PERIOD_US,
        cpu_shares: sharesOf(container.resources.requests.cpu ?? '0'),
        memory_limit_in_bytes: bytesOf(container.resources.limits.memory ?? '0'),
        oom_score_adj: spec.priorityClassName === 'system-node-critical' ? OOM_SCORE.critical : OOM_SCORE.burstable,
        // kubelet's on cgroup v2: what is killed for want of memory takes the whole container along.
        unified: { 'memory.oom.group': '1' },
      },
      security_context: {
        capabilities: { add_capabilities: own.capabilities.add, drop_capabilities: own.capabilities.drop },
        privileged: own.privileged,
        namespace_options: namespaces,
        ...(user === undefined ? {} : { run_as_user: { value: user } }),
        ...(group === undefined ? {} : { run_as_group: { value: group } }),
        ...(around.fsGroup === undefined ? {} : { supplemental_groups: [around.fsGroup] }),
        no_new_privs: own.allowPrivilegeEscalation === false,
        readonly_rootfs: own.readOnlyRootFilesystem,
        masked_paths: own.privileged ? [] : MASKED,
        readonly_paths: own.privileged ? [] : READ_ONLY,
        seccomp: profileOf((own.seccompProfile ?? around.seccompProfile)?.type),
        // Where nothing is said the runtime puts its own on where the kernel has AppArmor, and refuses to where it is asked for.
        ...(own.appArmorProfile === undefined ? {} : { apparmor: profileOf(own.appArmorProfile.type) }),
      },
    },
  };
  return { identity: pod, sandbox, container: created, graceSeconds: spec.terminationGracePeriodSeconds };
}
