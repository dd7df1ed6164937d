/**
 * containerd's own pause. The runtime's view stays true, and kubelet sees a running container.
 *
 * Tried with containerd 2.1.9: a container that is paused when containerd restarts reads CONTAINER_UNKNOWN over CRI for
 * ever after, and kubelet would replace it. So the pause is given up as soon as the connection to containerd breaks, through
 * the container's shim, which outlives containerd: the restarted containerd then finds it running. See resume.ts.
 */
import { connectivityState } from '@grpc/grpc-js';
import { ExhibitError } from '../../../evidence/error.ts';
import type { Endpoint } from '../call.ts';
import { openNamespace, type Tasks, tasksClient } from '../tasks.ts';
import type { Pause } from './pause.ts';
import { type ContainerdSpec, freezerOf, type Parts, RESUME_TIMEOUT_MS, type Route } from './resume.ts';
import { type Pauser, RuntimePause } from './runtime-pause.ts';
import { findShim, shimClient, shimFoldersOf, shimRoute } from './shim.ts';

export async function preparePause(spec: ContainerdSpec, signal: AbortSignal): Promise<Pause> {
  const endpoint = openNamespace(spec.socket, spec.namespace);
  try {
    const tasks = tasksClient(endpoint);
    const task = await tasks.get(spec.containerId, { signal });
    if (task === undefined || task.status === 'STOPPED') {
      throw new ExhibitError('freeze-failed', `container ${spec.containerId} does not run: there is nothing to pause`);
    }
    return new RuntimePause(pauserOf(spec, endpoint, await partsOf(spec, tasks)));
  } catch (error) {
    endpoint.client.close();
    throw error;
  }
}

/** For recovery; connects with the first call. */
export async function openPauser(spec: ContainerdSpec): Promise<Pauser> {
  const endpoint = openNamespace(spec.socket, spec.namespace);
  return pauserOf(spec, endpoint, await partsOf(spec, tasksClient(endpoint)));
}

function pauserOf({ containerId }: ContainerdSpec, endpoint: Endpoint, parts: Parts): Pauser {
  const tasks = tasksClient(endpoint);
  return {
    name: 'containerd',
    parts,
    pause: (signal) => tasks.pause(containerId, { signal, timeoutMs: 'none' }),
    watch() {
      const broken = new AbortController();
      endpoint.client.getChannel().watchConnectivityState(connectivityState.READY, Number.POSITIVE_INFINITY, () => {
        broken.abort(new Error('the connection to containerd broke during the pause'));
      });
      return broken.signal;
    },
    [Symbol.dispose]: () => endpoint.client.close(),
  };
}

function containerdRoute(tasks: Tasks, containerId: string): Route {
  const limits = { timeoutMs: RESUME_TIMEOUT_MS };
  return {
    name: 'containerd',
    status: async () => (await tasks.get(containerId, limits))?.status,
    resume: () => tasks.resume(containerId, limits),
  };
}

async function partsOf(spec: ContainerdSpec, tasks: Tasks): Promise<Parts> {
  const address = await findShim(shimFoldersOf(spec.socket), spec.namespace, spec.containerId);
  const shim = address === undefined ? [] : [shimRoute(shimClient(address, spec.containerId))];
  return { spec, routes: [containerdRoute(tasks, spec.containerId), ...shim], freezer: freezerOf(spec) };
}
