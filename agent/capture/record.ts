import { FORMAT_VERSION } from '../../evidence/layout.ts';
import type { HostRecord, Plan, RequestRecord, TargetRecord } from '../../evidence/manifest.ts';
import type { Sealer } from '../../evidence/seal.ts';
import type { Config } from '../config.ts';
import type { Host } from '../host/host.ts';
import { hostIdentity } from '../host/identity.ts';
import type { Runtime, Target } from '../runtime/runtime.ts';
import type { NamedSink } from '../sink/several.ts';
import type { CaptureRequest } from './captures.ts';

/** What of the agent goes into the record. */
export interface RecordParts {
  readonly config: Config;
  readonly host: Host;
  /** Its first key is named before anything is signed. */
  readonly sealer: Sealer;
  readonly version: string;
  readonly now: () => number;
}

/** Names of containers that are shown for a whole pod; the record has them all. */
const SHOWN_NAMES = 3;

/** `prod/web-0/web` for a container of a pod, `prod/web-0 (web, side)` for several of one. */
export function displayName({ pod, name, companions = [] }: TargetRecord): string {
  if (pod === undefined) return name;
  if (companions.length === 0) return `${pod.namespace}/${pod.name}/${name}`;
  const names = [name, ...companions.map((one) => one.name)];
  const more = names.length > SHOWN_NAMES ? [`${names.length - SHOWN_NAMES} more`] : [];
  return `${pod.namespace}/${pod.name} (${[...names.slice(0, SHOWN_NAMES), ...more].join(', ')})`;
}

/** `request.json`: the bundle's first object, so that an attempt leaves evidence of itself. */
export async function requestRecord(
  parts: RecordParts,
  captureId: string,
  request: CaptureRequest,
  found: {
    runtime: Runtime;
    target: Target;
    plan: Plan;
    sinks: readonly NamedSink[];
    overridden?: readonly string[];
    signal: AbortSignal;
  },
): Promise<RequestRecord> {
  const { config, now } = parts;
  const [identity, host]: [{ name: string; version: string }, HostRecord] = await Promise.all([
    found.runtime.identify(found.signal),
    hostIdentity(parts.host, now),
  ]);
  return {
    formatVersion: FORMAT_VERSION,
    captureId,
    cluster: config.cluster,
    node: config.node,
    requestedAt: new Date(now()).toISOString(),
    requester: request.requester,
    ...(request.schedule === undefined ? {} : { schedule: { ...request.schedule } }),
    ...(request.caseId === '' ? {} : { caseId: request.caseId }),
    ...(request.exhibitNumber === undefined ? {} : { exhibitNumber: request.exhibitNumber }),
    ...(request.acquirer === undefined ? {} : { acquirer: request.acquirer }),
    ...(request.reason === '' ? {} : { reason: request.reason }),
    ...((found.overridden ?? []).length === 0 ? {} : { overridden: [...(found.overridden ?? [])] }),
    sinks: found.sinks.map(({ name }) => name),
    selector: request.selector,
    artifacts: [...request.artifacts],
    runtime: { name: identity.name, version: identity.version },
    target: found.target.record,
    plan: found.plan,
    agent: {
      name: 'exhibit',
      version: parts.version,
      nodeVersion: process.version,
      pid: process.pid,
      keyId: parts.sealer.keyId,
    },
    host,
  };
}
