import { lstatSync } from 'node:fs';
import { isErrno } from '../../evidence/error.ts';
import { type Directory, type DirectoryPool, type Node, openNode } from './directory.ts';
import { SystemError } from './libc.ts';
import { listNames } from './listing.ts';
import {
  followRedirect,
  isWhiteout,
  type LowerName,
  NO_MARKS,
  type OverlayClass,
  type OverlayMarks,
  readMarks,
} from './overlay.ts';
import { WALK_LIMITS } from './walk.ts';
import { NO_XATTRS, readXattrs, type Xattrs } from './xattr.ts';

/** One of the lower directories that are merged at some path. */
export interface LowerDirectory {
  readonly directory: Directory;
  /** 0 is the top-most lower layer. */
  readonly layer: number;
  readonly marks: OverlayMarks;
}

/** What the lower layers show at a path. The caller disposes. */
export interface LowerObject extends Disposable {
  readonly node: Node;
  readonly layer: number;
  readonly directory: Directory;
  readonly name: Buffer;
  readonly xattrs: Xattrs;
  readonly marks: OverlayMarks;
}

export interface LowerLookup extends Disposable {
  /** Top-most first; without a whiteout on top of it. */
  readonly object: LowerObject | undefined;
  /** Where the data of a file is when `object` itself is a metacopy; else `object`. */
  readonly data: LowerObject | undefined;
  /** When `object` is a directory: all that are merged, top-most first. The caller closes them. */
  readonly directories: readonly LowerDirectory[];
}

/** The lower layers of one overlay, looked at as ovl_lookup() in fs/overlayfs/namei.c does, by descriptors only. */
export class LowerLayers {
  readonly roots: readonly LowerDirectory[];
  readonly #ofClass: OverlayClass;

  constructor(pool: DirectoryPool, paths: readonly string[], ofClass: OverlayClass) {
    this.#ofClass = ofClass;
    this.roots = paths.map((path, layer) => {
      const directory = pool.root(path);
      return { directory, layer, marks: readMarks(readXattrs(directory.fd), ofClass) };
    });
  }

  /** What is at `name` in the merged `directories`. Throws a system error when a layer cannot be read there. */
  lookup(directories: readonly LowerDirectory[], name: LowerName): LowerLookup {
    let want = name;
    let object: LowerObject | undefined;
    let data: LowerObject | undefined;
    const merged: LowerDirectory[] = [];
    const kept: Disposable[] = [];
    let bases = this.#bases(directories, want, -1);
    for (let base = bases.shift(); base !== undefined; base = bases.shift()) {
      const found = this.#inLayer(base, want);
      if (found === undefined) continue;
      if (found === 'hidden') break;
      const { layer, marks } = found;
      const isDirectory = found.node.kind === 'directory';
      // A file below directories, or a directory below a file, is hidden by them.
      if (object !== undefined && isDirectory !== (object.node.kind === 'directory')) {
        found[Symbol.dispose]();
        break;
      }
      kept.push(found);
      object ??= found;
      if (isDirectory) merged.push({ directory: found.directory.child(found.name, found.node), layer, marks });
      else if (!marks.metacopy) data = found;
      if (isDirectory ? marks.opaque === 'opaque' : !marks.metacopy) break;
      if (marks.redirect === undefined) continue;
      const onward = followRedirect(marks.redirect);
      if (onward === undefined) break;
      want = onward;
      bases = this.#bases(directories, want, layer);
    }
    return { object, data, directories: merged, [Symbol.dispose]: () => disposeAll(kept) };
  }

