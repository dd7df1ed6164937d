import type { CreateMultipartUploadCommandInput } from '@aws-sdk/client-s3';
import type { SinkRecord } from '../../evidence/manifest.ts';
import { type EncryptionConfig, encryptionRequest } from './s3-encryption.ts';
import { metadataOf, type TagsConfig, taggingOf } from './s3-labels.ts';
import { lockOfCase, lockRequest, type ObjectLockConfig, retainUntilMs, strictestLock } from './s3-lock.ts';
import type { ObjectSubject } from './sink.ts';

/** What a request that makes an object says of it, beside its bytes: the same for PutObject and CreateMultipartUpload. */
export type ObjectAttributes = Pick<
  CreateMultipartUploadCommandInput,
  | 'ServerSideEncryption'
  | 'SSEKMSKeyId'
  | 'BucketKeyEnabled'
  | 'ObjectLockMode'
  | 'ObjectLockRetainUntilDate'
  | 'ObjectLockLegalHoldStatus'
  | 'Metadata'
  | 'Tagging'
>;

export interface AttributesConfig {
  readonly serverSideEncryption?: EncryptionConfig | undefined;
  readonly objectLock?: ObjectLockConfig | undefined;
  /** True unless told. */
  readonly metadata?: boolean | undefined;
  /** False unless told. */
  readonly tags?: TagsConfig | undefined;
}

/** `about` absent: an object of no capture, kept from now on as the default says. Pure. */
export function attributesOf(
  config: AttributesConfig,
  about: ObjectSubject | undefined,
  nowMs: number,
): ObjectAttributes {
  const lock = config.objectLock && lockOfCase(config.objectLock, about?.caseId ?? '');
  const tagging = about && taggingOf(config.tags ?? false, about);
  return {
    ...encryptionOf(config),
    ...(lock && lockRequest(lock, retainUntilMs(lock, about ?? { startedAtMs: nowMs }), nowMs)),
    ...(about && config.metadata !== false ? { Metadata: metadataOf(about) } : {}),
    ...(tagging === undefined ? {} : { Tagging: tagging }),
  };
}

/** All that any object may ask for, so that a request which makes none proves the rights to it. Pure. */
export function probeAttributes(config: AttributesConfig, nowMs: number): ObjectAttributes {
  const about = { captureId: 'check', caseId: 'check', startedAtMs: nowMs, volatility: 0 };
  const lock = config.objectLock && strictestLock(config.objectLock);
  return {
    ...attributesOf({ ...config, objectLock: undefined }, about, nowMs),
    ...(lock && lockRequest(lock, retainUntilMs(lock, about), nowMs)),
  };
}

/** What the manifest says of it. Pure. */
export function attributesRecord(config: AttributesConfig, about: ObjectSubject): Omit<SinkRecord, 'name' | 'url'> {
  const lock = config.objectLock && lockOfCase(config.objectLock, about.caseId);
  const untilMs = lock && retainUntilMs(lock, about);
  return {
    ...(config.serverSideEncryption && { serverSideEncryption: config.serverSideEncryption.kind }),
    ...(lock && {
      objectLock: {
        ...(lock.retention && { mode: lock.retention.mode }),
        ...(untilMs === undefined ? {} : { retainUntil: new Date(untilMs).toISOString() }),
        legalHold: lock.legalHold,
      },
    }),
  };
}

function encryptionOf({ serverSideEncryption }: AttributesConfig): ObjectAttributes {
  return serverSideEncryption === undefined ? {} : encryptionRequest(serverSideEncryption);
}
