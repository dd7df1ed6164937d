/** A pod of an overlay as a container of Docker: what cri-dockerd asks Docker for, as the words of `docker run`. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabDocker } from './docker.ts';
import type { ExecResult } from './machine.ts';
import { bytesOf, environment, type Identity, identityOf, makeVolumes, type PodInputs } from './pod-translation.ts';
import { podOf } from './rendered-pod.ts';

export interface DockerPod extends AsyncDisposable {
  readonly containerId: string;
  exec(argv: readonly string[]): Promise<ExecResult>;
  log(): Promise<string>;
}

/** Node, the code and a rehearsal, on a machine that does other things. */
const STARTED_MS = 90_000;
const POLL_MS = 100;

const PROPAGATION = { None: 'rprivate', HostToContainer: 'rslave', Bidirectional: 'rshared' } as const;

/** Makes the volumes, and gives what comes after `docker`. The lab's Docker has no network but none. */
export function asDocker(node: Pick<LabDocker, 'hostRoot'>, inputs: PodInputs, pod: Identity): string[] {
  const spec = podOf(inputs.pod.workload);
  const [container] = spec.containers;
  const { securityContext: own } = container;
  const volumes = makeVolumes(node, spec, pod, inputs);
  const { capabilities, seccompProfile, appArmorProfile } = own;
  const lifted = [
    ...(seccompProfile?.type === 'RuntimeDefault' ? [] : ['seccomp=unconfined']),
    ...(appArmorProfile?.type === 'Unconfined' ? ['apparmor=unconfined'] : []),
  ];
  return [
    ...['run', '--detach', '--name', pod.name, '--hostname', pod.name, '--network', 'none'],
    ...(spec.hostPID ? ['--pid', 'host'] : []),
    ...(own.privileged ? ['--privileged'] : []),
    ...(own.readOnlyRootFilesystem ? ['--read-only'] : []),
    ...['--user', `${own.runAsUser}:${own.runAsGroup}`],
    ...capabilities.drop.flatMap((name) => ['--cap-drop', name]),
    ...capabilities.add.flatMap((name) => ['--cap-add', name]),
    ...lifted.flatMap((one) => ['--security-opt', one]),
    ...['--memory', String(bytesOf(container.resources.limits.memory ?? '0'))],
    ...[...environment(container, pod, inputs.env ?? {})].flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    ...container.volumeMounts.flatMap((one) => {
      // Read-only is not recursive in Kubernetes unless it is asked for, and is in Docker.
      const readOnly = one.readOnly ? ['readonly', 'bind-recursive=writable'] : [];
      const words = ['type=bind', `src=${volumes.get(one.name)}`, `dst=${one.mountPath}`, ...readOnly];
      return ['--mount', [...words, `bind-propagation=${PROPAGATION[one.mountPropagation]}`].join(',')];
    }),
    ...[container.image, ...container.args],
  ];
}

/** With its API up. */
export async function startDockerPod(node: LabDocker, inputs: PodInputs): Promise<DockerPod> {
  const pod = identityOf(inputs.pod, node.hostname);
  const containerId = await node.docker(...asDocker(node, inputs, pod));
  const { terminationGracePeriodSeconds } = podOf(inputs.pod.workload);
  const log = async () => (await node.exec(['docker', 'logs', containerId])).stderr;
  const stop = async () => {
    await node.docker('stop', '--time', String(terminationGracePeriodSeconds), containerId);
    await node.docker('rm', containerId);
  };
  const isRunning = async () => (await node.docker('inspect', '-f', '{{.State.Running}}', containerId)) === 'true';
  const deadline = Date.now() + STARTED_MS;
  while (!(await log()).includes('API ready')) {
    if (Date.now() > deadline || !(await isRunning())) {
      const words = await log();
      await stop();
      throw new Error(`the agent did not start: ${words}`);
    }
    await sleep(POLL_MS);
  }
  return {
    ...{ containerId, log, [Symbol.asyncDispose]: stop },
    exec: (argv) => node.exec(['docker', 'exec', containerId, ...argv]),
  };
}
