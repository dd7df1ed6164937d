import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { explainIdentity } from '../aws-identity.ts';
import type { S3Clock } from './s3-clock.ts';
import { Renewal } from './s3-credentials.ts';
import { errorNames, httpStatus } from './s3-errors.ts';
import { type RetryConfig, retryStrategy } from './s3-retry.ts';

/** A TCP and TLS handshake takes three round trips; nothing on this planet needs longer. */
export const CONNECT_TIMEOUT_MS = 5_000;
/**
 * No byte in either direction for this long means a stalled connection. S3 answers within seconds, and while it completes a
 * multipart upload it sends white space to keep the connection alive (API reference, CompleteMultipartUpload).
 */
export const IDLE_TIMEOUT_MS = 30_000;
/** One request in all, so that a connection that trickles ends too: a part of 5 GiB at 6 MB/s. */
export const REQUEST_TIMEOUT_MS = 15 * 60_000;

export interface ClientOptions {
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly forcePathStyle?: boolean | undefined;
  readonly credentials?: S3ClientConfig['credentials'] | undefined;
  readonly connectTimeoutMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
  readonly requestTimeoutMs?: number | undefined;
  readonly retry?: RetryConfig | undefined;
  /** Over `retry.attempts`. */
  readonly maxAttempts?: number | undefined;
}

/** The SDK's client with every wait bounded. Credentials come from the SDK's default chain unless given. */
export function createS3Client(options: ClientOptions): S3Client {
  const { endpoint, credentials, forcePathStyle } = options;
  // Servers other than AWS sign with any region; AWS' own must be known.
  const region = options.region ?? (endpoint === undefined ? undefined : 'us-east-1');
  const client = new S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(forcePathStyle === undefined ? {} : { forcePathStyle }),
    retryStrategy: retryStrategy({
      ...options.retry,
      ...(options.maxAttempts === undefined ? {} : { attempts: options.maxAttempts }),
    }),
    // The sink sends a checksum of its own with every body; the SDK need not add another.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      socketTimeout: options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
      requestTimeout: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      // Without it the handler only warns.
      throwOnRequestTimeout: true,
    },
  });
  if (credentials === undefined) explainIdentity(client);
  return client;
}

/** Errors of requests that came after an attempt whose outcome nobody knows. */
const afterUnclear = new WeakSet<object>();

/** True when an earlier attempt of the same request may have been carried out although no good answer came. */
export function followsUnclearAttempt(error: unknown): boolean {
  return typeof error === 'object' && error !== null && afterUnclear.has(error);
}

/** The request never reached a server, so nothing can have been done. */
const NEVER_SENT = [
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'CredentialsProviderError',
];

/** True when the server may have carried out the request although it did not say so: no answer, or a 5xx. Pure. */
export function isUnclear(error: unknown): boolean {
  const names = errorNames(error);
  if (names.some((name) => NEVER_SENT.includes(name))) return false;
  const status = httpStatus(error);
  return status === undefined || (status >= 500 && !names.includes('SlowDown'));
}

type Handler<Args extends object, Result> = (args: Args) => Promise<Result>;

/**
 * Teaches a client what the SDK does not do: to sign the hash of a body that is known already, and to let bodies wait for
 * their turn; to remember, across retries, whether an attempt ended unclear; to renew credentials that have expired; to read
 * the server's clock.
 */
export function instrument(client: S3Client, clock: S3Clock): void {
  const renewal = new Renewal(async (options) => await client.config.credentials(options));
  const renewExpired =
    <Args extends object, Result>(next: Handler<Args, Result>): Handler<Args, Result> =>
    (args) =>
      renewal.around(() => next(args));
  const readClock =
    <Args extends object, Result extends object>(next: Handler<Args, Result>): Handler<Args, Result> =>
    async (args) => {
      const sentAtMs = Date.now();
      const result = await next(args);
      const headers = headersOf(result, 'response');
      clock.see({ sentAtMs, receivedAtMs: Date.now(), date: headers?.date, age: headers?.age });
      return result;
    };
  const { middlewareStack } = client;
  middlewareStack.add(signSha256, { step: 'build', name: 'exhibitPayloadHash', override: true });
  // The outermost, because the SDK asks for credentials in more than one place.
  middlewareStack.add(renewExpired, { step: 'initialize', priority: 'high', name: 'exhibitRenewal', override: true });
  middlewareStack.addRelativeTo(watchAttempts, {
    relation: 'after',
    toMiddleware: 'retryMiddleware',
    name: 'exhibitAttempts',
    override: true,
  });
  middlewareStack.addRelativeTo(awaitTurn, {
    relation: 'before',
    toMiddleware: 'httpSigningMiddleware',
    name: 'exhibitTurn',
    override: true,
  });
  middlewareStack.add(readClock, { step: 'deserialize', priority: 'low', name: 'exhibitClock', override: true });
}

interface Prepared {
  readonly sha256: Buffer;
  /** Awaited before each attempt is signed and sent. */
  readonly turn: () => Promise<void>;
}

const preparedBodies = new WeakMap<object, Prepared>();

/** The body is signed with this SHA-256 and not hashed again, and waits for its turn. `body` is this very object. */
export function prepareBody(body: Buffer, prepared: Prepared): void {
  preparedBodies.set(body, prepared);
}

function preparedFor(args: object): Prepared | undefined {
  if (!('input' in args) || typeof args.input !== 'object' || args.input === null) return undefined;
  if (!('Body' in args.input) || typeof args.input.Body !== 'object' || args.input.Body === null) return undefined;
  return preparedBodies.get(args.input.Body);
}

function signSha256<Args extends object, Result>(next: Handler<Args, Result>): Handler<Args, Result> {
  return (args) => {
    const headers = headersOf(args, 'request');
    const prepared = preparedFor(args);
    if (headers !== undefined && prepared !== undefined) {
      headers['x-amz-content-sha256'] = prepared.sha256.toString('hex');
    }
    return next(args);
  };
}

function awaitTurn<Args extends object, Result>(next: Handler<Args, Result>): Handler<Args, Result> {
  return async (args) => {
    await preparedFor(args)?.turn();
    return await next(args);
  };
}

/** The outer function runs once a request, the inner one once an attempt. */
function watchAttempts<Args extends object, Result>(next: Handler<Args, Result>): Handler<Args, Result> {
  let unclear = false;
  let skewed = false;
  return async (args) => {
    try {
      return await next(args);
    } catch (error) {
      // A node's clock that was set right leaves the SDK with the offset of before. It reads the new one off the refusal, but
      // tries again only where that one is large.
      if (!skewed && error instanceof Error && errorNames(error).includes('RequestTimeTooSkewed')) {
        skewed = true;
        Object.assign(error, { $retryable: {} });
      }
      if (unclear && typeof error === 'object' && error !== null) afterUnclear.add(error);
      unclear ||= isUnclear(error);
      throw error;
    }
  };
}

function headersOf(of: object, message: 'request' | 'response'): Record<string, unknown> | undefined {
  const found: unknown = message in of ? (of as Record<string, unknown>)[message] : undefined;
  if (typeof found !== 'object' || found === null || !('headers' in found)) return undefined;
  const { headers } = found;
  return typeof headers === 'object' && headers !== null ? (headers as Record<string, unknown>) : undefined;
}
