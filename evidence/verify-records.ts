import { createHash } from 'node:crypto';
import type { z } from 'zod';
import type { BundleReader } from './bundle.ts';
import { readAtMost } from './byte-sink.ts';
import { isSameLink } from './chain-links.ts';
import { explain, isExhibitError } from './error.ts';
import type { Findings } from './findings.ts';
import { duplicateKey, isCanonical, parseJson } from './json.ts';
import { MANIFEST_OBJECT, REQUEST_OBJECT, SEAL_OBJECT, storedName, TIMESTAMP_OBJECT } from './layout.ts';
import { type Manifest, manifestSchema, type RequestRecord, requestSchema } from './manifest.ts';
import { type CheckedSeal, checkSeal, MAX_SEAL_BYTES, MAX_TIMESTAMP_BYTES } from './seal.ts';
import { whyNotOfShape } from './shape.ts';
import type { Trust } from './trust.ts';
import { readSealedRecord, recordNames } from './verify-encrypted.ts';
import { type JudgedSigner, judgeSigners, type SealTime } from './verify-signers.ts';
import { compareClocks, type JudgedTimestamp, judgeTimestamp } from './verify-timestamp.ts';

/** The three records of a bundle: its seal, its manifest, its request. What cannot be read is absent, and a finding. */
export interface Records {
  readonly seal?: CheckedSeal;
  /** All who signed, in the order of the signatures; empty without a seal. */
  readonly signers: readonly JudgedSigner[];
  /** The first of them that is trusted, or else the first. */
  readonly signer?: JudgedSigner;
  readonly timestamp?: JudgedTimestamp;
  readonly manifest?: ReadRecord<Manifest>;
  readonly request?: ReadRecord<RequestRecord>;
  /** The names of manifest and request in the sink, which the seal covers. */
  readonly names: Record<'request' | 'manifest', string>;
}

export interface ReadRecord<T> {
  readonly value: T;
  /** Of the bytes as they are stored. */
  readonly sha256: string;
}

/** A manifest lists at most MAX_LISTED_BYTES of members an archive and bounded gaps an artifact; this is far above. */
export const MAX_MANIFEST_BYTES = 64 * 1024 * 1024;
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;

export async function readRecords(reader: BundleReader, findings: Findings, trust: Trust): Promise<Records> {
  const sealed = await readSeal(reader, findings);
  const { seal } = sealed;
  const stamped = await readTimestamp(reader, sealed, trust, findings);
  const manifest = await readRecord(reader, findings, manifestSchema, {
    object: MANIFEST_OBJECT,
    limitBytes: MAX_MANIFEST_BYTES,
    missing: 'manifest-missing',
    invalid: 'manifest-invalid',
  });
  const request = await readRecord(reader, findings, requestSchema, {
    object: REQUEST_OBJECT,
    limitBytes: MAX_REQUEST_BYTES,
    missing: 'request-missing',
    invalid: 'request-invalid',
  });
  const finishedAt = manifest?.value.finishedAt;
  const timestamp = stamped && (finishedAt === undefined ? stamped : compareClocks(stamped, finishedAt, findings));
  const signers = seal === undefined ? [] : judgeSigners(seal, trust, timeOf(timestamp, finishedAt), findings);
  const signer = signers.find(({ trusted }) => trusted) ?? signers[0];
  return {
    names: recordNames(reader),
    signers,
    ...(seal === undefined ? {} : { seal }),
    ...(signer === undefined ? {} : { signer }),
    ...(timestamp === undefined ? {} : { timestamp }),
    ...(manifest === undefined ? {} : { manifest }),
    ...(request === undefined ? {} : { request }),
  };
}

interface ReadSeal {
  readonly seal?: CheckedSeal;
  /** Of the bytes as they are stored, whatever they are worth. */
  readonly sha256?: string;
}

async function readSeal(reader: BundleReader, findings: Findings): Promise<ReadSeal> {
  const where = { object: SEAL_OBJECT };
  const bytes = await readWhole(reader, SEAL_OBJECT, MAX_SEAL_BYTES, findings);
  if (bytes === 'missing') {
    findings.add('error', 'seal-missing', `there is no ${SEAL_OBJECT}: nobody vouches for this bundle`, where);
  }
  if (typeof bytes === 'string') return {};
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  try {
    return { seal: checkSeal(bytes), sha256 };
  } catch (error) {
    findings.add('error', 'seal-invalid', `${SEAL_OBJECT}: ${explain(error)}`, where);
    return { sha256 };
  }
}

async function readTimestamp(
  reader: BundleReader,
  sealed: ReadSeal,
  trust: Trust,
  findings: Findings,
): Promise<JudgedTimestamp | undefined> {
  const bytes = await readWhole(reader, TIMESTAMP_OBJECT, MAX_TIMESTAMP_BYTES, findings);
  if (bytes === 'unreadable') return undefined;
  return await judgeTimestamp(bytes === 'missing' ? undefined : bytes, sealed, trust, findings);
}

