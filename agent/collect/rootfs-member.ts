import { errnoOf, explain } from '../../evidence/error.ts';
import type { Member } from '../../evidence/manifest.ts';
import type { NotStored } from '../../evidence/volumes.ts';
import { type Node, openForReading, type Readable } from '../host/directory.ts';
import { wholeRoom } from '../host/regular-file.ts';
import type { Archive, CollectContext } from './collector.ts';
import { type Content, contentAhead, contentOf, HOLES_IN_ALL, shortfall } from './rootfs-content.ts';
import { LinkTable } from './rootfs-links.ts';
import { type Entry, type StoredAs, tarHeader, type Verdict } from './rootfs-store.ts';

/** How an entry was stored. */
export interface Stored {
  readonly as: StoredAs;
  readonly content?: Content;
  readonly gap?: NonNullable<Verdict['gap']>;
  readonly notStored?: NotStored;
  /** Of the entry's content, when it was stored whole and as it reads. */
  readonly sha256?: string | undefined;
}

/** Why a file's content is left out; undefined lets it in. Asked once for each inode that is not in the archive. */
export type Admit = (entry: Entry) => NotStored | undefined;

/** Puts entries into the layer: each inode's content once, its other names as hardlinks. */
export class MemberWriter {
  readonly links = new LinkTable();
  /** Files whose access time the reading may have updated. */
  touched = 0;
  contentBytes = 0;
  readonly #layer: Archive;
  readonly #context: Pick<CollectContext, 'read' | 'signal'>;
  readonly #admit: Admit;
  readonly #room = wholeRoom();
  #holesLeft = HOLES_IN_ALL;

  constructor(layer: Archive, context: Pick<CollectContext, 'read' | 'signal'>, admit: Admit = () => undefined) {
    this.#admit = admit;
    this.#layer = layer;
    this.#context = context;
  }

  /** `data` is the file whose content is the entry's: itself, or a lower layer's for a metadata-only copy-up. */
  async write(entry: Entry, data: Node): Promise<Stored> {
    const { kind, stat } = entry.node;
    if (kind === 'socket') return { as: { kind: 'none' } };
    const inode = kind === 'directory' ? { dev: stat.dev, ino: stat.ino, nlink: 1n } : stat;
    const first = this.links.find(inode);
    if (first !== undefined) {
      const { memberPath, sha256 } = first;
      const { member } = await this.#layer.add({ ...tarHeader(entry, 'hardlink'), linkPath: memberPath });
      return { as: { kind: 'member', member, hardlinkTo: memberPath }, sha256 };
    }
    if (kind === 'symlink' && entry.linkPath === undefined) return refused('its target cannot be read', undefined);
    const stored = kind === 'file' ? await this.#file(entry, data) : await this.#other(entry, kind);
    if (stored.as.kind === 'member') {
      this.links.remember(inode, { memberPath: entry.memberPath, sha256: stored.sha256 });
    }
    return stored;
  }

  async #other(entry: Entry, type: Exclude<Member['type'], 'file' | 'hardlink'>): Promise<Stored> {
    const { member } = await this.#layer.add(tarHeader(entry, type));
    return { as: { kind: 'member', member } };
  }

  async #file(entry: Entry, data: Node): Promise<Stored> {
    const notStored = this.#admit(entry);
    if (notStored !== undefined) return { as: { kind: 'none' }, notStored };
    if (data.ahead !== undefined) return this.#content(entry, contentAhead(data.ahead), data.ahead.sha256);
    let readable: Readable;
    try {
      readable = openForReading(data);
    } catch (error) {
      return refused('it cannot be opened for reading', error);
    }
    if (!readable.keepsAtime) this.touched += 1;
    let content: Content;
    try {
      content = contentOf(readable.fd, data, this.#room, this.#holesLeft, this.#context.signal);
    } catch (error) {
      return refused('it cannot be read', error);
    }
    return this.#content(entry, content, undefined);
  }

  async #content(entry: Entry, content: Content, sha256: string | undefined): Promise<Stored> {
    const { member } = await this.#layer.add(
      { ...tarHeader(entry, 'file'), sizeBytes: content.sizeBytes, sha256 },
      content.body,
    );
    this.#holesLeft -= content.holeBytes;
    this.contentBytes += content.sizeBytes;
    this.#context.read(content.outcome.bytes, 1);
    const gap = shortfall(content);
    const whole = gap === undefined && content.sparse === undefined && member.sha256 !== undefined;
    return {
      as: { kind: 'member', member },
      content,
      ...(gap && { gap }),
      sha256: whole ? member.sha256 : undefined,
    };
  }
}

/** Errors that are not the system's are thrown on. */
export function refused(why: string, error: unknown): Stored {
  if (error === undefined) return { as: { kind: 'none' }, gap: { why } };
  const errno = errnoOf(error);
  if (errno === undefined) throw error;
  return { as: { kind: 'none' }, gap: { errno, why: `${why}: ${explain(error)}` } };
}
