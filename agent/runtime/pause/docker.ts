/**
 * Docker's own pause: `docker ps` says Paused meanwhile, and nobody else's exec or pause gets in between.
 *
 * Docker's containerd ends with dockerd (seen with Docker 28.5); the container's shim lives on, and so does the container. So the
 * pause is given up as soon as the connection to dockerd breaks, through the shim, else through the freezer. Plain HTTP over
 * the socket, and the shim's protocol only when it is needed: the guard stays small.
 */
import { connect } from 'node:net';
import path from 'node:path';
import { ExhibitError } from '../../../evidence/error.ts';
import type { Task } from '../tasks.ts';
import { dockerRequest } from './docker-socket.ts';
import type { Pause } from './pause.ts';
import { type DockerSpec, freezerOf, type Parts, RESUME_TIMEOUT_MS, type Route } from './resume.ts';
import { type Pauser, RuntimePause } from './runtime-pause.ts';
import type { ShimAddress } from './shim.ts';

/** containerd's word for Docker's containers. */
export const DOCKER_NAMESPACE = 'moby';

export async function preparePause(spec: DockerSpec, signal: AbortSignal): Promise<Pause> {
  const pauser = await openPauser(spec);
  const status = await statusOf(spec, signal);
  if (status === undefined || status === 'STOPPED' || status === 'CREATED') {
    throw new ExhibitError('freeze-failed', `container ${spec.containerId} does not run: there is nothing to pause`);
  }
  return new RuntimePause(pauser);
}

/** For recovery as well; connects with the first call. */
export async function openPauser(spec: DockerSpec): Promise<Pauser> {
  const parts: Parts = { spec, routes: [dockerRoute(spec), ...shimRoutes(spec)], freezer: freezerOf(spec) };
  return {
    name: 'Docker',
    parts,
    pause: (signal) => tell(spec, 'pause', signal),
    watch: (until) => watchConnection(spec.socket, until),
    [Symbol.dispose]() {},
  };
}

/** Docker keeps a connection open on which nothing is asked, for minutes; it ends with dockerd. */
function watchConnection(socket: string, until: AbortSignal): AbortSignal {
  const broken = new AbortController();
  const connection = connect(socket);
  const end = () => {
    if (!until.aborted) broken.abort(new Error('the connection to Docker broke during the pause'));
  };
  connection.on('error', end);
  connection.on('close', end);
  until.addEventListener('abort', () => connection.destroy(), { once: true });
  return broken.signal;
}

const pathOf = ({ containerId }: DockerSpec, what: string): string =>
  `/containers/${encodeURIComponent(containerId)}/${what}`;

async function tell(spec: DockerSpec, what: 'pause' | 'unpause', signal: AbortSignal): Promise<void> {
  const { status, body } = await dockerRequest(spec.socket, 'POST', pathOf(spec, what), signal);
  if (status < 300) return;
  throw new ExhibitError('runtime-failed', `docker ${what} failed: ${wordsOf(body)}`);
}

/** Undefined when there is no such container; its process is gone in every state but those of a running one. */
async function statusOf(spec: DockerSpec, signal: AbortSignal): Promise<Task['status'] | undefined> {
  const { status, body } = await dockerRequest(spec.socket, 'GET', pathOf(spec, 'json'), signal);
  if (status === 404) return undefined;
  if (status >= 300) throw new ExhibitError('runtime-failed', `docker inspect failed: ${wordsOf(body)}`);
  return taskStatus(body);
}

/** Who cannot be asked has not ended as far as we know. */
export async function hasEnded(spec: DockerSpec, signal: AbortSignal): Promise<boolean> {
  try {
    const status = await statusOf(spec, signal);
    return status === undefined || status === 'STOPPED';
  } catch {
    return false;
  }
}

/** Docker's states in containerd's words. Fails with `runtime-failed` when the answer is none of Docker's. */
export function taskStatus(inspected: Buffer): Task['status'] {
  const { State } = jsonObject(inspected);
  const state = typeof State === 'object' && State !== null && 'Status' in State ? State.Status : undefined;
  switch (state) {
    case 'running':
      return 'RUNNING';
    case 'paused':
      return 'PAUSED';
    case 'created':
      return 'CREATED';
    case 'restarting':
    case 'removing':
    case 'exited':
    case 'dead':
      return 'STOPPED';
    default:
      throw new ExhibitError('runtime-failed', 'docker inspect told no state of the container');
  }
}

function wordsOf(body: Buffer): string {
  const { message } = jsonObject(body);
  return typeof message === 'string' ? message : body.subarray(0, 200).toString();
}

function jsonObject(body: Buffer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

const soon = (): AbortSignal => AbortSignal.timeout(RESUME_TIMEOUT_MS);

const dockerRoute = (spec: DockerSpec): Route => ({
  name: 'Docker',
  status: () => statusOf(spec, soon()),
  resume: () => tell(spec, 'unpause', soon()),
});

/**
 * The container's shim, of the containerd that dockerd starts by itself or of the node's own. Looked for and loaded when
 * Docker does not answer. None where the agent sees only Docker's socket.
 */
function shimRoutes(spec: DockerSpec): Route[] {
  const shim = async () => {
    const { findShim, shimClient, shimRoute } = await import('./shim.ts');
    const sockets = path.join(path.dirname(spec.socket), 'containerd');
    const own = path.join(path.dirname(spec.socket), 'docker/containerd/daemon');
    let address: ShimAddress | undefined;
    for (const state of [own, sockets]) {
      address ??= await findShim({ state, sockets }, DOCKER_NAMESPACE, spec.containerId);
    }
    if (address === undefined) throw new ExhibitError('runtime-unreachable', 'the shim of the container is not known');
    return shimRoute(shimClient(address, spec.containerId));
  };
  return [
    {
      name: 'its shim',
      status: async () => (await shim()).status(),
      resume: async () => (await shim()).resume(),
    },
  ];
}
