import { randomUUID } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { keySegments } from './key.ts';
import { type ClientOptions, createS3Client, instrument } from './s3-client.ts';
import { type S3Place, s3Error } from './s3-errors.ts';
import { S3Line } from './s3-line.ts';
import { ABORT_TIMEOUT_MS, S3Object, untilAborted } from './s3-object.ts';
import { DEFAULT_PART_BYTES, DEFAULT_PARTS_IN_FLIGHT, MIN_PART_BYTES } from './s3-parts.ts';
import { findRights } from './s3-rights.ts';
import { noteSafely, type SettleContext, settleError, settleObject } from './s3-settle.ts';
import { abortUpload, createUpload, type ObjectTarget } from './s3-upload.ts';
import type { OpenOptions, Settled, Sink } from './sink.ts';
import { type Ledger, spoolOf } from './spool.ts';
import type { Vault } from './vault.ts';

export interface S3SinkConfig {
  /** `s3://bucket` or `s3://bucket/prefix`. */
  readonly url: string;
  /** For servers other than AWS: `http://127.0.0.1:7480`. */
  readonly endpoint?: string | undefined;
  /** The SDK's chain (AWS_REGION, profile) when absent; any with an endpoint. */
  readonly region?: string | undefined;
  /** The bucket in the path and not in the host's name; most servers other than AWS want it. */
  readonly forcePathStyle?: boolean | undefined;
  /** True unless told: ask the server to refuse an existing key. False for servers that do not know `If-None-Match`. */
  readonly ifNoneMatch?: boolean | undefined;
  readonly maxPartsInFlight?: number | undefined;
  /** The smallest part; larger objects take larger ones. 5 MiB at least. */
  readonly partBytes?: number | undefined;
}

/** What a composition root or a test may bring along. */
export interface S3SinkParts
  extends Pick<ClientOptions, 'credentials' | 'idleTimeoutMs' | 'connectTimeoutMs' | 'maxAttempts'> {
  /** Where bytes wait that S3 does not take; without one a failure ends the object. */
  readonly vault?: Vault;
  readonly spoolBytes?: number;
  /** Of this sink, among those that share the vault. */
  readonly name?: string;
  /** Each part lies in the vault before it is sent, so that nothing of it is lost with this process. True for a vault in memory. */
  readonly writeAhead?: boolean;
  /** For tests: how soon S3 is asked whether it is back, and how long a request may take before the spool takes over. */
  readonly firstProbeMs?: number;
  readonly patienceMs?: number;
  readonly now?: () => number;
  /** Used in place of one of our own; the caller destroys it. */
  readonly client?: S3Client;
  /** Events an operator wants to see: uploads that could not be aborted, commits that had to be concluded. */
  readonly log?: { warn(fields: object, event: string): void };
}

/**
 * Evidence in an S3 bucket, by PutObject, CreateMultipartUpload, UploadPart, CompleteMultipartUpload and
 * AbortMultipartUpload alone: the agent's identity needs no right to read, list or delete. Only `rights`, which finds out
 * whether it has one all the same, asks for more.
 */
