import { createHash } from 'node:crypto';
import { type Identities, NoIdentity } from './age-reader.ts';
import type { BundleReader } from './bundle.ts';
import { encryptedName } from './bundle-encrypted.ts';
import { readAtMost } from './byte-sink.ts';
import type { CaptureFolder } from './captures.ts';
import { isSameLink, judgeChains } from './chain-links.ts';
import { ExhibitError, explain, isExhibitError } from './error.ts';
import { createFindings, type Finding, type Findings } from './findings.ts';
import { parseJson } from './json.ts';
import { MANIFEST_OBJECT, REQUEST_OBJECT, SEAL_OBJECT } from './layout.ts';
import { type ChainLink, type Manifest, manifestSchema } from './manifest.ts';
import { checkSeal, MAX_SEAL_BYTES, type Statement } from './seal.ts';
import { NO_TRUST, type Trust } from './trust.ts';
import { readSealedRecord } from './verify-encrypted.ts';
import { chainDoesNotProve, chainProves } from './verify-proof.ts';
import { MAX_MANIFEST_BYTES } from './verify-records.ts';

/**
 * The chains of a folder of captures: each sealed capture of an agent names the seal of the one before, in its seal and in its
 * sealed manifest. Of every capture these two are read, and nothing else; one at a time, in bounded memory. Of an encrypted one
 * that no identity opens the seal alone has to do.
 */
export interface ChainReport {
  readonly url: string;
  /** No hole, no broken link, no fork, no capture whose records cannot be read. */
  readonly whole: boolean;
  /** Folders looked at. */
  readonly captures: number;
  readonly chains: readonly ChainSummary[];
  /** Sealed by agents that kept no chain. */
  readonly unchained: number;
  readonly unsealed: readonly string[];
  readonly findings: readonly Finding[];
  readonly counts: { readonly errors: number; readonly warnings: number };
  readonly proves: readonly string[];
  readonly doesNotProve: readonly string[];
}

export interface ChainSummary {
  readonly chainId: string;
  /** Those that are here. */
  readonly captures: number;
  readonly first: ChainPlace;
  /** What to write down: whatever was sealed after it could be removed without a trace. */
  readonly newest: ChainPlace;
}

export interface ChainPlace {
  readonly captureId: string;
  readonly sequence: number;
  readonly sealSha256: string;
  /** When the capture began, by the node's clock. Absent where nothing says so. */
  readonly startedAt?: string;
  /** `capture-id`: the manifest was not read, and the id is a UUIDv7, which begins with the time at which it was made. */
  readonly startedAtFrom?: 'capture-id';
}

/** A sealed capture as its own records have it. */
export interface ChainedCapture extends Omit<ChainPlace, 'sequence'> {
  readonly chain: ChainLink;
}

/** A node that takes a capture every hour has so many in a year. */
export const MAX_CAPTURES = 10_000;

export interface ChainOptions {
  readonly trust?: Trust;
  /** Of age: with one that fits, the manifests of encrypted captures are read as well. */
  readonly identities?: Identities;
  readonly signal?: AbortSignal;
}

/** Whatever the folder holds becomes a finding; throws ExhibitError `cancelled`, and what listing the folder throws. */
export async function verifyChains(folder: CaptureFolder, options: ChainOptions = {}): Promise<ChainReport> {
  const findings = createFindings();
  const seen = { captures: 0, unchained: 0, unsealed: [] as string[] };
  const chained: ChainedCapture[] = [];
  for (const name of await listCaptures(folder, findings)) {
    if (options.signal?.aborted === true) {
      throw new ExhibitError('cancelled', 'the verification was cancelled', { cause: options.signal.reason });
    }
    const capture = await readCapture(folder, name, findings, options);
    if (capture === 'none') continue;
    seen.captures += 1;
    if (capture === 'unsealed') seen.unsealed.push(name);
    else if (capture === 'unchained') seen.unchained += 1;
    else if (capture !== 'unreadable' && capture !== 'unknown') chained.push(capture);
  }
  const chains = judgeChains(chained, findings);
  if (seen.unchained > 0) {
    const message = `${seen.unchained} sealed captures are in no chain: their agents kept none, and one that is missing leaves no trace`;
    findings.add('info', 'chain-none', message);
  }
  const whole = findings.errors === 0;
  const rank = { error: 0, warning: 1, info: 2 };
  return {
    url: folder.url,
    whole,
    ...seen,
    chains,
    findings: findings.list().sort((a, b) => rank[a.severity] - rank[b.severity]),
    counts: { errors: findings.errors, warnings: findings.warnings },
    proves: chainProves(chains, whole),
    doesNotProve: chainDoesNotProve(chains, whole),
  };
}

