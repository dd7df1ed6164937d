import { PROTOCOL } from '../../proto/compatibility.ts';
import type { Hello__Output } from '../../proto/gen/exhibit/controller/v1/Hello.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { NodeRow } from '../store/store.ts';

/** Versions, names, ids: all on one line of a table. */
const MAX_TEXT_CHARS = 256;
/** Artifacts and sinks; an agent has at most eight sinks and some fifteen artifacts. */
const MAX_NAMES = 64;

export type Greeting =
  | {
      readonly kind: 'welcome';
      readonly row: Omit<NodeRow, 'sessionId' | 'replicaId' | 'connectedAtMs' | 'lastSeenMs'>;
    }
  /** `impostor`: it says it is another than its certificate says. */
  | { readonly kind: 'refused'; readonly why: 'impostor' | 'protocol' | 'malformed'; readonly words: string };

/** Pure: what the agent says of itself, held against what its certificate says. */
export function readHello(hello: Hello__Output, { cluster, node }: AgentIdentity, nowMs: number): Greeting {
  if (hello.protocol !== PROTOCOL) {
    const words = `This controller speaks protocol ${PROTOCOL}, the agent ${hello.protocol}: update the older of the two`;
    return { kind: 'refused', why: 'protocol', words };
  }
  if (hello.cluster !== cluster || hello.node !== node) {
    const words = `The certificate is of node ${cluster}/${node}, and the agent says it is another: set cluster and node, or give it its own certificate`;
    return { kind: 'refused', why: 'impostor', words };
  }
  const { agentVersion, bootId, runtimeName, runtimeVersion, pod, artifacts, sinks } = hello;
  const texts = [agentVersion, bootId, runtimeName, runtimeVersion, pod, ...artifacts, ...sinks];
  const long = texts.some((text) => text.length > MAX_TEXT_CHARS || text.includes('\0'));
  if (long || artifacts.length > MAX_NAMES || sinks.length > MAX_NAMES)
    return { kind: 'refused', why: 'malformed', words: 'The greeting holds more than a greeting holds' };
  const clockMs = Number(hello.clockMs);
  const told = { agentVersion, bootId, runtimeName, runtimeVersion, pod, artifacts, sinks };
  const clockAheadMs = Number.isSafeInteger(clockMs) ? clockMs - nowMs : 0;
  return { kind: 'welcome', row: { cluster, node, ...told, clockAheadMs, running: 0, waiting: 0 } };
}