  /** Where to start in each layer below `above`. */
  #bases(directories: readonly LowerDirectory[], want: LowerName, above: number): LowerDirectory[] {
    return (want.kind === 'here' ? directories : this.roots).filter(({ layer }) => layer > above);
  }

  #inLayer(base: LowerDirectory, want: LowerName): LowerObject | 'hidden' | undefined {
    if (want.kind === 'here') return this.#lookAt(base, want.name);
    let at = base;
    for (const [index, name] of want.names.entries()) {
      const found = this.#lookAt(at, name);
      if (found === undefined || found === 'hidden') return found;
      if (index === want.names.length - 1) return found;
      using step = found;
      if (step.node.kind !== 'directory') return 'hidden';
      at = { directory: step.directory.child(step.name, step.node), layer: base.layer, marks: step.marks };
    }
    return undefined;
  }

  #lookAt(base: LowerDirectory, name: Buffer): LowerObject | 'hidden' | undefined {
    const node = openIfThere(base.directory, name);
    if (node === undefined) return undefined;
    try {
      const mayBear = node.kind === 'directory' || node.kind === 'file';
      const xattrs = mayBear ? readXattrs(node.fd) : NO_XATTRS;
      const marks = mayBear ? readMarks(xattrs, this.#ofClass) : NO_MARKS;
      const { rdev, size } = node.stat;
      if (isWhiteout({ kind: node.kind, rdev, sizeBytes: size, marks, parent: base.marks.opaque })) {
        node[Symbol.dispose]();
        return 'hidden';
      }
      const { directory, layer } = base;
      return { node, layer, directory, name, xattrs, marks, [Symbol.dispose]: () => node[Symbol.dispose]() };
    } catch (error) {
      node[Symbol.dispose]();
      throw error;
    }
  }
}

function openIfThere(directory: Directory, name: Buffer): Node | undefined {
  try {
    // Most names are not there, and an error costs several times an answer.
    if (lstatSync(directory.at(name), { throwIfNoEntry: false }) === undefined) return undefined;
    return openNode(directory, name);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENAMETOOLONG')) return undefined;
    throw error;
  }
}

function disposeAll(kept: readonly Disposable[]): void {
  for (const one of kept) one[Symbol.dispose]();
}

/** One entry of a merged lower directory, at `path` below it. Disposed when the next one is asked for. */
export interface LowerEntry {
  readonly path: Buffer;
  readonly object: LowerObject;
  readonly data: LowerObject | undefined;
}

/**
 * All that the merged lower `directories` show below themselves, parents first, bytewise sorted; but nothing that `hides`
 * says is covered. A system error where a layer cannot be read, ENAMETOOLONG below paths longer than WALK_LIMITS, is for
 * `missed` with the path that lacks something, and the rest follows; without `missed` it is thrown.
 */
export async function* lowerTree(
  layers: LowerLayers,
  directories: readonly LowerDirectory[],
  hides: (name: Buffer) => boolean,
  signal: AbortSignal,
  above: Buffer = Buffer.alloc(0),
  missed: (path: Buffer, error: unknown) => void = thrown,
): AsyncGenerator<LowerEntry, void, void> {
  for (const name of await mergedNames(directories, above, missed)) {
    signal.throwIfAborted();
    if (hides(name)) continue;
    const path = above.length === 0 ? name : Buffer.concat([above, Buffer.from('/'), name]);
    using lookup = lookupOr(layers, directories, name, (error) => missed(path, error));
    if (lookup?.object === undefined) continue;
    const { object, data } = lookup;
    yield { path, object, data };
    yield* lowerTree(layers, lookup.directories, () => false, signal, path, missed);
    for (const { directory } of lookup.directories) directory.close();
  }
}

function thrown(_: Buffer, error: unknown): never {
  throw error;
}

function lookupOr(
  layers: LowerLayers,
  directories: readonly LowerDirectory[],
  name: Buffer,
  missed: (error: unknown) => void,
): LowerLookup | undefined {
  try {
    return layers.lookup(directories, { kind: 'here', name });
  } catch (error) {
    missed(error);
    return undefined;
  }
}

/** What could not be listed is for `missed`; the names that could be follow all the same. */
async function mergedNames(
  directories: readonly LowerDirectory[],
  path: Buffer,
  missed: (path: Buffer, error: unknown) => void,
): Promise<Buffer[]> {
  const names = new Set<string>();
  try {
    if (path.length > WALK_LIMITS.pathBytes) throw new SystemError('ENAMETOOLONG', 'open');
    await addNames(directories, names);
  } catch (error) {
    missed(path, error);
  }
  return [...names].sort().map((name) => Buffer.from(name, 'latin1'));
}

async function addNames(directories: readonly LowerDirectory[], names: Set<string>): Promise<void> {
  for (const { directory } of directories) {
    const listing = await listNames(directory, () => false, WALK_LIMITS.heldNames - names.size);
    for (const name of listing.names) names.add(name);
    if (listing.left > 0) throw new SystemError('E2BIG', 'getdents64');
  }
}
