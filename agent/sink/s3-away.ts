import { isExhibitError } from '../../evidence/error.ts';
import { errorNames, statusAmongCauses } from './s3-errors.ts';

/** Refusals that last until a person changes something: rights, keys, the bucket, its lock, what the server can do. */
const LASTING = [
  'AccessDenied',
  'AllAccessDisabled',
  'AccountProblem',
  'Forbidden',
  'KMS.AccessDeniedException',
  'KMS.DisabledException',
  'KMS.NotFoundException',
  'NoSuchBucket',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'PermanentRedirect',
  'AuthorizationHeaderMalformed',
  'InvalidRetentionPeriod',
  'ObjectLockConfigurationNotFoundError',
  'NotImplemented',
  'QuotaExceeded',
  'EntityTooLarge',
];

/** Among what passes, what a person has to see to all the same: identities and clocks. */
const NEGLECTED = [
  // Credentials that a provider renews, and a provider that does not answer now.
  'ExpiredToken',
  'ExpiredTokenException',
  'TokenRefreshRequired',
  'CredentialsProviderError',
  'TokenProviderError',
  // The clock is set right by whoever keeps it, chrony for one.
  'RequestTimeTooSkewed',
  'RequestExpired',
  'CERT_NOT_YET_VALID',
  // The server's own to renew.
  'CERT_HAS_EXPIRED',
];

/** Without an answer, or with a passing one, whatever its status: S3's codes, the SDK's names, errno, Node's and OpenSSL's. */
const PASSING = [
  'SlowDown',
  'RequestTimeout',
  'OperationAborted',
  'ConditionalRequestConflict',
  // Damaged on the way, and refused for it.
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'IncompleteBody',
  ...NEGLECTED,
  'TimeoutError',
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'EPROTO',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_SOCKET_CLOSED',
];

/** Node's HTTP parser: what answered is no HTTP server, such as a proxy that is being restarted. */
const PARSER = /^HPE_/;

const TOO_MANY_REQUESTS = 429;
const REQUEST_TIMEOUT = 408;

/**
 * True where S3 may take the same bytes later, so that they are worth keeping: it did not answer, is overloaded or broken,
 * the credentials have expired, the clock is off. False where it never will without a person (rights, bucket, key, lock), where
 * the object is there already, where the work was cancelled, and for faults of our own. Takes errors of the SDK and the
 * ExhibitErrors made of them. Pure.
 */
export function isAway(error: unknown): boolean {
  if (isExhibitError(error) && error.code !== 'sink-failed') return false;
  const names = errorNames(error);
  if (names.some((name) => LASTING.includes(name))) return false;
  if (names.some((name) => PASSING.includes(name) || PARSER.test(name))) return true;
  const status = statusAmongCauses(error);
  return status !== undefined && (status >= 500 || status === TOO_MANY_REQUESTS || status === REQUEST_TIMEOUT);
}

/** As `isAway`, and nobody has to do anything about it on this node: evidence may wait for it in the spool. Pure. */
export function waitsForNobody(error: unknown): boolean {
  return isAway(error) && !errorNames(error).some((name) => NEGLECTED.includes(name));
}
