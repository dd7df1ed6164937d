import { sha256Of } from './base-image.ts';
import type { BundleReader } from './bundle.ts';
import type { ByteSink } from './byte-sink.ts';
import { ExhibitError, explain, isExhibitError } from './error.ts';
import { decodeFrames } from './frame-decoder.ts';
import { RunningDigest } from './frames.ts';
import type { StoredObject } from './manifest.ts';
import type { ImageDocuments, LayerEntry } from './oci-image.ts';
import { blobPath, DOCKER_LIST, OCI_INDEX, OCI_LAYOUT, OCI_TYPES } from './oci-layout.ts';
import { BLOCK_BYTES, encodeHeader, paddingAfter } from './tar-header.ts';

/** A layer's blob on its way into the image. `from` names where it comes from, for people. */
export interface LayerBlob {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly from: string;
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * Writes a tar of an OCI image layout with Docker's list beside it. Every blob is hashed as it passes; one that is not what
 * its name says ends it with `bundle-corrupt`, and what was written is to be thrown away. `mtimeNs` is every member's.
 */
export async function writeImage(
  out: ByteSink,
  documents: ImageDocuments,
  blobs: AsyncIterable<LayerBlob>,
  mtimeNs: bigint,
): Promise<void> {
  const head = (path: string, sizeBytes: number) =>
    out.write(encodeHeader({ path, type: 'file', mode: 0o644, mtimeNs, sizeBytes }));
  const pad = (sizeBytes: number) => out.write(new Uint8Array(paddingAfter(sizeBytes)));
  const add = async (path: string, bytes: Uint8Array) => {
    await head(path, bytes.length);
    await out.write(bytes);
    await pad(bytes.length);
  };
  await add(OCI_LAYOUT.name, OCI_LAYOUT.bytes);
  await add(OCI_INDEX, documents.index);
  await add(DOCKER_LIST, documents.dockerList);
  for (const path of ['blobs/', 'blobs/sha256/'])
    await out.write(encodeHeader({ path, type: 'directory', mode: 0o755, mtimeNs }));
  for (const bytes of [documents.config, documents.manifest]) await add(blobPath(sha256Of(bytes)), bytes);
  for await (const blob of blobs) {
    await head(blobPath(blob.digest), blob.sizeBytes);
    await pour(out, blob);
    await pad(blob.sizeBytes);
  }
  // Two blocks of zeros end an archive.
  await out.write(new Uint8Array(2 * BLOCK_BYTES));
}

/** A blob that is too short is not filled up: its declared length may be anything. */
async function pour(out: ByteSink, { digest, sizeBytes, from, body }: LayerBlob): Promise<void> {
  const found = new RunningDigest();
  for await (const chunk of body) {
    found.update(chunk);
    if (found.sizeBytes > sizeBytes) break;
    await out.write(chunk);
  }
  const length = found.sizeBytes > sizeBytes ? 'more bytes' : `${found.sizeBytes} bytes`;
  if (found.sizeBytes !== sizeBytes) {
    throw new ExhibitError('bundle-corrupt', `${from} is damaged: it has ${length}, and should have ${sizeBytes}.`);
  }
  const { sha256 } = found.digest();
  if (`sha256:${sha256}` === digest) return;
  throw new ExhibitError('bundle-corrupt', `${from} is damaged: ${digest} is expected, found is sha256:${sha256}.`);
}

/**
 * A layer that a bundle stores as an object of its own: its blob is the object byte for byte, so that its digest is the one
 * that was sealed. Throws ExhibitError `bundle-corrupt` where the manifest does not list what a layer has.
 */
export function storedLayer({ name, stored, content }: StoredObject): LayerEntry {
  if (content?.sha256 === undefined) {
    throw new ExhibitError('bundle-corrupt', `the manifest lists no digest of the content of ${name}.`);
  }
  return {
    mediaType: `${OCI_TYPES.layer}+zstd`,
    digest: `sha256:${stored.sha256}`,
    sizeBytes: stored.sizeBytes,
    diffId: `sha256:${content.sha256}`,
  };
}

export function storedBlob(reader: BundleReader, object: StoredObject): LayerBlob {
  const { digest, sizeBytes } = storedLayer(object);
  return { digest, sizeBytes, from: object.name, body: reader.read(object.name) };
}

/** What an object holds. Throws ExhibitError `bundle-corrupt`, naming the object, where it is not what the manifest lists. */
export async function* checkedContent(reader: BundleReader, object: StoredObject): AsyncGenerator<Uint8Array> {
  try {
    yield* decodeFrames(checkedObject(reader, object));
  } catch (error) {
    if (!isExhibitError(error, 'bundle-corrupt') || error.message.startsWith(object.name)) throw error;
    throw new ExhibitError('bundle-corrupt', `${object.name} is damaged: ${explain(error)}.`, { cause: error });
  }
}

/** An object's stored bytes; throws ExhibitError `bundle-corrupt` at their end when they are not what the manifest lists. */
async function* checkedObject(reader: BundleReader, { name, stored }: StoredObject): AsyncGenerator<Uint8Array> {
  const digest = new RunningDigest();
  for await (const chunk of reader.read(name)) {
    digest.update(chunk);
    yield chunk;
  }
  const found = digest.digest();
  if (found.sha256 === stored.sha256 && found.sizeBytes === stored.sizeBytes) return;
  throw new ExhibitError('bundle-corrupt', `${name} is damaged: its SHA-256 is not the manifest's.`);
}
