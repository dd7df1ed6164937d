import http from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Credentials } from '../identity/identity.ts';

/** The HTTP/1.1 server behind the API's listener: it never listens itself, and bounds whoever talks to it. */
export interface HttpSockets {
  readonly server: http.Server;
  /** A socket that spoke TLS already. Refused, by closing it, when there are too many. */
  accept(socket: Socket): void;
  /** Ends those that wait for a request, and all of them after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

export interface HttpLimits {
  /** From the first byte of a request, or from the connection, to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** To the end of its body: 1 MiB in this time is slower than any line that alerts come over. */
  readonly requestTimeoutMs: number;
  /** Node looks this often who is over time. */
  readonly checkMs: number;
  /** A socket on which nothing moves: longer than any call takes, and than the pings of a watch are apart. */
  readonly idleTimeoutMs: number;
  readonly maxConnections: number;
}

export const HTTP_LIMITS: HttpLimits = {
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  checkMs: 2_000,
  idleTimeoutMs: 120_000,
  /** Beside the agents' own port. A connection holds some 50 KiB here, with TLS. */
  maxConnections: 1_000,
};

/** Certificates do not go into headers; tokens of OIDC are up to some 4 KiB. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Longer than the 60 s that load balancers keep an idle connection, so that it is they who close it. */
const KEEP_ALIVE_MS = 65_000;

export function createHttpSockets(handler: http.RequestListener, limits: HttpLimits): HttpSockets {
  const server = http.createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: limits.checkMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    handler,
  );
  server.timeout = limits.idleTimeoutMs;
  // Node starts to look for headers and requests that are over time when a server listens. This one is handed its sockets.
  server.emit('listening');
  const sockets = new Set<Socket>();
  return {
    server,
    accept: (socket) => {
      // A reset by the other end is no fault of ours; what it means for a request is told by its `close`.
      socket.on('error', () => socket.destroy());
      if (sockets.size >= limits.maxConnections) {
        socket.destroy();
        return;
      }
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      server.emit('connection', socket);
    },
    close: async (graceMs) => {
      server.closeIdleConnections();
      const gone = [...sockets].map((socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())));
      const timer = setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, graceMs);
      await Promise.all(gone);
      clearTimeout(timer);
      // Without an end of its own the server would go on looking for slow requests.
      server.close();
    },
  };
}

/** What the request brings with it. A certificate that the listener's trust did not verify is none. */
export function credentialsOf({ socket, headers }: http.IncomingMessage): Credentials {
  const peer = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
  const shown = socket instanceof TLSSocket && socket.authorized ? socket.getPeerCertificate(true) : undefined;
  return {
    peer,
    ...(shown !== undefined && Object.keys(shown).length > 0 ? { certificate: shown } : {}),
    ...(headers.authorization === undefined ? {} : { authorization: headers.authorization }),
  };
}
