import type { BaseImage, ImageConfig } from './base-image.ts';
import { sha256Of } from './base-image.ts';
import type { Manifest, RequestRecord } from './manifest.ts';
import { blobPath, layoutIndex, OCI_TYPES } from './oci-layout.ts';

/** The documents of the image that `exhibit image` makes of a capture. Pure: the same bundle gives the same bytes. */

/** One layer of an image, as its manifest and its config have it. */
export interface LayerEntry {
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly diffId: string;
}

/** What the writable layer is put on. */
export interface BaseLayers {
  /** `blobs`: the image's own. `merged`: the lower directories as one layer. `file`: from a file that was named. */
  readonly kind: 'blobs' | 'merged' | 'file' | 'none';
  /** The lowest first. */
  readonly layers: readonly LayerEntry[];
  /** Of the original image, where it is known. */
  readonly config: ImageConfig | undefined;
}

export interface ImageInput {
  readonly manifest: Manifest;
  /** SHA-256 of the stored `manifest.json`, in hex: what the seal covers. */
  readonly manifestSha256: string;
  readonly request: RequestRecord | undefined;
  /** What the bundle says of the original image. */
  readonly original: BaseImage | undefined;
  readonly base: BaseLayers;
  readonly diff: LayerEntry;
  /** By which the image is to be known, with a tag. */
  readonly name: string;
  readonly keepEntrypoint: boolean;
}

export interface ImageDocuments {
  readonly config: Buffer;
  readonly manifest: Buffer;
  readonly index: Buffer;
  /** Docker's own list. */
  readonly dockerList: Buffer;
}

export function imageDocuments(input: ImageInput): ImageDocuments {
  const config = compact(configOf(input));
  const layers = [...input.base.layers, input.diff];
  const manifest = compact({
    schemaVersion: 2,
    mediaType: OCI_TYPES.manifest,
    config: { mediaType: OCI_TYPES.config, digest: sha256Of(config), size: config.length },
    layers: layers.map(({ mediaType, digest, sizeBytes }) => ({ mediaType, digest, size: sizeBytes })),
    annotations: annotationsOf(input),
  });
  const dockerList = compact([
    {
      Config: blobPath(sha256Of(config)),
      RepoTags: [input.name],
      Layers: layers.map(({ digest }) => blobPath(digest)),
    },
  ]);
  return { config, manifest, index: layoutIndex(manifest, input.name), dockerList };
}

/** Values that are undefined are left out. */
function compact(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** uname(2) to what Go calls it. */
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['x86_64', 'amd64'],
  ['aarch64', 'arm64'],
]);

function configOf(input: ImageInput): unknown {
  const { manifest, request, base, diff, keepEntrypoint } = input;
  const original = base.config;
  const machine = request?.host.machine ?? '';
  return {
    architecture: original?.architecture ?? ARCHITECTURES.get(machine) ?? machine,
    os: original?.os ?? 'linux',
    variant: original?.variant,
    author: `exhibit ${manifest.agent.version}`,
    created: manifest.finishedAt,
    config: { ...(keepEntrypoint ? startOf(original) : { Env: [SAFE_PATH] }), Labels: labelsOf(input) },
    rootfs: { type: 'layers', diff_ids: [...base.layers, diff].map(({ diffId }) => diffId) },
    history: historyOf(input),
  };
}

/** The original's PATH may lead to the intruder's folder, LD_PRELOAD to his library. */
const SAFE_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * What an image would start by itself is left out of ours, the health check and the triggers of a build too: nobody starts
 * what was captured by mistake. On request this much is kept.
 */
const STARTS = ['Entrypoint', 'Cmd', 'Env', 'User', 'WorkingDir'] as const;

function startOf(original: ImageConfig | undefined): Record<string, unknown> {
  const { config } = original ?? {};
  return Object.fromEntries(STARTS.map((key) => [key, config?.[key] ?? undefined]));
}

