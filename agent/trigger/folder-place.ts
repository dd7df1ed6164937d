import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, opendir, rename, unlink } from 'node:fs/promises';
import { ExhibitError, explain, isErrno } from '../../evidence/error.ts';
import { type Directory, DirectoryPool, type Node, openIfThere, openNode } from '../host/directory.ts';
import { pathAt } from '../host/open-at.ts';
import { readWhole } from '../host/regular-file.ts';
import type { Stat } from '../host/stat.ts';
import { mayOwn } from '../host/trusted-folder.ts';
import { REASON_SUFFIX, REJECTED, rejectedName, UNFINISHED } from './folder-name.ts';
import { MAX_REQUEST_BYTES } from './folder-request.ts';

/**
 * The request folder by its descriptor: every name is one step below it, opened without following anything, and what was
 * looked at is what is read.
 */

/** More names than this are not looked at in one go; a folder of so many has another problem. */
const MOST_NAMES = 100_000;
/** For a request or an answer; one more byte than is allowed shows that there is more. */
const ROOM_BYTES = 256 * 1024;
const PERMISSIONS = 0o022n;

export type Look =
  | { readonly kind: 'gone' }
  /** It can never be a request: a sentence without its subject. */
  | { readonly kind: 'wrong'; readonly stat: Stat; readonly why: string }
  /** It has another name still, as a file that is being put here with link(2) and unlink(2) has for a moment. */
  | { readonly kind: 'linked'; readonly stat: Stat }
  | { readonly kind: 'changing'; readonly stat: Stat }
  | { readonly kind: 'read'; readonly stat: Stat; readonly bytes: Buffer };

export class FolderPlace implements Disposable {
  readonly #pool = new DirectoryPool();
  readonly #room = Buffer.allocUnsafeSlow(ROOM_BYTES);
  readonly #directory: Directory;
  #rejected: Directory | undefined;

  /** Throws a system error. */
  constructor(path: string) {
    try {
      this.#directory = this.#pool.root(path);
    } catch (error) {
      this.#pool[Symbol.dispose]();
      throw error;
    }
  }

  /** Of the folder itself: another folder of the same path is another place. */
  get identity(): string {
    return `${this.#directory.dev}:${this.#directory.ino}`;
  }

