import type { KeyObject } from 'node:crypto';
import type { BundleEntry, BundleReader } from './bundle.ts';
import { ExhibitError, explain } from './error.ts';
import { createFindings, type Finding, type Findings } from './findings.ts';
import { SEAL_OBJECT, storedName, TIMESTAMP_OBJECT } from './layout.ts';
import type { Manifest, StoredObject } from './manifest.ts';
import { staysInside } from './member-path.ts';
import { mergeTrust, NO_TRUST, type Trust, trustInKeys } from './trust.ts';
import { checkChanges } from './verify-changes.ts';
import { type Custody, readCustody } from './verify-custody.ts';
import {
  addLocked,
  type EncryptionReport,
  encryptionReport,
  NOT_READ,
  storedReader,
  verifyAsStored,
  whatIsStored,
} from './verify-encrypted.ts';
import { verifyObject } from './verify-object.ts';
import { custodyProves, whatIsNotProved, whatIsProved } from './verify-proof.ts';
import { compareRecords, compareSubjects, type Records, readRecords } from './verify-records.ts';
import type { JudgedSigner } from './verify-signers.ts';
import { expectsTimestamp, type JudgedTimestamp } from './verify-timestamp.ts';

/**
 * Checks a bundle as a sceptical reader would: the seal, who signed it, the records, then every object to its last member,
 * and that nothing is there which nobody listed. Offline; bounded memory; reads every byte once (a list of members twice).
 */
export interface VerifyReport {
  readonly url: string;
  /** From the records, whatever they are worth; absent when they cannot be read. */
  readonly captureId?: string;
  /** Sealed, everything was read and checked, and no finding is an error. */
  readonly intact: boolean;
  /** Sealed, and no finding is an error: of an encrypted bundle that was not opened, this is all that can be said. */
  readonly intactAsStored: boolean;
  /** Absent where nothing is encrypted. */
  readonly encryption?: EncryptionReport;
  /** There is a seal and its signature is good. */
  readonly sealed: boolean;
  /** The first signer that is trusted, or else the first. */
  readonly signer?: JudgedSigner;
  /** All of them, in the order of their signatures. */
  readonly signers: readonly JudgedSigner[];
  /** What an authority says about the seal, where it is good. */
  readonly timestamp?: JudgedTimestamp;
  /** The custody log, where there is one that could be read; `clocks` is what other clocks said. */
  readonly custody?: { readonly events: number; readonly whole: boolean; readonly clocks: Custody['clocks'] };
  /** Errors first, then in the order of the checks. At most MAX_FINDINGS; `counts` has them all. */
  readonly findings: readonly Finding[];
  readonly counts: {
    readonly objects: number;
    readonly members: number;
    readonly bytes: number;
    readonly errors: number;
    readonly warnings: number;
  };
  /** Sentences for a person. */
  readonly proves: readonly string[];
  readonly doesNotProve: readonly string[];
}

export interface VerifyOptions {
  /** What the reader believes, see trust.ts. Without any key, a seal is checked against itself only. */
  readonly trust?: Trust;
  /** Keys that are believed as well, whenever they signed. */
  readonly trustedKeys?: readonly KeyObject[];
  readonly onProgress?: (progress: VerifyProgress) => void;
  readonly signal?: AbortSignal;
}

