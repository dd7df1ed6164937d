import { randomUUID } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import { ExhibitError } from '../../evidence/error.ts';
import { Bandwidth, type Pace } from './bandwidth.ts';
import { keySegments } from './key.ts';
import { type AttributesConfig, attributesOf, attributesRecord, probeAttributes } from './s3-attributes.ts';
import { isAway } from './s3-away.ts';
import { lockProof, proveSink } from './s3-check.ts';
import type { ChecksumKind } from './s3-checksum.ts';
import { type ClientOptions, createS3Client, instrument } from './s3-client.ts';
import { S3Clock } from './s3-clock.ts';
import { type S3Place, s3Error } from './s3-errors.ts';
import { S3Line } from './s3-line.ts';
import { S3Object, untilAborted } from './s3-object.ts';
import { DEFAULT_PARTS_IN_FLIGHT, MIN_PART_BYTES, partBytesUnderCap, partsUnderCap } from './s3-parts.ts';
import type { RetryConfig } from './s3-retry.ts';
import { findRights } from './s3-rights.ts';
import type { SettleContext } from './s3-settle.ts';
import { createSettler } from './s3-settler.ts';
import { abortUpload, type ObjectTarget } from './s3-upload.ts';
import { type S3Attempt, watchWrites } from './s3-watch.ts';
import type { ObjectSubject, OpenOptions, Sink } from './sink.ts';
import { spoolOf } from './spool.ts';
import type { Vault } from './vault.ts';

/** Objects that are written to one sink at once; a capture writes two or three. */
const CAPPED_OBJECTS = 8;

export interface S3SinkConfig extends AttributesConfig {
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
  readonly checksum?: ChecksumKind | undefined;
  /** Of all objects together; no limit when absent. */
  readonly maxBytesPerSecond?: number | undefined;
  readonly retry?: RetryConfig | undefined;
  /**
   * With a vault: each part lies in it before it is sent, so that no whole part is lost with this process. Unless told only in a
   * vault in memory: on a disk every part would be synced. Small objects are always written ahead.
   */
  readonly writeAhead?: boolean | undefined;
}