function timeOf(timestamp: JudgedTimestamp | undefined, finishedAt: string | undefined): SealTime | undefined {
  if (timestamp?.trusted === true) return { at: new Date(timestamp.time), source: 'by the timestamp' };
  if (finishedAt === undefined || Number.isNaN(Date.parse(finishedAt))) return undefined;
  return { at: new Date(finishedAt), source: 'by the node’s own clock' };
}

interface RecordKind {
  readonly object: string;
  readonly limitBytes: number;
  readonly missing: 'manifest-missing' | 'request-missing';
  readonly invalid: 'manifest-invalid' | 'request-invalid';
}

async function readRecord<T>(
  reader: BundleReader,
  findings: Findings,
  schema: z.ZodType<T>,
  kind: RecordKind,
): Promise<ReadRecord<T> | undefined> {
  const where = { object: kind.object };
  // Without an identity it cannot be read, and that is said once (verify-encrypted.ts).
  if (reader.encryption?.locked !== undefined) return undefined;
  const record = await readRecordBytes(reader, kind.object, kind.limitBytes, findings);
  if (record === 'missing') findings.add('error', kind.missing, `there is no ${kind.object}`, where);
  if (typeof record === 'string') return undefined;
  const { bytes, sha256 } = record;
  try {
    const value = parseJson(bytes, kind.limitBytes, kind.object);
    const parsed = schema.safeParse(value);
    lookAtSpelling(bytes, kind.object, parsed.success, findings);
    if (!parsed.success) {
      const why = whyNotOfShape(parsed.error.issues);
      findings.add('error', kind.invalid, `${kind.object} has not the expected shape: ${why}`, where);
      return undefined;
    }
    return { value: parsed.data, sha256 };
  } catch (error) {
    findings.add('error', kind.invalid, explain(error), where);
    return undefined;
  }
}

/** Of bytes that are JSON: written as only we write them? Of what has another shape only one thing is worth saying. */
function lookAtSpelling(bytes: Uint8Array, object: string, hasShape: boolean, findings: Findings): void {
  if (hasShape && isCanonical(bytes)) return;
  const twice = duplicateKey(bytes);
  if (twice === undefined) {
    if (!hasShape) return;
    findings.add('error', 'not-canonical', `${object} is not written the canonical way: it was edited`, { object });
    return;
  }
  const key = JSON.stringify(twice);
  const message = `${object} has the key ${key} twice in one object: two readers would read it differently`;
  findings.add('error', 'duplicate-key', message, { object });
}

type Unread = 'missing' | 'unreadable';

export function readWhole(reader: BundleReader, object: string, limitBytes: number, findings: Findings) {
  return unlessUnread(object, limitBytes, findings, () => readAtMost(reader.read(object), limitBytes));
}

