import { ExhibitError } from '../../evidence/error.ts';
import { isMismatch } from './s3-checksum.ts';
import { followsUnclearAttempt, isUnclear } from './s3-client.ts';
import { errorNames, type S3Place, s3Error } from './s3-errors.ts';
import { type LedgerState, nextStep, settledWith, whatIsMissing } from './s3-ledger.ts';
import type { S3Line } from './s3-line.ts';
import {
  abortUpload,
  completeUpload,
  createUpload,
  type ObjectTarget,
  putObject,
  type UploadedPart,
  uploadPart,
} from './s3-upload.ts';
import type { Settled } from './sink.ts';
import type { Ledger } from './spool.ts';

/**
 * A lifecycle rule counts whole days since an upload was begun (User Guide, "Configuring a bucket lifecycle configuration to
 * delete incomplete multipart uploads"). Within this time only we can have ended it.
 */
const UPLOAD_LIVES_MS = 24 * 3600_000;
/** A server that forgets each upload that is begun would be asked for ever. */
const MOST_TIMES_GONE = 3;

export interface SettleContext {
  readonly target: ObjectTarget;
  readonly place: S3Place;
  readonly line: S3Line;
  /** Told apart by the vault: with one a completion without an answer is asked about again later, never given up. */
  readonly again: boolean;
  readonly now: () => number;
  readonly onConcluded: (concluded: { key: string; note: string }) => void;
  readonly onOrphan: (orphan: { key: string; uploadId?: string; begunAtMs?: number; error?: ExhibitError }) => void;
}

/**
 * Brings an object to its end by the notes on it: sends what is in the vault, completes as many parts as follow each other from
 * the first on, or aborts an upload that has none. Throws `sink-exists` where somebody else's object has the key, and what the
 * requests throw; the next call goes on from there.
 */
export async function settleObject(context: SettleContext, ledger: Ledger, signal: AbortSignal): Promise<Settled> {
  while (ledger.state.settled === undefined) {
    signal.throwIfAborted();
    if (ledger.state.timesGone > MOST_TIMES_GONE) {
      throw new ExhibitError('sink-failed', `S3 forgets each upload of ${context.target.key} that is begun`);
    }
    await takeStep(context, ledger, signal);
  }
  await ledger.discardAll();
  for (const begunAtMs of ledger.state.namelessSinceMs.splice(0)) {
    context.onOrphan({ key: context.target.key, begunAtMs });
  }
  return ledger.state.settled;
}

/** An error of `settleObject` as the sink throws it. */
export function settleError(error: unknown, ledger: Ledger, place: S3Place, signal: AbortSignal): ExhibitError {
  const url = `${ledger.state.opened.sinkUrl}/${ledger.state.opened.key}`;
  if (signal.aborted) return new ExhibitError('cancelled', `settling ${url} was cancelled`, { cause: signal.reason });
  return s3Error(error, `finish ${url}`, place);
}

async function takeStep(context: SettleContext, ledger: Ledger, signal: AbortSignal): Promise<void> {
  const { state } = ledger;
  const step = state.givenUp ? ({ kind: 'give-up' } as const) : nextStep(state, ledger.kept);
  switch (step.kind) {
    case 'put':
      return await put(context, ledger, signal);
    case 'create':
      await begin(context, ledger, signal);
      return;
    case 'send':
      await sendKept(context, ledger, step.number, signal);
      return;
    case 'complete':
      return await complete(context, ledger, step.parts, signal);
    case 'give-up':
      return await giveUp(context, ledger, signal);
    default:
      return step satisfies never;
  }
}

