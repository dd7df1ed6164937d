import type { Finding } from '../../evidence/file-finding.ts';
import type { Node } from '../host/directory.ts';
import { readHead } from '../host/file-head.ts';
import type { LowerLookup, LowerObject } from '../host/lower.ts';
import { HEAD_BYTES, IN_NO_PLACE, type LowerFacts, type Place, type Subject } from './finding-subject.ts';
import type { Content } from './rootfs-content.ts';
import type { LowerSide } from './rootfs-lower.ts';
import { type Entry, octalMode, permissionBits, type Verdict } from './rootfs-store.ts';

/** Entries of the writable layer and files of the image as the rules want them. */

/** An entry as it was stored, and what the lower layers have at its path. */
export interface Examined extends Pick<Verdict, 'change'> {
  readonly entry: Entry;
  readonly content: Content | undefined;
  readonly sha256: string | undefined;
  readonly lower: LowerSide | undefined;
  readonly lookup: LowerLookup | undefined;
}

export function subjectOf({ entry, content, sha256, change, lower }: Examined, place: Place): Subject {
  const { node, owner, xattrs, linkPath, path } = entry;
  return {
    ...subjectOfNode(path, node, owner, sha256),
    linkPath,
    capability: xattrs.visible.get(CAPABILITY),
    head: () => headOf(node, content),
    change,
    lower: lower && factsOf(lower),
    place,
  };
}

const CAPABILITY = 'security.capability';

export function subjectOfNode(
  path: Buffer,
  node: Node,
  owner: Entry['owner'] | undefined,
  sha256: string | undefined,
): Subject {
  const { stat, kind } = node;
  const { uid, gid } = owner ?? stat;
  return {
    path,
    kind,
    mode: permissionBits(stat.mode),
    uid,
    gid,
    sizeBytes: stat.size,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    birthNs: stat.birthtimeNs,
    rdev: stat.rdev,
    linkPath: undefined,
    capability: undefined,
    sha256,
    head: () => undefined,
    change: undefined,
    lower: undefined,
    place: IN_NO_PLACE,
  };
}

/** A small file was read as a whole; a large one is opened once more, which costs nothing beside reading it. */
function headOf(node: Node, content: Content | undefined): Uint8Array | undefined {
  if (content === undefined) return undefined;
  return content.body instanceof Uint8Array ? content.body.subarray(0, HEAD_BYTES) : readHead(node, HEAD_BYTES);
}

function factsOf({ compared }: LowerSide): LowerFacts {
  return { ...compared, capability: compared.xattrs.get(CAPABILITY) };
}

export function lowerOf({ record }: LowerSide): NonNullable<Finding['lower']> {
  const { ctimeNs, gid, layer, mode, mtimeNs, sha256, sizeBytes, uid } = record;
  return { ctimeNs, gid, layer, mode, mtimeNs, ...(sha256 !== undefined && { sha256 }), sizeBytes, uid };
}

export function lowerOfObject(
  { node, layer }: LowerObject,
  { uid, gid }: Pick<Subject, 'uid' | 'gid'>,
  sha256: string | undefined,
): NonNullable<Finding['lower']> {
  const { ctimeNs, mode, mtimeNs, size } = node.stat;
  return {
    ctimeNs: String(ctimeNs),
    gid: Number(gid),
    layer,
    mode: octalMode(mode),
    mtimeNs: String(mtimeNs),
    ...(sha256 !== undefined && { sha256 }),
    sizeBytes: Number(size),
    uid: Number(uid),
  };
}