export interface VerifyProgress {
  readonly object: string;
  /** Stored bytes read so far, of all objects that the manifest lists. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** Objects listed beyond this are not looked at: no capture has so many, and the list is held in memory. */
const MAX_OBJECTS = 100_000;

/**
 * Whatever the bundle holds becomes a finding; it throws ExhibitError `cancelled` only. Read errors are findings of the
 * object that could not be read.
 */
export async function verifyBundle(reader: BundleReader, options: VerifyOptions = {}): Promise<VerifyReport> {
  const findings = createFindings();
  const { records, custody } = await checkRecords(reader, findings, options);
  const present = await listPresent(storedReader(reader), findings);
  const verify = reader.encryption?.locked === undefined ? verifyAll : verifyLocked;
  const counts = await verify(reader, present, records, findings, options);
  return report(reader, { records, custody }, findings, counts);
}

export interface CheckedRecords {
  readonly records: Records;
  readonly custody: Custody | undefined;
}

/** The quick part: seal, records and custody log, against themselves and each other; no other object is read. */
export async function checkRecords(
  reader: BundleReader,
  findings: Findings,
  options: VerifyOptions,
): Promise<CheckedRecords> {
  const trust = mergeTrust([options.trust ?? NO_TRUST, trustInKeys(options.trustedKeys ?? [])]);
  const records = await readRecords(reader, findings, trust);
  compareRecords(records, findings);
  compareSubjects(records, findings);
  const custody = await readCustody(reader, records, findings);
  await checkChanges(reader, records, findings);
  return { records, custody };
}

async function verifyAll(
  reader: BundleReader,
  present: ReadonlyMap<string, BundleEntry>,
  records: Records,
  findings: Findings,
  options: VerifyOptions,
): Promise<Counts> {
  lookForStrangers(present, records.manifest?.value.objects ?? [], records, findings);
  return await verifyObjects(reader, present, records, findings, options);
}

/** The manifest cannot be read: the seal's own list, and stored bytes. */
async function verifyLocked(
  reader: BundleReader,
  present: ReadonlyMap<string, BundleEntry>,
  { seal }: Records,
  findings: Findings,
  { onProgress, signal }: VerifyOptions,
): Promise<Counts> {
  if (reader.encryption !== undefined) addLocked(reader.encryption, findings);
  const counts = { objects: 0, members: 0, bytes: 0 };
  counts.objects = await verifyAsStored(seal, {
    stored: storedReader(reader),
    present,
    findings,
    signal,
    onBytes(object, bytes, totalBytes) {
      counts.bytes += bytes;
      onProgress?.({ object, doneBytes: counts.bytes, totalBytes });
    },
  });
  return counts;
}

async function listPresent(reader: BundleReader, findings: Findings): Promise<ReadonlyMap<string, BundleEntry>> {
  const present = new Map<string, BundleEntry>();
  try {
    for await (const entry of reader.list()) {
      present.set(entry.name, entry);
      if (present.size >= MAX_OBJECTS) {
        findings.add(
          'error',
          'list-failed',
          `the bundle has ${MAX_OBJECTS} objects or more; only so many were looked at`,
        );
        break;
      }
    }
  } catch (error) {
    findings.add('error', 'list-failed', `the bundle's objects cannot be listed: ${explain(error)}`);
  }
  return present;
}

/** Objects that nobody listed; without a manifest, everything but the request is one. */
function lookForStrangers(
  present: ReadonlyMap<string, BundleEntry>,
  listed: readonly StoredObject[],
  records: Records,
  findings: Findings,
): void {
  const known = new Set([...Object.values(records.names), SEAL_OBJECT, ...listed.map(storedName)]);
  if (expectsTimestamp(records.seal)) known.add(TIMESTAMP_OBJECT);
  for (const [name, entry] of present) {
    const where = { object: name };
    if (entry.irregular !== undefined) {
      findings.add('error', 'object-irregular', `${name} is a ${entry.irregular}, which no bundle holds`, where);
    } else if (!known.has(name)) {
      const why = records.manifest === undefined ? 'no manifest vouches for it' : 'the manifest does not list it';
      findings.add('error', 'object-unlisted', `${name} is in the bundle, but ${why}`, where);
    }
  }
}

interface Counts {
  objects: number;
  members: number;
  bytes: number;
}

async function verifyObjects(
  reader: BundleReader,
  present: ReadonlyMap<string, BundleEntry>,
  records: Records,
  findings: Findings,
  { onProgress, signal }: VerifyOptions,
): Promise<Counts> {
  const counts = { objects: 0, members: 0, bytes: 0 };
  const manifest = records.manifest?.value;
  if (manifest === undefined) return counts;
  const truncated = new Set(
    manifest.objects.filter((object) => object.truncated !== undefined).map(({ name }) => name),
  );
  const totalBytes = manifest.objects.reduce((sum, object) => sum + object.stored.sizeBytes, 0);
  for (const object of manifest.objects) {
    if (signal?.aborted === true) {
      throw new ExhibitError('cancelled', 'the verification was cancelled', { cause: signal.reason });
    }
    const where = whereOf(manifest, object.name);
    const entry = present.get(storedName(object));
    if (!staysInside(object.name) || object.name.endsWith('/')) {
      findings.add('error', 'object-name-unsafe', `the manifest lists ${object.name}, which no bundle can hold`, where);
    } else if (entry === undefined) {
      findings.add('error', 'object-missing', `${object.name} is listed in the manifest, but not there`, where);
    } else if (entry.irregular === undefined) {
      counts.objects += 1;
      await verifyObject(object, {
        reader,
        findings,
        where,
        signal,
        truncated,
        onBytes(bytes) {
          counts.bytes += bytes;
          onProgress?.({ object: object.name, doneBytes: counts.bytes, totalBytes });
        },
        onMember() {
          counts.members += 1;
        },
      });
    }
  }
  return counts;
}

function whereOf(manifest: Manifest, object: string): { artifact?: string; object: string } {
  const artifact = manifest.artifacts.find((candidate) => candidate.objects.includes(object));
  return artifact === undefined ? { object } : { artifact: artifact.name, object };
}

function provedBy(
  { records, custody }: CheckedRecords,
  { intact, asStored }: { readonly intact: boolean; readonly asStored: boolean },
  counts: Counts,
): string[] {
  const { signer } = records;
  if (asStored && signer !== undefined) {
    const stored = whatIsStored(counts.objects, counts.bytes, signer.keyId, signer.trusted);
    return [...stored, ...custodyProves(records, custody)];
  }
  return [...whatIsProved(records, intact, counts), ...(intact ? custodyProves(records, custody) : [])];
}

/** More than any log of one capture has; a person reads the first. */
const MAX_CLOCKS = 100;

function report(
  reader: BundleReader,
  { records, custody }: CheckedRecords,
  findings: Findings,
  counts: Counts,
): VerifyReport {
  const sealed = records.seal !== undefined;
  const captureId = (records.manifest?.value ?? records.request?.value ?? records.seal?.statement.predicate)?.captureId;
  const encryption = encryptionReport(reader);
  const isLocked = encryption?.read === false;
  const intactAsStored = sealed && findings.errors === 0 && (isLocked || records.manifest !== undefined);
  const intact = intactAsStored && !isLocked;
  const { signer } = records;
  const rank = { error: 0, warning: 1, info: 2 };
  return {
    url: reader.url,
    ...(captureId === undefined ? {} : { captureId }),
    intact,
    intactAsStored,
    ...(encryption === undefined ? {} : { encryption }),
    sealed,
    ...(signer === undefined ? {} : { signer }),
    signers: records.signers,
    ...(records.timestamp === undefined ? {} : { timestamp: records.timestamp }),
    ...(custody === undefined ? {} : { custody: summaryOf(custody) }),
    findings: findings.list().sort((a, b) => rank[a.severity] - rank[b.severity]),
    counts: { ...counts, errors: findings.errors, warnings: findings.warnings },
    proves: provedBy({ records, custody }, { intact, asStored: isLocked && intactAsStored }, counts),
    doesNotProve: [...(isLocked ? NOT_READ : []), ...whatIsNotProved(records, intactAsStored)],
  };
}

function summaryOf({ events, whole, clocks }: Custody): NonNullable<VerifyReport['custody']> {
  return { events: events.length, whole, clocks: clocks.slice(0, MAX_CLOCKS) };
}
