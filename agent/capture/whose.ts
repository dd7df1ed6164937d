import { explain } from '../../evidence/error.ts';
import { membershipsOf } from '../host/cgroup.ts';
import type { Host } from '../host/host.ts';
import type { Whose } from '../policy.ts';
import { wholeOf } from '../runtime/pod.ts';
import type { ContainerSummary, Runtime, Target } from '../runtime/runtime.ts';

/**
 * To whom a target belongs. A pod's container says it itself. A process tree, a cgroup or a unit can hold the processes of
 * any pod (`pid:1`, a shim, `cgroup:/kubepods.slice`), so where that matters each of its processes is looked at.
 */
export async function whoseTarget(
  { host, runtimes }: { readonly host: Host; readonly runtimes: readonly Runtime[] },
  target: Target,
  matters: boolean,
  signal: AbortSignal,
): Promise<Whose> {
  const all = wholeOf(target).map(({ record }) => record);
  const own = all.flatMap(({ pod }) => (pod === undefined ? [] : [pod.namespace]));
  const bare = all.find(({ pod }) => pod === undefined);
  if (bare === undefined) return { namespaces: [...new Set(own)] };
  // CRI knows no others: this one's pod has just been removed, and with it whose it was.
  if (bare.runtime === 'cri') return { namespaces: own, unknown: 'cannot be learned: its pod is gone' };
  const outside = `a ${bare.kind}`;
  if (!matters || bare.kind === 'container') return { namespaces: [...new Set(own)], outside };
  const inside = await namespacesInside(host, bare.pids, runtimes, signal);
  return { ...inside, namespaces: [...new Set([...own, ...inside.namespaces])], outside };
}

async function namespacesInside(
  host: Host,
  pids: readonly number[],
  runtimes: readonly Runtime[],
  signal: AbortSignal,
): Promise<Pick<Whose, 'namespaces' | 'unknown'>> {
  let containers: ContainerSummary[];
  try {
    containers = (await Promise.all(runtimes.map((runtime) => runtime.list(signal)))).flat();
  } catch (error) {
    return { namespaces: [], unknown: `cannot be learned: ${explain(error)}` };
  }
  const namespaces = new Set<string>();
  for (const pid of pids) {
    // One that has ended is of nobody any more.
    const paths = (await membershipsOf(host, pid).catch(() => [])).map((one) => one.path);
    const owner = containers.find((one) => paths.some((path) => isOf(path, one)));
    if (owner?.pod !== undefined) namespaces.add(owner.pod.namespace);
    else if (owner === undefined && paths.some((path) => path.includes('kubepods')))
      return { namespaces: [...namespaces], unknown: `cannot be learned: the runtime does not know the pod of ${pid}` };
  }
  return { namespaces: [...namespaces] };
}

/** The cgroup of the container, of its pod's sandbox, or of the pod (systemd writes `_` for `-`). */
function isOf(cgroupPath: string, { id, pod }: ContainerSummary): boolean {
  const names = [id, ...(pod === undefined ? [] : [pod.sandboxId, pod.uid, pod.uid.replaceAll('-', '_')])];
  return names.some((name) => name.length >= DISTINCT_CHARS && cgroupPath.includes(name));
}

/** Ids have 64 hex digits and uids 36 characters; what is shorter may be a part of anything. */
const DISTINCT_CHARS = 32;
