import net from 'node:net';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import { type ErrorCode, ExhibitError, errnoOf } from '../evidence/error.ts';
import type { Capture__Output } from '../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureEvent__Output } from '../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureRequest } from '../proto/gen/exhibit/v1/CaptureRequest.ts';
import type { DoctorResponse__Output } from '../proto/gen/exhibit/v1/DoctorResponse.ts';
import type { ListCapturesResponse__Output } from '../proto/gen/exhibit/v1/ListCapturesResponse.ts';
import type { ListContainersResponse__Output } from '../proto/gen/exhibit/v1/ListContainersResponse.ts';
import type { LogLevel__Output } from '../proto/gen/exhibit/v1/LogLevel.ts';
import { loadExhibit } from '../proto/load.ts';
import { isErrorCode } from '../proto/wire-error.ts';

/** The agent's API over its Unix socket. Every failure is an `ExhibitError`; an aborted signal rejects with its reason. */
export interface AgentClient extends Disposable {
  /** The events in order; the last is `ended`. Leaving the loop early hangs up and lets the capture go on. */
  capture(request: CaptureRequest, signal: AbortSignal): AsyncGenerator<CaptureEvent__Output, void, undefined>;
  listContainers(signal: AbortSignal): Promise<ListContainersResponse__Output>;
  getCapture(captureId: string, signal: AbortSignal): Promise<Capture__Output>;
  listCaptures(limit: number, signal: AbortSignal): Promise<ListCapturesResponse__Output>;
  cancel(captureId: string, signal: AbortSignal): Promise<Capture__Output>;
  doctor(signal: AbortSignal): Promise<DoctorResponse__Output>;
  logLevel(signal: AbortSignal): Promise<LogLevel__Output>;
  setLogLevel(level: string, forMs: number, signal: AbortSignal): Promise<LogLevel__Output>;
}

/** A socket that nothing accepts from answers in this time or never. */
const PROBE_TIMEOUT_MS = 5_000;
/** Listing asks the runtime once; a runtime that needs longer is stuck. */
const CALL_TIMEOUT_MS = 30_000;
/** The agent gives itself half a minute, which a busy node may stretch. */
const DOCTOR_TIMEOUT_MS = 120_000;
/** Cancel answers when the collector in flight has let go and the manifest is sealed. */
const CANCEL_TIMEOUT_MS = 300_000;
/** A node has some hundred containers with some KiB of labels each; gRPC's own bound of 4 MiB is near that. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;

/** Fails at once when nobody listens, instead of in gRPC's backoff. */
export async function connectAgent(socketPath: string, signal: AbortSignal): Promise<AgentClient> {
  const socket = path.resolve(socketPath);
  await probe(socket, signal);
  const client = new (loadExhibit().Agent)(`unix:${socket}`, grpc.credentials.createInsecure(), {
    'grpc.enable_retries': 0,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.enable_http_proxy': 0,
  });

  function unary<Answer>(
    timeoutMs: number,
    callSignal: AbortSignal,
    start: (options: grpc.CallOptions, done: grpc.requestCallback<Answer>) => grpc.ClientUnaryCall,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (callSignal.aborted) return reject(callSignal.reason);
      const call = start({ deadline: Date.now() + timeoutMs }, (error, answer) => {
        callSignal.removeEventListener('abort', hangUp);
        if (error === null && answer !== undefined) resolve(answer);
        else if (callSignal.aborted) reject(callSignal.reason);
        else
          reject(
            error === null ? new ExhibitError('internal', 'The agent answered nothing.') : agentError(error, socket),
          );
      });
      const hangUp = () => call.cancel();
      callSignal.addEventListener('abort', hangUp, { once: true });
    });
  }

  return {
    async *capture(request, callSignal) {
      callSignal.throwIfAborted();
      const call = client.capture(request);
      const hangUp = () => call.cancel();
      callSignal.addEventListener('abort', hangUp, { once: true });
      try {
        yield* call as AsyncIterable<CaptureEvent__Output>;
      } catch (error) {
        callSignal.throwIfAborted();
        throw isServiceError(error) ? agentError(error, socket) : error;
      } finally {
        callSignal.removeEventListener('abort', hangUp);
        // Whoever leaves the loop early leaves an error behind that nobody awaits.
        call.on('error', () => undefined);
        call.cancel();
      }
    },
    listContainers: (s) => unary(CALL_TIMEOUT_MS, s, (options, done) => client.listContainers({}, options, done)),
    getCapture: (captureId, s) =>
      unary(CALL_TIMEOUT_MS, s, (options, done) => client.getCapture({ captureId }, options, done)),
    listCaptures: (limit, s) =>
      unary(CALL_TIMEOUT_MS, s, (options, done) => client.listCaptures({ limit }, options, done)),
    cancel: (captureId, s) =>
      unary(CANCEL_TIMEOUT_MS, s, (options, done) => client.cancel({ captureId }, options, done)),
    doctor: (s) => unary(DOCTOR_TIMEOUT_MS, s, (options, done) => client.doctor({}, options, done)),
    logLevel: (s) => unary(CALL_TIMEOUT_MS, s, (options, done) => client.getLogLevel({}, options, done)),
    setLogLevel: (level, forMs, s) =>
      unary(CALL_TIMEOUT_MS, s, (options, done) => client.setLogLevel({ level, forMs }, options, done)),
    [Symbol.dispose]: () => client.close(),
  };
}

