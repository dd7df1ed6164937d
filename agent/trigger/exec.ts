import { once } from 'node:events';
import { chmod, lstat, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { type ErrorCode, ExhibitError, explain, isErrno, isExhibitError } from '../../evidence/error.ts';
import type { AgentHandlers } from '../../proto/gen/exhibit/v1/Agent.ts';
import type { Capture } from '../../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureEvent as WireEvent } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';
import { loadExhibit } from '../../proto/load.ts';
import type { CaptureEvent, Captures } from '../capture/captures.ts';
import type { JournalEntry, StageResult } from '../capture/journal.ts';
import type { Check } from '../doctor/check.ts';
import { makeFolder } from '../host/folder.ts';
import { describePeer, peerCredentials } from '../host/peer-credentials.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { type RequestDefaults, readRequest } from './request.ts';

/**
 * The trigger that `kubectl exec ... exhibit capture` reaches: the agent's API on a Unix socket that only root can open
 * (folder 0700, socket 0600). Who can open it may do everything here, so there is no further authentication.
 */
export interface ExecTrigger extends AsyncDisposable {
  readonly socket: string;
}

export interface ExecOptions {
  readonly socket: string;
  readonly captures: Captures;
  /** The first one lists containers. */
  readonly runtime: Runtime;
  readonly defaults: RequestDefaults;
  /** Names of the sinks that a request may pick. */
  readonly sinks: readonly string[];
  readonly examine: (signal: AbortSignal) => Promise<Check[]>;
  /** What a sink failed with when it was last tried to deliver to it. */
  readonly problemOf: (sink: string) => string | undefined;
  readonly log: Logger;
}

/** A listing that takes longer than this is a runtime that hangs. */
const LIST_TIMEOUT_MS = 15_000;
const DOCTOR_TIMEOUT_MS = 30_000;
const DEFAULT_LIST_LIMIT = 100;
/** Callers that only follow a capture may be slow; the agent does not wait longer than this for them when it stops. */
const SHUTDOWN_GRACE_MS = 2_000;

export async function serveExec(options: ExecOptions): Promise<ExecTrigger> {
  const { socket, log } = options;
  const server = new grpc.Server({ 'grpc.max_receive_message_length': 1024 * 1024 });
  const { service } = loadExhibit().Agent;
  server.addService(service, handlers(options));
  const health = new HealthImplementation({ '': 'SERVING', 'exhibit.v1.Agent': 'SERVING' });
  health.addToServer(server);

  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const listener = net.createServer((connection) => injector.injectConnection(named(connection)));
  const before = process.umask(0o177);
  try {
    listener.listen(socket);
    await once(listener, 'listening');
  } catch (cause) {
    throw new ExhibitError(
      'config',
      `Cannot listen on ${socket}; set socket to a path below a folder that only root can enter`,
      { cause },
    );
  } finally {
    process.umask(before);
  }
  await chmod(socket, 0o600);
  log.info({ socket }, 'API ready');

  return {
    socket,
    [Symbol.asyncDispose]: async () => {
      health.setStatus('', 'NOT_SERVING');
      listener.close();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => {
          server.forceShutdown();
          resolve();
        }, SHUTDOWN_GRACE_MS);
        server.tryShutdown(() => {
          clearTimeout(timer);
          resolve();
        });
      });
      await rm(socket, { force: true });
    },
  };
}

/** The kernel gives pids as this process sees them, so it is not the /proc of the runtime's. */
const OWN_PROC = '/proc';
const UNKNOWN_PEER = 'a local process that may open the root-only socket';

/** gRPC calls a peer by its socket's `remoteAddress`, which a Unix socket has not: here it says who connected. */
function named(connection: net.Socket): net.Socket {
  const peer = peerCredentials(connection);
  const value = peer === undefined ? UNKNOWN_PEER : describePeer(peer, OWN_PROC);
  return Object.defineProperty(connection, 'remoteAddress', { value });
}

/** Linux takes 108 bytes with the final NUL (unix(7)); longer ones are cut silently by some callers. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Makes room for the socket: its folder, and no dead socket of an agent that was killed. Fails with `config` when an agent
 * lives there. To be called before `serveExec`, and before anything that an agent may do only once on a node.
 */
export async function claimSocket(socket: string): Promise<void> {
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH_BYTES)
    throw new ExhibitError(
      'config',
      `The socket path ${socket} is longer than ${MAX_SOCKET_PATH_BYTES} bytes; choose a shorter one`,
    );
  try {
    await makeFolder(path.dirname(socket));
    const there = await lstat(socket);
    if (!there.isSocket())
      throw new ExhibitError('config', `${socket} exists and is not a socket; set socket to another path`);
    if (await answers(socket))
      throw new ExhibitError(
        'config',
        `Another agent already serves ${socket}; stop it, or set socket to another path`,
      );
    await rm(socket);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return;
    if (isExhibitError(cause)) throw cause;
    throw new ExhibitError('config', `Cannot use ${socket} as the API's socket`, { cause });
  }
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(socket);
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
}

