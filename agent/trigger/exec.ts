import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, chmod, lstat, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { ExhibitError, isErrno, isExhibitError } from '../../evidence/error.ts';
import type { AgentHandlers } from '../../proto/gen/exhibit/v1/Agent.ts';
import type { CaptureEvent as WireEvent } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';
import { loadExhibit } from '../../proto/load.ts';
import { wireError } from '../../proto/wire-error.ts';
import type { Captures } from '../capture/captures.ts';
import type { JournalEntry } from '../capture/journal.ts';
import type { Check } from '../doctor/check.ts';
import { makeFolder } from '../host/folder.ts';
import { describePeer, peerCredentials } from '../host/peer-credentials.ts';
import type { LogLevels } from '../log-level.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { type RequestDefaults, readRequest } from './request.ts';
import { type WireOptions, wireCapture, wireEvent } from './wire.ts';

/**
 * The trigger that `kubectl exec ... exhibit capture` reaches: the agent's API on a Unix socket that only root can open
 * (folder 0700, socket 0600). Who can open it may do everything here, so there is no further authentication.
 */
export interface ExecTrigger extends AsyncDisposable {
  readonly socket: string;
}

export interface ExecOptions extends WireOptions {
  readonly socket: string;
  readonly captures: Captures;
  /** The first one lists containers. */
  readonly runtime: Runtime;
  readonly defaults: RequestDefaults;
  /** Names of the sinks that a request may pick. */
  readonly sinks: readonly string[];
  readonly examine: (signal: AbortSignal) => Promise<Check[]>;
  readonly levels: LogLevels;
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
    // A mount that is read-only says so here, before anything else is opened.
    await access(path.dirname(socket), constants.W_OK);
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
    GetLogLevel: unary(async () => options.levels.now()),
    SetLogLevel: unary(async ({ level, forMs }, peer) => options.levels.set(level, forMs, peer)),
    Doctor: unary(async () => ({ checks: await options.examine(AbortSignal.timeout(DOCTOR_TIMEOUT_MS)) })),
  };
}

function unary<Request, Response>(
  answer: (request: Request, peer: string) => Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  return (call, callback) => {
    answer(call.request, call.getPeer()).then(
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
