import type { Selector } from '../../agent/runtime/runtime.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { escapeText } from '../print.ts';
import { shellWord } from '../result.ts';
import type { Session } from '../session.ts';
import { kubernetesApi } from './api.ts';
import { findPlacement, type PlacedPod, type Placement } from './placement.ts';

/** Names in the manifests: the agent's container, and the folder on its PATH has this program. */
const AGENT_CONTAINER = 'agent';

/** What somebody typed, to be said again for another node. */
export interface Typed {
  /** Everything behind `exhibit`. */
  readonly argv: readonly string[];
  readonly target: string;
  readonly container: string | undefined;
}

/**
 * The agent's answer that it has no such pod, and where Kubernetes says that the pod is. Any other error, and one outside of a
 * cluster, is given back as it is; what the agent said is never lost, whatever the API does.
 */
export async function placedError(
  error: unknown,
  session: Session,
  selector: Selector,
  typed: Omit<Typed, 'argv'>,
): Promise<unknown> {
  if (!isExhibitError(error, 'target-not-found')) return error;
  if (selector.kind !== 'pod' && selector.kind !== 'labels') return error;
  const api = await kubernetesApi(session.env);
  if (api === undefined) return error;
  const place = await findPlacement(api, selector, session.signal).catch(
    (): Placement => ({ kind: 'unknown', why: 'you left before the Kubernetes API had answered' }),
  );
  const { HOSTNAME, EXHIBIT_NODE } = session.env;
  const here = new Set([HOSTNAME, EXHIBIT_NODE].filter((one) => one !== undefined && one !== ''));
  const words = describePlacement(place, { ...typed, argv: session.argv }, api.namespace, here);
  const lines = isElsewhere(place, here) ? [...words, `Here: ${error.message}`] : [error.message, ...words];
  return new ExhibitError(error.code, lines.join('\n'), { cause: error });
}

/**
 * Lines, the first of which can stand alone.
 * @param here names of this pod and this node
 */
export function describePlacement(
  place: Placement,
  typed: Typed,
  agentNamespace: string,
  here: ReadonlySet<string | undefined>,
): string[] {
  switch (place.kind) {
    case 'unknown':
      return [`Whether it runs on another node cannot be said: ${place.why}.`];
    case 'absent':
      return [`Kubernetes knows no such pod either: look with \`kubectl get pods\`, or with \`exhibit containers\`.`];
    case 'placed': {
      const lines = place.pods.map((one) => describePod(one, typed, agentNamespace, here, place.pods.length > 1));
      return place.more ? [...lines, 'There are more: narrow it, or name one pod.'] : lines;
    }
    default:
      return place satisfies never;
  }
}

function describePod(
  one: PlacedPod,
  typed: Typed,
  agentNamespace: string,
  here: ReadonlySet<string | undefined>,
  several: boolean,
): string {
  const pod = `${one.namespace}/${one.pod}`;
  if (one.node === undefined) return `${pod} is ${one.phase} and has no node yet: nothing of it runs.`;
  if (isHere(one, here)) return `Kubernetes has ${pod} on this very node, and calls it ${one.phase}.`;
  const runs = one.phase === 'Running' ? 'runs' : `is ${one.phase},`;
  const where = `${pod} ${runs} on node ${one.node}`;
  switch (one.agent.kind) {
    case 'running':
      return `${where}: ${commandThere(one.agent.pod, agentNamespace, several ? narrowed(typed, pod) : typed.argv)}`;
    case 'starting':
      return `${where}, where the agent ${one.agent.pod} is not running yet: see \`kubectl -n ${agentNamespace} describe pod ${one.agent.pod}\`.`;
    case 'none':
      return `${where}, and no agent runs there: see \`kubectl -n ${agentNamespace} get daemonset\` and the taints of the node.`;
    case 'unknown':
      return `${where}; which agent is there cannot be said: ${one.agent.why}.`;
    default:
      return one.agent satisfies never;
  }
}

const isHere = (one: PlacedPod, here: ReadonlySet<string | undefined>): boolean =>
  here.has(one.node) || (one.agent.kind === 'running' && here.has(one.agent.pod));

const isElsewhere = (place: Placement, here: ReadonlySet<string | undefined>): boolean =>
  place.kind === 'placed' && place.pods.some((one) => one.node !== undefined && !isHere(one, here));

/** Labels that fit several pods would fit several there too: the one pod stands for them, where it is plain which word they are. */
function narrowed({ argv, target, container }: Typed, pod: string): readonly string[] {
  if (argv.filter((word) => word === target).length !== 1) return argv;
  const inTarget = /:([^:]+)$/.exec(target)?.[1];
  const whole = inTarget === undefined || container !== undefined ? pod : `${pod}/${inTarget}`;
  return argv.map((word) => (word === target ? whole : word));
}

function commandThere(agentPod: string, namespace: string, argv: readonly string[]): string {
  const words = ['-n', namespace, 'exec', agentPod, '-c', AGENT_CONTAINER, '--', 'exhibit', ...argv];
  return `kubectl ${words.map(pastedWord).join(' ')}`;
}

/** As a shell reads it back to the same word. What a screen would not show is spelled out, for bash, zsh and ksh. */
function pastedWord(word: string): string {
  if (escapeText(word) === word) return shellWord(word);
  const spelled = Array.from(word, (character) => {
    if (character === '\\' || character === "'") return `\\${character}`;
    if (escapeText(character) === character) return character;
    return `\\U${(character.codePointAt(0) ?? 0).toString(16).padStart(8, '0')}`;
  });
  return `$'${spelled.join('')}'`;
}
