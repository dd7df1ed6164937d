import { type BaseImage, sha256Of } from '../../evidence/base-image.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { canonicalJson } from '../../evidence/json.ts';
import { IMAGE_OBJECT, IMAGE_RECORD } from '../../evidence/layout.ts';
import { blobPath, layoutIndex, OCI_LAYOUT } from '../../evidence/oci-layout.ts';
import type { Archive, CollectContext, Collector } from './collector.ts';
import { storeMerged } from './image-merged.ts';

/**
 * What the writable layer lies on, so that the bundle alone gives the container's whole root: docs/image.md. Where the node
 * still has every layer's blob, `image.tar.zst` is an OCI image layout of the very image. Otherwise the lower directories
 * are merged, as the container saw them, into one layer, `image-base.tar.zst`, and `image.tar.zst` has the documents alone.
 * Throws ExhibitError `capture-failed` when neither can be had.
 */
export const imageCollector: Collector = { artifact: 'image', collect: collectImage };

/** Blobs that make the image, as the manifest has them. */
interface Blobs {
  readonly config: Uint8Array;
  readonly manifest: Uint8Array;
  readonly layers: readonly { readonly digest: string; readonly sizeBytes: number }[];
}

async function collectImage(context: CollectContext): Promise<void> {
  const { image, rootfs } = context.target;
  if (image !== undefined) {
    context.fact('agreement', image.agreement);
    for (const note of image.notes) context.note(note);
  }
  const blobs = image === undefined ? 'the runtime does not say which image it is' : completeBlobs(context, image);
  if (typeof blobs !== 'string' && image !== undefined && (await storeLayout(context, image, blobs))) {
    context.fact('base', 'blobs');
    return;
  }
  if (rootfs === undefined || rootfs.lowers.length === 0) {
    const why = typeof blobs === 'string' ? blobs : 'a blob could not be had';
    throw new ExhibitError('capture-failed', `the base cannot be taken: ${why}, and there are no lower directories`);
  }
  if (typeof blobs === 'string') context.note(`the lower layers are merged into one: ${blobs}`);
  if (image !== undefined) await storeDocuments(context, image);
  await storeMerged(context, rootfs, image);
  context.fact('base', 'merged');
}

/** Pure: the blobs, or why they cannot make the base. */
function completeBlobs({ target, runtime }: CollectContext, image: BaseImage): Blobs | string {
  const document = (name: string, digest: string | undefined) =>
    target.documents.find((one) => one.name === name && sha256Of(one.bytes) === digest)?.bytes;
  const config = document('image-config.json', image.configDigest);
  const manifest = document('image-manifest.json', image.manifestDigest);
  if (config === undefined || manifest === undefined) return "the node does not keep the image's own documents";
  if (runtime.blob === undefined || image.layers.some(({ blob }) => blob !== 'kept')) {
    const gone = image.layers.filter(({ blob }) => blob !== 'kept').length;
    return `the node does not keep the blobs of ${gone} of the image's ${image.layers.length} layers`;
  }
  if (image.agreement === 'differs') return 'the container does not lie on the layers of the image';
  if (image.lowers.some(({ layer }) => layer === undefined))
    return 'the runtime put a layer of its own above the image';
  const layers = image.layers.map(({ digest = '', sizeBytes = 0 }) => ({ digest, sizeBytes }));
  return { config, manifest, layers };
}

async function addText(archive: Archive, path: string, bytes: Uint8Array): Promise<void> {
  await archive.add({ path, type: 'file', sizeBytes: bytes.length, mode: 0o644 }, bytes);
}

/** False when a blob is not what its name says or cannot be read: then nothing is stored, and there is a gap. */
async function storeLayout(context: CollectContext, image: BaseImage, blobs: Blobs): Promise<boolean> {
  // A layer that an image has twice is one blob.
  const layers = [...new Map(blobs.layers.map((layer) => [layer.digest, layer])).values()];
  const totalBytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  await using archive = await context.archive(IMAGE_OBJECT, { estimatedBytes: totalBytes });
  await addText(archive, IMAGE_RECORD, canonicalJson(image));
  await addText(archive, blobPath(sha256Of(blobs.config)), blobs.config);
  await addText(archive, blobPath(sha256Of(blobs.manifest)), blobs.manifest);
  let doneBytes = 0;
  for (const layer of layers) {
    const wrong = await storeBlob(context, archive, layer);
    if (wrong !== undefined) {
      context.gap({ what: `blob ${layer.digest}`, why: `${wrong}; the lower layers are merged into one instead` });
      return false;
    }
    doneBytes += layer.sizeBytes;
    context.progress(doneBytes, totalBytes);
  }
  await addText(archive, 'index.json', layoutIndex(blobs.manifest, image.reference));
  await addText(archive, OCI_LAYOUT.name, OCI_LAYOUT.bytes);
  await archive.commit();
  context.fact('layers', layers.length);
  context.fact('contentBytes', doneBytes);
  return true;
}

/** Why the blob is not good; undefined when it is. */
async function storeBlob(
  { runtime, signal, read }: CollectContext,
  archive: Archive,
  { digest, sizeBytes }: Blobs['layers'][number],
): Promise<string | undefined> {
  const header = { path: blobPath(digest), type: 'file', sizeBytes, mode: 0o644 } as const;
  try {
    const { member, bodyBytes } = await archive.add(header, runtime.blob?.(digest, signal) ?? []);
    read(bodyBytes, 1);
    if (bodyBytes !== sizeBytes) return `it has ${bodyBytes} bytes, and the manifest of the image says ${sizeBytes}`;
    return `sha256:${member.sha256}` === digest ? undefined : `its SHA-256 is ${member.sha256}: it was changed`;
  } catch (error) {
    signal.throwIfAborted();
    if (!isExhibitError(error) || !error.code.startsWith('runtime-')) throw error;
    return `it cannot be read: ${explain(error)}`;
  }
}

async function storeDocuments(context: CollectContext, image: BaseImage): Promise<void> {
  await using archive = await context.archive(IMAGE_OBJECT);
  await addText(archive, IMAGE_RECORD, canonicalJson(image));
  for (const { name, bytes } of context.target.documents) {
    const digest = sha256Of(bytes);
    if (digest === image.configDigest || digest === image.manifestDigest)
      await addText(archive, blobPath(digest), bytes);
    // Docker's or CRI's retelling: better than nothing, and no blob.
    else if (name === 'image-config.json') await addText(archive, name, bytes);
  }
  await archive.commit();
}
