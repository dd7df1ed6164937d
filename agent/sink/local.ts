import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ExhibitError, isErrno } from '../../evidence/error.ts';
import { keySegments } from './key.ts';
import { localError } from './local-errors.ts';
import { makeFolders, removeEmptyFolders, syncFolder } from './local-folder.ts';
import { partialName } from './local-partial.ts';
import { forgetLocal, settleLocal } from './local-settle.ts';
import type { Committed, OpenOptions, Sink, SinkObject } from './sink.ts';

const FILE_MODE = 0o600;
/** Chunks below this are gathered in a buffer of this size; a write(2) of it costs about what its copying costs. */
const COALESCE_BYTES = 256 * 1024;
/**
 * Written but not yet on the disk: fdatasync(2) starts after every such many bytes, so that the capture never leaves
 * gigabytes of dirty pages that stall the node's own writers (vm.dirty_ratio), and commit's fsync is short.
 */
const SYNC_EVERY_BYTES = 64 * 1024 * 1024;

export interface LocalSinkConfig {
  /** `file:///path`. */
  readonly url: string;
}

/**
 * Evidence in a folder. Each object is written to `.<name>.<random>.partial` beside its final place, made durable, and given
 * its name with link(2), which fails when the name is taken. The folder is made when it is missing.
 */
