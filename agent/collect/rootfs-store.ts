import type { Change, InventoryLine, LowerRecord } from '../../evidence/inventory.ts';
import type { Member } from '../../evidence/manifest.ts';
import { describePath } from '../../evidence/member-path.ts';
import type { TarHeader } from '../../evidence/tar.ts';
import type { NotStored } from '../../evidence/volumes.ts';
import { deviceNumbers, type Node } from '../host/directory.ts';
import type { Owner } from '../host/id-map.ts';
import type { SplitXattrs } from '../host/overlay.ts';
import type { Xattrs } from '../host/xattr.ts';
import type { Archive, CollectContext, TextObject } from './collector.ts';
import { bodyLine } from './rootfs-body.ts';
import type { Content } from './rootfs-content.ts';

/** One entry of the writable layer with all that was learned of it. */
export interface Entry {
  /** In the container, below its root. */
  readonly path: Buffer;
  /** In the layer. */
  readonly memberPath: Buffer;
  readonly node: Node;
  /** As the container sees it; `node.stat` has the node's numbers. */
  readonly owner: Owner;
  readonly xattrs: SplitXattrs;
  readonly unnamedXattrs: Xattrs['unnamed'];
  /** Of a symlink. */
  readonly linkPath: Buffer | undefined;
  readonly fromLayer: number | undefined;
}

/** What is only known when the entry has been stored, or that it could not be. */
export interface Verdict {
  readonly change: Change | undefined;
  /** The layer's mark of an opaque directory: a member, not an entry of the container's. */
  readonly mark?: true;
  readonly contentCompared?: boolean;
  readonly lower?: LowerRecord | undefined;
  readonly content?: Content | undefined;
  readonly gap?: { errno?: string; why: string } | undefined;
  /** The number of the mount that it is on, where that is not the root. */
  readonly volume?: number;
  /** Left out on purpose. */
  readonly notStored?: NotStored | undefined;
}

/** Member and inventory line may differ in type for what a tar archive cannot hold, and for the layer's own marks. */
export type StoredAs =
  | { readonly kind: 'member'; readonly member: Member; readonly hardlinkTo?: Buffer }
  | { readonly kind: 'none' };

/** The three objects of the artifact, written side by side. */
export interface Outputs {
  readonly layer: Archive;
  readonly inventory: TextObject;
  readonly body: TextObject;
}

export function tarHeader(entry: Entry, type: Member['type']): TarHeader {
  const { stat } = entry.node;
  const device = type === 'character-device' || type === 'block-device' ? deviceNumbers(stat.rdev) : undefined;
  return {
    path: entry.memberPath,
    type,
    mode: permissionBits(stat.mode),
    uid: Number(entry.owner.uid),
    gid: Number(entry.owner.gid),
    mtimeNs: stat.mtimeNs,
    atimeNs: stat.atimeNs,
    ctimeNs: stat.ctimeNs,
    ...(device && { deviceMajor: device.major, deviceMinor: device.minor }),
    ...(type === 'symlink' && entry.linkPath !== undefined && { linkPath: entry.linkPath }),
    ...(entry.xattrs.visible.size > 0 && { xattrs: entry.xattrs.visible }),
  };
}

/** The inventory's line and the body file's line of one entry. */
export async function list(outputs: Outputs, entry: Entry, as: StoredAs, verdict: Verdict): Promise<void> {
  await outputs.inventory.line(JSON.stringify(lineOf(entry, as, verdict)));
  // The mark of an opaque directory is that directory again.
  if (verdict.mark === true) return;
  const { stat, kind } = entry.node;
  await outputs.body.line(
    bodyLine({
      path: entry.path,
      linkPath: entry.linkPath,
      kind: verdict.change === 'deleted' ? 'whiteout' : kind,
      inode: stat.ino,
      mode: permissionBits(stat.mode),
      uid: entry.owner.uid,
      gid: entry.owner.gid,
      sizeBytes: stat.size,
      atimeNs: stat.atimeNs,
      mtimeNs: stat.mtimeNs,
      ctimeNs: stat.ctimeNs,
      birthNs: stat.birthtimeNs,
    }),
  );
}

