import { z } from 'zod';
import type { Selector } from '../../agent/runtime/runtime.ts';
import type { Answer, KubernetesApi } from './api.ts';

/** Where Kubernetes has the pods that somebody asked for, and which agent is beside each. */

/** What an agent's own containers are found by, in the agent's own namespace. The manifests and `kubectl-exhibit` say the same. */
export const AGENT_LABELS = 'app.kubernetes.io/name=exhibit,app.kubernetes.io/component=agent';
/** Labels may fit a thousand pods; more than these nobody reads in an error. */
export const MAX_PODS = 5;
/** An agent's pod on a node, and the one that a rollout has just replaced. */
const MAX_AGENTS = 5;

export type Placement =
  | { readonly kind: 'placed'; readonly pods: readonly PlacedPod[]; readonly more: boolean }
  | { readonly kind: 'absent' }
  /** `why` is a sentence without its full stop. */
  | { readonly kind: 'unknown'; readonly why: string };

export interface PlacedPod {
  readonly namespace: string;
  readonly pod: string;
  /** Undefined for one that no node has been chosen for. */
  readonly node: string | undefined;
  /** `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`. */
  readonly phase: string;
  readonly agent: AgentOfNode;
}

export type AgentOfNode =
  | { readonly kind: 'running'; readonly pod: string }
  | { readonly kind: 'starting'; readonly pod: string }
  | { readonly kind: 'none' }
  | { readonly kind: 'unknown'; readonly why: string };

/** RFC 1123 subdomains, as the API itself demands of these names. Anything else must not get into a command to paste. */
const name = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/);
const pod = z.object({
  metadata: z.object({ name, namespace: name, deletionTimestamp: z.string().optional() }),
  spec: z.object({ nodeName: z.union([name, z.literal('')]).optional() }),
  status: z.object({ phase: z.string().regex(/^[A-Za-z]{1,20}$/) }),
});
const listOf = (max: number) =>
  z.object({ metadata: z.object({ continue: z.string().optional() }).optional(), items: z.array(pod).max(max) });
type Pod = z.infer<typeof pod>;

/** One call for the pods, and one for the agent of each of their nodes. @throws the signal's reason */
export async function findPlacement(
  api: KubernetesApi,
  selector: Extract<Selector, { kind: 'pod' | 'labels' }>,
  signal: AbortSignal,
): Promise<Placement> {
  const found = selector.kind === 'pod' ? await podNamed(api, selector, signal) : await podsWith(api, selector, signal);
  if (found.kind !== 'found') return found;
  const agents = new Map<string, AgentOfNode>();
  for (const { spec } of found.pods) {
    if (spec.nodeName && !agents.has(spec.nodeName)) {
      agents.set(spec.nodeName, await agentOf(api, spec.nodeName, signal));
    }
  }
  const pods = found.pods.map(({ metadata, spec, status }) => ({
    namespace: metadata.namespace,
    pod: metadata.name,
    node: spec.nodeName || undefined,
    phase: status.phase,
    agent: agents.get(spec.nodeName ?? '') ?? { kind: 'none' as const },
  }));
  return { kind: 'placed', pods, more: found.more };
}

type Found = { kind: 'found'; pods: readonly Pod[]; more: boolean } | Exclude<Placement, { kind: 'placed' }>;

async function podNamed(
  api: KubernetesApi,
  selector: Extract<Selector, { kind: 'pod' }>,
  signal: AbortSignal,
): Promise<Found> {
  const { namespace, pod: podName } = selector;
  const at = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(podName)}`;
  const answer = await api.get(at, signal);
  if (answer.kind === 'refused' && answer.status === 404) return { kind: 'absent' };
  const read = readAnswer(api, answer, pod, `get pods in namespace ${namespace}`);
  if (read.kind === 'unknown') return read;
  const { metadata } = read.value;
  // An answer about another pod would send somebody to the wrong node.
  if (metadata.name !== podName || metadata.namespace !== namespace) return unreadable(api);
  return { kind: 'found', pods: [read.value], more: false };
}

async function podsWith(
  api: KubernetesApi,
  selector: Extract<Selector, { kind: 'labels' }>,
  signal: AbortSignal,
): Promise<Found> {
  const labels = [...selector.labels].map(([key, value]) => `${key}=${value}`).join(',');
  const at = `/api/v1/pods?labelSelector=${encodeURIComponent(labels)}&limit=${MAX_PODS}`;
  const read = readAnswer(api, await api.get(at, signal), listOf(MAX_PODS), 'list the pods of all namespaces');
  if (read.kind === 'unknown') return read;
  const { items, metadata } = read.value;
  return items.length === 0 ? { kind: 'absent' } : { kind: 'found', pods: items, more: Boolean(metadata?.continue) };
}

async function agentOf(api: KubernetesApi, node: string, signal: AbortSignal): Promise<AgentOfNode> {
  const query = new URLSearchParams({
    labelSelector: AGENT_LABELS,
    fieldSelector: `spec.nodeName=${node}`,
    limit: String(MAX_AGENTS),
  });
  const answer = await api.get(`/api/v1/namespaces/${api.namespace}/pods?${query}`, signal);
  const read = readAnswer(api, answer, listOf(MAX_AGENTS), `list pods in namespace ${api.namespace}`);
  if (read.kind === 'unknown') return read;
  const [first, ...others] = read.value.items.filter((one) => one.spec.nodeName === node && !isGoing(one));
  if (first === undefined) return { kind: 'none' };
  const running = [first, ...others].find((one) => one.status.phase === 'Running');
  return running === undefined
    ? { kind: 'starting', pod: first.metadata.name }
    : { kind: 'running', pod: running.metadata.name };
}

const isGoing = ({ metadata, status }: Pod): boolean =>
  metadata.deletionTimestamp !== undefined || status.phase === 'Succeeded' || status.phase === 'Failed';

type Read<Value> =
  | { readonly kind: 'value'; readonly value: Value }
  | { readonly kind: 'unknown'; readonly why: string };

function readAnswer<Value>(api: KubernetesApi, answer: Answer, schema: z.ZodType<Value>, verb: string): Read<Value> {
  switch (answer.kind) {
    case 'away':
      return { kind: 'unknown', why: `the Kubernetes API on ${api.server} ${answer.why}` };
    case 'refused':
      return { kind: 'unknown', why: refusal(api, answer.status, verb) };
    case 'document': {
      const parsed = schema.safeParse(answer.document);
      return parsed.success ? { kind: 'value', value: parsed.data } : unreadable(api);
    }
    default:
      return answer satisfies never;
  }
}

function refusal(api: KubernetesApi, status: number, verb: string): string {
  if (status === 403)
    return `this agent's service account may not ${verb} (docs/kubectl.md has the rights that it needs)`;
  if (status === 401) return `the Kubernetes API on ${api.server} does not take this agent's service account token`;
  return `the Kubernetes API on ${api.server} answered with status ${status}`;
}

const unreadable = (api: KubernetesApi): { kind: 'unknown'; why: string } => ({
  kind: 'unknown',
  why: `the Kubernetes API on ${api.server} answered something else than was asked`,
});
