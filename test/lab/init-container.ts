/**
 * One init container of a rendered DaemonSet on a lab node, to its end, made over CRI as kubelet makes it: what the manifest says of
 * user, capabilities, seccomp, root, memory and mounts, and nothing that it does not say.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { KubernetesObject } from './manifests.ts';
import type { LabNode } from './node.ts';

/** Strict: a grant that this lab does not carry out would be one that no test has seen. */
const securityContext = z.strictObject({
  runAsUser: z.number(),
  runAsGroup: z.number(),
  allowPrivilegeEscalation: z.literal(false),
  privileged: z.literal(false),
  readOnlyRootFilesystem: z.boolean(),
  capabilities: z.strictObject({ drop: z.array(z.string()) }),
  seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
});
const initContainer = z.strictObject({
  name: z.string(),
  image: z.string(),
  imagePullPolicy: z.string(),
  args: z.array(z.string()),
  resources: z.strictObject({
    requests: z.record(z.string(), z.string()),
    limits: z.strictObject({ memory: z.string().regex(/^\d+Mi$/) }),
  }),
  securityContext,
  volumeMounts: z.array(
    z.strictObject({ name: z.string(), mountPath: z.string(), readOnly: z.boolean().default(false) }),
  ),
});
const hostPath = z.strictObject({ path: z.string(), type: z.enum(['Directory', 'DirectoryOrCreate']) });
const workload = z.object({
  metadata: z.object({ name: z.string(), namespace: z.string() }),
  spec: z.object({
    template: z.object({
      spec: z.object({
        hostPID: z.boolean().default(false),
        initContainers: z.array(initContainer),
        volumes: z.array(z.looseObject({ name: z.string() })),
      }),
    }),
  }),
});
type InitContainer = z.infer<typeof initContainer>;

/** What kubelet does with the two types of a hostPath. */
function hostPathOf(node: LabNode, volumes: readonly { name: string }[], name: string): string {
  const { path, type } = z.object({ hostPath }).parse(
    volumes.find((one) => one.name === name),
    { error: () => `the pod has no hostPath ${name}` },
  ).hostPath;
  const there = join(node.hostRoot, path);
  if (type === 'DirectoryOrCreate') mkdirSync(there, { recursive: true, mode: 0o755 });
  else if (!existsSync(there)) throw new Error(`hostPath type check failed: ${path}`);
  return path;
}

const containerConfig = (init: InitContainer, mounts: readonly object[], namespaces: object) => ({
  metadata: { name: init.name, attempt: 0 },
  image: { image: init.image },
  args: init.args,
  mounts,
  log_path: `${init.name}/0.log`,
  linux: {
    resources: { memory_limit_in_bytes: Number.parseInt(init.resources.limits.memory, 10) * 2 ** 20 },
    security_context: {
      capabilities: { add_capabilities: [], drop_capabilities: init.securityContext.capabilities.drop },
      privileged: false,
      namespace_options: namespaces,
      run_as_user: { value: init.securityContext.runAsUser },
      run_as_group: { value: init.securityContext.runAsGroup },
      readonly_rootfs: init.securityContext.readOnlyRootFilesystem,
      // What allowPrivilegeEscalation: false is for the kernel.
      no_new_privs: true,
      seccomp: { profile_type: init.securityContext.seccompProfile.type },
    },
  },
});

export interface Ended {
  readonly code: number;
  /** Of both streams, one line an element. */
  readonly lines: readonly string[];
}

/** A container that writes a file is done in a second; the machine may do other things. */
const END_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

/** CONTAINER_EXITED of CRI's ContainerState. */
const EXITED = 2;

/** @param object a DaemonSet as `kubectl kustomize` renders it; its image must be on the node. */
export async function runInitContainer(node: LabNode, object: KubernetesObject, name: string): Promise<Ended> {
  const { metadata, spec: set } = workload.parse(object);
  const { hostPID, initContainers, volumes } = set.template.spec;
  const init = initContainers.find((one) => one.name === name);
  if (init === undefined) throw new Error(`${metadata.name} has no init container ${name}`);
  const uid = randomUUID();
  const namespaces = { network: 'POD', pid: hostPID ? 'NODE' : 'CONTAINER', ipc: 'POD' };
  const sandbox = {
    metadata: { name: metadata.name, uid, namespace: metadata.namespace, attempt: 0 },
    hostname: metadata.name,
    log_directory: `/var/log/pods/${metadata.namespace}_${metadata.name}_${uid}`,
    linux: {
      cgroup_parent: `/${node.cgroupParent}/kubepods/burstable/pod${uid}`,
      security_context: { namespace_options: namespaces, seccomp: { profile_type: 'RuntimeDefault' } },
    },
  };
  const mounts = init.volumeMounts.map((one) => ({
    container_path: one.mountPath,
    host_path: hostPathOf(node, volumes, one.name),
    readonly: one.readOnly,
  }));
  const { cri } = node;
  const { pod_sandbox_id } = await cri.call('RunPodSandbox', { config: sandbox });
  try {
    const config = containerConfig(init, mounts, namespaces);
    const { container_id } = await cri.call('CreateContainer', { pod_sandbox_id, config, sandbox_config: sandbox });
    await cri.call('StartContainer', { container_id });
    const code = await untilExited(node, container_id);
    return { code, lines: linesOf(join(node.hostRoot, sandbox.log_directory, config.log_path)) };
  } finally {
    await cri.call('StopPodSandbox', { pod_sandbox_id });
    await cri.call('RemovePodSandbox', { pod_sandbox_id });
  }
}

async function untilExited({ cri }: LabNode, containerId: string): Promise<number> {
  const deadline = Date.now() + END_TIMEOUT_MS;
  for (;;) {
    const { status } = await cri.call('ContainerStatus', { container_id: containerId, verbose: false });
    if (status.state === EXITED) return status.exit_code;
    if (Date.now() > deadline) throw new Error('the init container does not end');
    await sleep(POLL_MS);
  }
}

/** A line of CRI's log is `TIME STREAM TAG TEXT`. */
const linesOf = (file: string): string[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' ').slice(3).join(' '));
