import { X509Certificate } from 'node:crypto';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { Material } from './files.ts';

/** Connections whose handshake is done, and when they have to end. */
export interface Connections {
  readonly size: number;
  /** Why there is no room for one more, or undefined. */
  obstacle(named: boolean): string | undefined;
  add(socket: TLSSocket, chain: readonly X509Certificate[], fields: object): void;
  /** Ends those whose certificate has expired, and those without one that do nothing. */
  sweep(nowMs: number): void;
  /** Ends those that would not be let in any more. */
  judge(material: Material): void;
  endAll(): void;
}

/** Who shows no certificate and moves no byte for so long is gone; those who watch a capture are sent something more often. */
const NAMELESS_IDLE_MS = 300_000;
/** Of all connections, those without a certificate: strangers cannot take the room of those who are known. */
const NAMELESS_SHARE = 0.25;
/** No honest chain is longer; it is the other end that wrote it. */
const MAX_CHAIN = 10;

interface Connection {
  readonly chain: readonly X509Certificate[];
  /** When the first of its certificates expires; Infinity without one. */
  readonly endsAtMs: number;
  readonly fields: object;
  movedBytes: number;
  movedAtMs: number;
}

export function createConnections(max: number, log: Logger): Connections {
  const open = new Map<TLSSocket, Connection>();
  const maxNameless = Math.ceil(max * NAMELESS_SHARE);
  let nameless = 0;
  /** The authorities of the last time. */
  let judgedBy = '';
  const end = (socket: TLSSocket, { fields }: Connection, why: string) => {
    log.warn(fields, `connection ended: ${why}`);
    socket.destroy();
  };
  return {
    get size() {
      return open.size;
    },
    obstacle(named) {
      if (open.size >= max) return `there are ${max} connections already`;
      if (!named && nameless >= maxNameless)
        return `there are ${maxNameless} connections without a certificate already`;
      return undefined;
    },
    add(socket, chain, fields) {
      const endsAtMs = Math.min(...chain.map(({ validToDate }) => validToDate.getTime()));
      open.set(socket, { chain, endsAtMs, fields, movedBytes: 0, movedAtMs: Date.now() });
      if (chain.length === 0) nameless += 1;
      socket.once('close', () => {
        open.delete(socket);
        if (chain.length === 0) nameless -= 1;
      });
    },
    sweep(nowMs) {
      for (const [socket, connection] of open) {
        if (connection.endsAtMs <= nowMs) end(socket, connection, 'its certificate has expired');
        else if (connection.chain.length === 0 && isIdle(socket, connection, nowMs)) socket.destroy();
      }
    },
    judge(material) {
      // 10,000 signatures take a second: not for a list that is renewed every day.
      const names = material.authorities.map(({ fingerprint256 }) => fingerprint256).join();
      const anew = names !== judgedBy;
      judgedBy = names;
      for (const [socket, connection] of open) {
        const why = objection(connection.chain, material, anew);
        if (why !== undefined) end(socket, connection, why);
      }
    },
    endAll() {
      for (const socket of open.keys()) socket.destroy();
    },
  };
}

/** The certificate and those above it, sent by its owner or found in caFile. */
export function chainOf(socket: TLSSocket): X509Certificate[] {
  // An X509Certificate of a socket has its issuer only where that was sent.
  const chain: X509Certificate[] = [];
  let at = socket.getPeerCertificate(true);
  while (at?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(chain.length === 0 ? new X509Certificate(at.raw) : authorityOf(at));
    // The last one is its own issuer.
    if (at.issuerCertificate === at) break;
    at = at.issuerCertificate;
  }
  return chain;
}

/** Above thousands of certificates stand a few, and each takes OpenSSL some KiB. More than a handful are of no honest trust. */
const MAX_AUTHORITIES = 64;
const authorities = new Map<string, X509Certificate>();

function authorityOf({ raw, fingerprint256 }: Pick<PeerCertificate, 'raw' | 'fingerprint256'>): X509Certificate {
  const known = authorities.get(fingerprint256);
  if (known !== undefined) return known;
  const authority = new X509Certificate(raw);
  if (authorities.size >= MAX_AUTHORITIES) authorities.clear();
  authorities.set(fingerprint256, authority);
  return authority;
}

/** Why TLS would not let this chain in, when it let it in by the files of before. `anew`: other authorities than then. */
function objection(
  chain: readonly X509Certificate[],
  { authorities, lists }: Material,
  anew: boolean,
): string | undefined {
  if (chain.some((certificate) => lists.some((list) => list.revokes(certificate))))
    return 'its certificate was revoked';
  return anew && chain.length > 0 && !isTrusted(chain, authorities)
    ? 'the authority of its certificate is no longer trusted'
    : undefined;
}

/** Up the chain, each signed by the next, until one is signed by an authority. */
function isTrusted(chain: readonly X509Certificate[], authorities: readonly X509Certificate[]): boolean {
  for (const [index, certificate] of chain.entries()) {
    if (authorities.some((authority) => isSignedBy(certificate, authority))) return true;
    const above = chain[index + 1];
    if (above === undefined || !isSignedBy(certificate, above)) return false;
  }
  return false;
}

function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isIdle(socket: TLSSocket, connection: Connection, nowMs: number): boolean {
  const movedBytes = socket.bytesRead + socket.bytesWritten;
  if (movedBytes !== connection.movedBytes) {
    connection.movedBytes = movedBytes;
    connection.movedAtMs = nowMs;
  }
  return nowMs - connection.movedAtMs >= NAMELESS_IDLE_MS;
}
