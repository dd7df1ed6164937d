import type http from 'node:http';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { ExhibitError } from '../../evidence/error.ts';
import { type AlertsConfig, registerAlerts } from '../alerts/webhook.ts';
import type { Caller, Identity } from '../identity/identity.ts';
import type { Store } from '../store/store.ts';
import type { Api } from './api.ts';
import { boundedText } from './http-body.ts';
import { registerCalls } from './http-calls.ts';
import { errorAnswer, HttpRefusal } from './http-error.ts';
import { allowedMethods } from './http-methods.ts';
import { createHttpSockets, credentialsOf, HTTP_LIMITS, type HttpLimits, type HttpSockets } from './http-server.ts';
import { openapi } from './openapi.ts';

/**
 * The controller's API as JSON over HTTP/1.1, its OpenAPI document, and the webhooks of alerts, on sockets that the API's listener
 * hands over. One definition: routes, checks and the document come from controller.proto.
 */
export interface HttpService extends AsyncDisposable {
  /** A socket on which TLS has chosen `http/1.1`, or nothing. */
  accept(socket: Socket): void;
}

export interface HttpParts {
  readonly api: Api;
  readonly identity: Identity;
  readonly store: Pick<Store, 'claim' | 'spend' | 'appendAudit'>;
  readonly alerts?: AlertsConfig;
  readonly log: Logger;
  readonly now?: () => number;
  readonly limits?: Partial<HttpLimits>;
}

/** The longest request is a selector of many labels. */
const MAX_BODY_BYTES = 64 * 1024;
/** A finding of GuardDuty has some ten levels, our own messages have four. */
const MAX_DEPTH = 32;
/** Requests that one connection may have open at once: browsers and load balancers have one. */
const MAX_PIPELINED = 16;
const SHUTDOWN_GRACE_MS = 2_000;

const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

export async function openHttp(parts: HttpParts): Promise<HttpService> {
  let sockets: HttpSockets | undefined;
  const app = fastify({
    serverFactory: (handler) => {
      sockets = createHttpSockets(handler as http.RequestListener, { ...HTTP_LIMITS, ...parts.limits });
      return sockets.server;
    },
    bodyLimit: MAX_BODY_BYTES,
    exposeHeadRoutes: false,
    logger: false,
    routerOptions: { maxParamLength: 253, ignoreTrailingSlash: false },
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: false, allErrors: false } },
    schemaErrorFormatter: (errors, part) => new ExhibitError('usage', schemaWords(part, errors[0])),
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: (error, request, reply) => void sendError(error, request, reply, parts.log),
  });
  bound(app);
  readJson(app);
  const callers = new WeakMap<FastifyRequest, Caller>();
  registerCalls(app, {
    api: parts.api,
    authenticate: async (request) => {
      callers.set(request, await parts.identity.authenticate(credentialsOf(request.raw)));
    },
    callerOf: (request) => {
      const caller = callers.get(request);
      if (caller === undefined) throw new ExhibitError('unauthenticated', 'Nobody has said who calls');
      return caller;
    },
  });
  const alerts = parts.alerts === undefined ? undefined : registerAlerts(app, { ...parts, alerts: parts.alerts });
  const document = openapi();
  app.get('/v1/openapi.json', { exposeHeadRoute: true }, async () => document);
  app.get('/healthz', { exposeHeadRoute: true }, async () => ({ status: 'ok' }));
  app.setNotFoundHandler(notFound);
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply, parts.log));
  await app.ready();
  if (sockets === undefined) throw new ExhibitError('internal', 'The HTTP server was not made');
  const { accept, close } = sockets;
  return {
    accept,
    [Symbol.asyncDispose]: async () => {
      await close(SHUTDOWN_GRACE_MS);
      await alerts?.[Symbol.asyncDispose]();
      await app.close();
    },
  };
}

