import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  type CompleteMultipartUploadCommandOutput,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  type PutObjectCommandOutput,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { ExhibitError } from '../../evidence/error.ts';
import type { Bandwidth } from './bandwidth.ts';
import type { ObjectAttributes } from './s3-attributes.ts';
import {
  bodyFields,
  type ChecksumKind,
  completionFields,
  digestsOf,
  expectChecksum,
  isDamage,
  sentChecksum,
  type UploadedPart,
  uploadFields,
  wholeChecksum,
} from './s3-checksum.ts';
import { followsUnclearAttempt, isUnclear, prepareBody } from './s3-client.ts';
import { type CommitAnswer, judgeComplete, judgePut } from './s3-commit.ts';
import { errorNames, httpStatus } from './s3-errors.ts';
import { withDigest } from './s3-labels.ts';

export type { UploadedPart } from './s3-checksum.ts';

export interface ObjectTarget {
  readonly client: S3Client;
  readonly bucket: string;
  readonly key: string;
  readonly contentType: string;
  /** Ask the server to refuse when the key exists. */
  readonly ifNoneMatch: boolean;
  /** SHA-256 when absent. */
  readonly checksum?: ChecksumKind | undefined;
  /** Encryption, lock, metadata, tags. */
  readonly attributes?: ObjectAttributes | undefined;
  /** The sink's own line, then the agent's; no limit when empty. */
  readonly bandwidth?: readonly Bandwidth[] | undefined;
}

/** A part that arrived damaged is sent again; damage twice in a row is not chance. */
const SENDS_OF_A_PART = 3;
/** S3 answers 409 while another conditional write of the same key is under way: ask again until that one has ended. */
const SENDS_OF_A_CONFLICT = 3;

/** The five requests, each with our own checksum end to end; nothing else is ever sent, so append-only rights are enough. */
export async function createUpload(target: ObjectTarget, signal: AbortSignal): Promise<string> {
  return (await beginUpload(target, signal)).uploadId;
}

/** Also tells how the server says that it will encrypt. */
export async function beginUpload(
  target: ObjectTarget,
  signal: AbortSignal,
): Promise<{ uploadId: string; encryption: string | undefined }> {
  const { UploadId, ServerSideEncryption } = await target.client.send(
    new CreateMultipartUploadCommand({
      Bucket: target.bucket,
      Key: target.key,
      ContentType: target.contentType,
      ...uploadFields(checksumOf(target)),
      ...target.attributes,
    }),
    { abortSignal: signal },
  );
  if (UploadId === undefined) throw new ExhibitError('sink-failed', 'S3 began an upload without an id for it');
  return { uploadId: UploadId, encryption: ServerSideEncryption };
}

export async function uploadPart(
  target: ObjectTarget,
  uploadId: string,
  number: number,
  body: Buffer,
  signal: AbortSignal,
): Promise<UploadedPart> {
  const digests = await digestsOf(checksumOf(target), body);
  prepareBody(body, { sha256: digests.sha256, turn: turnOf(target, body, signal) });
  const input = {
    Bucket: target.bucket,
    Key: target.key,
    UploadId: uploadId,
    PartNumber: number,
    Body: body,
    ContentLength: body.length,
    ...bodyFields(digests),
  };
  for (let sends = 1; ; sends += 1) {
    try {
      const answer = await target.client.send(new UploadPartCommand(input), { abortSignal: signal });
      if (answer.ETag === undefined) throw new ExhibitError('sink-failed', `S3 took part ${number} without an ETag`);
      expectChecksum(`part ${number}`, checksumOf(target), sentChecksum(digests), answer);
      return { number, etag: answer.ETag, sizeBytes: body.length, ...digests };
    } catch (error) {
      if (sends === SENDS_OF_A_PART || !isDamage(error)) throw error;
    }
  }
}

/** Stores a small object in one request. */
export async function putObject(target: ObjectTarget, body: Buffer, signal: AbortSignal): Promise<CommitAnswer> {
  const { attributes } = target;
  const digests = await digestsOf(checksumOf(target), body);
  prepareBody(body, { sha256: digests.sha256, turn: turnOf(target, body, signal) });
  const input = {
    Bucket: target.bucket,
    Key: target.key,
    Body: body,
    ContentLength: body.length,
    ContentType: target.contentType,
    ...bodyFields(digests),
    ...attributes,
    ...(attributes?.Metadata === undefined ? {} : { Metadata: withDigest(attributes.Metadata, digests.sha256) }),
    ...conditional(target),
  };
  for (let sends = 1; ; sends += 1) {
    let answered: PutObjectCommandOutput;
    try {
      answered = await target.client.send(new PutObjectCommand(input), { abortSignal: signal });
    } catch (error) {
      if (sends < SENDS_OF_A_CONFLICT && httpStatus(error) === 409) continue;
      if (sends < SENDS_OF_A_PART && isDamage(error)) continue;
      const unclear = followsUnclearAttempt(error);
      const answer = judgePut({ names: errorNames(error), status: httpStatus(error), unclear });
      if (answer.kind === 'failed') throw error;
      return answer;
    }
    expectChecksum('the object', checksumOf(target), sentChecksum(digests), answered);
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
    ...completionFields(checksumOf(target), parts),
    ...conditional(target),
  });
  let answered: CompleteMultipartUploadCommandOutput;
  try {
    answered = await target.client.send(command, { abortSignal: signal });
  } catch (error) {
    if (again && isUnclear(error)) throw error;
    return await afterFailedCompletion(target, uploadId, error, signal);
  }
  expectChecksum('the object', checksumOf(target), wholeChecksum(checksumOf(target), parts), answered);
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

const checksumOf = (target: ObjectTarget): ChecksumKind => target.checksum ?? 'sha256';

/** Awaited before each attempt: the bytes of one that failed were on the line too. */
function turnOf({ bandwidth, key }: ObjectTarget, body: Buffer, signal: AbortSignal): () => Promise<void> {
  return async () => {
    await (async () => {
      for (const line of bandwidth ?? []) await line.turn(key, body.length, signal);
    })().catch((cause: unknown) => {
      // The SDK takes any other name for a fault of the network, a TimeoutError for one, and would try again.
      throw Object.assign(new Error('the wait for a turn was given up', { cause }), { name: 'AbortError' });
    });
  };
}

function conditional(target: ObjectTarget): { IfNoneMatch?: '*' } {
  return target.ifNoneMatch ? { IfNoneMatch: '*' } : {};
}
