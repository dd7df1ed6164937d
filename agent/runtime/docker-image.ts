/** What Docker knows of the layers below a container: by its overlay2 driver's folders, or by the containerd that holds its images. */
import { z } from 'zod';
import {
  type BaseImage,
  chainIds,
  type ImageLayer,
  isDigest,
  type LowerDirectoryRecord,
  MAX_IMAGE_LAYERS,
  parseImageConfig,
} from '../../evidence/base-image.ts';
import { explain, isExhibitError } from '../../evidence/error.ts';
import type { Host } from '../host/host.ts';
import { readTail } from '../host/tail.ts';
import { containerdImage, type ImageAnswer, joined } from './base-image.ts';
import type { ContainerdClient } from './containerd-client.ts';
import type { DockerFolders, Inspected } from './docker-inspect.ts';
import { asHostPath, type OverlayRootfs, type SpecDocument } from './runtime.ts';
import { jsonOf } from './snapshot.ts';

/** Ids, sizes and lists of digests: a line or a few. */
const NOTE_BYTES = 1024 * 1024;

export interface DockerImageQuestion {
  readonly host: Host;
  readonly signal: AbortSignal;
  readonly inspected: Inspected;
  readonly folders: DockerFolders;
  readonly rootfs: OverlayRootfs | undefined;
  /** What was learned already, `image-config.json` and `docker-image.json` among them. */
  readonly documents: readonly SpecDocument[];
  /** Of the containerd that Docker uses, in Docker's namespace; undefined where it cannot be reached. */
  readonly containerd: ContainerdClient | undefined;
}

/** Never fails for what cannot be learned: that is in the answer's notes. */
export async function dockerImage(question: DockerImageQuestion): Promise<ImageAnswer> {
  const { inspected, containerd, host, signal, rootfs } = question;
  if (inspected.Driver === 'overlay2') return { image: await driverImage(question), documents: [] };
  const reference = inspected.Config.Image || inspected.Image;
  const unknown = (why: string): ImageAnswer => {
    const lowers = (rootfs?.lowers ?? []).map((directory) => ({ directory }));
    const notes = [`the layers are containerd's, and Docker's containerd cannot be asked${why}`];
    return { image: { reference, layers: [], lowers, agreement: 'unknown', notes }, documents: [] };
  };
  if (containerd === undefined) return unknown('');
  // Docker names a container's snapshot after the container.
  const container = { snapshotter: inspected.Driver, snapshotKey: inspected.Id, rootfs };
  const asked = containerdImage(
    { client: containerd, host, signal },
    { reference, candidates: [inspected.Image], ...container },
  );
  return asked.catch((error: unknown) => {
    if (isExhibitError(error, 'runtime-unreachable')) return unknown(`: ${explain(error)}`);
    throw error;
  });
}

const retoldSchema = z.object({
  RepoDigests: z.array(z.string()).nullish(),
  RootFS: z.object({ Layers: z.array(z.string()).nullish() }).nullish(),
});

/** The overlay2 driver unpacks each layer into a folder of its own and keeps no blob. */
async function driverImage(question: DockerImageQuestion): Promise<BaseImage> {
  const { inspected, rootfs } = question;
  const { diffIds, manifestDigest, notes } = toldImage(question);
  const chain = chainIds(diffIds);
  const places = await Promise.all(
    diffIds.map((diffId, index) => placeOf(question, { diffId, chainId: chain[index] ?? diffId, blob: 'gone' })),
  );
  const layers = places.map(({ layer }) => layer);
  const lowers = (rootfs?.lowers ?? []).map((directory): LowerDirectoryRecord => {
    const known = places.find(({ lower }) => lower?.directory === directory)?.lower;
    // What is no layer of the image is Docker's own: `<id>-init`, with the files that it mounts over.
    return known ?? { directory, snapshot: directory.split('/').at(-2) ?? '' };
  });
  return {
    reference: inspected.Config.Image || inspected.Image,
    manifestDigest,
    configDigest: isDigest(inspected.Image) ? inspected.Image : undefined,
    snapshotter: inspected.Driver,
    layers,
    ...joined(layers, lowers),
    notes,
  };
}

/** From the image's config, or from Docker's retelling of it. */
function toldImage({ documents }: DockerImageQuestion) {
  const documentOf = (name: string) => documents.find((one) => one.name === name)?.bytes;
  const config = documentOf('image-config.json');
  const retold = retoldSchema.safeParse(jsonOf(documentOf('docker-image.json') ?? new Uint8Array())).data;
  const told = (config && parseImageConfig(config))?.rootfs.diff_ids ?? retold?.RootFS?.Layers ?? [];
  const diffIds = told.length <= MAX_IMAGE_LAYERS && told.every(isDigest) ? told : [];
  const manifestDigest = retold?.RepoDigests?.map((one) => one.split('@')[1]).find(isDigest);
  const notes = [
    ...(diffIds.length === 0 ? ["the image's diff ids are not known: Docker tells neither config nor layers"] : []),
    ...(manifestDigest === undefined
      ? ['the image has no digest of a registry: it was built, loaded or imported on this node']
      : []),
  ];
  return { diffIds, manifestDigest, notes };
}

interface Place {
  readonly layer: ImageLayer;
  /** Undefined where Docker's folder does not say. */
  readonly lower: LowerDirectoryRecord | undefined;
}

/** By which digest the layer came, and which folder it was unpacked into. */
async function placeOf({ host, inspected, folders }: DockerImageQuestion, layer: ImageLayer): Promise<Place> {
  const { diffId, chainId } = layer;
  const folder = `${folders.root}/image/${inspected.Driver}`;
  const layerdb = `${folder}/layerdb/${chainId.replace(':', '/')}`;
  const [cache, size, distributed] = await Promise.all([
    line(host, `${layerdb}/cache-id`),
    line(host, `${layerdb}/size`),
    line(host, `${folder}/distribution/v2metadata-by-diffid/${diffId.replace(':', '/')}`),
  ]);
  const digest = pulledAs(distributed);
  const known: ImageLayer = digest === undefined ? layer : { ...layer, digest };
  if (cache === undefined) return { layer: known, lower: undefined };
  const sizeBytes = /^\d{1,15}$/.test(size ?? '') ? { sizeBytes: Number(size) } : {};
  const directory = `${folders.root}/${inspected.Driver}/${cache}/diff`;
  return { layer: known, lower: { directory, snapshot: chainId, ...sizeBytes } };
}

/** A small file of Docker's own folder, without the newline at its end. */
async function line(host: Host, file: string): Promise<string | undefined> {
  const bytes = await readTail(host, asHostPath(file), NOTE_BYTES).catch(() => undefined);
  return bytes?.toString('utf8').trim();
}

const distributedSchema = z.array(z.object({ Digest: z.string() }));

/** By which digest a layer came from a registry; Docker remembers those of several, the last one last. */
function pulledAs(text: string | undefined): string | undefined {
  const list = distributedSchema.safeParse(jsonOf(text ?? '')).data ?? [];
  return list.map(({ Digest }) => Digest).findLast(isDigest);
}
