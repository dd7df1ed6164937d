import { parseImageManifest, sha256Of } from './base-image.ts';

/** The names and the small files of an OCI image layout: OCI image-spec, image-layout.md. */

export const OCI_LAYOUT = { name: 'oci-layout', bytes: Buffer.from('{"imageLayoutVersion":"1.0.0"}') } as const;
export const OCI_INDEX = 'index.json';
/** Docker's list of the same, for a Docker without containerd's image store, which takes no layout without it. */
export const DOCKER_LIST = 'manifest.json';

export const OCI_TYPES = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

/** Of a digest `sha256:HEX`. */
export function blobPath(digest: string): string {
  return `blobs/${digest.replace(':', '/')}`;
}

/** `index.json` for one image; `name` is by which it is to be known, for containerd and others. */
export function layoutIndex(manifest: Uint8Array, name: string): Buffer {
  const mediaType = parseImageManifest(manifest)?.mediaType;
  const descriptor = {
    mediaType: typeof mediaType === 'string' ? mediaType : OCI_TYPES.manifest,
    digest: sha256Of(manifest),
    size: manifest.length,
    annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': tagOf(name) },
  };
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_TYPES.index, manifests: [descriptor] }));
}

/** What follows the last colon that belongs to no port; `latest` without one. */
export function tagOf(reference: string): string {
  return /:([\w][\w.-]{0,127})$/.exec(reference)?.[1] ?? 'latest';
}
