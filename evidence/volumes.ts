import { z } from 'zod';

/**
 * What is mounted into a container beside its writable layer: one line of `volumes.jsonl.zst` for every mount that the
 * container sees, in the order of its mount table. JSON with sorted keys; docs/volumes.md.
 */

/**
 * What a mount is. `root`: the container's root or a bind of it, which is the artifact `rootfs`. `kernel`: proc, sysfs,
 * cgroups and the like. `shm`: /dev/shm. `tmpfs`: any other memory of the container. `pod-file`: hosts, hostname,
 * resolv.conf, the termination log. `docker-volume`: a named or anonymous volume of Docker. `persistent-volume`: what a
 * claim is bound to. `host-path`: anything else of the node. `overlay`: another overlay, such as a container in the container.
 * `remote`: file systems whose server may let us wait (network, FUSE), and those nobody here knows. `made-inside`: a
 * file system on a device that neither the runtime nor the node knows of, so the container mounted it.
 */
export const VOLUME_CLASSES = [
  'root',
  'kernel',
  'shm',
  'tmpfs',
  'empty-dir-memory',
  'empty-dir',
  'pod-file',
  'config-map',
  'secret',
  'downward-api',
  'projected',
  'service-account-token',
  'docker-volume',
  'persistent-volume',
  'host-path',
  'overlay',
  'remote',
  'made-inside',
] as const;
export type VolumeClass = (typeof VOLUME_CLASSES)[number];

/** Those that the configuration can have content taken of. */
export const CONTENT_CLASSES = VOLUME_CLASSES.filter(
  (one): one is Exclude<VolumeClass, 'root' | 'kernel' | 'overlay' | 'remote' | 'made-inside'> =>
    !['root', 'kernel', 'overlay', 'remote', 'made-inside'].includes(one),
);

/**
 * Why a thing has a line in the inventory and no member. `class`: content of such mounts is not taken. `node-path`: the
 * node's own folders. `file-size`: larger than one file may be. `budget`: what may be taken in all was spent.
 */
export const NOT_STORED = ['class', 'node-path', 'file-size', 'budget'] as const;
export type NotStored = (typeof NOT_STORED)[number];

const count = z.number().int().nonnegative();
const text = z.string();
const base64 = z.base64().optional();

export const volumeSchema = z.strictObject({
  /** Its number: of the inventory's `volume`, and the first step of its members' paths. From 1 on. */
  volume: z.number().int().positive(),
  class: z.enum(VOLUME_CLASSES),
  /** Where the container has it, absolute. */
  containerPath: text,
  containerPathBase64: base64,
  /** Inode of the mount namespace, and the process through which it was read. */
  mountNamespace: text,
  pid: z.number().int().positive(),
  /** False in a mount namespace that some process of the target made for itself. */
  ofContainer: z.boolean(),
  mountId: z.number().int(),
  parentId: z.number().int(),
  /** Major and minor number, decimal. */
  device: text,
  /** What of the file system is mounted. */
  root: text,
  rootBase64: base64,
  source: text,
  sourceBase64: base64,
  fileSystem: text,
  options: z.array(text),
  superOptions: text,
  propagation: z.array(text),
  /** What it shows has lost its name on the node (`//deleted`). */
  sourceDeleted: z.literal(true).optional(),
  /** Where the node has it; absent where the node does not. */
  hostPath: text.optional(),
  hostPathBase64: base64,
  /** What the runtime says of a mount at this place. */
  runtime: z.strictObject({ hostPath: text, type: text, readOnly: z.boolean() }).optional(),
  /** kubelet's plugin and the volume's name, of the pod's own volumes. */
  plugin: text.optional(),
  name: text.optional(),
  memoryBacked: z.boolean(),
  /** statfs(2). */
  space: z.strictObject({ totalBytes: count, freeBytes: count, files: count, freeFiles: count }).optional(),
  policy: z.strictObject({
    /** `content`: metadata and content. `metadata`: no content. `listed`: this line is all. */
    taken: z.enum(['content', 'metadata', 'listed']),
    why: text,
  }),
  /** The same files are under this number: it is not taken twice. */
  sameAs: z.number().int().positive().optional(),
  /** Absent where nothing of it could be read. */
  counts: z
    .strictObject({
      entries: count,
      files: count,
      contentFiles: count,
      contentBytes: count,
      notStored: z.partialRecord(z.enum(NOT_STORED), z.strictObject({ files: count, bytes: count })),
      gaps: count,
    })
    .optional(),
  /** False when the tree was cut at the bound of entries. */
  complete: z.boolean().optional(),
  /**
   * Files that have lost their name on this mount and that a process holds. `heldBy` is what `recovered.jsonl` of the
   * artifact `processes` says of the same file, which has its content.
   */
  deletedOpen: z
    .array(z.strictObject({ heldBy: text, path: text, pathBase64: base64, inode: z.number().optional() }))
    .optional(),
});
export type VolumeRecord = z.infer<typeof volumeSchema>;
