import type { ClockOffset } from '../../evidence/custody.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { IdentityError } from '../aws-identity.ts';
import { skewWords } from './s3-clock.ts';

/** Where a request went, for messages. Never holds credentials. */
export interface S3Place {
  readonly bucket: string;
  readonly prefix: string;
  /** Undefined for AWS itself. */
  readonly endpoint: string | undefined;
  /** What the sink's settings need beside the two rights of every sink: `s3:PutObjectRetention`. */
  readonly actions?: readonly string[];
  /** What is known of S3's clock by now. */
  readonly clock?: () => ClockOffset | undefined;
}

type Remedy = (place: S3Place) => string;

const objects = ({ bucket, prefix }: S3Place) => `arn:aws:s3:::${bucket}/${prefix === '' ? '*' : `${prefix}/*`}`;
const server = ({ endpoint }: S3Place) => endpoint ?? 'Amazon S3';

const actions = ({ actions = [] }: S3Place) => {
  const all = ['s3:PutObject', 's3:AbortMultipartUpload', ...actions];
  return `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`;
};

const noRights: Remedy = (place) =>
  `it denies access; allow ${actions(place)} on ${objects(place)}, and with SSE-KMS kms:GenerateDataKey and kms:Decrypt on the key`;
const badKey: Remedy = () =>
  'it does not accept the access key; check the credentials, or that endpoint and region are the ones they belong to';
const expired: Remedy = () =>
  'the credentials have expired; renew them, or use EKS Pod Identity or IRSA, which renew by themselves';
const wrongRegion: Remedy = ({ bucket }) =>
  `the bucket ${bucket} is in another region; set sink.region to the bucket's own`;
const unresolved: Remedy = (place) =>
  `the name of ${server(place)} cannot be resolved; check sink.endpoint, sink.region and the node's DNS`;
const unreachable: Remedy = (place) =>
  `${server(place)} cannot be reached; check sink.endpoint, routes and security groups`;
const noAnswer: Remedy = (place) =>
  `${server(place)} did not answer in time; check the network between the node and it`;
const skewed: Remedy = ({ clock }) => {
  const offset = clock?.();
  if (offset === undefined)
    return "the node's clock differs from S3's by more than 15 minutes; synchronise it (chronyc tracking)";
  return `the node's clock is ${skewWords(offset)} S3's; synchronise it (chronyc tracking)`;
};
const noLock: Remedy = ({ bucket }) =>
  `the bucket ${bucket} has no Object Lock and sink.objectLock wants it; enable it there (aws s3api put-object-lock-configuration, versioning first) or remove sink.objectLock`;
const noKey: Remedy = () =>
  "the KMS key of sink.serverSideEncryption.keyId cannot be used; check that it exists, is enabled and is of the bucket's region";
const damaged: Remedy = () => 'bytes were changed on the way; look for a proxy or a faulty network card on this node';
const overloaded: Remedy = () => 'it stays overloaded; try again later or spread captures over prefixes';

/** By the error code that S3 answers (API reference, "Error responses"), the SDK's own error names, and errno. */
const REMEDIES: Readonly<Record<string, Remedy>> = {
  AccessDenied: noRights,
  AllAccessDisabled: noRights,
  Forbidden: noRights,
  'KMS.AccessDeniedException': noRights,
  NoSuchBucket: ({ bucket }) => `there is no bucket ${bucket}; create it or correct sink.url`,
  InvalidAccessKeyId: badKey,
  SignatureDoesNotMatch: badKey,
  InvalidToken: badKey,
  ExpiredToken: expired,
  ExpiredTokenException: expired,
  TokenRefreshRequired: expired,
  RequestTimeTooSkewed: skewed,
  RequestExpired: skewed,
  RequestInTheFuture: skewed,
  CredentialsProviderError: () =>
    'no credentials were found; use EKS Pod Identity or IRSA, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
  TokenProviderError: () => 'no credentials were found; use EKS Pod Identity or IRSA',
  PermanentRedirect: wrongRegion,
  AuthorizationHeaderMalformed: wrongRegion,
  IllegalLocationConstraintException: wrongRegion,
  SlowDown: overloaded,
  ServiceUnavailable: overloaded,
  TimeoutError: noAnswer,
  RequestTimeout: noAnswer,
  BadDigest: damaged,
  XAmzContentSHA256Mismatch: damaged,
  InvalidDigest: damaged,
  NotImplemented: () => 'it lacks a function the sink needs; where it is If-None-Match, set sink.ifNoneMatch to false',
  NoSuchUpload: () => 'the unfinished upload is gone; a lifecycle rule or somebody else aborted it',
  InvalidPart: () =>
    'it has lost a part that it had taken; where parts in parallel are too much for it, set sink.maxPartsInFlight to 1',
  EntityTooLarge: () => 'the object is larger than it allows',
  QuotaExceeded: () => "the bucket's quota is used up; raise it",
  InvalidRetentionPeriod: () => "the bucket's Object Lock does not allow this",
  ObjectLockConfigurationNotFoundError: noLock,
  'KMS.NotFoundException': noKey,
  'KMS.DisabledException': noKey,
  'KMS.InvalidStateException': noKey,
  InvalidTag: () => 'it does not take the tags; correct sink.tags or remove it',
  ENOTFOUND: unresolved,
  EAI_AGAIN: unresolved,
  ECONNREFUSED: (place) => `nothing listens at ${server(place)}; check sink.endpoint and that the server runs`,
  ECONNRESET: (place) => `${server(place)} keeps closing the connection; look at its log and at proxies on the way`,
  EPIPE: (place) => `${server(place)} keeps closing the connection; look at its log and at proxies on the way`,
  ETIMEDOUT: noAnswer,
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  CERT_HAS_EXPIRED: (place) =>
    `the certificate of ${server(place)} has expired by this node's clock; renew it, or set the clock (chronyc tracking)`,
  CERT_NOT_YET_VALID: (place) =>
    `the certificate of ${server(place)} is not valid yet by this node's clock; set the clock (chronyc tracking)`,
  DEPTH_ZERO_SELF_SIGNED_CERT: (place) => `the certificate of ${server(place)} is not trusted; set NODE_EXTRA_CA_CERTS`,
  SELF_SIGNED_CERT_IN_CHAIN: (place) => `the certificate of ${server(place)} is not trusted; set NODE_EXTRA_CA_CERTS`,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: (place) =>
    `the certificate of ${server(place)} is not trusted; set NODE_EXTRA_CA_CERTS`,
};

