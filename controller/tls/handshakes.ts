import type { Socket } from 'node:net';

/**
 * Connections whose TLS handshake is not done. Each has a deadline that sending a byte now and then does not move, and there is a
 * bound on them: when it is reached, the oldest goes, because an honest handshake is done in milliseconds.
 */
export interface Handshakes {
  /** False, and the socket is destroyed: there is no room. */
  begin(socket: Socket): boolean;
  /** Takes it out, and says whose it was: `ADDRESS:PORT`. Undefined when it was ended already. */
  done(socket: Socket): string | undefined;
  /** Says why it is about to fail, where that is known. */
  failing(socket: Socket, why: string): void;
  /** Ends those past their deadline. */
  sweep(): void;
  endAll(): void;
}

/** A round trip over the world takes 0.3 s and a handshake two; a node that is starved may take seconds. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Node and OpenSSL hold 25 to 45 KiB each; 3,000 clients at the same instant were all served (docs/decisions/0018). */
const MAX_HANDSHAKES = 2_048;
/** A younger one is not ended for the sake of another. */
const EVICTABLE_AFTER_MS = 1_000;

interface Handshake {
  readonly socket: Socket;
  readonly peer: string;
  readonly beganMs: number;
  why: string;
}

/** `told` hears of each that failed; `silent` when the other end had not sent a byte, as probes of load balancers do. */
export function createHandshakes(
  told: (peer: string, why: string, silent: boolean) => void,
  now: () => number = performance.now.bind(performance),
): Handshakes {
  /** By address and port, which the sockets below and above TLS share; in the order in which they began. */
  const open = new Map<string, Handshake>();
  const end = (handshake: Handshake, why: string) => {
    handshake.why = why;
    handshake.socket.destroy();
  };
  const makeRoom = (): boolean => {
    if (open.size < MAX_HANDSHAKES) return true;
    const [oldest] = open.values();
    if (oldest === undefined || now() - oldest.beganMs < EVICTABLE_AFTER_MS) return false;
    open.delete(oldest.peer);
    told(oldest.peer, `there are ${MAX_HANDSHAKES} handshakes at once, and its was the oldest`, false);
    oldest.socket.destroy();
    return true;
  };
  return {
    begin(socket) {
      const peer = peerOf(socket);
      if (peer === undefined || !makeRoom()) {
        if (peer !== undefined) told(peer, `there are ${MAX_HANDSHAKES} handshakes at once`, false);
        socket.destroy();
        return false;
      }
      const handshake = { socket, peer, beganMs: now(), why: 'it hung up during the handshake' };
      open.set(peer, handshake);
      socket.once('close', () => {
        if (open.get(peer) !== handshake) return;
        open.delete(peer);
        told(peer, handshake.why, socket.bytesRead === 0);
      });
      return true;
    },
    done(socket) {
      const peer = peerOf(socket);
      return peer !== undefined && open.delete(peer) ? peer : undefined;
    },
    failing(socket, why) {
      const handshake = open.get(peerOf(socket) ?? '');
      if (handshake !== undefined) handshake.why = why;
    },
    sweep() {
      for (const handshake of open.values()) {
        if (now() - handshake.beganMs < HANDSHAKE_TIMEOUT_MS) return;
        end(handshake, `its handshake took longer than ${HANDSHAKE_TIMEOUT_MS / 1000} s`);
      }
    },
    endAll() {
      for (const handshake of open.values()) end(handshake, 'the files of TLS were replaced meanwhile, or we stop');
    },
  };
}

function peerOf({ remoteAddress, remotePort }: Socket): string | undefined {
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  return remoteAddress.includes(':') ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}