/** What a composition root or a test may bring along. */
export interface S3SinkParts
  extends Pick<ClientOptions, 'credentials' | 'idleTimeoutMs' | 'connectTimeoutMs' | 'maxAttempts'> {
  /** Where bytes wait that S3 does not take; without one a failure ends the object. */
  readonly vault?: Vault;
  readonly spoolBytes?: number;
  /** Of this sink, among those that share the vault. */
  readonly name?: string;
  /** For tests: how soon S3 is asked whether it is back, and how long a request may take before the spool takes over. */
  readonly firstProbeMs?: number;
  readonly patienceMs?: number;
  readonly now?: () => number;
  /** Used in place of one of our own; the caller destroys it. */
  readonly client?: S3Client;
  /** For the bandwidth cap. */
  readonly pace?: Pace;
  /** Shared by all sinks of the agent. */
  readonly upload?: Bandwidth | undefined;
  /** For those who count. */
  readonly onAttempt?: ((attempt: S3Attempt) => void) | undefined;
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
  const url = prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
  const { vault, name = 'default', now = Date.now, log } = parts;
  const spool = vault === undefined ? undefined : spoolOf(vault, { limitBytes: parts.spoolBytes, log });
  const clock = new S3Clock(config.endpoint ?? 'Amazon S3', (offset) =>
    parts.log?.warn(offset, 'node clock differs from the sink by more than it allows'),
  );
  const place: S3Place = {
    bucket,
    prefix,
    endpoint: config.endpoint,
    actions: extraActions(config),
    clock: () => clock.offset,
  };
  const client = parts.client ?? createS3Client({ ...config, ...parts });
  instrument(client, clock);
  if (parts.onAttempt !== undefined) watchWrites(client, parts.onAttempt);
  const own = config.maxBytesPerSecond === undefined ? [] : [new Bandwidth(config.maxBytesPerSecond, parts.pace)];
  const bandwidth = [...own, ...(parts.upload === undefined ? [] : [parts.upload])];
  /** Of the slowest line that the bytes pass. */
  const maxBytesPerSecond =
    bandwidth.length === 0 ? undefined : Math.min(...bandwidth.map(({ bytesPerSecond }) => bytesPerSecond));
  const minimumPartBytes = Math.max(config.partBytes ?? partBytesUnderCap(maxBytesPerSecond), MIN_PART_BYTES);
  const maxPartsInFlight = partsUnderCap(
    minimumPartBytes,
    config.maxPartsInFlight ?? DEFAULT_PARTS_IN_FLIGHT,
    maxBytesPerSecond,
  );
  const target = (key: string, contentType: string, about?: ObjectSubject): ObjectTarget => ({
    client,
    bucket,
    key: prefix === '' ? key : `${prefix}/${key}`,
    contentType,
    ifNoneMatch: config.ifNoneMatch ?? true,
    checksum: config.checksum,
    attributes: attributesOf(config, about, now()),
    bandwidth,
  });
  const probed = (): ObjectTarget => ({
    ...target(`.exhibit-check-${randomUUID()}`, 'application/octet-stream'),
    attributes: probeAttributes(config, Date.now()),
  });
  // No upload has this id, so nothing is changed, and the right to abort is all that is needed for an answer.
  const probe = (signal: AbortSignal) =>
    abortUpload(target(`.exhibit-check-${randomUUID()}`, ''), 'exhibit-probe', signal);
  const line = new S3Line({
    breaks: spool !== undefined,
    probe,
    log,
    // Under a cap a part waits for all that are on their way before it, of several objects.
    slowestBytesPerSecond: maxBytesPerSecond && maxBytesPerSecond / (CAPPED_OBJECTS * maxPartsInFlight),
    onBack: () => {
      tidied = settler.tidy(end.signal);
    },
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
  const settler = createSettler({
    spool,
    sinkName: name,
    url,
    place,
    contextOf: ({ key, contentType, about }) => context(target(key, contentType, about)),
    log,
  });
  const ready = config.objectLock === undefined ? undefined : lockProof({ client, bucket, prefix }, place);
  const end = new AbortController();
  let tidied: Promise<void> | undefined;
  return {
    url,
    async check(signal) {
      try {
        await untilAborted(proveSink(probed(), config, place), signal);
      } catch (error) {
        if (signal.aborted)
          throw new ExhibitError('cancelled', `checking ${url} was cancelled`, { cause: signal.reason });
        throw s3Error(error, `write evidence to ${url}`, place);
      }
    },
    ...(ready && { ready }),
    async connect(signal) {
      await probe(signal).catch((error: unknown) => {
        // A refusal is an answer: the connection is there, and the doctor and the first object say more.
        if (isAway(error)) throw s3Error(error, `reach ${url}`, place);
      });
    },
    rights: async (knownKey, signal) => ({
      ...(await findRights({ client, bucket, prefix }, knownKey, config.objectLock !== undefined, signal)),
      overwrites: config.ifNoneMatch === false,
    }),
    async open(key: string, options: OpenOptions) {
      const to = target(key, options.contentType, options.about);
      keySegments(to.key);
      if (options.refusable === true && !line.away) await ready?.(options.signal);
      // What an earlier agent could not abort.
      tidied ??= settler.tidy(end.signal);
      const { contentType, about, whole } = options;
      return new S3Object({
        opened: { kind: 'opened', sinkUrl: url, key, contentType, about, whole, atMs: now() },
        context: context(to),
        spool: spool && { spool, sinkName: name, writeAhead: config.writeAhead ?? spool.vault.inMemory },
        estimatedBytes: options.estimatedBytes ?? 0,
        minimumPartBytes,
        maxPartsInFlight,
        refusable: options.refusable ?? false,
        signal: options.signal,
      });
    },
    settle: settler.settle,
    forget: settler.forget,
    describe: (about) => ({ url, ...attributesRecord(config, about) }),
    clock: () => clock.offset,
    async [Symbol.asyncDispose]() {
      end.abort(new Error('the sink was closed'));
      await tidied;
      await line[Symbol.asyncDispose]();
      if (parts.client === undefined) client.destroy();
    },
  };
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

/** What AWS wants beside s3:PutObject for the headers of a request that makes an object (User Guide, "Object Lock", "Tagging"). */
function extraActions({ objectLock, tags }: S3SinkConfig): string[] {
  const all = objectLock === undefined ? [] : [objectLock, ...(objectLock.cases ?? [])];
  return [
    ...(all.some(({ mode }) => mode !== undefined) ? ['s3:PutObjectRetention'] : []),
    ...(all.some(({ legalHold }) => legalHold === true) ? ['s3:PutObjectLegalHold'] : []),
    ...(tags === undefined || tags === false ? [] : ['s3:PutObjectTagging']),
  ];
}
