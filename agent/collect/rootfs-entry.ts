import { errnoOf } from '../../evidence/error.ts';
import { type Directory, type Node, readLink } from '../host/directory.ts';
import type { IdMaps } from '../host/id-map.ts';
import { NO_MARKS, type OverlayClass, type OverlayMarks, readMarks, splitXattrs } from '../host/overlay.ts';
import { NO_XATTRS, readXattrs, type Xattrs } from '../host/xattr.ts';
import type { CollectContext } from './collector.ts';
import { insideXattrs } from './rootfs-owner.ts';
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

/** Reads all of an entry but its content; `ofClass` is undefined outside of an overlay, where every attribute is the entry's own. What cannot be read is a gap and is left out. */
export function readEntry(
  context: Pick<CollectContext, 'gap'>,
  ofClass: OverlayClass | undefined,
  { path, memberPath, directory, name, node, fromLayer }: Place,
  ids: IdMaps | undefined,
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
  const split =
    ofClass === undefined ? { visible: xattrs.named, internal: NO_XATTRS.named } : splitXattrs(xattrs, ofClass);
  const entry = {
    path,
    memberPath,
    node,
    owner: ids?.inside(node.stat) ?? node.stat,
    xattrs: insideXattrs(split, ids),
    unnamedXattrs: xattrs.unnamed,
    linkPath,
    fromLayer,
  };
  return { entry, marks: ofClass === undefined ? NO_MARKS : readMarks(xattrs, ofClass) };
}
