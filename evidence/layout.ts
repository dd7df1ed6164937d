/**
 * Names inside a bundle. A bundle is every object below `<prefix>/<cluster>/<node>/<captureId>/`; see docs/format.md.
 */

/** The version of everything in this folder that is written to evidence. A change bumps it and keeps old bundles readable. */
export const FORMAT_VERSION = 1;

/** What a capture can take, by the name a person asks for it. */
export const ARTIFACTS = [
  'processes',
  'network',
  'node',
  'memory',
  'checkpoint',
  'volumes',
  'rootfs',
  'logs',
  'spec',
  'image',
] as const;
export type ArtifactName = (typeof ARTIFACTS)[number];

/** What is taken unless something else is asked for: an image is large, and its registry has it too. */
export const DEFAULT_ARTIFACTS: readonly ArtifactName[] = ARTIFACTS.filter((name) => name !== 'image');

export function isArtifactName(name: string): name is ArtifactName {
  return ARTIFACTS.some((known) => known === name);
}

/** The first object: who asked, why, the target, the plan. Its presence without a manifest shows an attempt that did not end. */
export const REQUEST_OBJECT = 'request.json';
/** Written after every artifact. */
export const MANIFEST_OBJECT = 'manifest.json';
/** The seal, the very last: a DSSE envelope over an in-toto Statement whose subjects are all other objects. */
export const SEAL_OBJECT = 'manifest.dsse.json';

/** Who asked, what was done, when: one event a line, each with the digest of the line before it (custody.ts). */
export const CUSTODY_OBJECT = 'custody.jsonl';
/** What differs from the last good snapshot of the same workload (diff/document.ts). */
export const CHANGES_OBJECT = 'changes.json';
/** An RFC 3161 answer over the bytes of SEAL_OBJECT; written right before it, and covered by nothing but itself. */
export const TIMESTAMP_OBJECT = 'manifest.dsse.json.tsr';

/** What the writable layer lies on: an OCI image layout, or its documents alone and the merged lower layers beside them. */
export const IMAGE_OBJECT = 'image.tar.zst';
export const IMAGE_BASE = 'image-base.tar.zst';
/** In IMAGE_OBJECT, and in the archive of `spec`: evidence/base-image.ts. */
export const IMAGE_RECORD = 'image.json';
/** The writable layer. */
export const ROOTFS_LAYER = 'rootfs.tar.zst';

/** How an object's bytes are to be read. `tar+zstd` and `jsonl+zstd` are independent zstd frames with a seek table. */
export const MEDIA_TYPES = {
  json: 'application/json',
  dsse: 'application/vnd.dsse.envelope.v1+json',
  tar: 'application/x-tar+zstd',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar+zstd',
  jsonl: 'application/jsonl+zstd',
  bodyfile: 'text/x-bodyfile+zstd',
  /** Not compressed: what the agent itself says, a few KiB. */
  plainJsonl: 'application/jsonl',
  /** RFC 3161, section 3.1. */
  timestamp: 'application/timestamp-reply',
  /** Of an encrypted object in a sink, whatever it holds. Never in a manifest. */
  age: 'application/octet-stream',
} as const;
export type MediaType = (typeof MEDIA_TYPES)[keyof typeof MEDIA_TYPES];

/** Tar archives whose members can be listed and extracted. */
export function isTar(mediaType: string): boolean {
  return mediaType === MEDIA_TYPES.tar || mediaType === MEDIA_TYPES.ociLayer;
}

export function isZstd(mediaType: string): boolean {
  return mediaType.endsWith('+zstd');
}

/** age's own suffix: an object that is encrypted to recipients lies in the sink as `<name>.age`. */
export const ENCRYPTED_SUFFIX = '.age';

/** The name under which an object lies in the sink; everywhere else it goes by its own. */
export function storedName(object: { readonly name: string; readonly encryption?: 'age' | undefined }): string {
  return object.encryption === undefined ? object.name : `${object.name}${ENCRYPTED_SUFFIX}`;
}

/** `name` with what a sink's key cannot hold replaced, so that a cluster or node name can never climb out of its prefix. */
export function keySegment(name: string): string {
  const safe = name.replaceAll(/[^A-Za-z0-9._-]/g, '_');
  return /^\.*$/.test(safe) ? `_${safe.length}` : safe;
}

/** The folder of one capture below the sink's own prefix, without slashes at its ends. */
export function bundlePath(cluster: string, node: string, captureId: string): string {
  return [cluster, node, captureId].map(keySegment).join('/');
}
