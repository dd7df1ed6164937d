import type { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import { isIP } from 'node:net';
import tls from 'node:tls';
import { ExhibitError, explain } from '../../evidence/error.ts';
import type { ControllerConfig } from './controller-config.ts';
import { readCredentials } from './controller-dial.ts';

/** Whether the controller could be dialled now, for the doctor: a connection of its own that asks nothing and is closed. */
export interface ControllerTrial {
  /** When the agent's own certificate ends, ms since the epoch; undefined: it cannot be read. */
  readonly ownUntilMs?: number;
  /** When the controller's ends; undefined: it was not seen, or not trusted. */
  readonly controllerUntilMs?: number;
  /** Why there would be no stream. */
  readonly why?: string;
}

/** A handshake over half the earth takes one second. */
const TRIAL_MS = 5_000;

/** Never rejects. */
export async function tryController(
  config: ControllerConfig,
  nowMs: number,
  signal: AbortSignal,
): Promise<ControllerTrial> {
  let seen: ControllerTrial = {};
  try {
    const { ca, cert, key } = await readCredentials(config, nowMs, (own) => {
      seen = { ownUntilMs: own.validToDate.getTime() };
    });
    const until = AbortSignal.any([signal, AbortSignal.timeout(TRIAL_MS)]);
    const controllerUntilMs = await greet(config, { ca, cert, key }, until);
    return { ...seen, controllerUntilMs };
  } catch (error) {
    return { ...seen, why: explain(error) };
  }
}

/** Until the other side speaks HTTP/2: with TLS 1.3 that is when it has taken the agent's certificate, and not before. */
async function greet(
  { address, serverName }: ControllerConfig,
  credentials: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer },
  signal: AbortSignal,
): Promise<number> {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  const name = serverName ?? host;
  const socket = tls.connect({
    ...credentials,
    ...{ host, port: Number(address.slice(colon + 1)), ALPNProtocols: ['h2'] },
    // An address is no server name (RFC 6066, 3), and is compared all the same.
    ...(isIP(name) === 0 ? { servername: name } : {}),
    checkServerIdentity: (_host, certificate) => tls.checkServerIdentity(name, certificate),
  });
  let shaken = false;
  try {
    await once(socket, 'secureConnect', { signal });
    shaken = true;
    const peer = socket.getPeerX509Certificate();
    const session = http2.connect(`https://${address}`, { createConnection: () => socket });
    // Whoever waits hears it too; a failure after the greeting is nobody's.
    session.on('error', () => undefined);
    const gone = Promise.withResolvers<never>();
    gone.promise.catch(() => undefined);
    session.once('close', () => gone.reject(new Error('it closed the connection at once')));
    try {
      await Promise.race([once(session, 'remoteSettings', { signal }), gone.promise]);
    } finally {
      session.destroy();
    }
    return peer === undefined ? Number.NaN : endOf(peer);
  } catch (cause) {
    throw new ExhibitError('controller-unreachable', wordsFor(cause, { shaken, signal }), {
      cause: named(cause),
    });
  } finally {
    socket.destroy();
  }
}

const endOf = (certificate: X509Certificate): number => certificate.validToDate.getTime();

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

/** Of OpenSSL and Node, for what a person can mend. */
function wordsFor(error: unknown, { shaken, signal }: { shaken: boolean; signal: AbortSignal }): string {
  if (signal.aborted) return 'The controller does not answer';
  const code = codeOf(error);
  if (code === 'CERT_HAS_EXPIRED')
    return "The certificate of the controller has expired by this node's clock; renew it there, or set the clock";
  if (code === 'CERT_NOT_YET_VALID')
    return "The certificate of the controller is not valid yet by this node's clock: set the clock";
  if (code.startsWith('ERR_TLS_CERT_ALTNAME')) return 'The certificate of the controller has another name';
  if (/SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/.test(code)) return 'The controller shows a certificate of another authority';
  if (shaken || /^ERR_SSL_.*ALERT/.test(code)) return "The controller does not take the agent's certificate";
  return 'The controller cannot be reached';
}

const named = (error: unknown): unknown => (error instanceof Error && error.name === 'AbortError' ? undefined : error);
