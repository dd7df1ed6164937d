import type { RuntimeSocket } from '../host/runtime-sockets.ts';
import type { Runtime, RuntimeDescription, RuntimeIdentity, SnapshotterFinding } from '../runtime/runtime.ts';
import { type Check, count, line } from './check.ts';
import { granted } from './grants.ts';

export interface RuntimeFacts {
  readonly kind: Runtime['kind'];
  /** As the configuration has it. */
  readonly socket: string;
  /** Its answer, or why there was none. */
  readonly answer: { readonly identity: RuntimeIdentity; readonly containers: number } | { readonly why: string };
  readonly description: RuntimeDescription | undefined;
  /** Sockets of runtimes that the node has, where the configured one does not answer. */
  readonly sockets?: readonly RuntimeSocket[];
  /** What starts containers, with versions where they can be known. */
  readonly programs: ReadonlyArray<{ readonly name: string; readonly version: string | undefined }>;
}

export function checkRuntime(facts: RuntimeFacts): Check {
  const say = line('runtime', 'runtime');
  const { answer, description } = facts;
  if (facts.kind === 'host') {
    return say.ok(
      'no container runtime is configured',
      'processes, control groups and units can be captured, containers cannot',
    );
  }
  if ('why' in answer) {
    return say.failure(
      answer.why,
      'no container can be captured, only plain processes; the agent waits for it',
      mendSocket(facts),
    );
  }
  const { name, version } = answer.identity;
  const api = description?.apiVersion === undefined ? '' : `, CRI ${description.apiVersion}`;
  const where = description?.namespace === undefined ? '' : `, namespace ${description.namespace}`;
  const starts = facts.programs.map((one) => `${one.name} ${one.version ?? '(version not known)'}`).join(', ');
  const parts = [
    `${name} ${version}${api}${where}`,
    count(answer.containers, 'container'),
    ...(starts === '' ? [] : [starts]),
  ];
  const unmet = description?.unmet ?? [];
  if (unmet.length > 0) {
    return say.warning(
      `${parts.join('; ')}; it says ${unmet.join('; ')}`,
      'containers that run can be captured; the runtime itself is not well',
      'see its log (journalctl -u containerd)',
    );
  }
  return say.ok(parts.join('; '), 'containers can be named, looked into and stopped');
}

/** In the pod each kind of socket comes by a mount of its folder. */
const MANIFESTS = { cri: 'manifests/base', docker: 'manifests/overlays/docker' } as const;
const mounted = { cri: () => granted('mount:/run/containerd'), docker: () => `see ${MANIFESTS.docker}` } as const;

/** A runtime of another kind, or at another place, is what most nodes without the expected one have. */
function mendSocket({ kind, socket, sockets = [] }: RuntimeFacts): string {
  const mine = kind === 'docker' ? 'docker' : 'cri';
  const plain = (path: string) => path.replace(/^\/var\/run\//, '/run/');
  if (sockets.some(({ path }) => plain(path) === plain(socket))) {
    return `the node has ${socket}: see its log, and in a pod mount the folder of the socket: ${mounted[mine]()}`;
  }
  const other = sockets.find((one) => one.kind === mine);
  if (other !== undefined) return `the node has ${other.path}: set runtime.socket to it, and in a pod mount its folder`;
  const [foreign] = sockets;
  if (foreign !== undefined) {
    const name = foreign.kind === 'docker' ? 'Docker' : foreign.path.includes('/crio/') ? 'CRI-O' : 'containerd';
    return `the node has ${name} (${foreign.path}): set runtime.kind: ${foreign.kind}, as ${MANIFESTS[foreign.kind]} does`;
  }
  return `start the runtime, check runtime.socket (${socket}), and that the agent may open it: ${mounted[mine]()}`;
}

/** Snapshotters that fetch files of the image when somebody first reads them. */
const LAZY = /^(soci|stargz|nydus|overlaybd|cvmfs)/;

export function checkSnapshotter(snapshotters: readonly SnapshotterFinding[]): Check {
  const say = line('runtime', 'snapshotter');
  if (snapshotters.length === 0) {
    return say.ok('no container is there to tell by', 'the writable layer is looked for when a container is captured');
  }
  const found = snapshotters
    .map(({ name, containers, obstacle }) => {
      const who = `${name} (${count(containers, 'container')})`;
      return obstacle === undefined ? who : `${who}: ${obstacle}`;
    })
    .join('; ');
  const unreadable = snapshotters.filter(({ obstacle }) => obstacle !== undefined).map(({ name }) => name);
  if (unreadable.length > 0) {
    return say.warning(
      found,
      `what a container of ${unreadable.join(', ')} wrote to its files cannot be captured: the rootfs artifact will be missing`,
      'use the overlayfs snapshotter for pods whose files matter',
    );
  }
  if (snapshotters.some(({ name }) => LAZY.test(name))) {
    return say.ok(found, 'writable layers can be read; files of the image are fetched when a capture first reads them');
  }
  return say.ok(found, 'writable layers can be read where they are');
}
