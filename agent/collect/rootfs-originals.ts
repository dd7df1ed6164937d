import { errnoOf, isExhibitError } from '../../evidence/error.ts';
import type { Member } from '../../evidence/manifest.ts';
import { type Node, openForReading } from '../host/directory.ts';
import type { IdMaps } from '../host/id-map.ts';
import type { LowerObject } from '../host/lower.ts';
import { type OverlayClass, splitXattrs } from '../host/overlay.ts';
import { newOutcome, readExtents, readWhole, WHOLE_BYTES, wholeRoom } from '../host/regular-file.ts';
import type { Archive, CollectContext } from './collector.ts';
import { permissionBits, reportGap } from './rootfs-store.ts';

const ROOTFS_ORIGINALS = 'rootfs-originals.tar.zst';

/** An image can be fetched again as a rule; a container that deletes all of it must not make a capture that much longer. */
export const ORIGINALS_BYTES = 512 * 1024 * 1024;
/** As many as the manifest's own lists are meant for, ten times. */
export const ORIGINALS_FILES = 100_000;

/** The image's files that the container deleted or changed, each under its path, in the order in which they were met. */
export class Originals implements AsyncDisposable {
  files = 0;
  bytes = 0;
  /** Beyond the bounds. */
  left = 0;
  leftBytes = 0n;
  readonly #context: Pick<CollectContext, 'archive' | 'gap' | 'read' | 'signal'>;
  readonly #ofClass: OverlayClass;
  readonly #ids: IdMaps | undefined;
  readonly #limitBytes: number;
  readonly #room = wholeRoom();
  /** Opened for the first one: most captures have none. */
  #archive: Archive | undefined;
  #last: { readonly path: Buffer; readonly member: Member } | undefined;

  constructor(
    context: Pick<CollectContext, 'archive' | 'gap' | 'read' | 'signal'>,
    ofClass: OverlayClass,
    ids: IdMaps | undefined,
    limitBytes: number = ORIGINALS_BYTES,
  ) {
    this.#context = context;
    this.#ofClass = ofClass;
    this.#ids = ids;
    this.#limitBytes = limitBytes;
  }

  /**
   * `data` holds a regular file's content, `object` its attributes. Undefined when it was not kept. The same path again, one
   * call after the other, is the same member.
   */
  async keep(path: Buffer, object: LowerObject, data: LowerObject): Promise<Member | undefined> {
    if (this.#last?.path.equals(path) === true) return this.#last.member;
    const { size } = data.node.stat;
    if (this.files >= ORIGINALS_FILES || size > BigInt(this.#limitBytes - this.bytes)) {
      this.left += 1;
      this.leftBytes += size;
      return undefined;
    }
    try {
      const readable = openForReading(data.node);
      return await this.#store(path, object, data.node, readable.fd);
    } catch (error) {
      const errno = isExhibitError(error) ? undefined : errnoOf(error);
      if (errno === undefined) throw error;
      reportGap(this.#context, path, 'the image has this file, and its original cannot be read', errno);
      return undefined;
    }
  }

  async #store(path: Buffer, object: LowerObject, data: Node, fd: number): Promise<Member> {
    const { stat } = object.node;
    const sizeBytes = Number(data.stat.size);
    const owner = this.#ids?.inside(stat) ?? stat;
    const xattrs = splitXattrs(object.xattrs, this.#ofClass).visible;
    const outcome = newOutcome();
    const whole = sizeBytes <= WHOLE_BYTES ? readWhole(fd, data.stat, this.#room) : undefined;
    const all = [{ offset: 0n, sizeBytes: BigInt(sizeBytes) }];
    this.#archive ??= await this.#context.archive(ROOTFS_ORIGINALS);
    const { member, bodyBytes } = await this.#archive.add(
      {
        path,
        type: 'file',
        sizeBytes,
        mode: permissionBits(stat.mode),
        uid: Number(owner.uid),
        gid: Number(owner.gid),
        mtimeNs: stat.mtimeNs,
        atimeNs: stat.atimeNs,
        ctimeNs: stat.ctimeNs,
        ...(xattrs.size > 0 && { xattrs }),
      },
      whole?.content ?? readExtents(fd, all, outcome, this.#context.signal),
    );
    this.#last = { path, member };
    this.files += 1;
    this.bytes += sizeBytes;
    this.#context.read(bodyBytes, 1);
    const { failure } = whole?.outcome ?? outcome;
    if (bodyBytes < sizeBytes) {
      const why = `the image’s original: only ${bodyBytes} of ${sizeBytes} bytes could be read, the rest is zeros`;
      reportGap(this.#context, path, why, failure?.errno);
    }
    return member;
  }

  async commit(): Promise<void> {
    await this.#archive?.commit();
    if (this.left === 0) return;
    this.#context.gap({
      what: 'originals of deleted and changed files',
      why: `${this.left} files of the image, ${this.leftBytes} bytes, were not kept: at most ${this.#limitBytes} bytes and ${ORIGINALS_FILES} files are`,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#archive?.[Symbol.asyncDispose]();
  }
}
