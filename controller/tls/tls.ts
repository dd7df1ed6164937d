import { once } from 'node:events';
import net from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { ExhibitError } from '../../evidence/error.ts';
import { readAddress } from '../../proto/address.ts';
import { chainOf, createConnections } from './connections.ts';
import type { ListenerConfig, Material } from './files.ts';
import { createHandshakes } from './handshakes.ts';
import { watchMaterial } from './reload.ts';
import { certificateFields, createBoundedLog, handshakeWords, verificationWords } from './words.ts';

/**
 * A TLS listener whose certificate, trust and revocation lists can be replaced while it runs. It hands sockets on by their ALPN
 * protocol, and only those whose peer showed a good certificate, or none where none is required. Who that is, is identity/'s to
 * find out. A connection ends when its certificate expires, is revoked, or its authority is no longer trusted.
 */
export interface Listener extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Those whose handshake is done. */
  connectionCount(): number;
  /** When the certificate that it shows now expires, ms since the epoch. */
  certificateNotAfterMs(): number;
  /** When the first of its revocation lists ends, ms since the epoch; undefined without lists, or where none says when. */
  listsNotAfterMs(): number | undefined;
  /**
   * Reads the files again, as happens by itself when they change; for SIGHUP. Files that are no good are logged and the old ones
   * kept; never throws.
   */
  reload(): Promise<void>;
  /** Takes no new connections; those that are there stay. Disposal ends them as well. */
  stopAccepting(): void;
}

export type Protocol = 'h2' | 'http/1.1';

/**
 * The first that the client offers too. Whoever speaks gRPC offers `h2` alone; curl, browsers and the senders of webhooks offer both, and
 * are meant for the JSON API.
 */
const PREFERENCE: readonly Protocol[] = ['http/1.1', 'h2'];

export interface ListenerOptions extends ListenerConfig {
  /** For logs: `agents`, `api`. */
  readonly name: string;
  /** `asked`: one without a certificate is let in, one with a bad one is not. */
  readonly clientCertificate: 'required' | 'asked';
  /** Who takes the sockets. A client that names no protocol is one of `http/1.1`, if that is served. */
  readonly handlers: Partial<Readonly<Record<Protocol, (socket: TLSSocket) => void>>>;
  /** For those who count: a connection was refused. */
  readonly onRefused?: (() => void) | undefined;
  /** How often files are looked at; for tests. */
  readonly pollMs?: number;
}

/** How far a certificate may outlive itself. */
const SWEEP_MS = 1_000;
/** Clients that come back at once wait here for the handshakes before theirs; Linux cuts it at net.core.somaxconn. */
const BACKLOG = 4_096;

/** @throws ExhibitError `config` when a file is no good, or nothing can listen there */
export async function openListener(options: ListenerOptions, parentLog: Logger): Promise<Listener> {
  const log = parentLog.child({ listener: options.name });
  const told = createBoundedLog(log);
  const connections = createConnections(options.maxConnections, log);
  const handshakes = createHandshakes((peer, why, silent) => {
    options.onRefused?.();
    if (silent) log.debug({ peer }, `refused: ${why}`);
    else told.warn({ peer }, `refused: ${why}`);
  });
  const apply = (material: Material) => {
    server.setSecureContext(material.context);
    current = material;
    // Judged by the old files, perhaps; whoever is honest comes again.
    handshakes.endAll();
    connections.judge(material);
  };
  const material = await watchMaterial(options, apply, log, options.pollMs);
  let current = material.first;
  const server = tls.createServer({
    ...material.first.context,
    requestCert: true,
    // Else Node closes a refused connection and keeps to itself who it was; `admit` refuses before a byte is read.
    rejectUnauthorized: false,
    ALPNProtocols: PREFERENCE.filter((protocol) => options.handlers[protocol] !== undefined),
  });
  server.on('secureConnection', (socket: TLSSocket) => {
    // Who takes the socket hears of its errors as well; when nobody took it, nobody else would.
    socket.on('error', (error) => log.debug({ reason: error.message }, 'connection failed'));
    const peer = handshakes.done(socket);
    if (peer === undefined) return void socket.destroy();
    const certificate = socket.getPeerX509Certificate();
    const fields = { peer, ...(certificate === undefined ? {} : { certificate: certificateFields(certificate) }) };
    const verdict = judge(socket, certificate !== undefined, options);
    const why = typeof verdict === 'string' ? verdict : connections.obstacle(certificate !== undefined);
    if (typeof verdict === 'string' || why !== undefined) {
      options.onRefused?.();
      told.warn(fields, `refused: ${why}`);
      return void socket.destroy();
    }
    connections.add(socket, chainOf(socket), fields);
    verdict(socket);
  });
  server.on('tlsClientError', (error, socket) => {
    handshakes.failing(socket, handshakeWords(error));
    socket.destroy();
  });
  const front = net.createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    const full = connections.obstacle(true);
    if (full !== undefined) {
      options.onRefused?.();
      told.warn({ peer: socket.remoteAddress }, `refused: ${full}`);
      socket.destroy();
    } else if (handshakes.begin(socket)) server.emit('connection', socket);
  });
  const address = await listen(front, options.listen).catch(async (error: unknown) => {
    await material[Symbol.asyncDispose]();
    throw error;
  });
  front.on('error', (error) => log.error({ reason: error.message }, 'cannot take connections'));
  const sweep = setInterval(() => {
    handshakes.sweep();
    connections.sweep(Date.now());
  }, SWEEP_MS).unref();
  const stopAccepting = () => void front.close();
  log.info(address, 'listening');
  return {
    ...address,
    connectionCount: () => connections.size,
    certificateNotAfterMs: () => current.certificate.validToDate.getTime(),
    listsNotAfterMs: () => firstEnd(current),
    reload: material.reload,
    stopAccepting,
    [Symbol.asyncDispose]: async () => {
      stopAccepting();
      clearInterval(sweep);
      await material[Symbol.asyncDispose]();
      handshakes.endAll();
      connections.endAll();
      told.flush();
    },
  };
}

function firstEnd({ lists }: Material): number | undefined {
  const ends = lists.flatMap(({ nextUpdateMs }) => nextUpdateMs ?? []);
  return ends.length === 0 ? undefined : Math.min(...ends);
}

/** Who takes the socket, or why nobody does. */
function judge(socket: TLSSocket, named: boolean, options: ListenerOptions): string | ((socket: TLSSocket) => void) {
  if (named && !socket.authorized) return verificationWords(String(socket.authorizationError));
  if (!named && options.clientCertificate === 'required') return 'it showed no certificate';
  const handler = options.handlers[socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1'];
  return handler ?? 'it named no protocol that is served here (ALPN)';
}

async function listen(server: net.Server, listenOn: string): Promise<{ host: string; port: number }> {
  const wanted = readAddress(listenOn);
  if (wanted === undefined) throw new ExhibitError('config', `Cannot listen on ${listenOn}: HOST:PORT is expected.`);
  try {
    server.listen({ ...wanted, backlog: BACKLOG });
    await once(server, 'listening');
  } catch (cause) {
    throw new ExhibitError('config', `Cannot listen on ${listenOn}`, { cause });
  }
  const address = server.address();
  if (address === null || typeof address === 'string') throw new ExhibitError('internal', 'A listener has no port.');
  return { host: wanted.host, port: address.port };
}
