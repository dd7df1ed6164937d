/** Pure: what a snapshotter's mounts and an OCI spec say about a container's files. */
import { z } from 'zod';
import { asHostPath, type OverlayRootfs, type TargetMount } from './runtime.ts';

export interface SnapshotMount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** Where the writable layer is; otherwise a sentence that says why it is not known. */
export type RootfsFinding = { rootfs: OverlayRootfs } | { note: string };

/** overlayfs separates lower folders by colons and lets `\` protect one that belongs to a name. */
function splitLowers(text: string): string[] {
  return (text.match(/(?:\\.|[^:\\])+/gs) ?? []).map(unprotect);
}

const unprotect = (text: string): string => text.replaceAll(/\\(.)/gs, '$1');

const optionValue = (mount: SnapshotMount, name: string): string | undefined =>
  mount.options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);

/**
 * The layers behind the mounts that Snapshots.Mounts gives: one overlay; or one bind, for a snapshot of a single layer,
 * which has no lower folders. Anything else (block devices, views, remote snapshotters) has no upper folder to read.
 */
export function rootfsOf(mounts: readonly SnapshotMount[]): RootfsFinding {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1) {
    return { note: `the snapshot has ${mounts.length} mounts instead of one: its writable layer is not known` };
  }
  if (mount.type === 'bind') {
    if (!mount.options.includes('rw'))
      return { note: 'the snapshot is a single read-only layer: nothing can have changed in it' };
    return { rootfs: { kind: 'overlay', upper: asHostPath(mount.source), lowers: [], userXattr: false } };
  }
  if (mount.type !== 'overlay')
    return { note: `the snapshot is a ${mount.type} mount, whose layers cannot be told apart` };
  const upper = optionValue(mount, 'upperdir');
  const lowers = splitLowers(optionValue(mount, 'lowerdir') ?? '').map(asHostPath);
  if (upper === undefined) return { note: 'the overlay has no upperdir: nothing can have changed in it' };
  const userXattr = mount.options.includes('userxattr');
  return { rootfs: { kind: 'overlay', upper: asHostPath(unprotect(upper)), lowers, userXattr } };
}

const specSchema = z.object({
  mounts: z
    .array(
      z.object({
        destination: z.string(),
        type: z.string().optional(),
        source: z.string().optional(),
        options: z.array(z.string()).nullish(),
      }),
    )
    .nullish(),
});

/** The mounts of an OCI runtime spec, in its order. Undefined when it is none. */
export function specMounts(spec: unknown): TargetMount[] | undefined {
  const parsed = specSchema.safeParse(spec);
  if (!parsed.success) return undefined;
  return (parsed.data.mounts ?? []).map(({ destination, type, source = '', options }) => {
    const bind = type === 'bind' || (options ?? []).some((option) => option === 'bind' || option === 'rbind');
    return {
      containerPath: destination,
      hostPath: bind ? source : '',
      type: bind ? 'bind' : (type ?? ''),
      // `rro`: with everything mounted below, Docker's way.
      readOnly: (options ?? []).some((option) => option === 'ro' || option === 'rro'),
    };
  });
}

const manifestSchema = z.object({
  config: z.object({ digest: z.string() }).optional(),
  manifests: z
    .array(
      z.object({
        digest: z.string(),
        platform: z.object({ os: z.string().optional(), architecture: z.string().optional() }).optional(),
      }),
    )
    .optional(),
});

/** Where an image's config is to be found next: the digest of the config, or of the manifest for this machine. */
export type ImageStep = { kind: 'config'; digest: string } | { kind: 'manifest'; digest: string } | undefined;

/** Reads an OCI or Docker manifest or index. `architecture` in Go's words: `amd64`, `arm64`. */
export function nextImageStep(manifest: Uint8Array, architecture: string): ImageStep {
  const parsed = manifestSchema.safeParse(jsonOf(manifest));
  if (!parsed.success) return undefined;
  const { config, manifests = [] } = parsed.data;
  if (config !== undefined) return { kind: 'config', digest: config.digest };
  const chosen =
    manifests.find(({ platform }) => platform?.os === 'linux' && platform.architecture === architecture) ??
    manifests[0];
  return chosen === undefined ? undefined : { kind: 'manifest', digest: chosen.digest };
}

/** Undefined when the bytes are no JSON. */
export function jsonOf(bytes: Uint8Array | string): unknown {
  try {
    return JSON.parse(typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}
