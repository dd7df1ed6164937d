/** Docker's API by dockerode, thinly: one function a question, answers as they come from the wire, bounds, and sentences for failures. */
import { Agent } from 'node:http';
import type { Readable } from 'node:stream';
import type Docker from 'dockerode';
import { ExhibitError, errnoOf, explain, isExhibitError } from '../../evidence/error.ts';
import { CALL_TIMEOUT_MS, type CallLimits } from './call.ts';

/** Docker's answers grow with containers and their labels; a list of thousands stays below this. */
const ANSWER_BYTES = 32 * 1024 * 1024;

/** One resolve asks for eight things at once. */
const CONNECTIONS = 8;

/** An answer as it came. */
export interface Answer {
  readonly contentType: string;
  readonly body: Buffer;
}

/**
 * Every call fails with `runtime-unreachable` when nothing answers or what answers is not Docker, `runtime-unsupported` when
 * Docker has no such call, `runtime-failed` with Docker's own words, `cancelled` by the signal. What does not exist is undefined.
 */
export interface DockerClient extends Disposable {
  readonly socket: string;
  version(limits: CallLimits): Promise<Buffer>;
  info(limits: CallLimits): Promise<Buffer>;
  /** Running and ended ones. */
  containers(limits: CallLimits): Promise<Buffer>;
  inspect(id: string, limits: CallLimits): Promise<Buffer | undefined>;
  /** `columns` in the words of ps(1) on the node: `-ef`, `-eo pid`. */
  top(id: string, columns: string, limits: CallLimits): Promise<Buffer>;
  /** Names of the files that were changed, added or deleted. */
  changes(id: string, limits: CallLimits): Promise<Buffer>;
  image(id: string, limits: CallLimits): Promise<Buffer | undefined>;
  history(id: string, limits: CallLimits): Promise<Buffer | undefined>;
  /** The last `lines`, with times. */
  logs(id: string, lines: number, limits: CallLimits): Promise<Answer>;
  /** Neither deadline nor signal. CRIU's files are afterwards in `folder`/`name`, which must not exist before. */
  createCheckpoint(id: string, folder: string, name: string): Promise<void>;
  removeCheckpoint(id: string, folder: string, name: string, limits: CallLimits): Promise<void>;
}

/** Of docker-modem, which @types/dockerode leaves untyped. */
interface Modem {
  dial(
    request: {
      /** With a question mark at its end where `options` are its query. */
      readonly path: string;
      readonly method: 'GET';
      readonly isStream: true;
      readonly statusCodes: Readonly<Record<number, true | string>>;
      readonly abortSignal: AbortSignal;
      readonly options?: Readonly<Record<string, string | number | boolean>>;
    },
    done: (error: unknown, answer: (Readable & { headers: NodeJS.Dict<string | string[]> }) | null) => void,
  ): void;
}

/** Calls of dockerode that its types leave out. */
interface Checkpoints {
  createCheckpoint(body: { CheckpointID: string; CheckpointDir: string; Exit: boolean }): Promise<unknown>;
  deleteCheckpoint(name: string, query: { dir: string; abortSignal: AbortSignal }): Promise<unknown>;
}

/** Connects with the first call, and loads dockerode then: 34 MB that no other runtime needs. */
export function dockerClient(socket: string): DockerClient {
  const agent = new Agent({ keepAlive: false, maxSockets: CONNECTIONS });
  let loaded: Promise<Docker> | undefined;
  const docker = (): Promise<Docker> => {
    loaded ??= openDockerode(socket, agent);
    return loaded;
  };
  const ask = async (
    what: string,
    path: string,
    limits: CallLimits,
    query?: Record<string, string | number | boolean>,
  ) => bounded(socket, what, limits, async (signal) => read((await docker()).modem as Modem, path, signal, query));
  const body = async (...asked: Parameters<typeof ask>) => (await ask(...asked)).body;
  return {
    socket,
    version: (limits) => body('version', '/version', limits),
    info: (limits) => body('info', '/info', limits),
    containers: (limits) => body('ps', '/containers/json?', limits, { all: true }),
    inspect: (id, limits) => unlessGone(body('inspect', `${containerPath(id)}/json`, limits)),
    top: (id, columns, limits) => body('top', `${containerPath(id)}/top?`, limits, { ps_args: columns }),
    async changes(id, limits) {
      const answer = await body('diff', `${containerPath(id)}/changes`, limits);
      // Docker's way of saying that there are none.
      return answer.toString().trim() === 'null' ? Buffer.from('[]\n') : answer;
    },
    image: (id, limits) => unlessGone(body('image inspect', `${imagePath(id)}/json`, limits)),
    history: (id, limits) => unlessGone(body('history', `${imagePath(id)}/history`, limits)),
    logs: (id, lines, limits) =>
      ask('logs', `${containerPath(id)}/logs?`, limits, { stdout: true, stderr: true, timestamps: true, tail: lines }),
    async createCheckpoint(id, folder, name) {
      await bounded(socket, 'checkpoint create', { timeoutMs: 'none' }, async () => {
        const container = (await docker()).getContainer(id) as unknown as Checkpoints;
        await container.createCheckpoint({ CheckpointID: name, CheckpointDir: folder, Exit: false });
      });
    },
    async removeCheckpoint(id, folder, name, limits) {
      await bounded(socket, 'checkpoint rm', limits, async (abortSignal) => {
        const container = (await docker()).getContainer(id) as unknown as Checkpoints;
        await container.deleteCheckpoint(name, { dir: folder, abortSignal });
      });
    },
    [Symbol.dispose]: () => agent.destroy(),
  };
}

