import { randomUUID } from 'node:crypto';
import {
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type S3Client,
} from '@aws-sdk/client-s3';
import { ExhibitError } from '../../evidence/error.ts';
import { errorNames, httpStatus } from './s3-errors.ts';
import type { Permission, SinkRights } from './sink.ts';

export interface Bucket {
  readonly client: S3Client;
  readonly bucket: string;
  readonly prefix: string;
}

/**
 * Four questions that change nothing. Listing asks for names below a key that nobody has, so that none comes back. Reading
 * asks for the headers of an object that is known to exist: for a missing one S3 answers 403 to whoever may not list,
 * readers included (API reference, HeadObject). Deleting is not tried: with versions kept, even the deletion of a key that
 * does not exist leaves a delete marker. `locksObjects`: the sink asks for a lock with every object.
 */
export async function findRights(
  where: Bucket,
  knownKey: string | undefined,
  locksObjects: boolean,
  signal: AbortSignal,
): Promise<Omit<SinkRights, 'overwrites'>> {
  try {
    const [list, read, retention] = await Promise.all([
      mayList(where, signal),
      mayRead(where, knownKey, signal),
      retentionOf(where, locksObjects, signal),
    ]);
    return { list, read, ...retention };
  } catch (cause) {
    throw new ExhibitError('cancelled', `asking for the rights on ${where.bucket} was cancelled`, { cause });
  }
}

/** 200 or 403; anything else tells nothing. Throws only when the signal does. */
async function permission(asked: Promise<unknown>, signal: AbortSignal): Promise<Permission> {
  try {
    await asked;
    return 'allowed';
  } catch (error) {
    signal.throwIfAborted();
    return httpStatus(error) === 403 ? 'refused' : 'unknown';
  }
}

const below = (prefix: string, key: string): string => (prefix === '' ? key : `${prefix}/${key}`);

function mayList({ client, bucket, prefix }: Bucket, signal: AbortSignal): Promise<Permission> {
  const nowhere = below(prefix, `.exhibit-check-${randomUUID()}`);
  const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: nowhere, MaxKeys: 1 });
  return permission(client.send(command, { abortSignal: signal }), signal);
}

async function mayRead({ client, bucket, prefix }: Bucket, key: string | undefined, signal: AbortSignal) {
  if (key === undefined) return 'unknown';
  const command = new HeadObjectCommand({ Bucket: bucket, Key: below(prefix, key) });
  return permission(client.send(command, { abortSignal: signal }), signal);
}

/**
 * `default`: objects are locked even when nobody asks for it. `enabled`: those that ask. `unknown`: not told. Throws only when the
 * signal does.
 */
export type BucketLock = 'default' | 'enabled' | 'missing' | 'unknown';

export async function lockOfBucket({ client, bucket }: Bucket, signal: AbortSignal): Promise<BucketLock> {
  try {
    const lock = await client.send(new GetObjectLockConfigurationCommand({ Bucket: bucket }), { abortSignal: signal });
    if (lock.ObjectLockConfiguration?.ObjectLockEnabled !== 'Enabled') return 'missing';
    return lock.ObjectLockConfiguration.Rule?.DefaultRetention === undefined ? 'enabled' : 'default';
  } catch (error) {
    signal.throwIfAborted();
    // 404 is how S3 says that the bucket has no lock, and also that there is no such bucket.
    return httpStatus(error) === 404 && !errorNames(error).includes('NoSuchBucket') ? 'missing' : 'unknown';
  }
}

async function retentionOf(
  where: Bucket,
  locksObjects: boolean,
  signal: AbortSignal,
): Promise<Pick<SinkRights, 'retention' | 'lockMissing'>> {
  const lock = await lockOfBucket(where, signal);
  if (lock === 'unknown') return { retention: 'unknown' };
  if (lock === 'default' || (lock === 'enabled' && locksObjects)) return { retention: 'locked' };
  return {
    retention: await versionsOf(where, signal),
    ...(locksObjects ? { lockMissing: true } : {}),
  };
}

async function versionsOf({ client, bucket }: Bucket, signal: AbortSignal): Promise<SinkRights['retention']> {
  try {
    const answer = await client.send(new GetBucketVersioningCommand({ Bucket: bucket }), { abortSignal: signal });
    return answer.Status === 'Enabled' ? 'versioned' : 'none';
  } catch {
    signal.throwIfAborted();
    return 'unknown';
  }
}
