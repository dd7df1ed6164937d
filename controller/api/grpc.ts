import type { TLSSocket } from 'node:tls';
import grpc from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { CaptureUpdate } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { ControllerHandlers } from '../../proto/gen/exhibit/controller/v1/Controller.ts';
import type { WatchCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/WatchCaptureRequest.ts';
import { loadController } from '../../proto/load.ts';
import { wireError } from '../../proto/wire-error.ts';
import type { Credentials, Identity } from '../identity/identity.ts';
import type { Api, CallContext } from './api.ts';

/** The API over gRPC, on sockets that the API's listener hands over. Health is grpc.health.v1 beside it, and needs nobody's name. */
export interface GrpcApi extends AsyncDisposable {
  /** A socket on which TLS has chosen `h2`. */
  accept(socket: TLSSocket): void;
}

export interface GrpcParts {
  readonly api: Api;
  readonly identity: Identity;
  readonly log: Logger;
}

const SERVICE = 'exhibit.controller.v1.Controller';
/** The largest request is a note of a case, of some 40 KB. */
const MAX_REQUEST_BYTES = 256 * 1024;
/** A person's program has a few; a console watches some captures at once. */
const MAX_STREAMS = 200;
/** A token of an issuer that puts every group into it is some 16 KB. */
const MAX_HEADER_BYTES = 32 * 1024;
/** Who watches and was cut off is noticed, and their watch let go. */
const PING_EVERY_MS = 60_000;
const PING_ANSWER_MS = 20_000;
/** Calls that are under way may end; those that watch are told to come again. */
const SHUTDOWN_GRACE_MS = 2_000;

export function serveGrpc(parts: GrpcParts): GrpcApi {
  const server = new grpc.Server({
    'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
    'grpc.max_concurrent_streams': MAX_STREAMS,
    'grpc.max_metadata_size': MAX_HEADER_BYTES,
    'grpc.keepalive_time_ms': PING_EVERY_MS,
    'grpc.keepalive_timeout_ms': PING_ANSWER_MS,
  });
  const { service } = loadController().Controller;
  server.addService(service, handlers(parts));
  const health = new HealthImplementation({ '': 'SERVING', [SERVICE]: 'SERVING' });
  health.addToServer(server);
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  return {
    accept: (socket) => injector.injectConnection(socket),
    async [Symbol.asyncDispose]() {
      health.setStatus('', 'NOT_SERVING');
      health.setStatus(SERVICE, 'NOT_SERVING');
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
    },
  };
}

function handlers(parts: GrpcParts): ControllerHandlers {
  const { api } = parts;
  const unary =
    <Request, Response>(
      answer: (request: Request, context: CallContext) => Promise<Response>,
    ): grpc.handleUnaryCall<Request, Response> =>
    (call, callback) => {
      contextOf(call, parts)
        .then((context) => answer(call.request, context))
        .then(
          (response) => callback(null, response),
          (error: unknown) => callback(told(error, parts.log)),
        );
    };
  return {
    CreateCapture: unary(api.CreateCapture),
    GetCapture: unary(api.GetCapture),
    ListCaptures: unary(api.ListCaptures),
    WatchCapture: (call) => void watch(call, parts),
    CancelCapture: unary(api.CancelCapture),
    ApproveCapture: unary(api.ApproveCapture),
    DenyCapture: unary(api.DenyCapture),
    ListNodes: unary(api.ListNodes),
    ListContainers: unary(api.ListContainers),
    OpenCase: unary(api.OpenCase),
    GetCase: unary(api.GetCase),
    ListCases: unary(api.ListCases),
    NoteCase: unary(api.NoteCase),
    CloseCase: unary(api.CloseCase),
    ListCustody: unary(api.ListCustody),
    WhoAmI: unary(api.WhoAmI),
    GetLogLevel: unary(api.GetLogLevel),
    SetLogLevel: unary(api.SetLogLevel),
  };
}

type AnyCall = grpc.ServerUnaryCall<unknown, unknown> | grpc.ServerWritableStream<unknown, unknown>;

/** Who calls, and a signal that aborts when they hang up or their deadline passes. */
async function contextOf(call: AnyCall, { identity }: GrpcParts): Promise<CallContext> {
  const gone = new AbortController();
  const hangUp = () => gone.abort(new ExhibitError('cancelled', 'The caller hung up'));
  call.once('cancelled', hangUp);
  if (call.cancelled) hangUp();
  return { caller: await identity.authenticate(credentialsOf(call)), signal: gone.signal };
}

function credentialsOf(call: AnyCall): Credentials {
  const certificate = call.getAuthContext().sslPeerCertificate;
  const [authorization, second] = call.metadata.get('authorization');
  if (second !== undefined)
    throw new ExhibitError('unauthenticated', 'The header authorization is there twice: send one token');
  return {
    peer: call.getPeer(),
    ...(certificate === undefined ? {} : { certificate }),
    ...(authorization === undefined ? {} : { authorization: String(authorization) }),
  };
}

async function watch(
  call: grpc.ServerWritableStream<WatchCaptureRequest__Output, CaptureUpdate>,
  parts: GrpcParts,
): Promise<void> {
  try {
    const context = await contextOf(call, parts);
    for await (const update of parts.api.WatchCapture(call.request, context)) {
      if (context.signal.aborted) return;
      if (!call.write(update)) await drained(call);
    }
    call.end();
  } catch (error) {
    if (!call.cancelled) call.emit('error', told(error, parts.log));
  }
}

/** Or the caller is gone. */
function drained(call: grpc.ServerWritableStream<unknown, unknown>): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off('drain', done).off('cancelled', done);
      resolve();
    };
    call.once('drain', done).once('cancelled', done);
    if (call.cancelled) done();
  });
}

/** What is none of our errors says nothing to the caller, and all to the log. */
function told(error: unknown, log: Logger): ReturnType<typeof wireError> {
  if (isExhibitError(error)) return wireError(error);
  log.error({ error: explain(error) }, 'call failed');
  return wireError(new ExhibitError('internal', 'The controller failed at this; its log says how'));
}
