import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * What a container's root file system lies on: `image.json` in the artifacts `spec` and `image`. The image as its own
 * documents describe it, the directories that the node really mounts below the writable layer, and whether the two agree.
 */

/** OCI image-spec, descriptor.md, of the one algorithm that images use. */
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);

const layerSchema = z.strictObject({
  /** Of the layer's uncompressed tar, from the image's config. */
  diffId: digest,
  /** Of this layer and all below it, see `chainIds`: snapshotters name their snapshots by it. */
  chainId: digest,
  /** Of the blob as a registry has it; absent where the node does not keep the image's manifest. */
  digest: digest.optional(),
  mediaType: z.string().optional(),
  sizeBytes: z.number().int().nonnegative().optional(),
  /** Whether the node still has that blob, of that size; absent where that could not be asked. */
  blob: z.enum(['kept', 'gone', 'differs']).optional(),
});
export type ImageLayer = z.infer<typeof layerSchema>;

const lowerSchema = z.strictObject({
  /** On the node. */
  directory: z.string(),
  /** The runtime's name of the snapshot, or of the folder, that the directory belongs to. */
  snapshot: z.string().optional(),
  /** Which of `layers` it is, counted from 0; absent for what the runtime put between image and container. */
  layer: z.number().int().nonnegative().optional(),
  /** What it takes on the node's disk, as the runtime has it written down. */
  sizeBytes: z.number().int().nonnegative().optional(),
  inodes: z.number().int().nonnegative().optional(),
});
export type LowerDirectoryRecord = z.infer<typeof lowerSchema>;

export const baseImageSchema = z.strictObject({
  /** By what name the container was started. */
  reference: z.string(),
  /** Of this machine's manifest; `indexDigest` where the name stands for one of several platforms. */
  manifestDigest: digest.optional(),
  indexDigest: digest.optional(),
  configDigest: digest.optional(),
  snapshotter: z.string().optional(),
  /** In the image's order: the lowest first. Empty where the image's config is not known. */
  layers: z.array(layerSchema),
  /** In overlayfs' order: the top-most first. */
  lowers: z.array(lowerSchema),
  /** `agrees`: the lowest directories are the snapshots of exactly these layers, in order. `unknown`: one of them is not known. */
  agreement: z.enum(['agrees', 'differs', 'unknown']),
  /** What could not be learned, and what somebody should know who puts the layers together. */
  notes: z.array(z.string()),
});
export type BaseImage = z.infer<typeof baseImageSchema>;

/** OCI image-spec, config.md, "Layer ChainID": the chain of each layer is made of that below it and its own diff id. */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : sha256Of(Buffer.from(`${below} ${diffId}`)));
  }
  return chain;
}

/** In the words of the image-spec: `sha256:` and hex. */
export function sha256Of(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function isDigest(text: string | undefined): text is string {
  return text !== undefined && digest.safeParse(text).success;
}

/** An image's config, as far as it is needed; what else it holds is kept in the bytes. */
const configSchema = z.looseObject({
  architecture: z.string().optional(),
  os: z.string().optional(),
  config: z.record(z.string(), z.unknown()).nullish(),
  rootfs: z.looseObject({ diff_ids: z.array(digest) }),
  history: z.array(z.looseObject({ empty_layer: z.boolean().optional() })).nullish(),
});
export type ImageConfig = z.infer<typeof configSchema>;

const descriptorSchema = z.looseObject({
  mediaType: z.string().optional(),
  digest,
  size: z.number().int().nonnegative(),
});

/** OCI's manifest, and Docker's of schema version 2, which has the same fields. */
const manifestSchema = z.looseObject({
  config: descriptorSchema,
  layers: z.array(descriptorSchema),
});
export type ImageManifest = z.infer<typeof manifestSchema>;

/** No image is deeper: overlayfs stacks 500 layers at most (OVL_MAX_STACK), and every bound here is linear in it. */
export const MAX_IMAGE_LAYERS = 500;

/** Undefined for what is no config, or has no layers, or more than there can be. */
export const parseImageConfig = (bytes: Uint8Array): ImageConfig | undefined =>
  within(configSchema, bytes, ({ rootfs }) => rootfs.diff_ids.length);

export const parseImageManifest = (bytes: Uint8Array): ImageManifest | undefined =>
  within(manifestSchema, bytes, ({ layers }) => layers.length);

function within<Schema extends z.ZodType>(
  schema: Schema,
  bytes: Uint8Array,
  layersOf: (value: z.output<Schema>) => number,
): z.output<Schema> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
  const parsed = schema.safeParse(value);
  return parsed.success && layersOf(parsed.data) <= MAX_IMAGE_LAYERS ? parsed.data : undefined;
}