export function openLocalSink(config: LocalSinkConfig): Sink {
  const root = folderOf(config.url);
  const active = new Set<string>();
  return {
    url: pathToFileURL(root).href,
    check: (signal) => check(root, signal),
    // Whoever writes to a folder as its owner may do the rest as well.
    rights: async () => ({ list: 'allowed', read: 'allowed', overwrites: false, retention: 'none' }),
    open: (key, options) => openObject(root, key, active, options),
    async settle(key, signal) {
      try {
        return await settleLocal(root, key, active, signal);
      } catch (error) {
        throw signal.aborted ? cancelled(signal) : localError(error, 'settle', path.join(root, key));
      }
    },
    forget: (key) => forgetLocal(root, key),
    describe: () => ({ url: pathToFileURL(root).href }),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The folder that a `file:` URL names. @throws ExhibitError `config` */
export function folderOf(url: string): string {
  try {
    const { hostname, search, hash } = new URL(url);
    if (hostname !== '' || search !== '' || hash !== '') throw new Error('it names more than a path');
    const folder = path.resolve(fileURLToPath(url));
    if (folder.includes('\0')) throw new Error('it holds a NUL');
    return folder;
  } catch (error) {
    throw new ExhibitError('config', `the sink ${url} is not a folder; write it as file:///absolute/path`, {
      cause: error,
    });
  }
}

/** Does everything that an object's life needs, with one byte, and takes it away again. */
async function check(root: string, signal: AbortSignal): Promise<void> {
  const made: string[] = [];
  try {
    signal.throwIfAborted();
    await makeFolders(root, [], made);
    const partial = path.join(root, partialName('check'));
    const named = path.join(root, `.check.${randomBytes(8).toString('hex')}`);
    try {
      await using handle = await open(partial, createFlags(), FILE_MODE);
      await handle.write(Buffer.of(0));
      await handle.sync();
      await link(partial, named);
    } finally {
      await removeFile(named);
      await removeFile(partial);
    }
  } catch (error) {
    throw signal.aborted ? cancelled(signal) : localError(error, 'write evidence to', root);
  } finally {
    await removeEmptyFolders(made);
  }
}

async function openObject(root: string, key: string, active: Set<string>, options: OpenOptions): Promise<SinkObject> {
  const segments = keySegments(key);
  const name = segments.at(-1) ?? key;
  try {
    options.signal.throwIfAborted();
    const folder = await makeFolders(root, segments.slice(0, -1));
    const final = path.join(folder, name);
    if (await exists(final)) throw alreadyThere(final);
    const partial = path.join(folder, partialName(name, options.whole));
    const handle = await open(partial, createFlags(), FILE_MODE);
    active.add(partial);
    return new LocalObject(handle, { partial, final, onEnd: () => active.delete(partial) }, options.signal);
  } catch (error) {
    throw options.signal.aborted ? cancelled(options.signal) : localError(error, 'create', path.join(root, key));
  }
}

class LocalObject implements SinkObject {
  readonly #handle: FileHandle;
  readonly #partial: string;
  readonly #final: string;
  readonly #onEnd: () => void;
  readonly #signal: AbortSignal;
  /** Made with the first small chunk. */
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #failure: ExhibitError | undefined;
  #state: 'open' | 'committed' | 'gone' = 'open';

  constructor(
    handle: FileHandle,
    { partial, final, onEnd }: { partial: string; final: string; onEnd: () => void },
    signal: AbortSignal,
  ) {
    this.#handle = handle;
    this.#partial = partial;
    this.#final = final;
    this.#onEnd = onEnd;
    this.#signal = signal;
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#attempt('write', async () => {
      if (this.#gatheredBytes + chunk.length > COALESCE_BYTES) await this.#flush();
      if (chunk.length >= COALESCE_BYTES) await this.#writeOut(chunk);
      else this.#gather(chunk);
    });
  }

  async commit(): Promise<Committed> {
    await this.#attempt('finish', async () => {
      await this.#flush();
      await this.#syncing;
      await this.#handle.sync();
      await this.#handle.close();
      await link(this.#partial, this.#final).catch((error: unknown) => {
        throw isErrno(error, 'EEXIST') ? alreadyThere(this.#final) : error;
      });
      // From here on the object has its name: nothing below may take it away again.
      this.#state = 'committed';
      this.#onEnd();
      await unlink(this.#partial);
      await syncFolder(path.dirname(this.#final));
    });
    return 'stored';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'committed' || this.#state === 'gone') return;
    this.#state = 'gone';
    this.#gathered = undefined;
    using stack = new DisposableStack();
    stack.defer(this.#onEnd);
    await this.#syncing?.catch(() => {}); // The object is dropped: whether it reached the disk no longer matters.
    await this.#handle.close().catch((error: unknown) => {
      if (!isErrno(error, 'EBADF')) throw localError(error, 'close', this.#partial);
    });
    await removeFile(this.#partial);
  }

  /** Runs one step; any failure ends the object. */
  async #attempt(action: string, step: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state !== 'open') throw new ExhibitError('sink-failed', `${this.#final} has already ended`);
    try {
      this.#signal.throwIfAborted();
      await step();
    } catch (error) {
      this.#failure = this.#signal.aborted ? cancelled(this.#signal) : localError(error, action, this.#final);
      throw this.#failure;
    }
  }

  #gather(chunk: Uint8Array): void {
    this.#gathered ??= Buffer.allocUnsafeSlow(COALESCE_BYTES);
    this.#gathered.set(chunk, this.#gatheredBytes);
    this.#gatheredBytes += chunk.length;
  }

  async #flush(): Promise<void> {
    const bytes = this.#gathered?.subarray(0, this.#gatheredBytes);
    if (bytes === undefined || bytes.length === 0) return;
    await this.#writeOut(bytes);
    this.#gatheredBytes = 0;
  }

  async #writeOut(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      offset += (await this.#handle.write(bytes, offset, bytes.length - offset)).bytesWritten;
    }
    this.#unsyncedBytes += bytes.length;
    if (this.#unsyncedBytes >= SYNC_EVERY_BYTES) await this.#startSync();
  }

  /** At most one fdatasync at a time: the next one waits for it, and with it the writer. */
  async #startSync(): Promise<void> {
    this.#unsyncedBytes = 0;
    await this.#syncing;
    this.#syncing = this.#handle.datasync();
    this.#syncing.catch(() => {}); // Told to whoever awaits it next: the next sync or commit.
  }
}

/** O_EXCL and O_NOFOLLOW: a name that somebody planted is refused, not written through. */
function createFlags(): number {
  return constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

async function removeFile(file: string): Promise<void> {
  try {
    await unlink(file);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw localError(error, 'remove', file);
  }
}

function alreadyThere(file: string): ExhibitError {
  return new ExhibitError('sink-exists', `${file} exists already and evidence is never overwritten`);
}

function cancelled(signal: AbortSignal): ExhibitError {
  return new ExhibitError('cancelled', 'writing was cancelled; nothing was left behind', { cause: signal.reason });
}