/** The first MAX_CAPTURES names, oldest first: a capture's id begins with its time. */
async function listCaptures(folder: CaptureFolder, findings: Findings): Promise<string[]> {
  const names: string[] = [];
  for await (const name of folder.list()) {
    if (names.length === MAX_CAPTURES) {
      const message = `there are more than ${MAX_CAPTURES} folders; only so many were looked at`;
      findings.add('error', 'list-failed', message);
      break;
    }
    names.push(name);
  }
  return names.sort();
}

type Read = ChainedCapture | 'none' | 'unsealed' | 'unchained' | 'unknown' | 'unreadable';

async function readCapture(
  folder: CaptureFolder,
  name: string,
  findings: Findings,
  options: ChainOptions,
): Promise<Read> {
  try {
    await using reader = await folder.open(name);
    const seal = await readObject(reader, SEAL_OBJECT, MAX_SEAL_BYTES);
    if (seal === undefined) return await readUnsealed(reader, name, findings);
    return await readSealed(reader, name, seal, findings, options);
  } catch (error) {
    if (isExhibitError(error, 'cancelled')) throw error;
    findings.add('error', 'chain-unreadable', `capture ${name}: ${explain(error)}`, { object: name });
    return 'unreadable';
  }
}

/** A folder without any record is no capture. */
async function readUnsealed(reader: BundleReader, name: string, findings: Findings): Promise<Read> {
  const records = [REQUEST_OBJECT, MANIFEST_OBJECT].flatMap((record) => [record, encryptedName(record)]);
  const there: string[] = [];
  for (const record of records) if (await isThere(reader, record)) there.push(record);
  if (there.length === 0) return 'none';
  const message = `capture ${name} is not sealed (it has ${there.join(' and ')}): it did not end, or is under way, and is in no chain`;
  findings.add('warning', 'chain-unsealed', message, { object: name });
  return 'unsealed';
}

async function readSealed(
  reader: BundleReader,
  name: string,
  seal: Uint8Array,
  findings: Findings,
  { trust = NO_TRUST, identities = [] }: ChainOptions,
): Promise<Read> {
  const { statement, signers } = checkSeal(seal);
  const trusted = new Set(trust.keys.map(({ keyId }) => keyId));
  if (trusted.size > 0 && !signers.some(({ keyId }) => trusted.has(keyId))) {
    const message = `capture ${name} is signed by key ${signers[0]?.keyId}, which is none of the keys you trust`;
    findings.add('error', 'signer-untrusted', message, { object: name });
  }
  const { captureId, chain: sealedLink } = statement.predicate;
  const manifest = await readManifest(reader, statement, identities);
  if (manifest !== undefined) compareToSeal(manifest, statement);
  if (captureId !== name) {
    const message = `the folder ${name} holds capture ${captureId}: it was renamed or copied`;
    findings.add('error', 'chain-broken', message, { object: name });
  }
  const chain = sealedLink ?? manifest?.chain;
  if (chain === undefined) {
    if (manifest !== undefined) return 'unchained';
    const message = `capture ${name} is encrypted, and its seal names no place in a chain: without an identity it is not known`;
    findings.add('warning', 'chain-encrypted', message, { object: name });
    return 'unknown';
  }
  const started = manifest === undefined ? startOf(captureId) : { startedAt: manifest.startedAt };
  return { captureId, ...started, chain, sealSha256: sha256Of(seal) };
}

