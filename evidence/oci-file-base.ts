import { z } from 'zod';
import { type ImageConfig, parseImageConfig, parseImageManifest } from './base-image.ts';
import { type ByteSource, readAtMost } from './byte-sink.ts';
import { ExhibitError, isErrno, isExhibitError } from './error.ts';
import { type Base, layersOf } from './oci-bundle-base.ts';
import type { LayerBlob } from './oci-export.ts';
import type { LayerEntry } from './oci-image.ts';
import { blobPath, DOCKER_LIST, OCI_INDEX, OCI_TYPES } from './oci-layout.ts';
import { readTar, type TarEntry } from './tar-reader.ts';

/**
 * The base from a tar of an image that somebody pulled or kept: an OCI image layout, or what `docker save` writes. It is read
 * twice, once for its documents and once for its layers, and nothing of it is unpacked.
 */

/** Configs, manifests and lists: docker save of a hundred images is far below. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;
const MAX_DOCUMENTS_BYTES = 64 * 1024 * 1024;
/** An image has some ten files, a layout of many images some thousand. */
const MAX_MEMBERS = 100_000;
/** No file has so many images, one in another's index or not. */
const MAX_IMAGES = 1_000;

/** One image of the file. `members` has the archive's member for each of `layers`. */
interface Candidate {
  readonly config: ImageConfig;
  readonly layers: readonly LayerEntry[];
  readonly members: readonly string[];
}

/**
 * The image in `file` whose layers are `diffIds`; the first one when they are not known. `open` gives the file's bytes, each
 * time from the start. Throws ExhibitError `usage`: no
 * file, no archive of images, or none with these layers.
 */
export async function fileBase(
  file: string,
  open: (file: string) => AsyncIterable<Uint8Array>,
  diffIds: readonly string[] | undefined,
): Promise<Base> {
  const members = () => entries(file, open(file));
  const { documents, sizes } = await scan(file, members());
  const found = candidates(documents, sizes);
  if (found.length === 0) {
    const words = 'is neither an OCI image layout nor what docker save writes (unpack .gz and .zst before)';
    throw new ExhibitError('usage', `${file} ${words}: name a tar of the image with --base.`);
  }
  const fits = ({ config }: Candidate) =>
    diffIds === undefined || String(config.rootfs.diff_ids) === String([...diffIds]);
  const chosen = found.find(fits);
  if (chosen === undefined) {
    const words = `has ${found.length === 1 ? 'an image' : `${found.length} images`} and none with the container's layers`;
    throw new ExhibitError(
      'usage',
      `${file} ${words}, of which the lowest is ${diffIds?.[0]} and the top-most ${diffIds?.at(-1)}: name a tar of the very image with --base.`,
    );
  }
  const { config, layers } = chosen;
  return { kind: 'file', config, layers, blobs: () => blobsOf(file, members(), chosen) };
}

async function* blobsOf(
  file: string,
  archive: AsyncIterable<TarEntry>,
  { layers, members }: Candidate,
): AsyncGenerator<LayerBlob> {
  const left = new Map(layers.map((layer, index) => [members[index] ?? '', layer]));
  for await (const { path, body } of archive) {
    const layer = left.get(path);
    if (layer === undefined) continue;
    left.delete(path);
    yield { digest: layer.digest, sizeBytes: layer.sizeBytes, from: `${path} in ${file}`, body };
  }
  for (const path of left.keys()) throw new ExhibitError('usage', `${file} has no ${path}: it is not whole.`);
}

/** Throws ExhibitError `usage` for what is no tar, or cannot be opened. */
async function* entries(file: string, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  try {
    yield* readTar(bytes);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EACCES', 'EISDIR', 'ENOTDIR')) {
      throw new ExhibitError('usage', `${file} cannot be read (${error.code}): name a tar of the image with --base.`);
    }
    if (!isExhibitError(error, 'bundle-corrupt')) throw error;
    throw new ExhibitError('usage', `${file} is no tar that can be read: unpack .gz and .zst before.`, {
      cause: error,
    });
  }
}