function handlers(options: ExecOptions): AgentHandlers {
  const { captures, runtime } = options;
  const wire = (entry: JournalEntry) => wireCapture(entry, options);
  return {
    Capture: (call) => void streamCapture(call, options),
    ListContainers: unary(async () => {
      const signal = AbortSignal.timeout(LIST_TIMEOUT_MS);
      const [identity, containers] = await Promise.all([runtime.identify(signal), runtime.list(signal)]);
      return {
        runtimeName: identity.name,
        runtimeVersion: identity.version,
        containers: containers.map((one) => ({
          id: one.id,
          name: one.name,
          namespace: one.pod?.namespace ?? '',
          pod: one.pod?.name ?? '',
          image: one.image,
          state: one.state,
          createdAt: one.createdAt,
          labels: Object.fromEntries(one.labels),
        })),
      };
    }),
    GetCapture: unary(async ({ captureId }) => wire(captures.get(captureId))),
    ListCaptures: unary(async ({ limit }) => ({
      captures: captures.list(limit === 0 ? DEFAULT_LIST_LIMIT : limit).map(wire),
    })),
    Cancel: unary(async ({ captureId }) => wire(await captures.cancel(captureId))),
    Doctor: unary(async () => ({ checks: await options.examine(AbortSignal.timeout(DOCTOR_TIMEOUT_MS)) })),
  };
}

function unary<Request, Response>(
  answer: (request: Request) => Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  return (call, callback) => {
    answer(call.request).then(
      (response) => callback(null, response),
      (error: unknown) => callback(wireError(error)),
    );
  };
}

async function streamCapture(
  call: grpc.ServerWritableStream<CaptureRequest__Output, WireEvent>,
  options: ExecOptions,
): Promise<void> {
  try {
    const handle = await options.captures.start({
      ...readRequest(call.request, options),
      requester: { trigger: 'socket', identity: call.getPeer() },
    });
    for await (const event of handle.events()) {
      if (call.cancelled) return;
      const room = call.write(wireEvent({ captureId: handle.captureId, created: handle.created }, event, options));
      if (!room) await new Promise<void>((resolve) => call.once('drain', resolve).once('cancelled', resolve));
    }
    call.end();
  } catch (error) {
    call.emit('error', wireError(error));
  }
}

function wireEvent(
  { captureId, created }: { readonly captureId: string; readonly created: boolean },
  event: CaptureEvent,
  options: ExecOptions,
): WireEvent {
  const base = { captureId, atMs: Date.now() };
  switch (event.kind) {
    case 'accepted':
      return {
        ...base,
        accepted: { target: event.target, sinkUrl: event.bundleUrl, stages: [...event.stages], created },
      };
    case 'stage-started':
      return { ...base, stageStarted: { stage: event.stage } };
    case 'stage-progress':
      return {
        ...base,
        stageProgress: { stage: event.stage, doneBytes: event.doneBytes, totalBytes: event.totalBytes },
      };
    case 'stage-ended':
      return { ...base, stageEnded: event.result };
    case 'ended':
      return { ...base, ended: wireCapture(event.capture, options) };
    default:
      return event satisfies never;
  }
}

function wireCapture(entry: JournalEntry, { problemOf }: Pick<ExecOptions, 'problemOf'>): Capture {
  const sum = (pick: (stage: StageResult) => number) => entry.stages.reduce((total, stage) => total + pick(stage), 0);
  return {
    captureId: entry.captureId,
    state: entry.state,
    target: entry.target,
    caseId: entry.caseId,
    reason: entry.reason,
    bundleUrl: entry.bundleUrl,
    startedAtMs: entry.startedAtMs,
    finishedAtMs: entry.finishedAtMs,
    storedBytes: sum((stage) => stage.storedBytes),
    gapCount: sum((stage) => stage.gapCount),
    pauseMs: sum((stage) => stage.pauseMs),
    error: entry.error,
    stages: entry.stages,
    scope: entry.scope ?? 'container',
    waitingSinks: entry.waiting ?? [],
    waitingProblems: (entry.waiting ?? []).map((sink) => problemOf(sink) ?? ''),
  };
}

const STATUS: Readonly<Record<ErrorCode, grpc.status>> = {
  usage: grpc.status.INVALID_ARGUMENT,
  config: grpc.status.FAILED_PRECONDITION,
  'target-not-found': grpc.status.NOT_FOUND,
  'target-ambiguous': grpc.status.INVALID_ARGUMENT,
  'target-not-running': grpc.status.FAILED_PRECONDITION,
  'runtime-unreachable': grpc.status.UNAVAILABLE,
  'runtime-failed': grpc.status.INTERNAL,
  'runtime-unsupported': grpc.status.UNIMPLEMENTED,
  'freeze-failed': grpc.status.INTERNAL,
  'freeze-stuck': grpc.status.INTERNAL,
  'sink-failed': grpc.status.UNAVAILABLE,
  'sink-exists': grpc.status.ALREADY_EXISTS,
  'spool-full': grpc.status.UNAVAILABLE,
  'capture-conflict': grpc.status.ALREADY_EXISTS,
  'capture-not-found': grpc.status.NOT_FOUND,
  'capture-failed': grpc.status.INTERNAL,
  cancelled: grpc.status.CANCELLED,
  'bundle-not-found': grpc.status.NOT_FOUND,
  'bundle-corrupt': grpc.status.DATA_LOSS,
  'bundle-encrypted': grpc.status.DATA_LOSS,
  'agent-unreachable': grpc.status.UNAVAILABLE,
  internal: grpc.status.INTERNAL,
};

/** The sentence goes into `details`, our own code into the trailing metadata `exhibit-code`. */
function wireError(error: unknown): Partial<grpc.StatusObject> & { message: string } {
  const code: ErrorCode = isExhibitError(error) ? error.code : 'internal';
  const metadata = new grpc.Metadata();
  metadata.set('exhibit-code', code);
  const details = explain(error);
  return { code: STATUS[code], details, message: details, metadata };
}
