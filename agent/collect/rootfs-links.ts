/**
 * Which inode is already in the archive under which name. An inode is forgotten when all its names have been seen; what
 * remains is bounded, since a hostile tree may have any number of inodes with a second name elsewhere.
 */
export const MAX_WAITING_LINKS = 200_000;

export interface First {
  readonly memberPath: Buffer;
  /** Of its content, where it was stored whole. */
  readonly sha256: string | undefined;
}

interface Waiting extends First {
  left: bigint;
}

export class LinkTable {
  readonly #waiting = new Map<string, Waiting>();
  readonly #limit: number;
  /** Inodes that were not remembered; their other names are stored as files of their own. */
  forgotten = 0;

  constructor(limit: number = MAX_WAITING_LINKS) {
    this.#limit = limit;
  }

  /** The member that another name of this inode was stored as; one call a name. */
  find({ dev, ino, nlink }: Inode): First | undefined {
    if (nlink < 2n) return undefined;
    const key = `${dev}:${ino}`;
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) return undefined;
    waiting.left -= 1n;
    if (waiting.left <= 0n) this.#waiting.delete(key);
    return waiting;
  }

  /** Call when a member with the content has been written. */
  remember({ dev, ino, nlink }: Inode, first: First): void {
    if (nlink < 2n) return;
    if (this.#waiting.size >= this.#limit) this.forgotten += 1;
    else this.#waiting.set(`${dev}:${ino}`, { ...first, left: nlink - 1n });
  }
}

export interface Inode {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly nlink: bigint;
}
