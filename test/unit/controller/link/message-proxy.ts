/**
 * Stands between an agent and the controller, ends TLS on both sides with their own certificates, and counts gRPC messages: it can
 * cut the connection exactly before or after any of them. Small messages are one DATA frame each (RFC 9113, 6.1).
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';

export interface Files {
  readonly certFile: string;
  readonly keyFile: string;
}

export type Direction = 'to-controller' | 'to-agent';

export interface Cut {
  readonly direction: Direction;
  /** Counted from 1, over all connections. */
  readonly message: number;
  /** `after`: it still arrives. */
  readonly when: 'before' | 'after';
}

export interface MessageProxy extends AsyncDisposable {
  readonly port: number;
  readonly counts: Readonly<Record<Direction, number>>;
  readonly connections: number;
  cutAt(cut: Cut | undefined): void;
  /** Cuts what is connected now. */
  cutNow(): void;
  /** Lets nobody through until told otherwise. */
  away(is: boolean): void;
  /** Passes nothing on and closes nothing, as a network that loses every packet. */
  mute(is: boolean): void;
}

const PREFACE_BYTES = 24;
const HEADER_BYTES = 9;
const DATA = 0;

export async function startMessageProxy(options: {
  readonly controllerPort: () => number;
  readonly server: Files;
  readonly client: Files;
  readonly clientCaFile: string;
  readonly serverCaFile: string;
}): Promise<MessageProxy> {
  const pem = ({ certFile, keyFile }: Files) => ({ cert: readFileSync(certFile), key: readFileSync(keyFile) });
  const counts = { 'to-controller': 0, 'to-agent': 0 };
  const pairs = new Set<() => void>();
  /** Also those whose handshake is not done, which no pair knows. */
  const sockets = new Set<Socket>();
  let cut: Cut | undefined;
  let away = false;
  let muted = false;
  let connections = 0;

  const server = tls.createServer({
    ...pem(options.server),
    ca: readFileSync(options.clientCaFile),
    requestCert: true,
    ALPNProtocols: ['h2'],
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('secureConnection', (near) => {
    connections += 1;
    near.on('error', () => undefined);
    if (away) {
      near.destroy();
      return;
    }
    const far = tls.connect({
      ...pem(options.client),
      ca: readFileSync(options.serverCaFile),
      host: '127.0.0.1',
      port: options.controllerPort(),
      servername: 'localhost',
      ALPNProtocols: ['h2'],
    });
    far.on('error', () => undefined);
    const end = () => {
      pairs.delete(end);
      near.destroy();
      far.destroy();
    };
    pairs.add(end);
    // Nobody learns of a close through a network that loses everything.
    const closed = () => {
      if (!muted) end();
    };
    near.on('close', closed);
    far.on('close', closed);
    relay(near, far, 'to-controller', PREFACE_BYTES, end);
    relay(far, near, 'to-agent', 0, end);
  });

  function relay(from: TLSSocket, to: TLSSocket, direction: Direction, skip: number, end: () => void): void {
    let held: Buffer = Buffer.alloc(0);
    let preface = skip;
    from.on('data', (chunk: Buffer) => {
      if (muted) return;
      held = Buffer.concat([held, chunk]);
      if (preface > 0 && held.length >= preface) {
        to.write(held.subarray(0, preface));
        held = held.subarray(preface);
        preface = 0;
      }
      while (preface === 0 && held.length >= HEADER_BYTES) {
        const size = HEADER_BYTES + held.readUIntBE(0, 3);
        if (held.length < size) return;
        const frame = held.subarray(0, size);
        held = held.subarray(size);
        if (frame[3] === DATA && size > HEADER_BYTES) {
          counts[direction] += 1;
          const hit = cut?.direction === direction && cut.message === counts[direction] ? cut : undefined;
          if (hit?.when === 'before') return end();
          if (hit?.when === 'after') {
            // Destroyed once it has gone out: what has been written and not sent would be lost as well.
            to.end(frame, () => setTimeout(end, 20));
            from.removeAllListeners('data').resume();
            return;
          }
        }
        to.write(frame);
      }
    });
  }

  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    counts,
    get connections() {
      return connections;
    },
    cutAt: (next) => {
      cut = next;
    },
    cutNow: () => {
      for (const end of [...pairs]) end();
    },
    away: (is) => {
      away = is;
      if (is) for (const end of [...pairs]) end();
    },
    mute: (is) => {
      muted = is;
    },
    [Symbol.asyncDispose]: async () => {
      for (const end of [...pairs]) end();
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}