/** Headers of every answer, and what no request may do. */
function bound(app: FastifyInstance): void {
  const open = new WeakMap<Socket, number>();
  app.addHook('onRequest', async (request, reply) => {
    void reply.headers(HEADERS);
    const { socket } = request.raw;
    const count = (open.get(socket) ?? 0) + 1;
    open.set(socket, count);
    reply.raw.once('close', () => open.set(socket, (open.get(socket) ?? 1) - 1));
    if (count > MAX_PIPELINED) {
      const words = `${MAX_PIPELINED} requests wait on this connection; try again in 1 s`;
      throw new HttpRefusal(429, 'rate-limited', words, { connection: 'close' });
    }
    if (request.headers['content-encoding'] !== undefined) {
      throw new HttpRefusal(415, 'usage', 'Send the body as it is, without a content-encoding');
    }
  });
}

/** `application/json` and nothing else. */
function readJson(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    try {
      void parse(request, boundedText(body as Buffer, MAX_DEPTH), done);
    } catch (error) {
      done(error as Error);
    }
  });
}

function notFound(request: FastifyRequest, reply: FastifyReply): unknown {
  const allowed = allowedMethods(request.url.split('?', 1)[0] ?? '');
  if (allowed.length === 0) {
    throw new HttpRefusal(404, 'usage', 'There is nothing under this path; GET /v1/openapi.json lists what there is');
  }
  const allow = [...allowed, 'OPTIONS'].join(', ');
  if (request.method === 'OPTIONS') return reply.code(204).header('allow', allow).send();
  throw new HttpRefusal(405, 'usage', `This path takes ${allow}`, { allow });
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, log: Logger): FastifyReply {
  const known = fromFastify(error);
  const answer = errorAnswer(known);
  const own = known instanceof HttpRefusal ? known : undefined;
  const status = own?.status ?? answer.status;
  if (status >= 500)
    log.error({ err: known, method: request.method, route: request.routeOptions.url }, 'request failed');
  // A connection that closes on a body that was not read is reset, and the answer lost: the rest is read and dropped, for as long as a
  // request may take.
  void reply.removeHeader('connection');
  return reply
    .code(status)
    .headers({ ...HEADERS, ...answer.headers, ...own?.headers })
    .send(answer.body);
}

/** What fastify itself refuses, in our words: its own may carry what came in. */
function fromFastify(error: unknown): unknown {
  if (error instanceof ExhibitError || !(error instanceof Error) || !('code' in error)) return error;
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new HttpRefusal(413, 'usage', 'The body is too large');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new HttpRefusal(415, 'usage', 'The body has to be application/json');
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new HttpRefusal(400, 'usage', 'The body is not JSON');
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new HttpRefusal(400, 'usage', 'The path cannot be read');
    default:
      return refusedStatus(error) ?? error;
  }
}

function refusedStatus(error: Error): HttpRefusal | undefined {
  const status = 'statusCode' in error ? error.statusCode : undefined;
  if (typeof status !== 'number' || status < 400 || status > 499) return undefined;
  return new HttpRefusal(status, 'usage', 'The request cannot be read');
}

interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly message?: string;
  readonly params: Record<string, unknown>;
}

const MAX_WORD_CHARS = 80;

function schemaWords(part: string, error: SchemaError | undefined): string {
  if (error === undefined) return `The ${part} is not as the API's description says`;
  const place = JSON.stringify(`${part}${error.instancePath}`.slice(0, MAX_WORD_CHARS)).slice(1, -1);
  const extra = error.params.additionalProperty;
  if (error.keyword === 'not') return `${place} has two fields that exclude each other`;
  if (typeof extra === 'string') return `${place} has no field ${JSON.stringify(extra.slice(0, MAX_WORD_CHARS))}`;
  return `${place} ${error.message ?? 'is not as the API describes it'}`;
}

/** Bytes that are no HTTP, or come too slowly: there is no request to answer, so the answer is written by hand. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, words] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ['431 Request Header Fields Too Large', 'The headers are too large']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'The request did not come in time']
        : ['400 Bad Request', 'This is no HTTP request'];
  const body = JSON.stringify({ error: { code: 'usage', message: words } });
  const headers = `content-type: application/json; charset=utf-8\r\ncontent-length: ${body.length}\r\nconnection: close`;
  socket.end(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n${body}`, () => socket.destroy());
}