/** Begins the upload and notes it. */
export async function begin(
  { target, line, now }: SettleContext,
  ledger: Ledger,
  signal: AbortSignal,
): Promise<string> {
  const create = async (until: AbortSignal): Promise<string> => {
    await noteSafely(ledger, { kind: 'creating', atMs: now() });
    try {
      const uploadId = await createUpload(target, until);
      await noteSafely(ledger, { kind: 'created', uploadId, atMs: now() });
      return uploadId;
    } catch (error) {
      if (!isUnclear(error) && !followsUnclearAttempt(error)) await noteSafely(ledger, { kind: 'not-created' });
      throw error;
    }
  };
  return await line.send(create, signal);
}

/** Sends a part from the vault. True unless its bytes were no longer there. */
export async function sendKept(
  context: SettleContext,
  ledger: Ledger,
  number: number,
  signal: AbortSignal,
): Promise<boolean> {
  const uploadId = ledger.state.upload?.id;
  const bytes = await keptBytes(ledger, number);
  if (bytes === undefined || uploadId === undefined) return false;
  try {
    await sendPart(context, ledger, { uploadId, number, bytes }, signal);
    return true;
  } catch (error) {
    if (!errorNames(error).includes('NoSuchUpload')) throw error;
    await noteSafely(ledger, { kind: 'gone' });
    return false;
  }
}

/** Sends a part, notes it, and gives its copy in the vault up. */
export async function sendPart(
  { target, line }: SettleContext,
  ledger: Ledger,
  part: { readonly uploadId: string; readonly number: number; readonly bytes: Buffer },
  signal: AbortSignal,
): Promise<void> {
  const { uploadId, number, bytes } = part;
  const send = (until: AbortSignal) => uploadPart(target, uploadId, number, bytes, until);
  const { etag, sha256, crc64nvme } = await line.send(send, signal, bytes.length);
  await noteSafely(ledger, {
    kind: 'sent',
    number,
    etag,
    sha256: sha256.toString('hex'),
    ...(crc64nvme && { crc64nvme: crc64nvme.toString('hex') }),
  });
  await ledger.discard(number);
}

/**
 * What cannot be noted holds in this process all the same, and a later one that misses it errs on the side of doing a thing
 * again: a vault that is full must not keep evidence from S3.
 */
export async function noteSafely(ledger: Ledger, note: Parameters<Ledger['note']>[0]): Promise<void> {
  await ledger.note(note).catch(() => undefined);
}

/** Bytes that cannot be read back are as bytes that are not there. */
async function keptBytes(ledger: Ledger, number: number): Promise<Buffer | undefined> {
  const bytes = await ledger.bytesOf(number).catch(() => undefined);
  if (bytes === undefined || bytes.length !== ledger.state.parts[number - 1]?.sizeBytes) {
    await ledger.discard(number);
    return undefined;
  }
  return bytes;
}

async function put(context: SettleContext, ledger: Ledger, signal: AbortSignal): Promise<void> {
  const bytes = await keptBytes(ledger, 1);
  if (bytes !== undefined) await putBytes(context, ledger, bytes, signal);
}

/** Stores the first part as the object. */
export async function putBytes(
  context: SettleContext,
  ledger: Ledger,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const { target, line, now } = context;
  const triedBefore = ledger.state.tried !== undefined;
  const send = async (until: AbortSignal) => {
    await noteSafely(ledger, { kind: 'trying', parts: 1, atMs: now() });
    return await putObject(target, bytes, until);
  };
  const answer = await asStored(ledger, line.send(send, signal, bytes.length));
  if (answer.kind === 'exists' && !triedBefore) throw taken(target);
  conclude(context, answer.kind === 'stored' ? answer.note : 'an earlier attempt without an answer had stored it');
  await settle(ledger, settledWith(ledger.state, 1));
}

