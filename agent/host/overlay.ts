import type { NodeKind } from './directory.ts';
import type { Xattrs } from './xattr.ts';

/**
 * What overlayfs means by an entry of an upper or lower directory: Documentation/filesystems/overlayfs.rst, sections
 * "whiteouts and opaque directories", "redirect_dir", "metadata only copy up" and "Nesting overlayfs mounts". Pure.
 */

/** The attributes' class: `user.` when the overlay is mounted with `userxattr`, else `trusted.`. */
export type OverlayClass = 'trusted' | 'user';

export function overlayClass(userXattr: boolean): OverlayClass {
  return userXattr ? 'user' : 'trusted';
}

export interface OverlayMarks {
  /** `opaque`: hides the lower directories. `holds-whiteouts`: may hold whiteouts made of an attribute (opaque=x). */
  readonly opaque: 'no' | 'opaque' | 'holds-whiteouts';
  /** Where the lower directories or data are: an absolute path of the overlay, or another name in the same directory. */
  readonly redirect: Buffer | undefined;
  /** Only attributes were copied up; the data is in a lower layer. */
  readonly metacopy: boolean;
  /** It was copied up from a lower layer (`origin`). */
  readonly copiedUp: boolean;
  /** It bears the attribute of a whiteout; see `isWhiteout`. */
  readonly whiteout: boolean;
}

export const NO_MARKS: OverlayMarks = {
  opaque: 'no',
  redirect: undefined,
  metacopy: false,
  copiedUp: false,
  whiteout: false,
};

export function readMarks({ named }: Xattrs, ofClass: OverlayClass): OverlayMarks {
  if (named.size === 0) return NO_MARKS;
  const get = (name: string): Buffer | undefined => named.get(`${ofClass}.overlay.${name}`);
  const opaque = get('opaque')?.toString('latin1');
  return {
    opaque: opaque === 'y' ? 'opaque' : opaque === 'x' ? 'holds-whiteouts' : 'no',
    redirect: get('redirect'),
    metacopy: get('metacopy') !== undefined,
    copiedUp: get('origin') !== undefined,
    whiteout: get('whiteout') !== undefined,
  };
}

/** What decides whether an entry is a whiteout. */
export interface WhiteoutClues {
  readonly kind: NodeKind;
  readonly rdev: bigint;
  readonly sizeBytes: bigint;
  readonly marks: OverlayMarks;
  /** Of the directory that it lies in. */
  readonly parent: OverlayMarks['opaque'];
}

/** A character device 0:0, or, in an opaque=x directory, an empty regular file with the whiteout attribute. */
export function isWhiteout({ kind, rdev, sizeBytes, marks, parent }: WhiteoutClues): boolean {
  if (kind === 'character-device') return rdev === 0n;
  return kind === 'file' && sizeBytes === 0n && marks.whiteout && parent === 'holds-whiteouts';
}

/** The attributes as the container sees them, and those that overlayfs keeps for itself. */
export interface SplitXattrs {
  readonly visible: ReadonlyMap<string, Buffer>;
  readonly internal: ReadonlyMap<string, Buffer>;
}

/**
 * `<class>.overlay.*` is overlayfs' own. `<class>.overlay.overlay.*` is how it stores what a nested overlay set
 * ("escaped"), which the container sees as `<class>.overlay.*`.
 */
export function splitXattrs({ named }: Xattrs, ofClass: OverlayClass): SplitXattrs {
  if (named.size === 0) return NONE;
  const own = `${ofClass}.overlay.`;
  const escaped = `${own}overlay.`;
  const visible = new Map<string, Buffer>();
  const internal = new Map<string, Buffer>();
  for (const [name, value] of named) {
    if (name.startsWith(escaped)) visible.set(own + name.slice(escaped.length), value);
    else (name.startsWith(own) ? internal : visible).set(name, value);
  }
  return { visible, internal };
}

const NONE: SplitXattrs = { visible: new Map(), internal: new Map() };

/** Where to look in the layers below. */
export type LowerName =
  | { readonly kind: 'here'; readonly name: Buffer }
  /** From each layer's root. */
  | { readonly kind: 'from-root'; readonly names: readonly Buffer[] };

/**
 * Where a redirect leads. Undefined for one that the kernel refuses as well (ovl_check_redirect): empty, with `//`, or a
 * relative one with a slash; and for `.` and `..`, which never come from the kernel.
 */
export function followRedirect(redirect: Buffer): LowerName | undefined {
  const names: Buffer[] = [];
  const absolute = redirect[0] === SLASH;
  for (let at = absolute ? 1 : 0; at <= redirect.length; ) {
    const found = redirect.indexOf(SLASH, at);
    const end = found === -1 ? redirect.length : found;
    const name = redirect.subarray(at, end);
    if (name.length === 0 || name.includes(0) || DOTS.includes(name.toString('latin1'))) return undefined;
    names.push(name);
    at = end + 1;
  }
  const [only] = names;
  if (absolute) return { kind: 'from-root', names };
  return only !== undefined && names.length === 1 ? { kind: 'here', name: only } : undefined;
}

const SLASH = 0x2f;
const DOTS = ['.', '..'];