function historyOf({ manifest, base, diff, original }: ImageInput): unknown[] {
  const { captureId, finishedAt, target, node } = manifest;
  const entry = (what: string, { diffId }: LayerEntry) => ({
    created: finishedAt,
    created_by: `exhibit capture ${captureId}: ${what}`,
    comment: `uncompressed ${diffId}`,
  });
  const written = entry(`writable layer of ${target.name} (${target.id}) on ${node}`, diff);
  return [...baseHistory(base, (layer) => entry(baseWords(base, original), layer)), written];
}

/** The original's own history where it fits, for it says how each layer came to be. */
function baseHistory({ layers, config }: BaseLayers, made: (layer: LayerEntry) => unknown): unknown[] {
  const history = config?.history ?? [];
  const own = history.filter(({ empty_layer }) => empty_layer !== true).length === layers.length;
  return own ? history : layers.map(made);
}

function baseWords({ kind }: BaseLayers, original: BaseImage | undefined): string {
  const of = original === undefined ? 'the container' : original.reference;
  return kind === 'merged' ? `the ${original?.lowers.length ?? ''} lower layers of ${of}, merged` : `a layer of ${of}`;
}

function labelsOf(input: ImageInput): Record<string, string> {
  const config = input.base.config?.config;
  return {
    ...provenance(input),
    // Whatever it says is evidence, and is nowhere obeyed.
    ...(config ? { 'dev.exhibit.original-config': JSON.stringify(config) } : {}),
  };
}

function provenance({ manifest, manifestSha256, original, base }: ImageInput): Record<string, string> {
  const { captureId, cluster, node, finishedAt, target } = manifest;
  return {
    'dev.exhibit.capture-id': captureId,
    'dev.exhibit.manifest-sha256': manifestSha256,
    'dev.exhibit.cluster': cluster,
    'dev.exhibit.node': node,
    'dev.exhibit.captured-at': finishedAt,
    'dev.exhibit.target': target.name,
    'dev.exhibit.container-id': target.id,
    'dev.exhibit.base': base.kind,
    ...(original === undefined ? {} : { 'dev.exhibit.original-image': original.reference }),
    ...(original?.configDigest === undefined ? {} : { 'dev.exhibit.original-config-digest': original.configDigest }),
  };
}

function annotationsOf(input: ImageInput): Record<string, string> {
  const { manifest, original, base } = input;
  const digest = base.kind === 'none' ? undefined : original?.manifestDigest;
  return {
    ...provenance(input),
    'org.opencontainers.image.created': manifest.finishedAt,
    'org.opencontainers.image.title': `exhibit capture ${manifest.captureId}`,
    'org.opencontainers.image.description': `The root file system of ${manifest.target.name} as captured. Do not run it outside an analysis host.`,
    ...(original === undefined ? {} : { 'org.opencontainers.image.base.name': original.reference }),
    ...(digest === undefined ? {} : { 'org.opencontainers.image.base.digest': digest }),
  };
}

/** Docker's names of layers to OCI's; undefined for one that is not in the image itself (foreign), or not known. */
export function ociLayerType(mediaType: string | undefined): string | undefined {
  const form =
    /^application\/vnd\.(?:oci\.image\.layer\.v1|docker\.image\.rootfs\.diff)\.tar(?:[.+](gzip|zstd))?$/.exec(
      mediaType ?? '',
    );
  if (form === null) return undefined;
  return form[1] === undefined ? OCI_TYPES.layer : `${OCI_TYPES.layer}+${form[1]}`;
}

/** distribution/reference: registry and path in lower case, a tag, no digest: that would be of another image. */
const NAME =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d{1,5})?\/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?$/;

/** With the capture's id for a tag where `given` has none. Undefined for what is no name of an image. */
export function imageName(given: string | undefined, captureId: string): string | undefined {
  const tag = captureId.replaceAll(/[^\w.-]/g, '_').slice(0, 128);
  const name = given ?? 'exhibit.local/capture';
  if (name.length > 255 || !NAME.test(name)) return undefined;
  return /:[^/]*$/.test(name) ? name : `${name}:${tag}`;
}