/** Values that are undefined are left out when the line is written. */
type Line = { readonly [Key in keyof InventoryLine]: InventoryLine[Key] | undefined };

/** The keys are in the order in which they are written: sorted. */
function lineOf(entry: Entry, as: StoredAs, verdict: Verdict): Line {
  const { node, owner, xattrs, unnamedXattrs, fromLayer } = entry;
  const { stat, kind } = node;
  const { change, contentCompared, content, gap, lower, notStored, volume } = verdict;
  const device = kind === 'character-device' || kind === 'block-device' ? deviceNumbers(stat.rdev) : undefined;
  const target = as.kind === 'member' && as.hardlinkTo !== undefined ? as.hardlinkTo : entry.linkPath;
  const link = target === undefined ? undefined : describePath(target);
  const real = describePath(entry.path.length === 0 ? '.' : entry.path);
  const member =
    as.kind === 'member' ? as.member : { ...real, type: kind, sizeBytes: kind === 'file' ? Number(stat.size) : 0 };
  const renamed = member.path !== real.path || member.pathBase64 !== real.pathBase64;
  return {
    allocatedBytes: Number(stat.blocks * 512n),
    apparentBytes: notStored !== undefined && kind === 'file' ? String(stat.size) : undefined,
    atimeNs: String(stat.atimeNs),
    birthNs: String(stat.birthtimeNs),
    change,
    changedWhileRead: content?.outcome.changed === true ? true : undefined,
    contentCompared: contentCompared === false ? false : undefined,
    ctimeNs: String(stat.ctimeNs),
    dev: String(stat.dev),
    deviceMajor: device?.major,
    deviceMinor: device?.minor,
    fromLayer,
    gap,
    gid: Number(owner.gid),
    hostGid: owner.gid === stat.gid ? undefined : Number(stat.gid),
    hostUid: owner.uid === stat.uid ? undefined : Number(stat.uid),
    inArchive: as.kind === 'none' ? false : undefined,
    inode: String(stat.ino),
    linkPath: link?.path,
    linkPathBase64: link?.pathBase64,
    lower,
    mode: octalMode(stat.mode),
    mtimeNs: String(stat.mtimeNs),
    nlink: Number(stat.nlink),
    notStored,
    overlayPath: renamed ? real.path : undefined,
    overlayPathBase64: renamed ? real.pathBase64 : undefined,
    overlayXattrs: attributeRecord(xattrs.internal),
    path: member.path,
    pathBase64: member.pathBase64,
    sha256: 'sha256' in member ? member.sha256 : undefined,
    sizeBytes: member.sizeBytes,
    sparse: content?.sparse,
    type: member.type,
    uid: Number(owner.uid),
    unnamedXattrs: unnamedXattrs.length === 0 ? undefined : unnamedXattrs.map(unnamed),
    volume,
    xattrs: attributeRecord(xattrs.visible),
  };
}

function unnamed({ name, value }: Entry['unnamedXattrs'][number]): { nameBase64: string; value: string } {
  return { nameBase64: base64(name), value: base64(value) };
}

export function octalMode(mode: bigint): string {
  return permissionBits(mode).toString(8).padStart(4, '0');
}

export function permissionBits(mode: bigint): number {
  return Number(mode & 0o7777n);
}

function attributeRecord(xattrs: ReadonlyMap<string, Buffer>): Record<string, string> | undefined {
  if (xattrs.size === 0) return undefined;
  const sorted = [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(sorted.map(([name, value]) => [name, base64(value)]));
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64');
}

/** A gap about a path: shown in `what`, with its bytes where they are not UTF-8. */
export function reportGap(
  context: Pick<CollectContext, 'gap'>,
  path: Buffer,
  why: string,
  errno: string | undefined,
): void {
  const { path: text, pathBase64 } = describePath(path.length === 0 ? '.' : path);
  context.gap({
    what: text,
    why,
    ...(pathBase64 !== undefined && { pathBase64 }),
    ...(errno !== undefined && { errno }),
  });
}
