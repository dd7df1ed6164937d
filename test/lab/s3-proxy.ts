/**
 * A network between a sink and a real S3 server, with faults by order. Every request is counted, and those that an
 * append-only identity may not send are refused, so that a sink that needs more fails its test.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientRequest,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as openRequest,
  type Server,
  type ServerResponse,
} from 'node:http';
import { closed } from './closed.ts';

export type S3Operation =
  | 'PutObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload';

/** One request as it arrived, and what became of it. */
export interface SeenRequest {
  readonly operation: S3Operation;
  /** Below the bucket. */
  readonly key: string;
  /** Of an UploadPart, from 1; else 0. */
  readonly part: number;
  /** Requests of this operation before it, in all. */
  readonly earlier: number;
  /** Requests of this operation before it for the same key and part. */
  readonly earlierHere: number;
  /** As the signature names it. */
  readonly accessKeyId: string;
  readonly headers: IncomingHttpHeaders;
  /** When it came, as performance.now() counts. */
  readonly atMs: number;
  /** Of the body, as many as were taken from the client so far. */
  bodyBytes: number;
  /** What the client was answered; undefined while it was not. */
  status: number | undefined;
}

export type S3Fault =
  /** Answers this in place of the server, which hears nothing. */
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly code: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** Both ends are reset when so many bytes of the body have gone through; with 0 the server never hears of it. */
  | { readonly kind: 'reset'; readonly afterBytes: number }
  /** So many bytes of the body go through, then not one more, and no answer ever. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** The server carries it out; the answer never comes. */
  | { readonly kind: 'stall-answer' }
  /** The server carries it out; then the connection is reset. */
  | { readonly kind: 'lose-answer' }
  /** The server carries it out; the answer breaks off in its middle. */
  | { readonly kind: 'cut-answer' }
  /** The server carries it out; the answer tells the checksum of other bytes. */
  | { readonly kind: 'wrong-checksum' };

export interface S3Proxy extends AsyncDisposable {
  readonly endpoint: string;
  readonly requests: readonly SeenRequest[];
  /** `GET /bucket?list-type=2` and the like: what an append-only identity may not do. */
  readonly refused: readonly string[];
  /** Asked for each request before anything of its body is read; what takes time delays the request. */
  fault: (request: SeenRequest) => S3Fault | undefined | Promise<S3Fault | undefined>;
  count(operation: S3Operation): number;
  /** Nothing listens any more, and what was under way is reset: a server that is away. */
  away(): Promise<void>;
  /** Listens again, on the same port. */
  back(): Promise<void>;
}

export interface ProxyOptions {
  /** Lets more through than five operations: `GET ?object-lock`. */
  readonly allow?: (method: string, url: URL) => boolean;
}

/** `upstream`: `http://127.0.0.1:PORT`. The client's Host header is kept, for its signature covers it. */
export async function startS3Proxy(upstream: string, options: ProxyOptions = {}): Promise<S3Proxy> {
  const requests: SeenRequest[] = [];
  const refused: string[] = [];
  const to = new URL(upstream);
  let server: Server | undefined;
  let port = 0;
  const listen = async () => {
    if (server !== undefined) return;
    const allow = options.allow ?? (() => false);
    const take = (incoming: IncomingMessage, response: ServerResponse) => {
      serve({ proxy, requests, refused, to, allow }, incoming, response).catch(() => incoming.socket.resetAndDestroy());
    };
    // A client that asks before it sends a body hears the server's own answer to that.
    const next = createServer(take).on('checkContinue', take);
    // A stalled request is the client's to give up.
    next.requestTimeout = 0;
    next.listen(port, '127.0.0.1');
    await once(next, 'listening');
    const address = next.address();
    port = typeof address === 'object' && address !== null ? address.port : 0;
    server = next;
  };
  const close = async () => {
    const ending = server;
    server = undefined;
    if (ending === undefined) return;
    ending.close();
    ending.closeAllConnections();
    await once(ending, 'close');
  };
  const proxy: S3Proxy = {
    get endpoint() {
      return `http://127.0.0.1:${port}`;
    },
    requests,
    refused,
    fault: () => undefined,
    count: (operation) => requests.filter((one) => one.operation === operation).length,
    away: close,
    back: listen,
    [Symbol.asyncDispose]: close,
  };
  await listen();
  return proxy;
}

interface Serving {
  readonly proxy: S3Proxy;
  readonly requests: SeenRequest[];
  readonly refused: string[];
  readonly to: URL;
  readonly allow: (method: string, url: URL) => boolean;
}

async function serve(serving: Serving, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(incoming.url ?? '/', 'http://s3');
  const method = incoming.method ?? 'GET';
  const seen = seenRequest(serving.requests, method, url, incoming.headers);
  if (seen === undefined) {
    if (serving.allow(method, url)) return await passOn(serving.to, incoming, response);
    serving.refused.push(`${method} ${incoming.url}`);
    incoming.resume();
    return answer(response, { status: 403, code: 'AccessDenied' });
  }
  serving.requests.push(seen);
  incoming.on('data', (chunk: Buffer) => {
    seen.bodyBytes += chunk.length;
  });
  incoming.pause();
  response.on('finish', () => {
    seen.status = response.statusCode;
  });
  const fault = await serving.proxy.fault(seen);
  switch (fault?.kind) {
    case 'answer':
      if (incoming.headers.expect !== undefined) response.writeContinue();
      incoming.resume();
      if (!incoming.readableEnded) await once(incoming, 'end');
      return answer(response, fault);
    case 'reset':
    case 'stall':
      if (incoming.headers.expect !== undefined) response.writeContinue();
      return await breakOff(serving.to, incoming, fault);
    default:
      return await passOn(serving.to, incoming, response, fault?.kind);
  }
}

