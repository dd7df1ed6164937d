import type { S3Client } from '@aws-sdk/client-s3';
import { errorNames, httpStatus } from './s3-errors.ts';

/** One attempt of a request that writes evidence, for those who count. */
export interface S3Attempt {
  /** `PutObject`, `UploadPart`: one of WRITES. */
  readonly call: string;
  /** Undefined: it went well. */
  readonly error: S3ErrorKind | undefined;
  /** The same request was tried before. */
  readonly isRetry: boolean;
}

/** What a capture needs. Everything else that a sink asks is the doctor's, who expects refusals. */
const WRITES = ['PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload', 'AbortMultipartUpload'];

export const S3_ERROR_KINDS = [
  'throttled',
  'denied',
  'credentials',
  'clock',
  'exists',
  'not-found',
  'unreachable',
  'timeout',
  'server',
  'damaged',
  'other',
] as const;
export type S3ErrorKind = (typeof S3_ERROR_KINDS)[number];

const BY_NAME: Readonly<Record<string, S3ErrorKind>> = {
  SlowDown: 'throttled',
  ThrottlingException: 'throttled',
  RequestLimitExceeded: 'throttled',
  AccessDenied: 'denied',
  AllAccessDisabled: 'denied',
  'KMS.AccessDeniedException': 'denied',
  InvalidAccessKeyId: 'credentials',
  SignatureDoesNotMatch: 'credentials',
  InvalidToken: 'credentials',
  ExpiredToken: 'credentials',
  ExpiredTokenException: 'credentials',
  TokenRefreshRequired: 'credentials',
  CredentialsProviderError: 'credentials',
  TokenProviderError: 'credentials',
  RequestTimeTooSkewed: 'clock',
  RequestExpired: 'clock',
  RequestInTheFuture: 'clock',
  PreconditionFailed: 'exists',
  ConditionalRequestConflict: 'exists',
  NoSuchBucket: 'not-found',
  NoSuchUpload: 'not-found',
  ENOTFOUND: 'unreachable',
  EAI_AGAIN: 'unreachable',
  ECONNREFUSED: 'unreachable',
  ECONNRESET: 'unreachable',
  EPIPE: 'unreachable',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  TimeoutError: 'timeout',
  RequestTimeout: 'timeout',
  ETIMEDOUT: 'timeout',
  BadDigest: 'damaged',
  InvalidDigest: 'damaged',
  XAmzContentSHA256Mismatch: 'damaged',
};

/** Pure. */
export function s3ErrorKind(error: unknown): S3ErrorKind {
  const known = errorNames(error).find((name) => Object.hasOwn(BY_NAME, name));
  if (known !== undefined) return BY_NAME[known] ?? 'other';
  const status = httpStatus(error);
  if (status === undefined) return 'other';
  if (status === 429) return 'throttled';
  if (status === 401 || status === 403) return 'denied';
  if (status === 404) return 'not-found';
  if (status === 409 || status === 412) return 'exists';
  return status >= 500 ? 'server' : 'other';
}

/** Tells `onAttempt` of every attempt; the wait for a turn of the bandwidth is none of it. */
export function watchWrites(client: S3Client, onAttempt: (attempt: S3Attempt) => void): void {
  client.middlewareStack.addRelativeTo(
    <Args extends object, Result>(
      next: (args: Args) => Promise<Result>,
      context: { readonly commandName?: unknown },
    ) => {
      const call = String(context.commandName ?? '').replace(/Command$/, '');
      if (!WRITES.includes(call)) return next;
      let tried = false;
      return async (args: Args) => {
        const isRetry = tried;
        tried = true;
        try {
          const result = await next(args);
          onAttempt({ call, error: undefined, isRetry });
          return result;
        } catch (error) {
          onAttempt({ call, error: isProbe(call, error) ? undefined : s3ErrorKind(error), isRetry });
          throw error;
        }
      };
    },
    { relation: 'after', toMiddleware: 'retryMiddleware', name: 'exhibitWatch', override: true },
  );
}

/** Aborting an upload that never was is how a sink asks whether S3 is there. */
const isProbe = (call: string, error: unknown): boolean =>
  call === 'AbortMultipartUpload' && errorNames(error).includes('NoSuchUpload');
