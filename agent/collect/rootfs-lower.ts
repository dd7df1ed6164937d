import { errnoOf } from '../../evidence/error.ts';
import type { LowerRecord } from '../../evidence/inventory.ts';
import { describePath } from '../../evidence/member-path.ts';
import { readLink } from '../host/directory.ts';
import type { IdMaps } from '../host/id-map.ts';
import type { LowerObject } from '../host/lower.ts';
import { type OverlayClass, splitXattrs } from '../host/overlay.ts';
import { newOutcome, wholeRoom } from '../host/regular-file.ts';
import type { CollectContext } from './collector.ts';
import type { Compared } from './rootfs-change.ts';
import { DIGEST_ALL_BYTES, DIGEST_FILE_BYTES, digestNode } from './rootfs-content.ts';
import { insideXattrs } from './rootfs-owner.ts';
import { type Entry, octalMode, reportGap } from './rootfs-store.ts';

/** What a lower layer had, for the inventory and for the comparison. */
export interface LowerSide {
  readonly record: LowerRecord;
  readonly compared: Compared;
}

/** Describes lower objects, and digests their files within the bounds of one capture. */
export class LowerReader {
  readonly #context: Pick<CollectContext, 'gap' | 'read' | 'signal'>;
  readonly #ofClass: OverlayClass;
  readonly #ids: IdMaps | undefined;
  readonly #room = wholeRoom();
  #digestLeft = DIGEST_ALL_BYTES;
  /** Files that were within no bound. */
  undigested = 0;

  constructor(
    context: Pick<CollectContext, 'gap' | 'read' | 'signal'>,
    ofClass: OverlayClass,
    ids: IdMaps | undefined,
  ) {
    this.#context = context;
    this.#ofClass = ofClass;
    this.#ids = ids;
  }

  /** `path` is for gaps. `data` has the content where `object` is a file. */
  async describe(path: Buffer, object: LowerObject, data: LowerObject | undefined): Promise<LowerSide> {
    const { node, layer, directory, name, xattrs } = object;
    const { stat, kind } = node;
    const owner = this.#ids?.inside(stat) ?? stat;
    const linkPath = kind === 'symlink' ? readLink(node, directory, name) : undefined;
    const sha256 = kind === 'file' && data !== undefined ? await this.#digest(path, data) : undefined;
    const link = linkPath === undefined ? undefined : describePath(linkPath);
    return {
      // Sorted, as they are written.
      record: {
        atimeNs: String(stat.atimeNs),
        birthNs: String(stat.birthtimeNs),
        ctimeNs: String(stat.ctimeNs),
        gid: Number(owner.gid),
        inode: String(stat.ino),
        layer,
        linkPath: link?.path,
        linkPathBase64: link?.pathBase64,
        mode: octalMode(stat.mode),
        mtimeNs: String(stat.mtimeNs),
        sha256,
        sizeBytes: Number(stat.size),
        type: kind,
        uid: Number(owner.uid),
      },
      compared: {
        kind,
        mode: stat.mode,
        uid: owner.uid,
        gid: owner.gid,
        mtimeNs: stat.mtimeNs,
        sizeBytes: stat.size,
        rdev: stat.rdev,
        sha256,
        linkPath,
        xattrs: insideXattrs(splitXattrs(xattrs, this.#ofClass), this.#ids).visible,
      },
    };
  }

  async #digest(path: Buffer, { node }: LowerObject): Promise<string | undefined> {
    const { size } = node.stat;
    if (size > DIGEST_FILE_BYTES || size > this.#digestLeft) {
      this.undigested += 1;
      return undefined;
    }
    this.#digestLeft -= size;
    const outcome = newOutcome();
    try {
      return await digestNode(node, this.#room, outcome, this.#context.signal);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(this.#context, path, 'the lower layer has this file, and it cannot be read', errno);
      return undefined;
    } finally {
      this.#context.read(outcome.bytes, 1);
    }
  }
}

export function comparedOf(entry: Entry, sizeBytes: bigint, sha256: string | undefined): Compared {
  const { stat, kind } = entry.node;
  return {
    kind,
    mode: stat.mode,
    uid: entry.owner.uid,
    gid: entry.owner.gid,
    mtimeNs: stat.mtimeNs,
    sizeBytes,
    rdev: stat.rdev,
    sha256,
    linkPath: entry.linkPath,
    xattrs: entry.xattrs.visible,
  };
}
