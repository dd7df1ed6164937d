import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { ExhibitError } from '../../evidence/error.ts';
import { followsUnclearAttempt, isUnclear } from './s3-client.ts';
import { type CommitAnswer, judgeComplete, judgePut } from './s3-commit.ts';
import { errorNames, httpStatus } from './s3-errors.ts';

/** One part as CompleteMultipartUpload lists it. */
export interface UploadedPart {
  readonly number: number;
  readonly etag: string;
  readonly sha256: Buffer;
}

export interface ObjectTarget {
  readonly client: S3Client;
  readonly bucket: string;
  readonly key: string;
  readonly contentType: string;
  /** Ask the server to refuse when the key exists. */
  readonly ifNoneMatch: boolean;
}

/** A part that arrived damaged is sent again; damage twice in a row is not chance. */
const SENDS_OF_A_PART = 3;
/** S3 answers 409 while another conditional write of the same key is under way: ask again until that one has ended. */
const SENDS_OF_A_CONFLICT = 3;

/** The five requests, each with our own SHA-256 end to end; nothing else is ever sent, so append-only rights are enough. */
export async function createUpload(target: ObjectTarget, signal: AbortSignal): Promise<string> {
  const { UploadId } = await target.client.send(
    new CreateMultipartUploadCommand({
      Bucket: target.bucket,
      Key: target.key,
      ContentType: target.contentType,
      ChecksumAlgorithm: 'SHA256',
    }),
    { abortSignal: signal },
  );
  if (UploadId === undefined) throw new ExhibitError('sink-failed', 'S3 began an upload without an id for it');
  return UploadId;
}

export async function uploadPart(
  target: ObjectTarget,
  uploadId: string,
  number: number,
  body: Buffer,
  signal: AbortSignal,
): Promise<UploadedPart> {
  const sha256 = createHash('sha256').update(body).digest();
  const command = {
    Bucket: target.bucket,
    Key: target.key,
    UploadId: uploadId,
    PartNumber: number,
    Body: body,
    ContentLength: body.length,
    ChecksumAlgorithm: 'SHA256' as const,
    ChecksumSHA256: sha256.toString('base64'),
  };
  for (let sends = 1; ; sends += 1) {
    try {
      const answer = await target.client.send(new UploadPartCommand(command), { abortSignal: signal });
      if (answer.ETag === undefined) throw new ExhibitError('sink-failed', `S3 took part ${number} without an ETag`);
      expectChecksum(`part ${number}`, sha256.toString('base64'), answer.ChecksumSHA256);
      return { number, etag: answer.ETag, sha256 };
    } catch (error) {
      if (sends === SENDS_OF_A_PART || !isDamage(error)) throw error;
    }
  }
}

/** Stores a small object in one request. */
export async function putObject(target: ObjectTarget, body: Buffer, signal: AbortSignal): Promise<CommitAnswer> {
  const checksum = createHash('sha256').update(body).digest('base64');
  const input = {
    Bucket: target.bucket,
    Key: target.key,
    Body: body,
    ContentLength: body.length,
    ContentType: target.contentType,
    ChecksumAlgorithm: 'SHA256' as const,
    ChecksumSHA256: checksum,
    ...conditional(target),
  };
  for (let sends = 1; ; sends += 1) {
    let answered: string | undefined;
    try {
      answered = (await target.client.send(new PutObjectCommand(input), { abortSignal: signal })).ChecksumSHA256;
    } catch (error) {
      if (sends < SENDS_OF_A_CONFLICT && httpStatus(error) === 409) continue;
      if (sends < SENDS_OF_A_PART && isDamage(error)) continue;
      const unclear = followsUnclearAttempt(error);
      const answer = judgePut({ names: errorNames(error), status: httpStatus(error), unclear });
      if (answer.kind === 'failed') throw error;
      return answer;
    }
    expectChecksum('the object', checksum, answered);
    return { kind: 'stored' };
  }
}

