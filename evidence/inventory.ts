import { z } from 'zod';
import { memberSchema } from './manifest.ts';
import { NOT_STORED } from './volumes.ts';

/**
 * One line of `rootfs.inventory.jsonl.zst` or `volumes.inventory.jsonl.zst`: JSON with sorted keys. The keys of a member (`path`, `pathBase64`, `type`,
 * `sizeBytes`, `sha256`) say exactly what the archive's member says; lines with `inArchive: false` have no member.
 * Big integers (ids of inodes and devices, nanoseconds) are decimal strings; binary values are base64.
 */

const decimal = z.string().regex(/^-?\d+$/);
const octal = z.string().regex(/^[0-7]+$/);
const base64 = z.base64();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const kind = z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'character-device', 'block-device']);

/**
 * Against the lower layers at the same path. `added`: they have nothing there. `modified`: content, target, device or
 * type differ. `metadata`: only mode, owner, mtime or attributes differ. `unchanged`: copied up, and equal.
 * `opaque`: the directory below is hidden. `deleted`: a whiteout.
 */
export const CHANGES = ['added', 'modified', 'metadata', 'unchanged', 'opaque', 'deleted'] as const;
export type Change = (typeof CHANGES)[number];

const lowerSchema = z.strictObject({
  /** 0 is the top-most lower layer. */
  layer: z.number().int().nonnegative(),
  type: kind,
  sizeBytes: z.number().nonnegative(),
  mode: octal,
  uid: z.number(),
  gid: z.number(),
  /** Both absent in older bundles; the birth is zero where the file system keeps none. */
  atimeNs: decimal.optional(),
  birthNs: decimal.optional(),
  mtimeNs: decimal,
  ctimeNs: decimal,
  inode: decimal,
  /** Of a regular file, where it was within the bounds of docs/rootfs.md. */
  sha256: sha256.optional(),
  linkPath: z.string().optional(),
  linkPathBase64: base64.optional(),
});
export type LowerRecord = z.infer<typeof lowerSchema>;

const sparseSchema = z.strictObject({
  /** The file's size; the member holds the extents' bytes one after the other. */
  apparentBytes: decimal,
  /** Offset and length of each. */
  extents: z.array(z.tuple([decimal, decimal])),
  /** False when the file has more extents than are listed and stored. */
  complete: z.boolean(),
});
export type SparseRecord = z.infer<typeof sparseSchema>;

export const inventoryLineSchema = memberSchema.omit({ type: true }).extend({
  type: z.enum([...memberSchema.shape.type.options, 'socket']),
  inArchive: z.literal(false).optional(),
  /** The path in the container where it is not the member's: of a whiteout, and of names that the layer reserves. */
  overlayPath: z.string().optional(),
  overlayPathBase64: base64.optional(),
  /** Absent when the lower layers could not be read. */
  change: z.enum(CHANGES).optional(),
  /** The lower layer's file was too large to digest and its size is the same, so `modified` means "perhaps". */
  contentCompared: z.literal(false).optional(),
  lower: lowerSchema.optional(),
  inode: decimal,
  dev: decimal,
  nlink: z.number().int(),
  mode: octal,
  /** As the container sees them, and as the member has them. */
  uid: z.number().int(),
  gid: z.number().int(),
  /** The node's numbers, in a container with a user namespace where they differ. */
  hostUid: z.number().int().optional(),
  hostGid: z.number().int().optional(),
  atimeNs: decimal,
  mtimeNs: decimal,
  ctimeNs: decimal,
  /** Zero where the file system keeps none. */
  birthNs: decimal,
  allocatedBytes: z.number().nonnegative(),
  /** Size of a file that was left out (`notStored`). */
  apparentBytes: decimal.optional(),
  /** Target of a symlink; of a hardlink, the member that has the content. */
  linkPath: z.string().optional(),
  linkPathBase64: base64.optional(),
  deviceMajor: z.number().int().optional(),
  deviceMinor: z.number().int().optional(),
  /** As the container sees them, by name. */
  xattrs: z.record(z.string(), base64).optional(),
  /** overlayfs' own. */
  overlayXattrs: z.record(z.string(), base64).optional(),
  /** Attributes whose name is not UTF-8; not in the layer. */
  unnamedXattrs: z.array(z.strictObject({ nameBase64: base64, value: base64 })).optional(),
  /** Content or the whole entry comes from this lower layer: a metadata-only copy-up, or a renamed directory. */
  fromLayer: z.number().int().nonnegative().optional(),
  /** In `volumes.inventory.jsonl.zst`: the number of the mount in `volumes.jsonl.zst`. */
  volume: z.number().int().positive().optional(),
  /** Left out on purpose; see evidence/volumes.ts. */
  notStored: z.enum(NOT_STORED).optional(),
  sparse: sparseSchema.optional(),
  changedWhileRead: z.literal(true).optional(),
  /** Why content, or all of it, is missing; also in the manifest's gaps. */
  gap: z.strictObject({ why: z.string(), errno: z.string().optional() }).optional(),
});
export type InventoryLine = z.infer<typeof inventoryLineSchema>;
