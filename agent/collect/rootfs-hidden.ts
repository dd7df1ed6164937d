import { isErrno } from '../../evidence/error.ts';
import type { FindingReason } from '../../evidence/file-finding.ts';
import { type Directory, type Node, openNode } from '../host/directory.ts';
import { type LowerEntry, type LowerLayers, type LowerLookup, lowerTree } from '../host/lower.ts';
import type { OverlayMarks } from '../host/overlay.ts';

/** Which files of the image an entry of the upper directory hides, and how. */

/** By what an entry hides all that the lower layers have at its path, or below it; undefined when it hides nothing. */
export function hidesBy(
  node: Pick<Node, 'kind'>,
  marks: OverlayMarks,
  isWhite: boolean,
  lookup: LowerLookup | undefined,
): FindingReason | undefined {
  const lower = lookup?.object?.node.kind;
  if (lower === undefined) return undefined;
  if (isWhite) return lower === 'directory' ? 'with-directory' : 'by-whiteout';
  if (node.kind === 'directory' && lower === 'directory') {
    return marks.opaque === 'opaque' || marks.redirect !== undefined ? 'directory-replaced' : undefined;
  }
  // Another content of a file is a change; another type is the end of what was there.
  return node.kind === lower ? undefined : 'replaced-by-other-type';
}

/**
 * The regular files of the image at `path` and below, parents first. Disposed when the next one is asked for. Throws as
 * `lowerTree` does.
 */
export async function* hiddenFiles(
  layers: LowerLayers,
  { object, data, directories }: LowerLookup,
  path: Buffer,
  signal: AbortSignal,
): AsyncGenerator<LowerEntry, void, void> {
  if (object?.node.kind === 'file') yield { path, object, data };
  if (object?.node.kind !== 'directory') return;
  for await (const entry of lowerTree(layers, directories, () => false, signal, path)) {
    if (entry.object.node.kind === 'file') yield entry;
  }
}

/**
 * What a directory has at a path of several names, opened name by name so that nothing is followed. Undefined when there is
 * nothing, or a whiteout. The caller disposes. Throws a system error when it cannot be known.
 */
export function openBelow(directory: Directory, path: Buffer): Node | undefined {
  let at = directory;
  try {
    for (let from = 0; ; ) {
      const slash = path.indexOf(SLASH, from);
      const name = path.subarray(from, slash === -1 ? path.length : slash);
      const node = openIfThere(at, name);
      if (node === undefined) return undefined;
      if (slash === -1 && !(node.kind === 'character-device' && node.stat.rdev === 0n)) return node;
      using held = node;
      if (slash === -1 || held.kind !== 'directory') return undefined;
      const next = at.child(name, held);
      if (at !== directory) at.close();
      at = next;
      from = slash + 1;
    }
  } finally {
    if (at !== directory) at.close();
  }
}

const SLASH = 0x2f;

function openIfThere(directory: Directory, name: Buffer): Node | undefined {
  try {
    return openNode(directory, name);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENAMETOOLONG')) return undefined;
    throw error;
  }
}
