import { AgeCut, AgeError } from './age-format.ts';
import { decryptFile } from './age-reader.ts';
import type { BundleReader } from './bundle.ts';
import { ExhibitError, explain, isExhibitError } from './error.ts';
import type { Findings, Where } from './findings.ts';
import { decodeFrames, measureFrames } from './frame-decoder.ts';
import { RunningDigest } from './frames.ts';
import { isTar, isZstd, storedName } from './layout.ts';
import type { ContentDigest, Digest, StoredObject } from './manifest.ts';
import type { ListedMember } from './members.ts';
import { readMemberLines } from './members.ts';
import { storedReader, verifyPlainContent } from './verify-encrypted.ts';
import { compareMembers } from './verify-members.ts';

/**
 * One object, read once from its first byte to its last: stored digest, frames, content digest, archive, members. What
 * fails on an inner layer never stops an outer one: the stored digest is always of all bytes.
 */
export interface ObjectContext {
  readonly reader: BundleReader;
  readonly findings: Findings;
  readonly where: Where;
  readonly signal: AbortSignal | undefined;
  /** Stored bytes as they are read. */
  readonly onBytes: (bytes: number) => void;
  readonly onMember: () => void;
  /** Objects of which the manifest says that they end early. */
  readonly truncated: ReadonlySet<string>;
}

export async function verifyObject(object: StoredObject, context: ObjectContext): Promise<void> {
  const { findings, where } = context;
  const stored = new RunningDigest();
  const source = shared(measured(storedReader(context.reader).read(storedName(object)), stored, context));
  try {
    if (object.encryption !== undefined) await verifyEncrypted(object, source, context);
    else if (object.truncated !== undefined) await measureCut(object, object.truncated, source, context);
    else if (isZstd(object.mediaType)) await verifyContent(object, source, context);
    await drain(source);
  } catch (error) {
    if (isExhibitError(error, 'cancelled')) throw error;
    findings.add('error', 'object-unreadable', `${object.name} cannot be read to its end: ${explain(error)}`, where);
    return;
  } finally {
    await source.close();
  }
  compareDigest(
    stored.digest(),
    object.stored,
    `${object.name} as it is stored`,
    ['object-size', 'object-digest'],
    context,
  );
}

/**
 * An object of which only a first part was kept, as the manifest says itself. Nothing declares its content, so nothing is
 * decompressed: its frames' headers say how much can be read.
 */
async function measureCut(
  object: StoredObject,
  why: string,
  source: AsyncIterable<Uint8Array>,
  context: ObjectContext,
): Promise<void> {
  const { findings, where } = context;
  const words = `${object.name} is a first part only, as the manifest says (${why})`;
  if (!isZstd(object.mediaType)) {
    findings.add('info', 'object-truncated', words, where);
    return;
  }
  try {
    const { frames, contentBytes } = await measureFrames(source);
    const readable = `${frames} whole frames of it can be read, ${contentBytes} bytes of content`;
    findings.add('info', 'object-truncated', `${words}: ${readable}`, where);
  } catch (error) {
    if (!isExhibitError(error, 'bundle-corrupt') || error instanceof AgeError) throw error;
    findings.add('error', 'frames-corrupt', `${object.name}: ${explain(error)}`, where);
  }
}

/** What an age file holds, as if it lay there by itself. */
async function verifyEncrypted(object: StoredObject, source: Shared, context: ObjectContext): Promise<void> {
  const { truncated } = object;
  const decrypted = decryptFile(source, context.reader.encryption?.identities ?? []);
  // What was cut when it was stored ends in the middle of a chunk, as its record says.
  const inner = shared(truncated === undefined ? decrypted : untilCut(decrypted));
  try {
    if (truncated !== undefined) await measureCut(object, truncated, inner, context);
    else if (isZstd(object.mediaType)) await verifyContent(object, inner, context);
    else await verifyPlainContent(object, inner, context);
    await drain(inner);
  } catch (error) {
    if (!(error instanceof AgeError) && !isExhibitError(error, 'bundle-encrypted')) throw error;
    context.findings.add('error', 'encryption-corrupt', `${object.name}: ${explain(error)}`, context.where);
  } finally {
    await inner.close();
  }
}

