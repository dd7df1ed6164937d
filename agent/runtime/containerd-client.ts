/** containerd's own services, thinly: one typed function a question, answers as they come from the wire. */
import { ExhibitError } from '../../evidence/error.ts';
import type { Container__Output } from '../../proto/gen/containerd/services/containers/v1/Container.ts';
import type { Info__Output } from '../../proto/gen/containerd/services/snapshots/v1/Info.ts';
import type { Mount__Output } from '../../proto/gen/containerd/types/Mount.ts';
import { loadContainerd } from '../../proto/load.ts';
import { type CallLimits, type Endpoint, type Method, serverStream, unary } from './call.ts';
import { type Tasks, tasksClient, unlessGone } from './tasks.ts';

/** Image configs and manifests are small JSON texts; containerd refuses manifests over 8 MiB. */
const BLOB_BYTES = 8 * 1024 * 1024;

export interface ContainerdClient {
  readonly tasks: Tasks;
  version(limits: CallLimits): Promise<string>;
  /** Undefined when there is no such container. */
  container(id: string, limits: CallLimits): Promise<Container__Output | undefined>;
  containers(limits: CallLimits): Promise<Container__Output[]>;
  mounts(snapshotter: string, key: string, limits: CallLimits): Promise<Mount__Output[]>;
  snapshot(snapshotter: string, key: string, limits: CallLimits): Promise<Info__Output | undefined>;
  /** Digest of what an image's name stands for: a manifest or an index. Undefined when there is no such image. */
  imageTarget(name: string, limits: CallLimits): Promise<string | undefined>;
  /** Images with a label of that value. */
  labelledImages(label: string, value: string, limits: CallLimits): Promise<{ name: string; createdAtMs: number }[]>;
  /** Returns when what the image alone referred to is gone as well. One that is not there is no failure. */
  removeImage(name: string, limits: CallLimits): Promise<void>;
  /** A blob of the content store; undefined when it is not kept there. */
  blob(digest: string, limits: CallLimits): Promise<Uint8Array | undefined>;
  /** How large a blob of the content store is, without reading it; undefined when it is not kept there. */
  blobBytes(digest: string, limits: CallLimits): Promise<number | undefined>;
  /** A blob of any size. Fails like every call, and with `runtime-unreachable` when nothing more comes for STALL_MS. */
  blobChunks(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** False when the container's writable layer has been removed, or the container itself. */
  keepsLayer(id: string, limits: CallLimits): Promise<boolean>;
  /** What a snapshot alone takes; undefined when there is none of that name. */
  usage(
    snapshotter: string,
    key: string,
    limits: CallLimits,
  ): Promise<{ sizeBytes: number; inodes: number } | undefined>;
}

export function containerdClient(endpoint: Endpoint): ContainerdClient {
  const services = loadContainerd();
  const { Version } = services.version.v1.Version.service;
  const { Get, List } = services.containers.v1.Containers.service;
  const { Mounts, Stat, Usage } = services.snapshots.v1.Snapshots.service;
  const images = services.images.v1.Images.service;
  const { Info, Read } = services.content.v1.Content.service;
  return {
    tasks: tasksClient(endpoint),
    async version(limits) {
      return (await unary(endpoint, Version, {}, limits)).version;
    },
    async container(id, limits) {
      return (await unlessGone(unary(endpoint, Get, { id }, limits)))?.container ?? undefined;
    },
    async containers(limits) {
      return (await unary(endpoint, List, {}, limits)).containers;
    },
    async mounts(snapshotter, key, limits) {
      return (await unary(endpoint, Mounts, { snapshotter, key }, limits)).mounts;
    },
    async snapshot(snapshotter, key, limits) {
      return (await unlessGone(unary(endpoint, Stat, { snapshotter, key }, limits)))?.info ?? undefined;
    },
    async imageTarget(name, limits) {
      return (await unlessGone(unary(endpoint, images.Get, { name }, limits)))?.image?.target?.digest;
    },
    async labelledImages(label, value, limits) {
      const filters = [`labels.${JSON.stringify(label)}==${value}`];
      const found = (await unary(endpoint, images.List, { filters }, limits)).images;
      return found.map(({ name, createdAt }) => ({ name, createdAtMs: Number(createdAt?.seconds ?? 0) * 1000 }));
    },
    async removeImage(name, limits) {
      await unlessGone(unary(endpoint, images.Delete, { name, sync: true }, limits));
    },
    async blob(digest, limits) {
      return unlessGone(collect(serverStream(endpoint, Read, { digest }, limits), digest));
    },
    async blobBytes(digest, limits) {
      const info = (await unlessGone(unary(endpoint, Info, { digest }, limits)))?.info;
      return info ? Number(info.size) : undefined;
    },
    async keepsLayer(id, limits) {
      const found = (await unlessGone(unary(endpoint, Get, { id }, limits)))?.container;
      if (!found) return false;
      const { snapshotter, snapshotKey: key } = found;
      return (await unlessGone(unary(endpoint, Stat, { snapshotter, key }, limits))) !== undefined;
    },
    blobChunks: (digest, signal) => chunksOf(endpoint, Read, digest, signal),
    async usage(snapshotter, key, limits) {
      const found = await unlessGone(unary(endpoint, Usage, { snapshotter, key }, limits));
      return found && { sizeBytes: Number(found.size), inodes: Number(found.inodes) };
    },
  };
}

/** A layer takes as long as it takes; a containerd that sends nothing at all for so long is stuck. */
const STALL_MS = 60_000;

async function* chunksOf(
  endpoint: Endpoint,
  read: Method<{ digest: string }, { data: Uint8Array }>,
  digest: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const stalled = new AbortController();
  const timer = setTimeout(() => stalled.abort(), STALL_MS);
  const limits: CallLimits = { signal: AbortSignal.any([signal, stalled.signal]), timeoutMs: 'none' };
  try {
    for await (const { data } of serverStream(endpoint, read, { digest }, limits)) {
      yield data;
      timer.refresh();
    }
  } catch (error) {
    if (!stalled.signal.aborted || signal.aborted) throw error;
    const words = `containerd sent nothing more of the blob ${digest} for ${STALL_MS / 1000} s`;
    throw new ExhibitError('runtime-unreachable', words, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

async function collect(messages: AsyncIterable<{ data: Uint8Array }>, digest: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const { data } of messages) {
    sizeBytes += data.byteLength;
    if (sizeBytes > BLOB_BYTES) {
      throw new ExhibitError(
        'runtime-failed',
        `the blob ${digest} is larger than ${BLOB_BYTES} bytes: not a config or manifest`,
      );
    }
    chunks.push(data);
  }
  return Buffer.concat(chunks);
}
