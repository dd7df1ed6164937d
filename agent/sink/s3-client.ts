import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { errorNames, httpStatus } from './s3-errors.ts';

/** A TCP and TLS handshake takes three round trips; nothing on this planet needs longer. */
export const CONNECT_TIMEOUT_MS = 5_000;
/**
 * No byte in either direction for this long means a stalled connection. S3 answers within seconds, and while it completes a
 * multipart upload it sends white space to keep the connection alive (API reference, CompleteMultipartUpload).
 */
export const IDLE_TIMEOUT_MS = 30_000;
/** One request in all, so that a connection that trickles ends too: a part of 5 GiB at 6 MB/s. */
export const REQUEST_TIMEOUT_MS = 15 * 60_000;
/**
 * The SDK's standard mode waits 100 ms, doubled each time up to 20 s, times a random fraction, and spends from a bucket of
 * tokens: eight attempts ride over about ten seconds of refusals. It sends again what is throttled, 5xx, reset, timed out
 * or refused, never AccessDenied and the like.
 */
export const MAX_ATTEMPTS = 8;

export interface ClientOptions {
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly forcePathStyle?: boolean | undefined;
  readonly credentials?: S3ClientConfig['credentials'] | undefined;
  readonly connectTimeoutMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
  readonly requestTimeoutMs?: number | undefined;
  readonly maxAttempts?: number | undefined;
}

/** The SDK's client with every wait bounded. Credentials come from the SDK's default chain unless given. */
export function createS3Client(options: ClientOptions): S3Client {
  const { endpoint, credentials, forcePathStyle } = options;
  // Servers other than AWS sign with any region; AWS' own must be known.
  const region = options.region ?? (endpoint === undefined ? undefined : 'us-east-1');
  return new S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(forcePathStyle === undefined ? {} : { forcePathStyle }),
    retryMode: 'standard',
    maxAttempts: options.maxAttempts ?? MAX_ATTEMPTS,
    // The sink sends a SHA-256 of its own with every body; the SDK need not add a CRC.
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

/**
 * Teaches a client two things. It signs a body with the SHA-256 that is sent as its checksum anyway, so a part is hashed
 * once and not three times. And it remembers, across the SDK's own retries, whether an attempt ended unclear.
 */
export function instrument(client: S3Client): void {
  client.middlewareStack.add(signChecksum, { step: 'build', name: 'exhibitPayloadHash', override: true });
  client.middlewareStack.addRelativeTo(watchAttempts, {
    relation: 'after',
    toMiddleware: 'retryMiddleware',
    name: 'exhibitAttempts',
    override: true,
  });
}

type Handler<Args extends object, Result> = (args: Args) => Promise<Result>;

function signChecksum<Args extends object, Result>(next: Handler<Args, Result>): Handler<Args, Result> {
  return (args) => {
    const headers = headersOf(args);
    const checksum = headers?.['x-amz-checksum-sha256'];
    if (headers !== undefined && typeof checksum === 'string') {
      headers['x-amz-content-sha256'] = Buffer.from(checksum, 'base64').toString('hex');
    }
    return next(args);
  };
}

/** The outer function runs once a request, the inner one once an attempt. */
function watchAttempts<Args extends object, Result>(next: Handler<Args, Result>): Handler<Args, Result> {
  let unclear = false;
  return async (args) => {
    try {
      return await next(args);
    } catch (error) {
      if (unclear && typeof error === 'object' && error !== null) afterUnclear.add(error);
      unclear ||= isUnclear(error);
      throw error;
    }
  };
}

function headersOf(args: object): Record<string, unknown> | undefined {
  if (!('request' in args) || typeof args.request !== 'object' || args.request === null) return undefined;
  const { request } = args;
  if (!('headers' in request) || typeof request.headers !== 'object' || request.headers === null) return undefined;
  return request.headers as Record<string, unknown>;
}