const containerPath = (id: string): string => `/containers/${encodeURIComponent(id)}`;
const imagePath = (id: string): string => `/images/${encodeURIComponent(id)}`;

async function openDockerode(socket: string, agent: Agent): Promise<Docker> {
  const { default: Dockerode } = await import('dockerode');
  // Named, so that a DOCKER_HOST of the environment does not lead elsewhere.
  const where = { socketPath: socket, host: undefined, port: undefined, protocol: 'http' } as const;
  return new Dockerode({ ...where, ...{ agent } });
}

/** A status and its words; docker-modem's error has both as well. */
class DockerRefusal extends Error {
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(message);
    this.statusCode = statusCode;
  }
}

async function read(
  modem: Modem,
  path: string,
  abortSignal: AbortSignal,
  options?: Readonly<Record<string, string | number | boolean>>,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Readable & { headers: NodeJS.Dict<string | string[]> }>();
  modem.dial(
    { path, method: 'GET', isStream: true, statusCodes: { 200: true }, abortSignal, ...(options ? { options } : {}) },
    (error, answer) => (answer === null ? reject(error) : resolve(answer)),
  );
  const answer = await promise;
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > ANSWER_BYTES) throw new DockerRefusal(0, `the answer is larger than ${ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return { contentType: String(answer.headers['content-type'] ?? ''), body: Buffer.concat(chunks) };
}

async function bounded<Value>(
  socket: string,
  what: string,
  { signal, timeoutMs = CALL_TIMEOUT_MS }: CallLimits,
  call: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const name = `docker ${what}`;
  if (signal?.aborted) throw new ExhibitError('cancelled', `${name} was cancelled`, { cause: signal.reason });
  const late = timeoutMs === 'none' ? undefined : AbortSignal.timeout(timeoutMs);
  const ends = [signal, late].filter((one) => one !== undefined);
  try {
    return await call(AbortSignal.any(ends));
  } catch (error) {
    if (signal?.aborted) throw new ExhibitError('cancelled', `${name} was cancelled`, { cause: error });
    if (late?.aborted) {
      const words = `Docker at ${socket} did not answer ${what} within ${Number(timeoutMs) / 1000} s`;
      throw new ExhibitError('runtime-unreachable', `${words}; see its log (journalctl -u docker)`, { cause: error });
    }
    throw explainFailure(socket, name, error);
  }
}

async function unlessGone<Value>(call: Promise<Value>): Promise<Value | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isExhibitError(error, 'runtime-failed') && statusCodeOf(error.cause) === 404) return undefined;
    throw error;
  }
}

function statusCodeOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return undefined;
  return typeof error.statusCode === 'number' ? error.statusCode : undefined;
}

/** What Docker itself says is in the answer's `message`; docker-modem puts its own words around it. */
function wordsOf(error: unknown): string {
  const text = explain(error).trim();
  return /^\(HTTP code \d+\) [^-]* - (.*)$/s.exec(text)?.[1]?.trim() ?? text;
}

function explainFailure(socket: string, name: string, error: unknown): ExhibitError {
  const status = statusCodeOf(error);
  // 501: only for an experimental daemon. 404 with these words: an older Docker, or something that is none.
  if (status === 501 || (status === 404 && /page not found/.test(wordsOf(error)))) {
    const words = `Docker at ${socket} has no \`${name}\`: ${wordsOf(error)}`;
    return new ExhibitError('runtime-unsupported', words, { cause: error });
  }
  if (status !== undefined)
    return new ExhibitError('runtime-failed', `${name} failed: ${wordsOf(error)}`, { cause: error });
  return new ExhibitError('runtime-unreachable', whyUnreachable(socket, error), { cause: error });
}

function whyUnreachable(socket: string, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  if (code?.startsWith('HPE_'))
    return `what listens on ${socket} does not speak Docker's API: name Docker's own socket`;
  switch (errnoOf(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return (
        `there is no Docker socket at ${socket}: start Docker, or name its socket in the configuration ` +
        "(in a pod, mount the socket's folder from the node)"
      );
    case 'EACCES':
    case 'EPERM':
      return `no permission to open Docker's socket ${socket}: run as root`;
    case 'ECONNREFUSED':
      return `nothing listens on Docker's socket ${socket}: start Docker (systemctl status docker)`;
    case 'ECONNRESET':
    case 'EPIPE':
      return `Docker at ${socket} dropped the connection: it is restarting, or this is not Docker's socket`;
    default:
      return `cannot talk to Docker at ${socket}: ${explain(error)}`;
  }
}
