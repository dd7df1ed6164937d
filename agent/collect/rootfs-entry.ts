import { errnoOf } from '../../evidence/error.ts';
import { type Directory, type Node, readLink } from '../host/directory.ts';
import { type OverlayClass, type OverlayMarks, readMarks, splitXattrs } from '../host/overlay.ts';
import { NO_XATTRS, readXattrs, type Xattrs } from '../host/xattr.ts';
import type { CollectContext } from './collector.ts';
import { type Entry, reportGap } from './rootfs-store.ts';

/** Where an entry is. */
export interface Place {
  readonly path: Buffer;
  readonly memberPath: Buffer;
  readonly directory: Directory;
  readonly name: Buffer;
  readonly node: Node;
  readonly fromLayer?: number;
}

/** Reads all of an entry but its content. What cannot be read is a gap and is left out. */
export function readEntry(
  context: Pick<CollectContext, 'gap'>,
  ofClass: OverlayClass,
  { path, memberPath, directory, name, node, fromLayer }: Place,
): { entry: Entry; marks: OverlayMarks } {
  const orGap = <T>(what: string, otherwise: T, read: () => T): T => {
    try {
      return read();
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(context, path, `its ${what} cannot be read`, errno);
      return otherwise;
    }
  };
  const xattrs = orGap<Xattrs>('extended attributes', NO_XATTRS, () => readXattrs(node));
  for (const { name: attribute, errno } of xattrs.refused) {
    reportGap(context, path, `its attribute ${JSON.stringify(attribute.toString())} cannot be read`, errno);
  }
  const linkPath =
    node.kind === 'symlink' ? orGap('target', undefined, () => readLink(node, directory, name)) : undefined;
  const split = splitXattrs(xattrs, ofClass);
  const entry = { path, memberPath, node, xattrs: split, unnamedXattrs: xattrs.unnamed, linkPath, fromLayer };
  return { entry, marks: readMarks(xattrs, ofClass) };
}
