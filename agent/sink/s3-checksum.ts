import { createHash } from 'node:crypto';
import { chooseEngine } from '../../evidence/engine.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { crc64Nvme, joinCrc64Nvme } from './crc64-nvme.ts';
import { errorNames } from './s3-errors.ts';

/** What S3 checks bodies with and answers. The signature holds a SHA-256 of every body with either. */
export const CHECKSUMS = ['sha256', 'crc64nvme'] as const;
export type ChecksumKind = (typeof CHECKSUMS)[number];

/** Of one body. */
export interface BodyDigests {
  /** Always: it is signed, and it is what bundles and ledgers speak of. */
  readonly sha256: Buffer;
  /** Eight bytes, big endian; where the sink sends it. */
  readonly crc64nvme?: Buffer;
}

/** One part as CompleteMultipartUpload lists it. */
export interface UploadedPart extends BodyDigests {
  readonly number: number;
  readonly etag: string;
  /** Missing in a part that an older note tells of: the CRC of the object is then not known before S3 says it. */
  readonly sizeBytes?: number;
}

interface Checksums {
  readonly ChecksumSHA256?: string | undefined;
  readonly ChecksumCRC64NVME?: string | undefined;
}

export async function digestsOf(kind: ChecksumKind, body: Buffer): Promise<BodyDigests> {
  const sha256 = await sha256Of(body);
  return kind === 'sha256' ? { sha256 } : { sha256, crc64nvme: await crc64Nvme(body) };
}

/** On a thread where that is worth its while. */
async function sha256Of(body: Buffer): Promise<Buffer> {
  const digest = chooseEngine(body.length).createDigest();
  await digest.update(body);
  return Buffer.from(digest.digest(), 'hex');
}

/** S3 takes one checksum a request. */
export function bodyFields({ sha256, crc64nvme }: BodyDigests) {
  if (crc64nvme === undefined) {
    return { ChecksumAlgorithm: 'SHA256' as const, ChecksumSHA256: sha256.toString('base64') };
  }
  return { ChecksumAlgorithm: 'CRC64NVME' as const, ChecksumCRC64NVME: crc64nvme.toString('base64') };
}

/** S3 knows the SHA-256 of an object of parts only as one over those of the parts, and its CRC only as that of the whole. */
export function uploadFields(kind: ChecksumKind) {
  if (kind === 'sha256') return { ChecksumAlgorithm: 'SHA256' as const };
  return { ChecksumAlgorithm: 'CRC64NVME' as const, ChecksumType: 'FULL_OBJECT' as const };
}

/** What a completion says of the parts and of the object. Checksums that are not known are left out, and S3 checks its own. */
export function completionFields(kind: ChecksumKind, parts: readonly UploadedPart[]) {
  const listed = parts.map((part) => ({
    PartNumber: part.number,
    ETag: part.etag,
    ...partChecksum(kind, part),
  }));
  if (kind === 'sha256') return { MultipartUpload: { Parts: listed } };
  const whole = wholeCrc(parts);
  return {
    MultipartUpload: { Parts: listed },
    ChecksumType: 'FULL_OBJECT' as const,
    ...(whole === undefined ? {} : { ChecksumCRC64NVME: whole }),
  };
}

function partChecksum(kind: ChecksumKind, { sha256, crc64nvme }: UploadedPart) {
  if (kind === 'sha256') return { ChecksumSHA256: sha256.toString('base64') };
  return crc64nvme === undefined ? {} : { ChecksumCRC64NVME: crc64nvme.toString('base64') };
}

/** What S3 must answer for the finished object; undefined where it cannot be known. */
export function wholeChecksum(kind: ChecksumKind, parts: readonly UploadedPart[]): string | undefined {
  return kind === 'sha256' ? compositeSha256(parts) : wholeCrc(parts);
}

/** S3's composite checksum: SHA-256 over the parts' raw digests, a hyphen, their number (User Guide, "Checking object integrity"). */
function compositeSha256(parts: readonly UploadedPart[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part.sha256);
  return `${hash.digest('base64')}-${parts.length}`;
}

function wholeCrc(parts: readonly UploadedPart[]): string | undefined {
  let whole: Buffer | undefined;
  for (const { crc64nvme, sizeBytes } of parts) {
    if (crc64nvme === undefined || sizeBytes === undefined) return undefined;
    whole = whole === undefined ? crc64nvme : joinCrc64Nvme(whole, crc64nvme, sizeBytes);
  }
  return whole?.toString('base64');
}

class ChecksumMismatch extends ExhibitError {}

/** S3 says that it has stored other bytes than were sent. */
export const isMismatch = (error: unknown): error is ExhibitError => error instanceof ChecksumMismatch;

const WORDS = { sha256: 'SHA-256', crc64nvme: 'CRC64NVME' } as const;

/** Some servers answer no checksum; they have still checked the one that was sent, or ignored it (docs/sinks.md). */
export function expectChecksum(what: string, kind: ChecksumKind, sent: string | undefined, answer: Checksums): void {
  const answered = kind === 'sha256' ? answer.ChecksumSHA256 : answer.ChecksumCRC64NVME;
  if (answered === undefined || sent === undefined || answered === sent) return;
  throw new ChecksumMismatch(
    'sink-failed',
    `S3 stored ${what} with the ${WORDS[kind]} ${answered} but ${sent} was sent; the server or the network damages data`,
  );
}

/** The checksum that was sent with a body. */
export function sentChecksum({ sha256, crc64nvme }: BodyDigests): string {
  return (crc64nvme ?? sha256).toString('base64');
}

/** The bytes were changed on the way, here or there: the same request may still succeed. */
export function isDamage(error: unknown): boolean {
  if (isMismatch(error)) return true;
  return errorNames(error).some((name) => ['BadDigest', 'XAmzContentSHA256Mismatch', 'IncompleteBody'].includes(name));
}
