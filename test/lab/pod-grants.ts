/** What a pod's manifest grants it, as a list, and the same pod with one grant less. Pure. */
import { type PodSpec, podOf, type RenderedPod, type Workload } from './rendered-pod.ts';

/**
 * By the names of agent/doctor/grants.ts: `hostPID`, `cap:SYS_PTRACE`, `mount:/host`. A profile that is not named is one that is lifted,
 * and a user that is not named may be root.
 */
export function grantsOf(workload: Workload): string[] {
  const pod = podOf(workload);
  const [{ securityContext: own, volumeMounts }] = pod.containers;
  const around = pod.securityContext;
  const lifted = (type: string | undefined) => type !== 'RuntimeDefault';
  return [
    ...(['hostPID', 'hostNetwork', 'hostIPC', 'automountServiceAccountToken'] as const).filter((name) => pod[name]),
    ...((own.runAsUser ?? around.runAsUser ?? 0) === 0 ? ['runAsUser'] : []),
    ...(own.privileged ? ['privileged'] : []),
    ...(own.readOnlyRootFilesystem ? [] : ['readOnlyRootFilesystem']),
    ...(own.capabilities.drop.includes('ALL') ? [] : ['capabilities']),
    ...own.capabilities.add.map((name) => `cap:${name}`),
    ...(lifted((own.seccompProfile ?? around.seccompProfile)?.type) ? ['seccompProfile'] : []),
    // Where nothing is said the runtime's own profile is in force.
    ...(own.appArmorProfile?.type === 'Unconfined' ? ['appArmorProfile'] : []),
    ...(own.seLinuxOptions === undefined ? [] : ['seLinuxOptions']),
    ...(around.fsGroup === undefined ? [] : ['fsGroup']),
    ...pod.initContainers.map(({ name }) => `initContainer:${name}`),
    ...volumeMounts.map(({ mountPath }) => `mount:${mountPath}`),
  ];
}

/** How mounts are granted, beyond being there: `write:/run/exhibit`, `propagation:/host`. */
export function mountRightsOf(workload: Workload): string[] {
  const [{ volumeMounts }] = podOf(workload).containers;
  return [
    ...volumeMounts.filter(({ readOnly }) => !readOnly).map(({ mountPath }) => `write:${mountPath}`),
    ...volumeMounts.flatMap(({ mountPath, mountPropagation: how }) =>
      how === 'None' ? [] : [`propagation:${mountPath}`],
    ),
  ];
}

/** Volumes that no container mounts: granted for nothing. */
export function unusedVolumes(workload: Workload): string[] {
  const { volumes, containers, initContainers } = podOf(workload);
  const used = JSON.stringify([containers, initContainers]);
  return volumes.map(({ name }) => name).filter((name) => !used.includes(`"name":${JSON.stringify(name)}`));
}

/** Nobody: in no list of the image. */
const OTHER_USER = 65532;

/** The same pod with one grant less. Throws when it has no such grant. */
export function without(whole: RenderedPod, grant: string): RenderedPod {
  const { workload } = whole;
  if (![...grantsOf(workload), ...mountRightsOf(workload)].includes(grant))
    throw new Error(`${whole.overlay} does not grant ${grant}`);
  const less = structuredClone(workload);
  take(podOf(less), grant);
  return { ...whole, workload: less };
}

function take(pod: PodSpec, grant: string): void {
  const [container] = pod.containers;
  const { securityContext: own, volumeMounts } = container;
  const colon = grant.indexOf(':');
  const [kind, name] = colon < 0 ? [grant] : [grant.slice(0, colon), grant.slice(colon + 1)];
  const mount = volumeMounts.find(({ mountPath }) => mountPath === name);
  switch (kind) {
    case 'cap':
      own.capabilities.add = own.capabilities.add.filter((one) => one !== name);
      return;
    case 'mount':
      container.volumeMounts = volumeMounts.filter((one) => one !== mount);
      return;
    case 'write':
      if (mount !== undefined) mount.readOnly = true;
      return;
    case 'propagation':
      if (mount !== undefined) mount.mountPropagation = 'None';
      return;
    case 'seccompProfile':
    case 'appArmorProfile':
      own[kind] = { type: 'RuntimeDefault' };
      return;
    case 'hostPID':
    case 'automountServiceAccountToken':
      pod[kind] = false;
      return;
    case 'runAsUser':
      own.runAsUser = OTHER_USER;
      own.runAsGroup = OTHER_USER;
      return;
    case 'fsGroup':
      delete pod.securityContext.fsGroup;
      return;
    default:
      throw new Error(`the lab cannot take ${grant} away`);
  }
}
