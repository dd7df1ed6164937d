import { sha256Of } from './base-image.ts';
import type { BundleReader } from './bundle.ts';
import type { ByteSink } from './byte-sink.ts';
import { ExhibitError, explain, isExhibitError } from './error.ts';
import { decodeFrames } from './frame-decoder.ts';
import { RunningDigest } from './frames.ts';
import type { StoredObject } from './manifest.ts';
import type { ImageDocuments, LayerEntry } from './oci-image.ts';
import { blobPath, DOCKER_LIST, OCI_INDEX, OCI_LAYOUT, OCI_TYPES } from './oci-layout.ts';
import { createTarWriter, type TarHeader } from './tar.ts';

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
  const tar = createTarWriter(out);
  const file = (path: string, sizeBytes: number): TarHeader => ({
    path,
    type: 'file',
    mode: 0o644,
    mtimeNs,
    sizeBytes,
  });
  const add = (path: string, bytes: Uint8Array) => tar.add(file(path, bytes.length), bytes);
  await add(OCI_LAYOUT.name, OCI_LAYOUT.bytes);
  await add(OCI_INDEX, documents.index);
  await add(DOCKER_LIST, documents.dockerList);
  for (const path of ['blobs/', 'blobs/sha256/']) await tar.add({ path, type: 'directory', mode: 0o755, mtimeNs });
  for (const bytes of [documents.config, documents.manifest]) await add(blobPath(sha256Of(bytes)), bytes);
  for await (const { digest, sizeBytes, from, body } of blobs) {
    const { member, bodyBytes } = await tar.add(file(blobPath(digest), sizeBytes), body);
    if (bodyBytes === sizeBytes && `sha256:${member.sha256}` === digest) continue;
    const found = bodyBytes === sizeBytes ? `sha256:${member.sha256}` : `${bodyBytes} bytes instead of ${sizeBytes}`;
    throw new ExhibitError('bundle-corrupt', `${from} is damaged: ${digest} is expected, found is ${found}.`);
  }
  await tar.end();
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