function seenRequest(
  before: readonly SeenRequest[],
  method: string,
  url: URL,
  headers: IncomingHttpHeaders,
): SeenRequest | undefined {
  const operation = operationOf(method, url);
  const [, , ...segments] = url.pathname.split('/');
  const key = segments.map(decodeURIComponent).join('/');
  if (operation === undefined || key === '') return undefined;
  const part = Number(url.searchParams.get('partNumber') ?? 0);
  const same = before.filter((one) => one.operation === operation);
  return {
    operation,
    key,
    part,
    earlier: same.length,
    earlierHere: same.filter((one) => one.key === key && one.part === part).length,
    accessKeyId: /Credential=([^/]+)/.exec(headers.authorization ?? '')?.[1] ?? '',
    headers,
    atMs: performance.now(),
    bodyBytes: 0,
    status: undefined,
  };
}

function operationOf(method: string, url: URL): S3Operation | undefined {
  const ofUpload = url.searchParams.has('uploadId');
  if (method === 'PUT' && ofUpload) return 'UploadPart';
  // `?tagging`, `?retention` and the like are questions of their own.
  if (method === 'PUT') return [...url.searchParams.keys()].every((one) => one === 'x-id') ? 'PutObject' : undefined;
  if (method === 'POST' && ofUpload) return 'CompleteMultipartUpload';
  if (method === 'POST') return url.searchParams.has('uploads') ? 'CreateMultipartUpload' : undefined;
  return method === 'DELETE' && ofUpload ? 'AbortMultipartUpload' : undefined;
}

function upstreamRequest(to: URL, incoming: IncomingMessage, headers: IncomingHttpHeaders) {
  const { method, url: path } = incoming;
  return openRequest({ host: to.hostname, port: to.port, method, path, headers, agent: false, setHost: false });
}

/** False where the server answers a client that asked first with its refusal. */
async function wantsBody(
  incoming: IncomingMessage,
  outgoing: ClientRequest,
  answer: Promise<unknown>,
): Promise<boolean> {
  if (incoming.headers.expect === undefined) return true;
  outgoing.flushHeaders();
  return await Promise.race([once(outgoing, 'continue').then(() => true), answer.then(() => false)]);
}

type AnswerFault = 'stall-answer' | 'lose-answer' | 'cut-answer' | 'wrong-checksum';

async function passOn(
  to: URL,
  incoming: IncomingMessage,
  response: ServerResponse,
  fault?: AnswerFault,
): Promise<void> {
  const outgoing = upstreamRequest(to, incoming, incoming.headers);
  incoming.once('close', () => {
    if (!incoming.complete) outgoing.destroy();
  });
  const answer = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  if (await wantsBody(incoming, outgoing, answer)) {
    if (incoming.headers.expect !== undefined) response.writeContinue();
    incoming.pipe(outgoing);
  }
  const [answered] = await answer;
  const chunks: Buffer[] = [];
  for await (const chunk of answered) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  if (fault === 'stall-answer') return;
  if (fault === 'lose-answer') return void incoming.socket.resetAndDestroy();
  const told = fault === 'wrong-checksum' ? lie(answered.headers, body) : { headers: answered.headers, body };
  const { 'transfer-encoding': _, connection: __, ...headers } = told.headers;
  const bodiless = incoming.method === 'HEAD' || answered.statusCode === 204;
  response.writeHead(
    answered.statusCode ?? 502,
    bodiless ? headers : { ...headers, 'content-length': told.body.length + (fault === 'cut-answer' ? 1000 : 0) },
  );
  if (fault !== 'cut-answer') return void response.end(told.body);
  // More was announced than comes.
  response.write(told.body, () => incoming.socket.resetAndDestroy());
}

/** Lets the server have the first bytes, as a real network would, and then no more. */
async function breakOff(
  to: URL,
  incoming: IncomingMessage,
  { kind, afterBytes }: { readonly kind: 'reset' | 'stall'; readonly afterBytes: number },
): Promise<void> {
  if (kind === 'reset' && afterBytes === 0) return void incoming.socket.resetAndDestroy();
  // The client was told to go on already.
  const { expect: _, ...headers } = incoming.headers;
  const outgoing = upstreamRequest(to, incoming, headers);
  outgoing.on('error', () => undefined); // It is to break.
  outgoing.flushHeaders();
  const { socket } = incoming;
  let left = afterBytes;
  if (left > 0) {
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      outgoing.write((chunk as Buffer).subarray(0, left));
      left -= (chunk as Buffer).length;
      if (left <= 0) break;
    }
  }
  if (kind === 'reset') socket.resetAndDestroy();
  else await closed(socket);
  outgoing.destroy();
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('base64');

/** As if other bytes had been stored. */
function lie(headers: IncomingHttpHeaders, body: Buffer): { headers: IncomingHttpHeaders; body: Buffer } {
  const other = sha256('other bytes');
  const told = body.toString().replace(/(?<=<ChecksumSHA256>)[^-<]*/, other);
  return { headers: { ...headers, 'x-amz-checksum-sha256': other }, body: Buffer.from(told) };
}

function answer(
  response: ServerResponse,
  told: { readonly status: number; readonly code: string; readonly headers?: Readonly<Record<string, string>> },
): void {
  const { status, code, headers = {} } = told;
  const xml = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}, by order</Message></Error>`;
  response.writeHead(status, { 'content-type': 'application/xml', ...headers }).end(xml);
}
