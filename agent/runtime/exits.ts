/** What runtimes tell of containers that end, as it happens. */
import type { TaskExit__Output } from '../../proto/gen/containerd/events/TaskExit.ts';
import type { TaskOOM__Output } from '../../proto/gen/containerd/events/TaskOOM.ts';
import type { Envelope__Output } from '../../proto/gen/containerd/services/events/v1/Envelope.ts';
import { loadContainerd, loadTaskEvents } from '../../proto/load.ts';
import { serverStream } from './call.ts';
import { openNamespace } from './tasks.ts';

export type ExitEvent =
  | {
      readonly kind: 'exit';
      readonly containerId: string;
      readonly exitCode: number;
      /** Milliseconds since the epoch; undefined: not told. The runtime's record of the container may say something else. */
      readonly finishedAtMs: number | undefined;
    }
  | { readonly kind: 'oom'; readonly containerId: string };

/** One subscription: it ends, or fails as every call, when the runtime goes; the caller subscribes again. */
export type ExitEvents = (signal: AbortSignal) => AsyncIterable<ExitEvent>;

/**
 * From containerd's own event stream, which takes nothing from kubelet: CRI's GetContainerEvents on 1.7 would. Container ids
 * of a pod's sandbox are among them.
 */
export function containerdExits(socket: string, namespace: string): ExitEvents {
  const { Subscribe } = loadContainerd().events.v1.Events.service;
  const filters = ['/tasks/exit', '/tasks/oom'].map(
    (topic) => `topic==${quoted(topic)},namespace==${quoted(namespace)}`,
  );
  return async function* follow(signal) {
    const endpoint = openNamespace(socket, namespace);
    try {
      for await (const envelope of serverStream(endpoint, Subscribe, { filters }, { signal, timeoutMs: 'none' })) {
        const event = readEnvelope(envelope, namespace);
        if (event !== undefined) yield event;
      }
    } finally {
      endpoint.client.close();
    }
  };
}

/** Of containerd's filters: a value in quotes may hold anything. */
const quoted = (text: string): string => JSON.stringify(text);

/** Pure. An exec's exit is none of the container's; what is no event of ours is undefined. */
export function readEnvelope({ topic, namespace, event }: Envelope__Output, wanted: string): ExitEvent | undefined {
  if (namespace !== wanted || event === null) return undefined;
  const value = Buffer.from(event.value);
  // Any's names may have a host before them.
  const type = event.type_url.split('/').at(-1);
  if (topic === '/tasks/oom' && type === 'containerd.events.TaskOOM') {
    const { containerId } = loadTaskEvents().TaskOOM.deserialize(value) as TaskOOM__Output;
    return { kind: 'oom', containerId };
  }
  if (topic !== '/tasks/exit' || type !== 'containerd.events.TaskExit') return undefined;
  const { containerId, id, exitStatus, exitedAt } = loadTaskEvents().TaskExit.deserialize(value) as TaskExit__Output;
  if (id !== containerId) return undefined;
  const ms = Number(exitedAt?.seconds ?? 0) * 1000 + Math.floor((exitedAt?.nanos ?? 0) / 1e6);
  return { kind: 'exit', containerId, exitCode: exitStatus, finishedAtMs: ms > 0 ? ms : undefined };
}
