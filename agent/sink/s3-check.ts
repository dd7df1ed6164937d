import { ExhibitError, explain } from '../../evidence/error.ts';
import type { AttributesConfig } from './s3-attributes.ts';
import { errorNames, noLockError, type S3Place, wantsLock } from './s3-errors.ts';
import { ABORT_TIMEOUT_MS } from './s3-object.ts';
import { type Bucket, lockOfBucket } from './s3-rights.ts';
import { abortUpload, beginUpload, type ObjectTarget } from './s3-upload.ts';

/**
 * Beginning a multipart upload needs the right to put objects there, and aborting it leaves nothing: no object was ever
 * made, so neither a read nor a delete is needed, and an Object Lock retains nothing. `target` asks for all that objects may
 * ask for, and so shows the rights to that, and whether the bucket can lock: AWS refuses a lock where it cannot. Where the
 * sink locks, the bucket is asked first, because a server that ignores what it does not know would say yes. Goes on to its
 * end when the caller stops waiting, or the upload would stay.
 */
export async function proveSink(target: ObjectTarget, config: AttributesConfig, place: S3Place): Promise<void> {
  const timeout = () => AbortSignal.timeout(ABORT_TIMEOUT_MS);
  if (config.objectLock !== undefined) {
    const lock = await lockOfBucket({ client: target.client, bucket: place.bucket, prefix: place.prefix }, timeout());
    if (lock === 'missing') throw noLockError(place);
  }
  const { uploadId, encryption } = await beginUpload(target, timeout()).catch((error: unknown) => {
    throw refusedSettings(error, config) ?? error;
  });
  await abortUpload(target, uploadId, timeout());
  const asked = config.serverSideEncryption?.kind;
  if (asked === undefined || asked === encryption) return;
  throw new ExhibitError(
    'sink-failed',
    `the bucket ${place.bucket} would store evidence with ${encryption ?? 'no encryption that it tells of'} and sink.serverSideEncryption wants ${asked}; correct one of them`,
  );
}

/** Longest that a capture waits for what a bucket says of its lock. */
const LOCK_ANSWER_MS = 5_000;

/**
 * Throws where the bucket says that it has no Object Lock, before the first object of a capture: a server that ignores the
 * headers of a lock would take everything, and it would show on the day that somebody removes it. Asks until the bucket has
 * said yes, once. Where it does not say (no right to ask, away), the answer to the first object decides.
 */
export function lockProof(bucket: Bucket, place: S3Place): (signal: AbortSignal) => Promise<void> {
  let proved = false;
  return async (signal) => {
    if (proved) return;
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(LOCK_ANSWER_MS)]);
    const lock = await lockOfBucket(bucket, inTime).catch(() => 'unknown');
    if (signal.aborted) {
      throw new ExhibitError('cancelled', `asking ${place.bucket} for its lock was cancelled`, {
        cause: signal.reason,
      });
    }
    if (lock === 'missing') throw noLockError(place);
    proved = lock !== 'unknown';
  };
}

/** S3 answers these codes for all headers that it does not take, and some servers no words with them. */
const REFUSALS = ['InvalidArgument', 'InvalidRequest'];

function refusedSettings(error: unknown, config: AttributesConfig): ExhibitError | undefined {
  const code = errorNames(error).find((name) => REFUSALS.includes(name));
  if (code === undefined || wantsLock(error)) return undefined;
  const settings = (['serverSideEncryption', 'objectLock', 'tags'] as const).filter((name) => {
    const value = config[name];
    return value !== undefined && value !== false;
  });
  if (settings.length === 0) return undefined;
  const names = settings.map((name) => `sink.${name}`).join(' or ');
  return new ExhibitError(
    'sink-failed',
    `the server refuses what ${names} asks for, with ${code}: ${explain(error)}; correct it, or give the server what it needs`,
    { cause: error },
  );
}
