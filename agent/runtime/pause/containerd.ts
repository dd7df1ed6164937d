/**
 * containerd's own pause. The runtime's view stays true, and kubelet sees a running container.
 *
 * Tried with containerd 2.1.9: a container that is paused when containerd restarts reads CONTAINER_UNKNOWN over CRI for
 * ever after, and kubelet would replace it. So the pause is given up as soon as the connection to containerd breaks, through
 * the container's shim, which outlives containerd: the restarted containerd then finds it running. See resume.ts.
 */
import { connectivityState } from '@grpc/grpc-js';
import { ExhibitError, isExhibitError } from '../../../evidence/error.ts';
import type { Endpoint } from '../call.ts';
import { openNamespace, type Tasks, tasksClient } from '../tasks.ts';
import type { Pause, Paused, Thawed } from './pause.ts';
import {
  type ContainerdSpec,
  kernelState,
  type Parts,
  partsOf,
  RESUME_TIMEOUT_MS,
  settle,
  thawParts,
} from './resume.ts';

export async function preparePause(spec: ContainerdSpec, signal: AbortSignal): Promise<Pause> {
  const endpoint = openNamespace(spec.socket, spec.namespace);
  try {
    const tasks = tasksClient(endpoint);
    const task = await tasks.get(spec.containerId, { signal });
    if (task === undefined || task.status === 'STOPPED') {
      throw new ExhibitError('freeze-failed', `container ${spec.containerId} does not run: there is nothing to pause`);
    }
    return new ContainerdPause(endpoint, tasks, await partsOf(spec, tasks));
  } catch (error) {
    endpoint.client.close();
    throw error;
  }
}

class ContainerdPause implements Pause {
  readonly #endpoint: Endpoint;
  readonly #tasks: Tasks;
  readonly #parts: Parts;
  /** `unknown`: the pause was sent and its answer never came. */
  #state: 'untouched' | 'held' | 'unknown' = 'untouched';
  readonly #disposed = new AbortController();

  constructor(endpoint: Endpoint, tasks: Tasks, parts: Parts) {
    this.#endpoint = endpoint;
    this.#tasks = tasks;
    this.#parts = parts;
  }

  async freeze(signal: AbortSignal): Promise<Paused> {
    const { spec, freezer } = this.#parts;
    const stands = kernelState(freezer) === 'frozen';
    const toldAt = performance.now();
    if (stands) return this.#found(toldAt);
    this.#state = 'unknown';
    try {
      await this.#tasks.pause(spec.containerId, { signal, timeoutMs: 'none' });
    } catch (error) {
      return this.#pauseFailed(error, toldAt);
    }
    this.#state = 'held';
    return { by: 'held', toldAt, notes: [], broken: this.#watch() };
  }

  #found(toldAt: number): Paused {
    this.#state = 'untouched';
    return { by: 'found', toldAt, notes: ['the container was paused already, by somebody else, and is left so'] };
  }

  /** An error that containerd answered is final; without an answer the pause may have happened or may still happen. */
  async #pauseFailed(error: unknown, toldAt: number): Promise<Paused> {
    if (isExhibitError(error, 'runtime-failed') || isExhibitError(error, 'runtime-unsupported')) {
      const limits = { timeoutMs: RESUME_TIMEOUT_MS };
      const task = await this.#tasks.get(this.#parts.spec.containerId, limits).catch(() => undefined);
      if (task?.status === 'PAUSED') return this.#found(toldAt);
      if (task?.status === 'RUNNING' || task?.status === 'STOPPED') this.#state = 'untouched';
    }
    throw new ExhibitError('freeze-failed', 'containerd did not pause the container', { cause: error });
  }

  /** Aborted when the connection on which the pause was asked for breaks: containerd is going down. */
  #watch(): AbortSignal {
    const broken = new AbortController();
    const channel = this.#endpoint.client.getChannel();
    channel.watchConnectivityState(connectivityState.READY, Number.POSITIVE_INFINITY, () => {
      broken.abort(new Error('the connection to containerd broke during the pause'));
    });
    return broken.signal;
  }

  async thaw(): Promise<Thawed> {
    if (this.#state === 'untouched') return { outcome: 'left', notes: [] };
    const unknown = this.#state === 'unknown';
    const thawed = await thawParts(this.#parts);
    this.#state = 'untouched';
    if (!unknown || thawed.outcome === 'gone') return thawed;
    const before = thawed.settled ?? Promise.resolve();
    return { ...thawed, settled: before.then(() => settle(this.#parts, this.#disposed.signal)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    this.#endpoint.client.close();
  }
}
