/** What containerd knows of the layers below a container: the image's documents, the snapshots, the blobs it still keeps. */
import { arch } from 'node:process';
import {
  type BaseImage,
  chainIds,
  type ImageLayer,
  isDigest,
  type LowerDirectoryRecord,
  MAX_IMAGE_LAYERS,
  parseImageConfig,
  parseImageManifest,
  sha256Of,
} from '../../evidence/base-image.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { type Inspector, orNote } from './inspect.ts';
import type { OverlayRootfs, SpecDocument } from './runtime.ts';
import { nextImageStep } from './snapshot.ts';

/** An index in an index is as deep as it gets. */
const INDEX_STEPS = 3;

export interface ImageQuestion {
  /** For people. */
  readonly reference: string;
  /** Where the image may be found: names and digests, the surest first. */
  readonly candidates: readonly string[];
  /** When it is known, the image must have this very config. */
  readonly configDigest?: string | undefined;
  readonly snapshotter: string;
  /** Of the container. */
  readonly snapshotKey: string;
  readonly rootfs: OverlayRootfs | undefined;
}

export interface ImageAnswer {
  readonly image: BaseImage;
  /** The image's config, byte for byte, where containerd has it. */
  readonly config?: Uint8Array | undefined;
  /** The image's manifest, likewise. */
  readonly documents: readonly SpecDocument[];
}

/** What cannot be learned is in the answer's notes; only a cancelled call, or a containerd that is silent, is an error. */
export async function containerdImage(inspector: Inspector, question: ImageQuestion): Promise<ImageAnswer> {
  const notes: string[] = [];
  const found = await orNote(notes, 'the image', findImage(inspector, question));
  const configDigest = found?.configDigest ?? question.configDigest;
  const config = configDigest === undefined ? undefined : await verified(inspector, configDigest);
  const diffIds = (config && parseImageConfig(config))?.rootfs.diff_ids ?? [];
  if (found === undefined)
    notes.push("the node does not keep the image's manifest: the layers' own blobs are not known");
  if (diffIds.length === 0) notes.push("the image's config is not on the node: the layers' diff ids are not known");
  const layers = withBlobs(diffIds, found?.manifest, notes);
  const lowers = (await orNote(notes, 'which snapshots lie below the container', lowersOf(inspector, question))) ?? [];
  const image: BaseImage = {
    reference: question.reference,
    manifestDigest: found?.manifestDigest,
    indexDigest: found?.indexDigest,
    configDigest,
    snapshotter: question.snapshotter,
    layers: await Promise.all(layers.map((layer) => withKept(inspector, layer))),
    ...joined(layers, lowers),
    notes,
  };
  const documents = found === undefined ? [] : [{ name: 'image-manifest.json', bytes: found.manifest }];
  return { image, config, documents };
}

interface FoundImage {
  readonly manifestDigest: string;
  readonly indexDigest: string | undefined;
  readonly manifest: Uint8Array;
  readonly configDigest: string | undefined;
}

/** A tag may have moved since the container was made: where the config is known, only an image that has it is taken. */
async function findImage(inspector: Inspector, question: ImageQuestion): Promise<FoundImage | undefined> {
  const { client, signal } = inspector;
  for (const candidate of new Set(question.candidates.filter((one) => one !== ''))) {
    const named = await client.imageTarget(candidate, { signal });
    const target = named ?? (isDigest(candidate) ? candidate : undefined);
    const found = target === undefined ? undefined : await manifestOf(inspector, target);
    if (found !== undefined && [undefined, found.configDigest].includes(question.configDigest)) return found;
  }
  return undefined;
}

async function manifestOf(inspector: Inspector, target: string): Promise<FoundImage | undefined> {
  let digest = target;
  for (let step = 0; step < INDEX_STEPS; step += 1) {
    const bytes = await verified(inspector, digest);
    const next = bytes && nextImageStep(bytes, arch === 'x64' ? 'amd64' : arch);
    if (bytes === undefined || next === undefined) return undefined;
    if (next.kind === 'config') {
      const indexDigest = digest === target ? undefined : target;
      return { manifestDigest: digest, indexDigest, manifest: bytes, configDigest: digestOr(next.digest) };
    }
    digest = next.digest;
  }
  return undefined;
}