/** What was sealed; undefined where it is encrypted and no identity opens it. */
async function readManifest(
  reader: BundleReader,
  { subject }: Statement,
  identities: Identities,
): Promise<Manifest | undefined> {
  const sealedAs = (name: string) => subject.find((one) => one.name === name)?.digest.sha256;
  const name =
    sealedAs(encryptedName(MANIFEST_OBJECT)) === undefined ? MANIFEST_OBJECT : encryptedName(MANIFEST_OBJECT);
  const isEncrypted = name !== MANIFEST_OBJECT;
  const there = await isThere(reader, name);
  if (!there) throw new ExhibitError('bundle-corrupt', `it has a seal and no ${name}`);
  if (isEncrypted && identities.length === 0) return undefined;
  const record = isEncrypted ? await readEncrypted(reader, identities) : await readPlain(reader);
  if (record === undefined) return undefined;
  if (sealedAs(name) !== record.sha256) {
    throw new ExhibitError('bundle-corrupt', `its ${name} is not the one that was sealed`);
  }
  const parsed = manifestSchema.safeParse(parseJson(record.bytes, MAX_MANIFEST_BYTES, MANIFEST_OBJECT));
  if (parsed.success) return parsed.data;
  throw new ExhibitError('bundle-corrupt', `its ${MANIFEST_OBJECT} has not the expected shape`);
}

interface SealedRecord {
  readonly bytes: Uint8Array;
  /** Of the bytes as they are stored. */
  readonly sha256: string;
}

async function readPlain(reader: BundleReader): Promise<SealedRecord | undefined> {
  const bytes = await readObject(reader, MANIFEST_OBJECT, MAX_MANIFEST_BYTES);
  return bytes && { bytes, sha256: sha256Of(bytes) };
}

async function readEncrypted(stored: BundleReader, identities: Identities): Promise<SealedRecord | undefined> {
  try {
    const record = await readSealedRecord({ stored, identities }, MANIFEST_OBJECT, MAX_MANIFEST_BYTES);
    if (record !== undefined) return record;
  } catch (error) {
    if (error instanceof NoIdentity) return undefined;
    throw error;
  }
  throw tooLarge(MANIFEST_OBJECT, MAX_MANIFEST_BYTES);
}

function compareToSeal({ captureId, chain }: Manifest, { predicate }: Statement): void {
  if (captureId !== predicate.captureId) {
    const message = `its seal is of capture ${predicate.captureId}, its manifest of ${captureId}`;
    throw new ExhibitError('bundle-corrupt', message);
  }
  if (predicate.chain !== undefined && !isSameLink(predicate.chain, chain)) {
    throw new ExhibitError('bundle-corrupt', 'its seal and its manifest name different places in the chain');
  }
}

/** RFC 9562, section 5.7: a UUIDv7 begins with 48 bits of Unix time in ms. */
const UUID_V7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

function startOf(captureId: string): Pick<ChainPlace, 'startedAt' | 'startedAtFrom'> {
  const [, high, low] = UUID_V7.exec(captureId) ?? [];
  if (high === undefined || low === undefined) return {};
  return { startedAt: new Date(Number.parseInt(high + low, 16)).toISOString(), startedAtFrom: 'capture-id' };
}

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Undefined when it is not there. */
async function readObject(reader: BundleReader, object: string, limitBytes: number): Promise<Uint8Array | undefined> {
  try {
    const bytes = await readAtMost(reader.read(object), limitBytes);
    if (bytes !== undefined) return bytes;
  } catch (error) {
    if (isExhibitError(error, 'bundle-not-found')) return undefined;
    throw error;
  }
  throw tooLarge(object, limitBytes);
}

const tooLarge = (object: string, limitBytes: number): ExhibitError =>
  new ExhibitError('bundle-corrupt', `its ${object} is larger than the ${limitBytes} bytes that are read of it`);

async function isThere(reader: BundleReader, object: string): Promise<boolean> {
  try {
    for await (const _ of reader.read(object, { start: 0, end: 1 })) break;
    return true;
  } catch (error) {
    if (isExhibitError(error, 'bundle-not-found')) return false;
    throw error;
  }
}