function probe(socket: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const connection = net.connect({ path: socket, signal });
    connection.setTimeout(PROBE_TIMEOUT_MS, () => connection.destroy(new Error('connect timed out')));
    connection.once('connect', () => {
      connection.destroy();
      resolve();
    });
    connection.once('error', (error) => reject(signal.aborted ? signal.reason : socketError(error, socket)));
  });
}

const HOW_TO_START =
  'start it with `exhibit agent --config FILE`, name its socket with --socket, or in a cluster run this inside the ' +
  "agent's pod with `kubectl exec`";

/** Inside the agent's own pod, which its manifest names so, nobody has to start it. */
function whatToDo({ EXHIBIT_POD: pod = '' }: NodeJS.ProcessEnv): string {
  const [namespace, name] = pod.split('/');
  if (name === undefined || name === '') return HOW_TO_START;
  const logs = `kubectl -n ${namespace} logs ${name}`;
  return `the agent of this pod is starting or has ended: see \`${logs}\`, and \`${logs} --previous\` for why it ended`;
}

/** Why nobody can be reached on a socket, from connect(2)'s errno. */
function socketError(error: Error, socket: string): ExhibitError {
  const errno = errnoOf(error);
  const say = (words: string) => new ExhibitError('agent-unreachable', words, { cause: error });
  switch (errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      return say(`No agent is here, there is no socket ${socket}: ${whatToDo(process.env)}.`);
    case 'EACCES':
    case 'EPERM':
      return say(`Only root may ask the agent on ${socket}: run this again as root.`);
    case 'ECONNREFUSED':
    case 'ENOTSOCK':
    case 'EPROTOTYPE':
      return say(`No agent listens on ${socket}: ${whatToDo(process.env)}.`);
    default:
      return say(`The agent on ${socket} cannot be reached (${error.message}): ${HOW_TO_START}.`);
  }
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && 'details' in error && 'metadata' in error;
}

/** The agent's own code and sentence from the trailer `exhibit-code` and `details`; otherwise what gRPC's status means here. */
function agentError(error: grpc.ServiceError, socket: string): ExhibitError {
  const say = (code: ErrorCode, words: string) => new ExhibitError(code, words, { cause: error });
  const ours = error.metadata?.get('exhibit-code')[0];
  if (isErrorCode(ours)) return say(ours, error.details);
  switch (error.code) {
    case grpc.status.UNAVAILABLE:
      return say(
        'agent-unreachable',
        `The agent on ${socket} went away before it answered: see its log, and once it runs again \`exhibit captures\`.`,
      );
    case grpc.status.DEADLINE_EXCEEDED:
      return say('agent-unreachable', `The agent on ${socket} did not answer in time: see its log, then try again.`);
    case grpc.status.PERMISSION_DENIED:
    case grpc.status.UNAUTHENTICATED:
      return say('agent-unreachable', `Only root may ask the agent on ${socket}: run this again as root.`);
    case grpc.status.UNIMPLEMENTED:
      return say(
        'internal',
        `The agent on ${socket} has no such call: use the \`exhibit\` of the agent's own version.`,
      );
    case grpc.status.CANCELLED:
      // We never see our own cancelling here: the agent is shutting down.
      return say('agent-unreachable', `The agent on ${socket} ended the call: see its log.`);
    default:
      return say('internal', `The agent on ${socket} failed (${error.details || error.message}): see its log.`);
  }
}
