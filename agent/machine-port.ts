import { once } from 'node:events';
import http from 'node:http';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { z } from 'zod';
import { ExhibitError, explain } from '../evidence/error.ts';
import { isAddress, readAddress } from '../proto/address.ts';

/**
 * The port that machines ask, of the agent and of the controller: `GET /metrics` for Prometheus, `/healthz` and `/readyz` for kubelet.
 * Plain HTTP without anybody's name, so nothing else is here, and nothing of evidence. docs/metrics.md.
 */

/** The `metrics` section of both configurations; absent: there is no such port. */
export const metricsSchema = z.strictObject({
  listen: z.string().refine(isAddress, { error: 'HOST:PORT, or [ADDRESS]:PORT' }),
});
export type MetricsConfig = z.output<typeof metricsSchema>;

export interface MachinePort extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
}

/** Whether the program can do its work; `reasons` are sentences for people. */
export interface Ready {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

export interface MachinePortParts {
  /** In Prometheus' text format. */
  readonly metrics: () => Promise<{ readonly text: string; readonly contentType: string }>;
  readonly ready: () => Ready | Promise<Ready>;
  readonly log: Logger;
  /** From the connection to the last byte of the answer; ten seconds unless told. */
  readonly connectionMs?: number;
}

/** Of one request with all its headers; a scrape has some 500 bytes. */
const MAX_HEADER_BYTES = 8 * 1024;
/** Each connection carries one request, so no other bound of time is needed. */
const CONNECTION_MS = 10_000;
/**
 * Prometheus, its twin and kubelet make one each. One more ends the oldest: whoever holds many open keeps nobody else out, and a probe
 * is answered within milliseconds.
 */
const MAX_CONNECTIONS = 32;
/** Scrapes within this time get the same text: asking faster costs no more. */
const METRICS_AGE_MS = 1_000;
/** kubelet shows the first 10 KiB of an answer. */
const MAX_REASONS = 32;
const MAX_REASON_CHARS = 500;

/** @throws ExhibitError `config` when nothing can listen there */
export async function openMachinePort({ listen }: MetricsConfig, parts: MachinePortParts): Promise<MachinePort> {
  const address = readAddress(listen);
  if (address === undefined) throw new ExhibitError('config', `Cannot listen on ${listen}: HOST:PORT is expected.`);
  const { connectionMs = CONNECTION_MS } = parts;
  const answers = answersOf(parts);
  const server = http.createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: connectionMs,
      requestTimeout: connectionMs,
      keepAlive: false,
      noDelay: true,
    },
    (request, response) => void serve(request, response, answers, parts.log),
  );
  const open = new Set<Socket>();
  server.on('connection', (socket) => bound(socket, open, connectionMs));
  server.on('clientError', (_error, socket) => socket.destroy());
  try {
    server.listen(address);
    await once(server, 'listening');
  } catch (cause) {
    throw new ExhibitError('config', `Cannot listen on ${listen} for metrics and probes; set metrics.listen`, {
      cause,
    });
  }
  server.on('error', (error) => parts.log.error({ error: explain(error) }, 'the port of metrics and probes failed'));
  const listening = server.address();
  const port = typeof listening === 'object' && listening !== null ? listening.port : address.port;
  parts.log.info({ host: address.host, port }, 'metrics and probes ready');
  return {
    host: address.host,
    port,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

function bound(socket: Socket, open: Set<Socket>, connectionMs: number): void {
  open.add(socket);
  const [oldest] = open;
  if (open.size > MAX_CONNECTIONS) oldest?.destroy();
  const timer = setTimeout(() => socket.destroy(), connectionMs);
  socket.once('close', () => {
    clearTimeout(timer);
    open.delete(socket);
  });
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

type Answers = ReadonlyMap<string, (accept: string) => Promise<Answer>>;

const TEXT = 'text/plain; charset=utf-8';

function answersOf({ metrics, ready }: MachinePortParts): Answers {
  let made: { readonly atMs: number; readonly text: ReturnType<typeof metrics> } | undefined;
  const scraped = () => {
    const nowMs = performance.now();
    if (made === undefined || nowMs - made.atMs > METRICS_AGE_MS) made = { atMs: nowMs, text: metrics() };
    return made.text;
  };
  return new Map([
    ['/metrics', async () => ({ status: 200, ...(await scraped()) })],
    ['/healthz', async () => ({ status: 200, contentType: TEXT, text: 'ok\n' })],
    ['/readyz', async (accept: string) => readyAnswer(await ready(), accept)],
  ]);
}

function readyAnswer({ ready, reasons }: Ready, accept: string): Answer {
  const status = ready ? 200 : 503;
  const told = reasons.slice(0, MAX_REASONS).map((one) => one.slice(0, MAX_REASON_CHARS));
  if (accept.includes('application/json'))
    return { status, contentType: 'application/json', text: `${JSON.stringify({ ready, reasons: told })}\n` };
  const text = ready ? 'ready\n' : `not ready\n${told.map((one) => `- ${one.replaceAll(/\s+/g, ' ')}\n`).join('')}`;
  return { status, contentType: TEXT, text };
}

async function serve(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  answers: Answers,
  log: Logger,
): Promise<void> {
  try {
    const answer = await answerTo(request, answers);
    response.writeHead(answer.status, {
      'content-type': answer.contentType,
      'content-length': Buffer.byteLength(answer.text),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(answer.status === 405 ? { allow: 'GET' } : {}),
      connection: 'close',
    });
    response.end(answer.text);
  } catch (error) {
    log.error({ error: explain(error) }, 'metrics or readiness could not be told');
    response.writeHead(500, { 'content-type': TEXT, connection: 'close' }).end('failed; the log says why\n');
  }
}

async function answerTo({ url = '', method, headers }: http.IncomingMessage, answers: Answers): Promise<Answer> {
  const refuse = (status: number, text: string): Answer => ({ status, contentType: TEXT, text: `${text}\n` });
  const [path = ''] = url.split('?', 1);
  const answer = answers.get(path);
  if (answer === undefined) return refuse(404, 'there are /metrics, /healthz and /readyz');
  if (method !== 'GET') return refuse(405, 'GET alone');
  // A body is never read: the connection ends with the answer.
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0)
    return refuse(413, 'a GET without a body');
  return await answer(headers.accept ?? '');
}
