import { createHash } from 'node:crypto';
import { decryptFile } from './age-reader.ts';
import type { BundleEntry, BundleReader } from './bundle.ts';
import { type BundleEncryption, encryptedName } from './bundle-encrypted.ts';
import { readAtMost } from './byte-sink.ts';
import { ExhibitError, explain } from './error.ts';
import type { Findings, Where } from './findings.ts';
import { RunningDigest } from './frames.ts';
import { MANIFEST_OBJECT, REQUEST_OBJECT, SEAL_OBJECT, TIMESTAMP_OBJECT } from './layout.ts';
import type { StoredObject } from './manifest.ts';
import { staysInside } from './member-path.ts';
import type { CheckedSeal } from './seal.ts';

/** What of a verification is different for a bundle of age files. */

/** The report's words about it; absent where nothing is encrypted. */
export interface EncryptionReport {
  /** What the records are encrypted to, a word for each recipient: `X25519`. Empty where an identity opened them. */
  readonly recipients: readonly string[];
  /** An identity opened them: the manifest, every content and every member were checked. */
  readonly read: boolean;
}

export function encryptionReport(reader: BundleReader): EncryptionReport | undefined {
  const { encryption } = reader;
  if (encryption === undefined) return undefined;
  return { recipients: encryption.locked?.kinds ?? [], read: encryption.locked === undefined };
}

/** The bundle as it lies in the sink: what can be listed, and what the digests are of. */
export function storedReader(reader: BundleReader): BundleReader {
  return reader.encryption?.stored ?? reader;
}

/** The names that the three records have in the sink. */
export function recordNames(reader: BundleReader): Record<'request' | 'manifest', string> {
  const nameOf = (name: string) => (reader.encryption === undefined ? name : encryptedName(name));
  return { request: nameOf(REQUEST_OBJECT), manifest: nameOf(MANIFEST_OBJECT) };
}

/** More than a record of `limitBytes` has as an age file: header and tags. */
const OVERHEAD_BYTES = 1024 * 1024;

/** A record and the digest of its stored bytes; undefined when it is longer than `limitBytes`. Errors as `decryptFile`. */
export async function readSealedRecord(
  { stored, identities }: Pick<BundleEncryption, 'stored' | 'identities'>,
  name: string,
  limitBytes: number,
): Promise<{ bytes: Uint8Array; sha256: string } | undefined> {
  const file = await readAtMost(stored.read(encryptedName(name)), limitBytes + OVERHEAD_BYTES);
  if (file === undefined) return undefined;
  const bytes = await readAtMost(decryptFile([file], identities), limitBytes);
  return bytes && { bytes, sha256: createHash('sha256').update(file).digest('hex') };
}

/** What an encrypted object that is not compressed holds, against its record. The rest of `source` is the caller's to read. */
export async function verifyPlainContent(
  object: StoredObject,
  content: AsyncIterable<Uint8Array>,
  { findings, where }: { findings: Findings; where: Where },
): Promise<void> {
  const digest = new RunningDigest();
  for await (const chunk of content) digest.update(chunk);
  const found = digest.digest();
  const declared = object.content;
  if (declared === undefined) return;
  if (found.sizeBytes !== declared.sizeBytes) {
    const message = `${object.name} holds ${found.sizeBytes} bytes; the manifest says ${declared.sizeBytes}`;
    findings.add('error', 'content-size', message, where);
  } else if (declared.sha256 !== undefined && found.sha256 !== declared.sha256) {
    findings.add('error', 'content-digest', `what ${object.name} holds is not what the manifest lists`, where);
  }
}

export interface StoredCheck {
  readonly stored: BundleReader;
  readonly present: ReadonlyMap<string, BundleEntry>;
  readonly findings: Findings;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (object: string, bytes: number, totalBytes: number) => void;
}

/**
 * Without an identity: every object by the seal's own list, its stored bytes against the digest that was signed. Returns how many
 * were read. Objects that the seal does not name are findings.
 */
export async function verifyAsStored(seal: CheckedSeal | undefined, check: StoredCheck): Promise<number> {
  const { present, findings } = check;
  const subjects = new Map((seal?.statement.subject ?? []).map(({ name, digest }) => [name, digest.sha256]));
  for (const [object, entry] of present) {
    if (entry.irregular !== undefined) {
      findings.add('error', 'object-irregular', `${object} is a ${entry.irregular}, which no bundle holds`, { object });
    } else if (!subjects.has(object) && object !== SEAL_OBJECT && object !== TIMESTAMP_OBJECT) {
      const why = seal === undefined ? 'no seal vouches for it' : 'the seal does not name it';
      findings.add('error', 'object-unlisted', `${object} is in the bundle, but ${why}`, { object });
    }
  }
  const sizes = [...subjects.keys()].map((name) => present.get(name)?.sizeBytes ?? 0);
  const totalBytes = sizes.reduce((sum, size) => sum + size, 0);
  let objects = 0;
  for (const [object, sha256] of subjects) {
    const entry = present.get(object);
    if (!staysInside(object) || object.endsWith('/')) {
      findings.add('error', 'object-name-unsafe', `the seal names ${object}, which no bundle can hold`, { object });
    } else if (entry === undefined) {
      findings.add('error', 'object-missing', `${object} is named in the seal, but not there`, { object });
    } else if (entry.irregular === undefined) {
      objects += 1;
      await verifyStoredBytes(object, sha256, totalBytes, check);
    }
  }
  return objects;
}

async function verifyStoredBytes(
  object: string,
  sha256: string,
  totalBytes: number,
  check: StoredCheck,
): Promise<void> {
  const { stored, findings, signal, onBytes } = check;
  const digest = new RunningDigest();
  try {
    for await (const chunk of stored.read(object)) {
      if (signal?.aborted === true) {
        throw new ExhibitError('cancelled', 'the verification was cancelled', { cause: signal.reason });
      }
      digest.update(chunk);
      onBytes(object, chunk.length, totalBytes);
    }
  } catch (error) {
    if (error instanceof ExhibitError && error.code === 'cancelled') throw error;
    findings.add('error', 'object-unreadable', `${object} cannot be read to its end: ${explain(error)}`, { object });
    return;
  }
  if (digest.digest().sha256 === sha256) return;
  const message = `${object} as it is stored is altered: its SHA-256 is not the one that the seal has`;
  findings.add('error', 'object-digest', message, { object });
}

/** What was not looked at, and why; the verdict of such a report is about stored bytes alone. */
export function addLocked({ locked, identities }: BundleEncryption, findings: Findings): void {
  if (locked === undefined) return;
  const code = identities.length === 0 ? 'contents-encrypted' : 'identity-wrong';
  findings.add('warning', code, locked.words);
}

export function whatIsStored(objects: number, bytes: number, keyId: string, isTrusted: boolean): string[] {
  return [
    `Each of the ${objects} objects, ${bytes} bytes as stored, is what the holder of key ${keyId} signed.`,
    'No object was added, removed, renamed or changed since the seal.',
    ...(isTrusted ? ['The key that signed is one that you named as trusted.'] : []),
  ];
}

export const NOT_READ: readonly string[] = [
  'What the objects hold: they are encrypted and were not opened. The manifest, the contents, the members and the gaps were not checked.',
];
