/** Calls over gRPC on a Unix socket: promises, signals, bounds, and one place that turns a status into a sentence. */
import { connect as connectSocket } from 'node:net';
import path from 'node:path';
import { type CallOptions, type ChannelOptions, Client, credentials, Metadata, status } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import { ExhibitError, errnoOf, isExhibitError } from '../../evidence/error.ts';

/** containerd's own limit for a message; a list with the OCI specs of all containers passes gRPC's default of 4 MiB. */
export const MESSAGE_BYTES = 16 * 1024 * 1024;

/** A question about state is answered in milliseconds; a loaded node gets the benefit of the doubt. */
export const CALL_TIMEOUT_MS = 15_000;

/** How long a probe of the socket waits for its connection. */
const PROBE_MS = 500;

const CHANNEL_OPTIONS: ChannelOptions = {
  'grpc.max_receive_message_length': MESSAGE_BYTES,
  'grpc.max_send_message_length': MESSAGE_BYTES,
  // A local socket costs nothing to try: a restarted runtime is found again within half a second, not after two minutes.
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 500,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
};

/** One connection to a runtime, for all of its services. */
export interface Endpoint {
  /** As the agent reaches it. */
  readonly socket: string;
  readonly client: Client;
  /** Sent with every call; `containerd-namespace` for containerd's own services. */
  readonly metadata: Metadata;
}

/** Does not connect yet: the first call does. Close `client` when done. */
export function openEndpoint(socket: string, headers: Readonly<Record<string, string>> = {}): Endpoint {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
  const client = new Client(`unix:${path.resolve(socket)}`, credentials.createInsecure(), CHANNEL_OPTIONS);
  return { socket, client, metadata };
}

export interface CallLimits {
  readonly signal?: AbortSignal | undefined;
  /** `none` for calls that must not be cut off, such as a checkpoint. */
  readonly timeoutMs?: number | 'none' | undefined;
}

/** The wire's status of a failed call, or undefined when it did not come to a status. */
export function statusOf(error: unknown): status | undefined {
  const wire = isExhibitError(error) ? error.cause : error;
  if (!(wire instanceof Error) || !('code' in wire) || typeof wire.code !== 'number') return undefined;
  return wire.code;
}

function callOptions(limits: CallLimits): CallOptions {
  const { timeoutMs = CALL_TIMEOUT_MS } = limits;
  return timeoutMs === 'none' ? {} : { deadline: Date.now() + timeoutMs };
}

/** A method of a loaded service: `loadTasks().Tasks.service.Get`. */
export type Method<Request, Response> = Pick<
  MethodDefinition<Request, unknown, unknown, Response>,
  'path' | 'requestSerialize' | 'responseDeserialize'
>;

/** `Tasks.Get` of `/containerd.services.tasks.v1.Tasks/Get`. */
const nameOf = (method: { path: string }): string => method.path.split('.').at(-1)?.replace('/', '.') ?? method.path;

/**
 * One question, one answer. Fails as `explainStatus` says; an abort cancels the call and fails with `cancelled`.
 */
export async function unary<Request, Response>(
  endpoint: Endpoint,
  method: Method<Request, Response>,
  request: Request,
  limits: CallLimits,
): Promise<Response> {
  const { signal } = limits;
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  if (signal?.aborted) throw cancelled(nameOf(method), signal);
  const call = endpoint.client.makeUnaryRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    endpoint.metadata,
    callOptions(limits),
    (error, response) => {
      if (error !== null) reject(error);
      else if (response === undefined) reject(new Error('an answer without a message'));
      else resolve(response);
    },
  );
  const cancel = () => call.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await promise;
  } catch (error) {
    if (signal?.aborted) throw cancelled(nameOf(method), signal, error);
    throw await explainStatus(endpoint.socket, nameOf(method), error, limits);
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** The messages of a server's stream; leaving the loop cancels the call. Fails like `unary`. */
export async function* serverStream<Request, Response>(
  endpoint: Endpoint,
  method: Method<Request, Response>,
  request: Request,
  limits: CallLimits,
): AsyncGenerator<Response, void, undefined> {
  const { signal } = limits;
  if (signal?.aborted) throw cancelled(nameOf(method), signal);
  const stream = endpoint.client.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    endpoint.metadata,
    callOptions(limits),
  );
  const cancel = () => stream.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    for await (const message of stream) yield message as Response;
  } catch (error) {
    if (signal?.aborted) throw cancelled(nameOf(method), signal, error);
    throw await explainStatus(endpoint.socket, nameOf(method), error, limits);
  } finally {
    signal?.removeEventListener('abort', cancel);
    stream.cancel();
  }
}

function cancelled(what: string, signal: AbortSignal, cause?: unknown): ExhibitError {
  return new ExhibitError('cancelled', `${what} was cancelled`, { cause: cause ?? signal.reason });
}

/**
 * The error for a failed call; `cause` is the wire's own.
 * `runtime-unreachable`: nothing is there, nothing answers, or what answers does not speak gRPC.
 * `runtime-unsupported`: it answers that it has no such call. `runtime-failed`: any other status.
 */
async function explainStatus(socket: string, what: string, error: unknown, limits: CallLimits): Promise<ExhibitError> {
  const words = error instanceof Error && 'details' in error ? String(error.details) : String(error);
  switch (statusOf(error)) {
    case status.UNAVAILABLE:
      return new ExhibitError('runtime-unreachable', await whyUnavailable(socket), { cause: error });
    case status.DEADLINE_EXCEEDED: {
      const late = `the runtime at ${socket} did not answer ${what} within ${Number(limits.timeoutMs ?? CALL_TIMEOUT_MS) / 1000} s`;
      return new ExhibitError('runtime-unreachable', `${late}; see its log (journalctl -u containerd)`, {
        cause: error,
      });
    }
    case status.UNIMPLEMENTED:
      return new ExhibitError('runtime-unsupported', `the runtime at ${socket} has no ${what}: ${words}`, {
        cause: error,
      });
    default:
      return new ExhibitError('runtime-failed', `${what} failed: ${words}`, { cause: error });
  }
}

/** The errno of a connection to the socket, or undefined when it can be made. */
async function probe(socket: string): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const connection = connectSocket(socket);
  connection.setTimeout(PROBE_MS, () => resolve('ETIMEDOUT'));
  connection.once('connect', () => resolve(undefined));
  connection.once('error', (error) => resolve(errnoOf(error) ?? error.message));
  try {
    return await promise;
  } finally {
    connection.destroy();
  }
}

async function whyUnavailable(socket: string): Promise<string> {
  const errno = await probe(socket);
  switch (errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      return (
        `there is no runtime socket at ${socket}: start the runtime, or name its socket in the configuration ` +
        "(in a pod, mount the socket's folder from the node)"
      );
    case 'EACCES':
    case 'EPERM':
      return `no permission to open the runtime's socket ${socket}: run as root`;
    case 'ECONNREFUSED':
      return `nothing listens on the runtime's socket ${socket}: start the runtime (systemctl status containerd)`;
    case undefined:
      return `the runtime at ${socket} dropped the connection: it is restarting, or this is not a gRPC socket`;
    default:
      return `cannot connect to the runtime's socket ${socket}: ${errno}`;
  }
}
