import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { Lookup__Output } from '../../proto/gen/exhibit/controller/v1/Lookup.ts';
import type { LookupAnswer } from '../../proto/gen/exhibit/controller/v1/LookupAnswer.ts';
import type { Container } from '../../proto/gen/exhibit/v1/Container.ts';
import { podDigest } from '../../proto/pod-digest.ts';
import { isNaming, matching } from '../runtime/pick.ts';
import type { ContainerSummary, Runtime, Selector } from '../runtime/runtime.ts';
import { resolveTarget, selectorFromProto } from '../runtime/select.ts';

/** A runtime answers within milliseconds; the controller stopped waiting long before this. */
const LOOKUP_TIMEOUT_MS = 10_000;
/** Whoever has the controller must not keep the node's runtime busy. */
const MAX_AT_ONCE = 2;
const MAX_WAITING = 32;
/** kubelet runs 110 pods on a node unless told otherwise, 250 at most on EKS. */
const MAX_CONTAINERS = 2_000;
/** Of the text in one answer, of up to three bytes each; the controller takes messages of 1 MiB. */
const MAX_ANSWER_CHARS = 300 * 1024;

/** Answers what the controller asks about this node's containers. Never rejects. */
export type AnswerLookup = (lookup: Lookup__Output) => Promise<LookupAnswer>;

export function openLookups(runtimes: readonly Runtime[]): AnswerLookup {
  let running = 0;
  const waiting: (() => void)[] = [];

  const turn = async (): Promise<void> => {
    if (running < MAX_AT_ONCE) running += 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
  };
  const done = (): void => {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  };

  return async (lookup) => {
    const { lookupId } = lookup;
    if (waiting.length >= MAX_WAITING)
      return { lookupId, code: 'rate-limited', reason: `${MAX_WAITING} lookups wait for this node's runtime already` };
    await turn();
    try {
      return { lookupId, ...within(await find(lookup, runtimes)) };
    } catch (error) {
      return { lookupId, code: isExhibitError(error) ? error.code : 'internal', reason: explain(error) };
    } finally {
      done();
    }
  };
}

/** More pods than that are not told: the controller then asks this node with the others. */
const MAX_PODS = 1_000;
/** Sooner than the next heartbeat. */
const PODS_TIMEOUT_MS = 5_000;

/** Digests of the node's pods, each once, in order; undefined where a runtime does not answer. */
export async function podDigests(runtimes: readonly Runtime[]): Promise<readonly number[] | undefined> {
  try {
    const signal = AbortSignal.timeout(PODS_TIMEOUT_MS);
    const listed = (await Promise.all(runtimes.map((runtime) => runtime.list(signal)))).flat();
    const names = listed.flatMap(({ pod }) => (pod === undefined ? [] : [podDigest(pod.namespace, pod.name)]));
    const digests = [...new Set(names)].sort((a, b) => a - b);
    return digests.length > MAX_PODS ? undefined : digests;
  } catch {
    // Whoever asks this node hears why.
    return undefined;
  }
}

async function find({ selector, namespace }: Lookup__Output, runtimes: readonly Runtime[]): Promise<Container[]> {
  const signal = AbortSignal.timeout(LOOKUP_TIMEOUT_MS);
  const wanted = selector === null ? undefined : selectorFromProto(selector);
  const ofNamespace = (one: Container) => namespace === '' || one.namespace === namespace;
  if (wanted !== undefined && !isNaming(wanted)) return (await resolved(wanted, runtimes, signal)).filter(ofNamespace);
  const listed = (await Promise.all(runtimes.map((runtime) => runtime.list(signal)))).flat();
  const fitting = wanted === undefined ? listed : matching(wanted, listed);
  return fitting.map(summary).filter(ofNamespace);
}

/** A process, a cgroup or a unit: found as a capture would find it. */
async function resolved(selector: Selector, runtimes: readonly Runtime[], signal: AbortSignal): Promise<Container[]> {
  try {
    const { record } = (await resolveTarget(selector, runtimes, signal)).target;
    const { id, name, labels, pod, image } = record;
    const place = { namespace: pod?.namespace ?? '', pod: pod?.name ?? '' };
    return [{ id, name, ...place, image: image?.name ?? '', state: 'running', createdAt: '', labels }];
  } catch (error) {
    if (isExhibitError(error, 'target-not-found')) return [];
    throw error;
  }
}

function summary({ id, name, pod, image, state, createdAt, labels }: ContainerSummary): Container {
  const place = { namespace: pod?.namespace ?? '', pod: pod?.name ?? '' };
  return { id, name, ...place, image, state, createdAt, labels: Object.fromEntries(labels) };
}

/** Fewer than matched would be a lie, so an answer that is too large is none. @throws ExhibitError `runtime-failed` */
function within(containers: readonly Container[]): Pick<LookupAnswer, 'containers'> {
  let chars = 0;
  for (const one of containers) {
    chars += one.id?.length ?? 0;
    for (const text of [one.name, one.namespace, one.pod, one.image]) chars += text?.length ?? 0;
    for (const [key, value] of Object.entries(one.labels ?? {})) chars += key.length + value.length;
  }
  if (containers.length <= MAX_CONTAINERS && chars <= MAX_ANSWER_CHARS) return { containers: [...containers] };
  throw new ExhibitError(
    'runtime-failed',
    `${containers.length} containers fit, more than one answer holds: name a namespace or a narrower selector`,
  );
}