/** The bytes of a record, and the digest of them as they are stored. */
function readRecordBytes(reader: BundleReader, object: string, limitBytes: number, findings: Findings) {
  return unlessUnread(object, limitBytes, findings, async () => {
    if (reader.encryption !== undefined) return await readSealedRecord(reader.encryption, object, limitBytes);
    const bytes = await readAtMost(reader.read(object), limitBytes);
    return bytes && { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
}

async function unlessUnread<T>(
  object: string,
  limitBytes: number,
  findings: Findings,
  read: () => Promise<T | undefined>,
): Promise<T | Unread> {
  try {
    const found = await read();
    if (found !== undefined) return found;
    findings.add('error', 'object-size', `${object} is larger than any ${object} is: ${limitBytes} bytes`, { object });
  } catch (error) {
    if (isExhibitError(error, 'bundle-not-found')) return 'missing';
    findings.add('error', 'object-unreadable', `${object} cannot be read: ${explain(error)}`, { object });
  }
  return 'unreadable';
}

/** The manifest against itself, against the request and against who signed it. */
export function compareRecords(records: Records, findings: Findings): void {
  const manifest = records.manifest?.value;
  const request = records.request?.value;
  if (manifest !== undefined) lookAtManifest(manifest, records, findings);
  if (manifest === undefined && request !== undefined) {
    const { trigger, identity } = request.requester;
    const message =
      `the capture did not end: requested at ${request.requestedAt} by ${identity} (${trigger}), ` +
      `target ${request.selector} on node ${request.node}; what is here was never sealed`;
    findings.add('warning', 'capture-unfinished', message, { object: REQUEST_OBJECT });
  }
  if (manifest === undefined || request === undefined) return;
  const pairs: readonly (readonly [string, unknown, unknown])[] = [
    ['formatVersion', request.formatVersion, manifest.formatVersion],
    ['captureId', request.captureId, manifest.captureId],
    ['cluster', request.cluster, manifest.cluster],
    ['node', request.node, manifest.node],
    ['target.id', request.target.id, manifest.target.id],
    ['target.runtime', request.target.runtime, manifest.target.runtime],
    ['target.kind', request.target.kind, manifest.target.kind],
    ...agentPairs(request, manifest),
  ];
  for (const [field, asked, done] of pairs) {
    if (asked === done) continue;
    const message = `${REQUEST_OBJECT} and ${MANIFEST_OBJECT} disagree: ${field} is ${String(asked)} and ${String(done)}`;
    findings.add('error', 'request-disagrees', message, { object: REQUEST_OBJECT });
  }
}

/**
 * The request names the agent that captured, the manifest the one that sealed. These are one in bundles of agents that did not
 * seal for each other: what those wrote names no sink.
 */
function agentPairs(request: RequestRecord, manifest: Manifest): (readonly [string, unknown, unknown])[] {
  if (manifest.sink !== undefined) return [];
  return [
    ['agent.version', request.agent.version, manifest.agent.version],
    ['agent.keyId', request.agent.keyId, manifest.agent.keyId],
  ];
}

function lookAtManifest(manifest: Manifest, records: Records, findings: Findings): void {
  const where = { object: MANIFEST_OBJECT };
  const names = new Set<string>();
  for (const { name } of manifest.objects) {
    if (names.has(name)) findings.add('error', 'manifest-inconsistent', `the manifest lists ${name} twice`, where);
    names.add(name);
  }
  for (const { name, truncated, content, members, membersIn } of manifest.objects) {
    if (truncated === undefined || (content ?? members ?? membersIn) === undefined) continue;
    const message = `the manifest says that ${name} ends early, and yet what its whole content is`;
    findings.add('error', 'manifest-inconsistent', message, where);
  }
  const needed = [
    ...manifest.artifacts.flatMap((artifact) => artifact.objects.map((object) => ({ by: artifact.name, object }))),
    ...manifest.objects.flatMap(({ name, membersIn }) =>
      membersIn === undefined ? [] : [{ by: name, object: membersIn }],
    ),
    { by: 'every bundle', object: REQUEST_OBJECT },
  ];
  for (const { by, object } of needed) {
    if (names.has(object)) continue;
    findings.add('error', 'manifest-inconsistent', `${object}, of ${by}, is not among the manifest's objects`, where);
  }
  const { seal } = records;
  const named = [...(seal?.signers ?? []), ...(seal?.statement.predicate.missing ?? [])];
  if (seal !== undefined && !named.some((key) => 'keyId' in key && key.keyId === manifest.agent.keyId)) {
    const message = `the manifest names key ${manifest.agent.keyId} as its agent's, which did not sign it`;
    findings.add('error', 'signer-disagrees', message, where);
  }
  if (manifest.outcome === 'complete') return;
  const gaps = manifest.artifacts.reduce((sum, artifact) => sum + artifact.gapCount, 0);
  const message = `the capture is ${manifest.outcome}: the manifest lists ${gaps} gaps`;
  findings.add('info', 'capture-partial', message, where);
}

/** The seal's subjects must be exactly the bundle's objects, with the digests that the manifest and the files have. */
export function compareSubjects(records: Records, findings: Findings): void {
  const { seal, manifest, request, names } = records;
  if (seal === undefined) return;
  const { subject, predicate } = seal.statement;
  const add = (message: string, object: string) => findings.add('error', 'seal-disagrees', message, { object });
  const expected = new Map((manifest?.value.objects ?? []).map((object) => [storedName(object), object.stored.sha256]));
  if (manifest !== undefined) expected.set(names.manifest, manifest.sha256);
  if (request !== undefined) {
    const declared = expected.get(names.request);
    if (declared !== undefined && declared !== request.sha256) {
      add(`${names.request} is altered: its SHA-256 is not the manifest's`, names.request);
    }
  }
  const sealedNames = new Set<string>();
  for (const { name, digest } of subject) {
    if (sealedNames.has(name)) add(`the seal names ${name} twice`, name);
    sealedNames.add(name);
    const found = expected.get(name);
    if (found === digest.sha256) continue;
    if (found !== undefined) add(`${name} is not what was sealed: its SHA-256 is another`, name);
    else if (manifest !== undefined) add(`the seal covers ${name}, which the manifest does not list`, name);
  }
  for (const name of expected.keys()) if (!sealedNames.has(name)) add(`the seal does not cover ${name}`, name);
  if (manifest !== undefined && predicate.captureId !== manifest.value.captureId) {
    add(`the seal is of capture ${predicate.captureId}, the manifest of ${manifest.value.captureId}`, SEAL_OBJECT);
  }
  if (manifest !== undefined && predicate.agent.keyId !== manifest.value.agent.keyId) {
    add('the seal and the manifest name different agents', SEAL_OBJECT);
  }
  // Older seals name none.
  const isChained = manifest !== undefined && predicate.chain !== undefined;
  if (isChained && !isSameLink(predicate.chain, manifest.value.chain)) {
    add('the seal and the manifest name different places in the chain of captures', SEAL_OBJECT);
  }
}