export function openS3Sink(config: S3SinkConfig, parts: S3SinkParts = {}): Sink {
  const { bucket, prefix } = parseS3Url(config.url);
  const place: S3Place = { bucket, prefix, endpoint: config.endpoint };
  const client = parts.client ?? createS3Client({ ...config, ...parts });
  instrument(client);
  const url = prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
  const { vault, name = 'default', now = Date.now, log } = parts;
  const spool = vault === undefined ? undefined : spoolOf(vault, { limitBytes: parts.spoolBytes, log });
  const target = (key: string, contentType: string): ObjectTarget => ({
    client,
    bucket,
    key: prefix === '' ? key : `${prefix}/${key}`,
    contentType,
    ifNoneMatch: config.ifNoneMatch ?? true,
  });
  const line = new S3Line({
    breaks: spool !== undefined,
    // No upload has this id, so nothing is changed, and the right to abort is all that is needed for an answer.
    probe: (signal) => abortUpload(target(`.exhibit-check-${randomUUID()}`, ''), 'exhibit-probe', signal),
    log,
    firstProbeMs: parts.firstProbeMs,
    patienceMs: parts.patienceMs,
  });
  const context = (to: ObjectTarget): SettleContext => ({
    target: to,
    place,
    line,
    again: spool !== undefined,
    now,
    onConcluded: (fields) => log?.warn(fields, 'commit concluded without an answer'),
    onOrphan: ({ error, ...fields }) =>
      error === undefined
        ? log?.warn(fields, 'an upload may be open whose id is not known')
        : log?.warn({ ...fields, err: error }, 'upload could not be aborted'),
  });
  const settleLedger = async (ledger: Ledger, signal: AbortSignal): Promise<Settled> => {
    const { opened } = ledger.state;
    try {
      return await settleObject(context(target(opened.key, opened.contentType)), ledger, signal);
    } catch (error) {
      if (ledger.state.settled !== undefined) return ledger.state.settled;
      if (!isExhibitError(error, 'sink-exists')) throw settleError(error, ledger, place, signal);
      await noteSafely(ledger, { kind: 'settled', settled: { kind: 'lost', why: error.message } });
      await ledger.discardAll();
      return { kind: 'lost', why: error.message };
    }
  };
  return {
    url,
    async check(signal) {
      try {
        await untilAborted(probe(target(`.exhibit-check-${randomUUID()}`, 'application/octet-stream')), signal);
      } catch (error) {
        if (signal.aborted)
          throw new ExhibitError('cancelled', `checking ${url} was cancelled`, { cause: signal.reason });
        throw s3Error(error, `write evidence to ${url}`, place);
      }
    },
    rights: async (knownKey, signal) => ({
      ...(await findRights({ client, bucket, prefix }, knownKey, signal)),
      overwrites: config.ifNoneMatch === false,
    }),
    async open(key: string, options: OpenOptions) {
      const to = target(key, options.contentType);
      keySegments(to.key);
      const { contentType, about } = options;
      return new S3Object({
        opened: { kind: 'opened', sinkUrl: url, key, contentType, about, atMs: now() },
        context: context(to),
        spool: spool && { spool, sinkName: name, writeAhead: parts.writeAhead ?? spool.vault.inMemory },
        estimatedBytes: options.estimatedBytes ?? 0,
        minimumPartBytes: Math.max(config.partBytes ?? DEFAULT_PART_BYTES, MIN_PART_BYTES),
        maxPartsInFlight: config.maxPartsInFlight ?? DEFAULT_PARTS_IN_FLIGHT,
        refusable: options.refusable ?? false,
        signal: options.signal,
      });
    },
    async settle(key, signal) {
      const ledger = await spool?.find(name, key);
      if (ledger === undefined) return { kind: 'lost', why: `nothing is known of ${key}` };
      expectSettleable(ledger, url);
      return await ledger.inTurn(() => settleLedger(ledger, signal));
    },
    async forget(key) {
      const ledger = await spool?.find(name, key);
      if (ledger === undefined) return;
      if (ledger.state.settled === undefined) throw new ExhibitError('internal', `${key} is not settled yet`);
      await spool?.remove(ledger);
    },
    describe: () => ({ url }),
    async [Symbol.asyncDispose]() {
      await line[Symbol.asyncDispose]();
      if (parts.client === undefined) client.destroy();
    },
  };
}

function expectSettleable({ active, state }: Ledger, url: string): void {
  const { key, sinkUrl } = state.opened;
  if (active) throw new ExhibitError('sink-failed', `${key} is still being written`);
  if (sinkUrl === url) return;
  throw new ExhibitError(
    'sink-failed',
    `${key} was begun in ${sinkUrl}, and this sink is ${url} now; give it its old url back, or the new one another name`,
  );
}

/** @throws ExhibitError `config` */
export function parseS3Url(url: string): { bucket: string; prefix: string } {
  const match = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])(?:\/(.*))?$/s.exec(url);
  const prefix = (match?.[2] ?? '').replace(/\/$/, '');
  if (match?.[1] === undefined) {
    throw new ExhibitError('config', `the sink ${url} names no bucket; write it as s3://bucket/prefix`);
  }
  if (prefix !== '') {
    try {
      keySegments(prefix);
    } catch (cause) {
      throw new ExhibitError(
        'config',
        `the sink ${url} has a prefix that no key can have; write it as s3://bucket/prefix`,
        { cause },
      );
    }
  }
  return { bucket: match[1], prefix };
}

/**
 * Beginning a multipart upload needs the right to put objects there, and aborting it leaves nothing: no object was ever
 * made, so neither a read nor a delete is needed, and an Object Lock retains nothing. Goes on to its end when the caller
 * stops waiting, or the upload would stay.
 */
async function probe(target: ObjectTarget): Promise<void> {
  const uploadId = await createUpload(target, AbortSignal.timeout(ABORT_TIMEOUT_MS));
  await abortUpload(target, uploadId, AbortSignal.timeout(ABORT_TIMEOUT_MS));
}