/** How deep errors are wrapped in one another by the SDK, Node's http and its dual-stack connect at most. */
const MAX_DEPTH = 5;

/** Every name and code along the causes, the outermost first. */
export function errorNames(error: unknown): string[] {
  const names: string[] = [];
  let at: unknown = error;
  for (let depth = 0; depth < MAX_DEPTH && at instanceof Error; depth += 1) {
    names.push(at.name);
    if ('Code' in at && typeof at.Code === 'string') names.push(at.Code);
    if ('code' in at && typeof at.code === 'string') names.push(at.code);
    at = at.cause;
  }
  return names;
}

/** The HTTP status that S3 answered, or undefined when it did not answer. */
export function httpStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) return undefined;
  return typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}

/** As `httpStatus`, of the error or of the nearest of its causes that has one. */
export function statusAmongCauses(error: unknown): number | undefined {
  let at: unknown = error;
  for (let depth = 0; depth < MAX_DEPTH && at instanceof Error; depth += 1) {
    const status = httpStatus(at);
    if (status !== undefined) return status;
    at = at.cause;
  }
  return undefined;
}

/**
 * AWS answers `InvalidRequest: Bucket is missing Object Lock Configuration` to an object with a lock, and that code to much
 * else too; its words are all that tells.
 */
export function wantsLock(error: unknown): boolean {
  if (!errorNames(error).includes('InvalidRequest')) return false;
  return error instanceof Error && /missing ?object ?lock ?configuration/i.test(error.message);
}

/** For a bucket that was asked, and has no lock. */
export function noLockError(place: S3Place): ExhibitError {
  return new ExhibitError('sink-failed', `evidence would not be locked: ${noLock(place)}`);
}

/** `sink-failed` with a sentence that says what to do; keeps errors that already are one of ours. */
export function s3Error(error: unknown, action: string, place: S3Place): ExhibitError {
  if (isExhibitError(error)) return error;
  if (error instanceof IdentityError) {
    return new ExhibitError('sink-failed', `cannot ${action}: ${error.message}`, { cause: error });
  }
  if (error instanceof Error && error.message === 'Region is missing') {
    const words = 'no region is known; set sink.region, or AWS_REGION, which EKS Pod Identity and IRSA set in the pod';
    return new ExhibitError('sink-failed', `cannot ${action}: ${words}`, { cause: error });
  }
  const known = errorNames(error).find((name) => Object.hasOwn(REMEDIES, name));
  const remedy = wantsLock(error) ? noLock : known === undefined ? undefined : REMEDIES[known];
  const status = httpStatus(error);
  const words =
    remedy?.(place) ??
    (status === 403
      ? noRights(place)
      : status === 301
        ? wrongRegion(place)
        : `${server(place)} says ${explain(error)}`);
  return new ExhibitError('sink-failed', `cannot ${action}: ${words}`, { cause: error });
}