async function scan(
  file: string,
  archive: AsyncIterable<TarEntry>,
): Promise<{ documents: Map<string, Uint8Array>; sizes: Map<string, number> }> {
  const documents = new Map<string, Uint8Array>();
  const sizes = new Map<string, number>();
  let left = MAX_DOCUMENTS_BYTES;
  for await (const { header, path, body } of archive) {
    if (header.type !== 'file') continue;
    sizes.set(path, header.sizeBytes);
    if (sizes.size > MAX_MEMBERS)
      throw new ExhibitError('usage', `${file} has more than ${MAX_MEMBERS} files: it is no image.`);
    if (header.sizeBytes > Math.min(MAX_DOCUMENT_BYTES, left) || !(await looksLikeJson(path, body, documents)))
      continue;
    left -= header.sizeBytes;
  }
  return { documents, sizes };
}

/** Blobs have no ending; a document begins with a brace or a bracket. */
async function looksLikeJson(path: string, body: ByteSource, into: Map<string, Uint8Array>): Promise<boolean> {
  if (!/\.json$|^blobs\/sha256\//.test(path)) return false;
  const bytes = await readAtMost(copied(body), MAX_DOCUMENT_BYTES);
  if (bytes === undefined || (bytes[0] !== 0x7b && bytes[0] !== 0x5b)) return false;
  into.set(path, bytes);
  return true;
}

/** Chunks of a body are views that the next one overwrites. */
async function* copied(body: ByteSource): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) yield Uint8Array.prototype.slice.call(chunk);
}

const indexSchema = z.looseObject({
  manifests: z.array(z.looseObject({ digest: z.string().regex(/^sha256:[0-9a-f]{64}$/) })),
});
const dockerSchema = z.array(z.looseObject({ Config: z.string(), Layers: z.array(z.string()) }));

function candidates(documents: ReadonlyMap<string, Uint8Array>, sizes: ReadonlyMap<string, number>): Candidate[] {
  return [...layoutCandidates(documents), ...dockerCandidates(documents, sizes)];
}

/** Every manifest that the index leads to, each once: a hostile index may lead to itself. */
function layoutCandidates(documents: ReadonlyMap<string, Uint8Array>): Candidate[] {
  const found: Candidate[] = [];
  const names = new Set([OCI_INDEX]);
  // A set's iteration goes on with what is added meanwhile.
  for (const name of names) {
    const bytes = documents.get(name);
    if (bytes === undefined) continue;
    const candidate = candidateOf(documents, bytes);
    if (candidate !== undefined) found.push(candidate);
    const index = indexSchema.safeParse(jsonOf(bytes));
    for (const { digest } of index.success ? index.data.manifests : []) {
      if (names.size < MAX_IMAGES) names.add(blobPath(digest));
    }
  }
  return found;
}

function candidateOf(documents: ReadonlyMap<string, Uint8Array>, manifest: Uint8Array): Candidate | undefined {
  const configBytes = documents.get(blobPath(parseImageManifest(manifest)?.config.digest ?? ''));
  const config = configBytes && parseImageConfig(configBytes);
  const layers = layersOf({ config, manifest });
  if (config === undefined || layers === undefined) return undefined;
  return { config, layers, members: layers.map(({ digest }) => blobPath(digest)) };
}

/** Layers are plain tars here, named as their maker liked; each one's digest is its diff id. */
function dockerCandidates(documents: ReadonlyMap<string, Uint8Array>, sizes: ReadonlyMap<string, number>): Candidate[] {
  const list = dockerSchema.safeParse(jsonOf(documents.get(DOCKER_LIST)));
  return (list.success ? list.data.slice(0, MAX_IMAGES) : []).flatMap(({ Config, Layers }) => {
    const bytes = documents.get(Config);
    const config = bytes && parseImageConfig(bytes);
    if (config === undefined || config.rootfs.diff_ids.length !== Layers.length || Layers.length === 0) return [];
    const layers = config.rootfs.diff_ids.map((diffId, index) => {
      const sizeBytes = sizes.get(Layers[index] ?? '') ?? 0;
      return { mediaType: OCI_TYPES.layer, digest: diffId, sizeBytes, diffId };
    });
    return [{ config, layers, members: Layers }];
  });
}

function jsonOf(bytes: Uint8Array | undefined): unknown {
  try {
    return JSON.parse(Buffer.from(bytes ?? []).toString('utf8'));
  } catch {
    return undefined;
  }
}