/** The whole chunks of an age file that ends early. */
async function* untilCut(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (error) {
    if (!(error instanceof AgeCut)) throw error;
  }
}

async function verifyContent(object: StoredObject, source: Shared, context: ObjectContext): Promise<void> {
  const { findings, where } = context;
  if (object.content === undefined) {
    findings.add(
      'error',
      'manifest-inconsistent',
      `${object.name} is compressed, but no content is declared for it`,
      where,
    );
    return;
  }
  const digest = new RunningDigest();
  const content = shared(limited(decodeFrames(source), digest, object.content));
  try {
    if (isTar(object.mediaType)) await verifyArchive(object, content, context);
    await drain(content);
  } catch (error) {
    if (!isExhibitError(error, 'bundle-corrupt') || error instanceof AgeError) throw error;
    const code = error instanceof TooMuchContent ? 'content-size' : 'frames-corrupt';
    findings.add('error', code, `${object.name}: ${explain(error)}`, where);
    return;
  } finally {
    await content.close();
  }
  compareDigest(
    digest.digest(),
    object.content,
    `the content of ${object.name}`,
    ['content-size', 'content-digest'],
    context,
  );
}

async function verifyArchive(object: StoredObject, content: Shared, context: ObjectContext): Promise<void> {
  const { findings, where, reader } = context;
  if (object.members === undefined && object.membersIn === undefined) {
    const message = `the manifest does not list the members of ${object.name}; only its digests were checked`;
    findings.add('warning', 'members-not-listed', message, where);
    return;
  }
  const expected =
    object.membersIn === undefined ? listed(object.members ?? []) : readMemberLines(reader.read(object.membersIn));
  await compareMembers(object, content, expected, context);
}

async function* listed(members: readonly ListedMember[]): AsyncGenerator<ListedMember> {
  yield* members;
}

function compareDigest(
  found: Digest,
  declared: ContentDigest,
  what: string,
  [sizeCode, digestCode]: readonly ['object-size', 'object-digest'] | readonly ['content-size', 'content-digest'],
  { findings, where }: ObjectContext,
): void {
  if (found.sizeBytes !== declared.sizeBytes) {
    const message = `${what} has ${found.sizeBytes} bytes; the manifest says ${declared.sizeBytes}`;
    findings.add('error', sizeCode, message, where);
  } else if (declared.sha256 !== undefined && found.sha256 !== declared.sha256) {
    findings.add('error', digestCode, `${what} is altered: its SHA-256 is not the manifest's`, where);
  }
}

/** Content beyond what the manifest declares is not decompressed: it may have no end. */
class TooMuchContent extends ExhibitError {}

async function* limited(
  chunks: AsyncIterable<Uint8Array>,
  digest: RunningDigest,
  declared: ContentDigest,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    digest.update(chunk);
    if (digest.sizeBytes > declared.sizeBytes) {
      const message = `the content is longer than the ${declared.sizeBytes} bytes that the manifest says`;
      throw new TooMuchContent('bundle-corrupt', message);
    }
    yield chunk;
  }
}

async function* measured(
  chunks: AsyncIterable<Uint8Array>,
  digest: RunningDigest,
  context: ObjectContext,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    if (context.signal?.aborted === true) {
      throw new ExhibitError('cancelled', 'the verification was cancelled', { cause: context.signal.reason });
    }
    digest.update(chunk);
    context.onBytes(chunk.length);
    yield chunk;
  }
}

/** A stream that a consumer may leave without ending it, so that another can read on from there. */
export interface Shared extends AsyncIterable<Uint8Array> {
  close(): Promise<void>;
}

function shared(chunks: AsyncGenerator<Uint8Array>): Shared {
  return {
    [Symbol.asyncIterator]: () => ({ next: () => chunks.next() }),
    async close() {
      await chunks.return(undefined);
    },
  };
}

async function drain(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of chunks);
}