const digestOr = (text: string): string | undefined => (isDigest(text) ? text : undefined);

/** A blob that is what its name says; another is as good as none. */
async function verified({ client, signal }: Inspector, digest: string): Promise<Uint8Array | undefined> {
  const bytes = isDigest(digest) ? await client.blob(digest, { signal }) : undefined;
  return bytes !== undefined && sha256Of(bytes) === digest ? bytes : undefined;
}

/** The layers of the config with what the manifest says of their blobs. */
function withBlobs(diffIds: readonly string[], manifest: Uint8Array | undefined, notes: string[]): ImageLayer[] {
  const blobs = (manifest && parseImageManifest(manifest))?.layers ?? [];
  const chain = chainIds(diffIds);
  const fits = blobs.length === diffIds.length;
  if (!fits && blobs.length > 0 && diffIds.length > 0)
    notes.push(`the manifest has ${blobs.length} layers and the config ${diffIds.length}`);
  return diffIds.map((diffId, index) => {
    const blob = fits ? blobs[index] : undefined;
    const known = blob && { digest: blob.digest, mediaType: blob.mediaType, sizeBytes: blob.size };
    return { diffId, chainId: chain[index] ?? diffId, ...known };
  });
}

async function withKept({ client, signal }: Inspector, layer: ImageLayer): Promise<ImageLayer> {
  if (layer.digest === undefined) return layer;
  const asked: string[] = [];
  const sizeBytes = await orNote(asked, 'the blob', client.blobBytes(layer.digest, { signal }));
  if (asked.length > 0) return layer;
  if (sizeBytes === undefined) return { ...layer, blob: 'gone' };
  return { ...layer, blob: sizeBytes === layer.sizeBytes ? 'kept' : 'differs' };
}

/** The directories below the container, each with its snapshot where there are as many of one as of the other. */
async function lowersOf(inspector: Inspector, question: ImageQuestion): Promise<LowerDirectoryRecord[]> {
  const { snapshotter, snapshotKey, rootfs } = question;
  const directories = rootfs?.lowers ?? [];
  const parents = snapshotKey === '' ? [] : await parentsOf(inspector.client, question, inspector.signal);
  if (parents.length !== directories.length) return directories.map((directory) => ({ directory }));
  return Promise.all(
    directories.map(async (directory, index) => {
      const snapshot = parents[index] ?? '';
      const { signal } = inspector;
      const usage = await orNote([], 'its size', inspector.client.usage(snapshotter, snapshot, { signal }));
      return { directory, snapshot, ...usage };
    }),
  );
}

/** Names of the snapshots below the container's own, the nearest first. */
async function parentsOf(
  client: ContainerdClient,
  { snapshotter, snapshotKey }: ImageQuestion,
  signal: AbortSignal,
): Promise<string[]> {
  const parents: string[] = [];
  for (let key = snapshotKey; parents.length <= MAX_IMAGE_LAYERS; ) {
    const parent = (await client.snapshot(snapshotter, key, { signal }))?.parent ?? '';
    if (parent === '') break;
    parents.push(parent);
    key = parent;
  }
  return parents;
}

/**
 * Pure: which layer each directory is. A snapshot is a layer's when it has that layer's chain id; what the runtime put
 * above the image has a name of its own.
 */
export function joined(
  layers: readonly ImageLayer[],
  lowers: readonly LowerDirectoryRecord[],
): Pick<BaseImage, 'lowers' | 'agreement'> {
  const placed = lowers.map((lower) => {
    const layer = layers.findIndex(({ chainId }) => chainId === lower.snapshot);
    return layer === -1 ? lower : { ...lower, layer };
  });
  const known = layers.length > 0 && lowers.length > 0 && lowers.every(({ snapshot }) => snapshot !== undefined);
  if (!known) return { lowers: placed, agreement: 'unknown' };
  const below = placed.slice(-layers.length).map(({ layer }) => layer);
  const agrees = below.length === layers.length && below.every((layer, index) => layer === layers.length - 1 - index);
  return { lowers: placed, agreement: agrees ? 'agrees' : 'differs' };
}