async function complete(context: SettleContext, ledger: Ledger, parts: number, signal: AbortSignal): Promise<void> {
  const { target, line, now, again } = context;
  const { upload, tried } = ledger.state;
  if (upload === undefined) return;
  const listed = uploadedParts(ledger.state, parts);
  const sizeBytes = ledger.state.parts[parts - 1]?.endBytes ?? 0;
  try {
    const send = async (until: AbortSignal) => {
      await noteSafely(ledger, { kind: 'trying', parts, atMs: now() });
      return await completeUpload(target, upload.id, listed, sizeBytes, until, again);
    };
    const answer = await asStored(ledger, line.send(send, signal));
    if (answer.kind === 'exists') return await afterTaken(context, ledger, tried, signal);
    conclude(context, answer.kind === 'stored' ? answer.note : undefined);
    await settle(ledger, settledWith(ledger.state, parts));
  } catch (error) {
    const names = errorNames(error);
    if (again && names.includes('InvalidPart')) return await noteSafely(ledger, { kind: 'doubted', parts });
    // radosgw answers NoSuchKey for an upload that it has completed.
    if (!names.includes('NoSuchUpload') && !names.includes('NoSuchKey')) throw error;
    await afterGone(context, ledger, tried);
  }
}

/** An object that is damaged in the sink stays there, and nothing better can be put in its place. */
async function asStored<Answer>(ledger: Ledger, answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    if (isMismatch(error)) await settle(ledger, { kind: 'lost', why: error.message });
    throw error;
  }
}

/** The upload is no more: an earlier attempt completed it, unless it is so old that a rule may have aborted it. */
async function afterGone(context: SettleContext, ledger: Ledger, tried: LedgerState['tried']): Promise<void> {
  const { upload } = ledger.state;
  const isYoung = upload !== undefined && context.now() - upload.createdAtMs < UPLOAD_LIVES_MS;
  if (tried === undefined || !isYoung) return await noteSafely(ledger, { kind: 'gone' });
  conclude(context, 'the upload is no longer open, so an earlier attempt without an answer had completed it');
  await settle(ledger, settledWith(ledger.state, tried.parts));
}

/** The key has an object: ours where the upload is no longer open and we had tried to complete it. */
async function afterTaken(
  context: SettleContext,
  ledger: Ledger,
  tried: LedgerState['tried'],
  signal: AbortSignal,
): Promise<void> {
  const { target, line } = context;
  const uploadId = ledger.state.upload?.id;
  const wasOpen = uploadId !== undefined && (await line.send((until) => abortUpload(target, uploadId, until), signal));
  if (wasOpen || tried === undefined) {
    await noteSafely(ledger, { kind: 'gone' });
    throw taken(target);
  }
  conclude(context, 'the key is taken and the upload no longer open, so an earlier attempt had completed it');
  await settle(ledger, settledWith(ledger.state, tried.parts));
}

async function giveUp(context: SettleContext, ledger: Ledger, signal: AbortSignal): Promise<void> {
  const { target, line } = context;
  const { upload } = ledger.state;
  if (upload !== undefined) await line.send((until) => abortUpload(target, upload.id, until), signal);
  await settle(ledger, { kind: 'lost', why: whatIsMissing(ledger.state, 0) });
}

/** Where it cannot be noted it holds in this process, and the next one comes to the same end. */
async function settle(ledger: Ledger, settled: Settled): Promise<void> {
  await noteSafely(ledger, { kind: 'settled', settled });
}

function conclude({ onConcluded, target }: SettleContext, note: string | undefined): void {
  if (note !== undefined) onConcluded({ key: target.key, note });
}

function uploadedParts({ parts }: LedgerState, count: number): UploadedPart[] {
  return parts.slice(0, count).flatMap(({ sent, sizeBytes }, index) => {
    if (sent === undefined) return [];
    const { etag, sha256, crc64nvme } = sent;
    const crc = crc64nvme === undefined ? {} : { crc64nvme: Buffer.from(crc64nvme, 'hex') };
    return [{ number: index + 1, etag, sizeBytes, sha256: Buffer.from(sha256, 'hex'), ...crc }];
  });
}

function taken({ bucket, key }: ObjectTarget): ExhibitError {
  return new ExhibitError('sink-exists', `s3://${bucket}/${key} exists already and evidence is never overwritten`);
}
