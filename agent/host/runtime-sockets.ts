import { lstat } from 'node:fs/promises';
import { asHostPath } from '../runtime/runtime.ts';
import { resolveBelow } from './below.ts';
import { type Host, reach } from './host.ts';

/** A container runtime's socket on the node, whether or not the agent can open it from where it runs. */
export interface RuntimeSocket {
  /** What `runtime.kind` would be for it. */
  readonly kind: 'cri' | 'docker';
  /** As the node names it. */
  readonly path: string;
}

/** Where they usually are; containerd of plain nodes, k3s, MicroK8s, and CRI-O. */
const USUAL: readonly RuntimeSocket[] = [
  { kind: 'cri', path: '/run/containerd/containerd.sock' },
  { kind: 'cri', path: '/run/k3s/containerd/containerd.sock' },
  { kind: 'cri', path: '/var/snap/microk8s/common/run/containerd.sock' },
  { kind: 'cri', path: '/run/crio/crio.sock' },
  { kind: 'docker', path: '/run/docker.sock' },
];

/**
 * The runtimes' sockets that are on the node, `configured` as well when it is at none of the usual places. Looks only: whether
 * somebody listens is another question. Never throws.
 */
export async function findRuntimeSockets(host: Host, configured: RuntimeSocket): Promise<RuntimeSocket[]> {
  const places = [...USUAL, configured];
  const found = await Promise.all(
    places.map(async (one) => ({ ...one, file: await socketAt(reach(host, asHostPath('/')), one.path) })),
  );
  const known = new Set<string>();
  return found.flatMap(({ kind, path, file }) => {
    if (file === undefined || known.has(file)) return [];
    known.add(file);
    return [{ kind, path }];
  });
}

/** Where it really is: /var/run is a link to /run, and an absolute one. */
async function socketAt(root: string, path: string): Promise<string | undefined> {
  try {
    const file = await resolveBelow(root, path);
    return (await lstat(file)).isSocket() ? file : undefined;
  } catch {
    return undefined;
  }
}