/**
 * Makes the object of its parts. Where the answer got lost, the fate of the upload id tells what was done; `again`: the caller
 * keeps the parts and asks again later, so an upload that may still be completed is never aborted to find out.
 */
export async function completeUpload(
  target: ObjectTarget,
  uploadId: string,
  parts: readonly UploadedPart[],
  sizeBytes: number,
  signal: AbortSignal,
  again = false,
): Promise<CommitAnswer> {
  const command = new CompleteMultipartUploadCommand({
    Bucket: target.bucket,
    Key: target.key,
    UploadId: uploadId,
    // S3 refuses when what it has is not of this size.
    MpuObjectSize: sizeBytes,
    MultipartUpload: {
      Parts: parts.map(({ number, etag, sha256 }) => ({
        PartNumber: number,
        ETag: etag,
        ChecksumSHA256: sha256.toString('base64'),
      })),
    },
    ...conditional(target),
  });
  let answered: string | undefined;
  try {
    answered = (await target.client.send(command, { abortSignal: signal })).ChecksumSHA256;
  } catch (error) {
    if (again && isUnclear(error)) throw error;
    return await afterFailedCompletion(target, uploadId, error, signal);
  }
  expectChecksum('the object', compositeSha256(parts), answered);
  return { kind: 'stored' };
}

async function afterFailedCompletion(
  target: ObjectTarget,
  uploadId: string,
  error: unknown,
  signal: AbortSignal,
): Promise<CommitAnswer> {
  const status = httpStatus(error);
  const unclear = followsUnclearAttempt(error);
  const answer = judgeComplete({ names: errorNames(error), status, unclear, last: isUnclear(error) });
  if (answer.kind === 'failed') throw error;
  if (answer.kind !== 'ask') return answer;
  const wasOpen = await abortUpload(target, uploadId, signal);
  if (!wasOpen)
    return { kind: 'stored', note: 'the answer to the completion was lost, and the upload is no longer open' };
  if (status === 412) return { kind: 'exists' };
  throw error;
}

/** Gives an unfinished upload up. False when there was none any more: it had been completed, or aborted before. */
export async function abortUpload(target: ObjectTarget, uploadId: string, signal: AbortSignal): Promise<boolean> {
  try {
    await target.client.send(
      new AbortMultipartUploadCommand({ Bucket: target.bucket, Key: target.key, UploadId: uploadId }),
      { abortSignal: signal },
    );
    return true;
  } catch (error) {
    if (errorNames(error).includes('NoSuchUpload')) return false;
    throw error;
  }
}

/** S3's composite checksum: SHA-256 over the parts' raw digests, a hyphen, their number (User Guide, "Checking object integrity"). */
export function compositeSha256(parts: readonly UploadedPart[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part.sha256);
  return `${hash.digest('base64')}-${parts.length}`;
}

class ChecksumMismatch extends ExhibitError {}

/** S3 says that it has stored other bytes than were sent. */
export const isMismatch = (error: unknown): error is ExhibitError => error instanceof ChecksumMismatch;

/** Some servers answer no checksum; they have still checked the one that was sent, or ignored it (docs/sinks.md). */
function expectChecksum(what: string, sent: string, answered: string | undefined): void {
  if (answered === undefined || answered === sent) return;
  throw new ChecksumMismatch(
    'sink-failed',
    `S3 stored ${what} with the SHA-256 ${answered} but ${sent} was sent; the server or the network damages data`,
  );
}

function isDamage(error: unknown): boolean {
  if (isMismatch(error)) return true;
  return errorNames(error).some((name) => ['BadDigest', 'XAmzContentSHA256Mismatch', 'IncompleteBody'].includes(name));
}

function conditional(target: ObjectTarget): { IfNoneMatch?: '*' } {
  return target.ifNoneMatch ? { IfNoneMatch: '*' } : {};
}