  async names(): Promise<Buffer[]> {
    return await namesIn(pathAt(this.#directory.fd, Buffer.from('.')));
  }

  /** What changes when a file does; undefined when there is none. Nothing is read. */
  facts(name: Buffer): string | undefined {
    using node = openIfThere(this.#directory, name);
    return node === undefined ? undefined : factsOf(node.stat);
  }

  look(name: Buffer, owners: readonly number[]): Look {
    using node = openIfThere(this.#directory, name);
    if (node === undefined) return { kind: 'gone' };
    const { stat } = node;
    const why = faultOf(node, owners);
    if (why !== undefined) return { kind: 'wrong', stat, why };
    if (stat.nlink > 1n) return { kind: 'linked', stat };
    const { content, outcome } = readWhole(node.open().fd, stat, this.#room);
    if (outcome.failure !== undefined) {
      return { kind: 'wrong', stat, why: `cannot be read (${outcome.failure.errno})` };
    }
    if (outcome.changed || BigInt(content.length) !== stat.size) return { kind: 'changing', stat };
    return { kind: 'read', stat, bytes: Buffer.from(content) };
  }

  /** A regular file of at most `maxBytes`; undefined for whatever else there is. */
  read(name: string, maxBytes: number): Buffer | undefined {
    using node = openIfThere(this.#directory, Buffer.from(name));
    if (node?.kind !== 'file' || node.stat.size > BigInt(Math.min(maxBytes, ROOM_BYTES))) return undefined;
    return Buffer.from(readWhole(node.open().fd, node.stat, this.#room).content);
  }

  /** Whether the file of this name is still the one that was answered, by its time. */
  isOf(name: string, { modifiedNs }: { readonly modifiedNs: string }): boolean {
    using node = openIfThere(this.#directory, Buffer.from(name));
    return node?.kind === 'file' && String(node.stat.mtimeNs) === modifiedNs;
  }

  /**
   * Writes a file under its name, in one step for whoever reads. It is `uid`'s, so that who may ask may read the answer. What
   * lies at the name is replaced, not followed.
   */
  async write(name: string, content: string, uid: number): Promise<void> {
    await writeBelow(this.#directory, name, content, uid);
  }

  /** Moves a request to `rejected/`, its reason first. A folder stays where it is: nothing in it is ours to touch. */
  async reject(name: Buffer, stat: Stat, reason: Readonly<Record<string, string>>): Promise<void> {
    const rejected = await this.#openRejected();
    const base = freeName(rejected, rejectedName(name));
    await writeBelow(rejected, `${base}${REASON_SUFFIX}`, `${JSON.stringify(reason, undefined, 2)}\n`, 0);
    using node = openIfThere(this.#directory, name);
    // Gone, or another file that was put here meanwhile, and deserves a look of its own.
    if (node === undefined || node.stat.ino !== stat.ino || node.kind === 'directory') return;
    await rename(pathAt(this.#directory.fd, name), pathAt(rejected.fd, Buffer.from(base)));
  }

  /** What lies in `rejected/`, by time of its arrival, the oldest first: (name, when, in ms). */
  async rejected(): Promise<{ name: Buffer; atMs: number }[]> {
    if (hasNoRejected(this.#directory)) return [];
    const rejected = await this.#openRejected();
    const found = (await namesIn(pathAt(rejected.fd, Buffer.from('.')))).flatMap((name) => {
      using node = openIfThere(rejected, name);
      const isOurs = node !== undefined && node.kind !== 'directory';
      return isOurs ? [{ name, atMs: Number(node.stat.ctimeNs / 1_000_000n) }] : [];
    });
    return found.sort((a, b) => a.atMs - b.atMs);
  }

  async removeRejected(name: Buffer): Promise<void> {
    await removeBelow(await this.#openRejected(), name);
  }

  async remove(name: Buffer): Promise<void> {
    await removeBelow(this.#directory, name);
  }

  /** What a killed agent left half-written. */
  async tidy(): Promise<void> {
    for (const name of await this.names()) if (UNFINISHED.test(name.toString('latin1'))) await this.remove(name);
  }

  /** Whether an answer could be written. Throws why not. */
  async tryToWrite(): Promise<void> {
    const name = unfinished();
    await using _made = await open(pathAt(this.#directory.fd, name), CREATE, 0o600);
    await this.remove(name);
  }

  [Symbol.dispose](): void {
    this.#pool[Symbol.dispose]();
  }

  async #openRejected(): Promise<Directory> {
    const name = Buffer.from(REJECTED);
    await mkdir(pathAt(this.#directory.fd, name), { mode: 0o700 }).catch((error: unknown) => {
      if (!isErrno(error, 'EEXIST')) throw error;
    });
    using node = openNode(this.#directory, name);
    if (node.kind !== 'directory' || node.stat.uid !== 0n || (node.stat.mode & PERMISSIONS) !== 0n) {
      throw new ExhibitError('config', `${REJECTED}/ is not a folder of root's own; move it away`);
    }
    const { dev, ino } = node.stat;
    // The one before is left open when it was swapped: somebody may be writing through it. The pool closes it in the end.
    if (this.#rejected?.dev !== dev || this.#rejected.ino !== ino) {
      this.#rejected = this.#directory.child(name, node);
    }
    return this.#rejected;
  }
}

function hasNoRejected(directory: Directory): boolean {
  using node = openIfThere(directory, Buffer.from(REJECTED));
  return node === undefined;
}

export function factsOf({ ino, size, mtimeNs, ctimeNs }: Stat): string {
  return `${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

/** A name in `rejected/` that nothing has; the hundredth twin replaces the one before. */
const MOST_TWINS = 99;

function freeName(rejected: Directory, name: string): string {
  const taken = (one: string) => {
    using node = openIfThere(rejected, Buffer.from(`${one}${REASON_SUFFIX}`));
    return node !== undefined;
  };
  let free = name;
  for (let twin = 2; twin <= MOST_TWINS + 1 && taken(free); twin += 1) free = `${name}~${twin}`;
  return free;
}

const KIND_WORDS = {
  directory: 'a folder',
  symlink: 'a symbolic link',
  fifo: 'a FIFO',
  socket: 'a socket',
  'character-device': 'a device',
  'block-device': 'a device',
};

function faultOf({ kind, stat }: Node, owners: readonly number[]): string | undefined {
  if (kind !== 'file') return `is ${KIND_WORDS[kind]}, not a file`;
  if (!mayOwn(stat.uid, owners)) return `belongs to uid ${stat.uid}, who may not ask for captures`;
  if ((stat.mode & PERMISSIONS) !== 0n) {
    return `can be written by others than its owner (mode ${(stat.mode & 0o7777n).toString(8).padStart(4, '0')})`;
  }
  if (stat.size > BigInt(MAX_REQUEST_BYTES)) return `is ${stat.size} bytes long; ${MAX_REQUEST_BYTES} is the most`;
  return undefined;
}

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const unfinished = (): Buffer => Buffer.from(`.exhibit-${randomBytes(8).toString('hex')}.tmp`);

async function writeBelow(directory: Directory, name: string, content: string, uid: number): Promise<void> {
  const partial = unfinished();
  try {
    await using file = await open(pathAt(directory.fd, partial), CREATE, 0o600);
    await file.writeFile(content);
    // Without the right to give it away it stays root's, who can read it as well.
    if (uid !== 0) await file.chown(uid, (await file.stat()).gid).catch(() => undefined);
    // No fsync: an answer that a crash of the node takes is made again from the journal or says that the capture is lost.
    await rename(pathAt(directory.fd, partial), pathAt(directory.fd, Buffer.from(name)));
  } catch (error) {
    await removeBelow(directory, partial).catch(() => undefined);
    throw new ExhibitError('internal', `${name} cannot be written (${explain(error)})`, { cause: error });
  }
}

async function removeBelow(directory: Directory, name: Buffer): Promise<void> {
  try {
    await unlink(pathAt(directory.fd, name));
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

async function namesIn(folder: Buffer): Promise<Buffer[]> {
  const names: Buffer[] = [];
  // Node's types do not know that names of this encoding are bytes.
  const entries = await opendir(folder.toString(), { encoding: 'buffer' as BufferEncoding, bufferSize: 1024 });
  for await (const { name } of entries) {
    names.push(Buffer.from(name));
    if (names.length >= MOST_NAMES) break;
  }
  return names;
}
