import type { Change } from '../../evidence/inventory.ts';
import type { NodeKind } from '../host/directory.ts';

/** One side of a comparison. */
export interface Compared {
  readonly kind: NodeKind;
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly mtimeNs: bigint;
  readonly sizeBytes: bigint;
  readonly rdev: bigint;
  /** Of a file's content; undefined when it was not read or not all of it. */
  readonly sha256: string | undefined;
  readonly linkPath: Buffer | undefined;
  /** As the container sees them. */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

export interface Comparison {
  readonly change: Change;
  /** False when both files have one size and one of them was not digested. */
  readonly contentCompared: boolean;
}

export const ADDED: Comparison = { change: 'added', contentCompared: true };

/**
 * What became of a lower layer's entry, as `CHANGES` defines it. A file whose size and mtime are as before is still
 * `modified` when its digest is another: containerd's own diff calls it unchanged.
 */
export function compare(upper: Compared, lower: Compared | undefined, opaque: boolean): Comparison {
  if (lower === undefined) return ADDED;
  if (upper.kind !== lower.kind) return { change: 'modified', contentCompared: true };
  if (opaque) return { change: 'opaque', contentCompared: true };
  const content = sameContent(upper, lower);
  if (content !== true) return { change: 'modified', contentCompared: content !== undefined };
  return { change: sameMetadata(upper, lower) ? 'unchanged' : 'metadata', contentCompared: true };
}

function sameContent(upper: Compared, lower: Compared): boolean | undefined {
  switch (upper.kind) {
    case 'file':
      if (upper.sizeBytes !== lower.sizeBytes) return false;
      if (upper.sha256 === undefined || lower.sha256 === undefined) return undefined;
      return upper.sha256 === lower.sha256;
    case 'symlink':
      return upper.linkPath !== undefined && lower.linkPath !== undefined && upper.linkPath.equals(lower.linkPath);
    case 'character-device':
    case 'block-device':
      return upper.rdev === lower.rdev;
    case 'directory':
    case 'fifo':
    case 'socket':
      return true;
    default:
      return upper.kind satisfies never;
  }
}

/** SELinux labels are the mount's and the policy's doing, not the container's. */
const NOT_COMPARED = 'security.selinux';

function sameMetadata(upper: Compared, lower: Compared): boolean {
  const same = upper.mode === lower.mode && upper.uid === lower.uid && upper.gid === lower.gid;
  return same && upper.mtimeNs === lower.mtimeNs && sameXattrs(upper.xattrs, lower.xattrs);
}

function sameXattrs(upper: Compared['xattrs'], lower: Compared['xattrs']): boolean {
  const names = new Set([...upper.keys(), ...lower.keys()]);
  names.delete(NOT_COMPARED);
  return [...names].every((name) => {
    const [a, b] = [upper.get(name), lower.get(name)];
    return a !== undefined && b !== undefined && a.equals(b);
  });
}
