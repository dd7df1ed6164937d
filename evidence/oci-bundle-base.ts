import {
  type BaseImage,
  baseImageSchema,
  type ImageConfig,
  parseImageConfig,
  parseImageManifest,
  sha256Of,
} from './base-image.ts';
import type { BundleReader } from './bundle.ts';
import { type ByteSource, readAtMost } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import { parseJson } from './json.ts';
import { IMAGE_BASE, IMAGE_OBJECT, IMAGE_RECORD } from './layout.ts';
import type { Manifest, StoredObject } from './manifest.ts';
import { checkedContent, type LayerBlob, storedBlob, storedLayer } from './oci-export.ts';
import { type BaseLayers, type LayerEntry, ociLayerType } from './oci-image.ts';
import { blobPath, OCI_INDEX } from './oci-layout.ts';
import { readTar } from './tar-reader.ts';

/** The base of an image as a bundle has it. */

/** Configs and manifests are tens of KiB; containerd refuses manifests over 8 MiB. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;

export interface Base extends BaseLayers {
  /** The layers' blobs, each once, in any order. */
  blobs(): AsyncGenerator<LayerBlob>;
}

/** What the bundle says of the original image, and its documents where they are there. */
export interface Original {
  readonly image: BaseImage | undefined;
  readonly config: ImageConfig | undefined;
  /** The image's own manifest; bytes that are what their digest says. */
  readonly manifest: Uint8Array | undefined;
}

export const NO_BASE: Base = { kind: 'none', layers: [], config: undefined, async *blobs() {} };

/**
 * From `image.tar.zst`, or else from the artifact `spec`; all undefined in bundles that say nothing. The object is read to its
 * end and checked, unless `blobs` says that it is an image whose layers are going to be read, which checks it as well.
 */
export async function readOriginal(reader: BundleReader, manifest: Manifest, blobs: boolean): Promise<Original> {
  const object = findObject(manifest, IMAGE_OBJECT) ?? findObject(manifest, 'spec.tar.zst');
  const documents = object === undefined ? new Map<string, Uint8Array>() : await documentsOf(reader, object, blobs);
  const record = documents.get(IMAGE_RECORD);
  const parsed = record && baseImageSchema.safeParse(parseJson(record, MAX_DOCUMENT_BYTES, IMAGE_RECORD));
  if (parsed?.success === false) {
    throw new ExhibitError('bundle-corrupt', `${IMAGE_RECORD} in ${object?.name} has not the expected shape.`);
  }
  const image = parsed?.data;
  const verified = (digest: string | undefined, name: string) =>
    digest === undefined
      ? undefined
      : [documents.get(blobPath(digest)), documents.get(name)].find((one) => one && sha256Of(one) === digest);
  const config = verified(image?.configDigest, 'image-config.json') ?? documents.get('image-config.json');
  return {
    image,
    config: config && parseImageConfig(config),
    manifest: verified(image?.manifestDigest, 'image-manifest.json'),
  };
}

export function findObject(manifest: Manifest, name: string): StoredObject | undefined {
  return manifest.objects.find((object) => object.name === name);
}

/** The first of an archive: they come before layers. With `stops`, nothing after them is read. */
async function documentsOf(
  reader: BundleReader,
  object: StoredObject,
  stops: boolean,
): Promise<Map<string, Uint8Array>> {
  const documents = new Map<string, Uint8Array>();
  for await (const { header, path, body } of readTar(checkedContent(reader, object))) {
    const full = documents.size === MAX_DOCUMENTS;
    if (stops && full) break;
    if (full || !isDocument(path) || header.sizeBytes > MAX_DOCUMENT_BYTES) continue;
    const bytes = await readAtMost(copied(body), MAX_DOCUMENT_BYTES);
    if (bytes !== undefined) documents.set(path, bytes);
  }
  return documents;
}

/** Record, config and manifest. */
const MAX_DOCUMENTS = 3;

const isDocument = (path: string): boolean =>
  path === IMAGE_RECORD || /^image-(?:config|manifest)\.json$/.test(path) || path.startsWith('blobs/sha256/');

/** Chunks of a body are views that the next one overwrites. */
async function* copied(body: ByteSource): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) yield Uint8Array.prototype.slice.call(chunk);
}

/** Whether `image.tar.zst` is a whole image and not its documents alone. */
export function hasBlobs(manifest: Manifest): boolean {
  return findObject(manifest, IMAGE_OBJECT)?.members?.some(({ path }) => path === OCI_INDEX) === true;
}

/** The base that the bundle has: the image's own blobs, else the merged lower layers; undefined when it has neither. */
export function bundleBase(reader: BundleReader, manifest: Manifest, original: Original): Base | undefined {
  const layout = findObject(manifest, IMAGE_OBJECT);
  if (layout !== undefined && hasBlobs(manifest)) return blobsBase(reader, layout, original);
  const merged = findObject(manifest, IMAGE_BASE);
  if (merged === undefined) return undefined;
  return {
    kind: 'merged',
    layers: [storedLayer(merged)],
    config: original.config,
    async *blobs() {
      yield storedBlob(reader, merged);
    },
  };
}

function blobsBase(reader: BundleReader, layout: StoredObject, original: Original): Base {
  const layers = layersOf(original);
  if (layers === undefined) {
    throw new ExhibitError('bundle-corrupt', `${layout.name} is no whole image: its config or manifest is damaged.`);
  }
  return {
    kind: 'blobs',
    layers,
    config: original.config,
    async *blobs() {
      const left = new Map(layers.map((layer) => [blobPath(layer.digest), layer]));
      // To its very end, so that the archive as a whole is checked.
      for await (const { path, body } of readTar(checkedContent(reader, layout))) {
        const layer = left.get(path);
        if (layer === undefined) continue;
        left.delete(path);
        yield { digest: layer.digest, sizeBytes: layer.sizeBytes, from: `${path} in ${layout.name}`, body };
      }
      for (const path of left.keys()) throw new ExhibitError('bundle-corrupt', `${layout.name} has no ${path}.`);
    },
  };
}

/** Pure: config and manifest side by side; undefined where they do not fit, or a layer is of a kind that no image carries. */
export function layersOf({ config, manifest }: Pick<Original, 'config' | 'manifest'>): LayerEntry[] | undefined {
  const blobs = (manifest && parseImageManifest(manifest))?.layers ?? [];
  const diffIds = config?.rootfs.diff_ids ?? [];
  if (blobs.length !== diffIds.length || blobs.length === 0) return undefined;
  const layers: LayerEntry[] = [];
  for (const [index, { mediaType, digest, size }] of blobs.entries()) {
    const type = ociLayerType(mediaType);
    const diffId = diffIds[index];
    if (type === undefined || diffId === undefined) return undefined;
    layers.push({ mediaType: type, digest, sizeBytes: size, diffId });
  }
  return layers;
}
