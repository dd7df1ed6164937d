import { createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import {
  type FileHandle,
  lstat,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  unlink,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { ExhibitError, isErrno } from '../../evidence/error.ts';
import { memoryFileSystem } from '../host/folder-facts.ts';
import { keySegments } from './key.ts';
import { makeFolders, syncFolder } from './local-folder.ts';
import { nodeRecord, tryNativeRecord } from './vault-cipher.ts';

/**
 * A folder for what may not be lost with the process: bytes that a sink did not take, and the agent's notes on captures under
 * way. Every file is encrypted and authenticated (AES-256-GCM), bound to its name and place, so that a disk or memory image
 * taken later shows sizes and names alone, and so that nobody can change or swap what waits there.
 *
 * A file is a row of records: u32 length of the ciphertext (big endian), 12 bytes of nonce, ciphertext, 16 bytes of tag.
 * Names are relative paths, checked as keys are (key.ts).
 */
export interface Vault {
  readonly folder: string;
  /** False on a disk: there every write is synced, so that it outlives the node's power. */
  readonly inMemory: boolean;
  /** Of all files here, as they lie on the file system. */
  readonly usedBytes: number;
  /** Replaces the file as a whole, or leaves it as it was. At most 2 GiB. Throws what the file system says. */
  write(name: string, bytes: Uint8Array): Promise<void>;
  /** Undefined when there is none. Throws `bundle-corrupt` for one that was not written here. */
  read(name: string): Promise<Buffer | undefined>;
  /**
   * Adds a record; it is there, whole, for whoever opens the vault after this process was killed. In the order of the calls. One
   * that fails (no room) leaves what was there, and others may be added later.
   */
  append(name: string, record: unknown): Promise<void>;
  /** The records so far. One that was cut short at the very end is left out. */
  records(name: string): Promise<unknown[]>;
  /** Files below a folder, by their names from the vault's own, sorted. */
  list(folder: string): Promise<string[]>;
  /** A file, or a folder with all in it. */
  remove(name: string): Promise<void>;
}

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const LENGTH_BYTES = 4;
const OVERHEAD_BYTES = LENGTH_BYTES + NONCE_BYTES + TAG_BYTES;
/** What is encrypted and written at a time: small enough to be still in the caches when it is written, large enough for a thread's trouble. */
const PIECE_BYTES = 1024 * 1024;
/** Notes and drafts are mostly below it, and never pay for loading the library. */
const NATIVE_FROM_BYTES = 256 * 1024;
const FILE_MODE = 0o600;
/** A folder that was made may be removed, being empty, by whoever removes its neighbour, before a file is in it. */
const TRIES_OF_A_FOLDER = 5;

/** `secret`: any length of at least 16 bytes; the key is derived from it. */
export async function openVault(folder: string, secret: Uint8Array): Promise<Vault> {
  await makeFolders(folder, []);
  const key = Buffer.from(hkdfSync('sha256', secret, '', 'exhibit vault 1', KEY_BYTES));
  const vault = new FolderVault(folder, key, (await memoryFileSystem(folder)) !== undefined);
  await vault.measure();
  return vault;
}

/** The secret in `file`, made there when there is none. Throws ExhibitError `config`. */
export async function vaultSecret(file: string): Promise<Uint8Array> {
  try {
    await makeFolders(path.dirname(file), []);
    await writeFile(file, randomBytes(KEY_BYTES), { mode: FILE_MODE, flag: 'wx' });
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) {
      throw new ExhibitError('config', `the spool's key ${file} cannot be made`, { cause: error });
    }
  }
  const secret = await readFile(file).catch((cause: unknown) => {
    throw new ExhibitError('config', `the spool's key ${file} cannot be read`, { cause });
  });
  if (secret.length >= 16) return secret;
  throw new ExhibitError(
    'config',
    `the spool's key ${file} is shorter than 16 bytes; remove it, and a new one is made`,
  );
}

interface Log {
  /** Unknown until the first append has read what is there. */
  count?: number;
  /** The end of the last whole record. */
  endBytes: number;
  last: Promise<void>;
}

class FolderVault implements Vault {
  readonly folder: string;
  readonly inMemory: boolean;
  readonly #key: Buffer;
  readonly #sizes = new Map<string, number>();
  readonly #logs = new Map<string, Log>();
  /** Of the last large record, for the next. */
  #room: Buffer | undefined;
  #usedBytes = 0;

  constructor(folder: string, key: Buffer, inMemory: boolean) {
    this.folder = folder;
    this.inMemory = inMemory;
    this.#key = key;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  async measure(): Promise<void> {
    for (const name of await this.list('')) {
      if (name.endsWith('.new')) await rm(this.#path(name), { force: true });
      else this.#resize(name, (await lstat(this.#path(name))).size);
    }
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    const file = this.#path(name);
    try {
      await using handle = await this.#open(name, '.new', 'w');
      for await (const piece of this.#seal(name, 0, bytes)) await writeWhole(handle, piece);
      if (!this.inMemory) await handle.sync();
    } catch (error) {
      await rm(`${file}.new`, { force: true });
      throw error;
    }
    await rename(`${file}.new`, file);
    if (!this.inMemory) await syncFolder(path.dirname(file));
    this.#resize(name, bytes.length + OVERHEAD_BYTES);
  }

  async read(name: string): Promise<Buffer | undefined> {
    const file = await readOrNothing(this.#path(name));
    return file === undefined ? undefined : this.#unseal(name, 0, file, 0).bytes;
  }

  append(name: string, record: unknown): Promise<void> {
    const log = this.#logs.get(name) ?? { endBytes: 0, last: Promise.resolve() };
    this.#logs.set(name, log);
    const appended = log.last.then(() => this.#append(name, log, Buffer.from(JSON.stringify(record))));
    log.last = appended.catch(() => undefined);
    return appended;
  }

  async #append(name: string, log: Log, record: Buffer): Promise<void> {
    if (log.count === undefined) {
      const { records, endBytes } = await this.#readLog(name);
      log.count = records.length;
      log.endBytes = endBytes;
    }
    // Copies: a piece's memory is that of the next one.
    const sealed = Buffer.concat(await Array.fromAsync(this.#seal(name, log.count, record), (one) => Buffer.from(one)));
    await using handle = await this.#open(name, '', 'a');
    try {
      // What a killed agent, or a full file system, left of a record would hide all that comes after it.
      if ((this.#sizes.get(name) ?? 0) > log.endBytes) await handle.truncate(log.endBytes);
      await writeWhole(handle, sealed);
      if (!this.inMemory) await handle.sync();
    } catch (error) {
      await handle.truncate(log.endBytes).catch(() => undefined); // The next one tries again.
      this.#resize(name, (await handle.stat()).size);
      throw error;
    }
    log.count += 1;
    log.endBytes += sealed.length;
    this.#resize(name, log.endBytes);
  }

  async records(name: string): Promise<unknown[]> {
    return (await this.#readLog(name)).records;
  }

  async #readLog(name: string): Promise<{ records: unknown[]; endBytes: number }> {
    const file = await readOrNothing(this.#path(name));
    const records: unknown[] = [];
    let endBytes = 0;
    while (file !== undefined && endBytes < file.length && holdsRecord(file, endBytes)) {
      const { bytes, end } = this.#unseal(name, records.length, file, endBytes);
      records.push(JSON.parse(bytes.toString('utf8')));
      endBytes = end;
    }
    return { records, endBytes };
  }

  async list(folder: string): Promise<string[]> {
    const top = folder === '' ? this.folder : this.#path(folder);
    const found = await readdir(top, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return [];
      throw error;
    });
    return found
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(this.folder, path.join(entry.parentPath, entry.name)))
      .sort();
  }

  async remove(name: string): Promise<void> {
    // Most are files, and `rm` looks at each before it takes it away.
    await unlink(this.#path(name)).catch(() => rm(this.#path(name), { recursive: true, force: true }));
    for (const known of [...this.#sizes.keys()]) {
      if (known === name || known.startsWith(`${name}/`)) this.#resize(known, 0);
    }
    for (const known of [...this.#logs.keys()]) {
      if (known === name || known.startsWith(`${name}/`)) this.#logs.delete(known);
    }
    for (let up = path.dirname(name); up !== '.'; up = path.dirname(up)) {
      const gone = await rmdir(this.#path(up)).then(
        () => true,
        () => false,
      );
      if (!gone) break;
    }
  }

  #path(name: string): string {
    return path.join(this.folder, ...keySegments(name));
  }

  async #open(name: string, suffix: string, flags: 'a' | 'w'): Promise<FileHandle> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await open(`${this.#path(name)}${suffix}`, flags, FILE_MODE);
      } catch (error) {
        if (tries === TRIES_OF_A_FOLDER || !isErrno(error, 'ENOENT')) throw error;
        await makeFolders(this.folder, keySegments(name).slice(0, -1));
      }
    }
  }

  #resize(name: string, sizeBytes: number): void {
    this.#usedBytes += sizeBytes - (this.#sizes.get(name) ?? 0);
    if (sizeBytes === 0) this.#sizes.delete(name);
    else this.#sizes.set(name, sizeBytes);
  }

  /** In pieces, each of which is to be written before the next is asked for: they share their memory. */
  async *#seal(name: string, index: number, bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    const head = Buffer.allocUnsafe(LENGTH_BYTES + NONCE_BYTES);
    head.writeUInt32BE(bytes.length, 0);
    const nonce = randomBytes(NONCE_BYTES);
    nonce.copy(head, LENGTH_BYTES);
    yield head;
    const native = bytes.length < NATIVE_FROM_BYTES ? undefined : tryNativeRecord();
    using cipher = (native ?? nodeRecord)(this.#key, nonce, place(name, index));
    const room = this.#room ?? Buffer.allocUnsafeSlow(native === undefined ? 0 : PIECE_BYTES);
    this.#room = undefined;
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      yield await cipher.next(bytes.subarray(at, at + PIECE_BYTES), room);
    }
    yield cipher.tag();
    if (room.length > 0) this.#room = room;
  }

  #unseal(name: string, index: number, file: Buffer, at: number): { bytes: Buffer; end: number } {
    if (!holdsRecord(file, at)) throw foreign(name);
    const begin = at + LENGTH_BYTES + NONCE_BYTES;
    const end = begin + file.readUInt32BE(at);
    const nonce = file.subarray(at + LENGTH_BYTES, begin);
    const decipher = createDecipheriv('aes-256-gcm', this.#key, nonce).setAAD(place(name, index));
    decipher.setAuthTag(file.subarray(end, end + TAG_BYTES));
    try {
      const bytes = decipher.update(file.subarray(begin, end));
      decipher.final();
      return { bytes, end: end + TAG_BYTES };
    } catch (cause) {
      throw foreign(name, cause);
    }
  }
}

const holdsRecord = (file: Buffer, at: number): boolean =>
  file.length - at >= OVERHEAD_BYTES && file.length - at >= OVERHEAD_BYTES + file.readUInt32BE(at);

const place = (name: string, index: number): Buffer => Buffer.from(`${name}\0${index}`);

function foreign(name: string, cause?: unknown): ExhibitError {
  return new ExhibitError('bundle-corrupt', `${name} in the spool was changed, or written with another key`, { cause });
}

async function readOrNothing(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function writeWhole(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
}
