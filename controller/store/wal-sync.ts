import { type FileHandle, open } from 'node:fs/promises';
import { ExhibitError } from '../../evidence/error.ts';

/**
 * Brings SQLite's log to the disk, on a thread of its own. Whoever asks while one sync is under way shares the next one, which
 * then holds all of their commits. The same as `synchronous = full` does within a commit (https://sqlite.org/wal.html): the log is
 * appended to before its sync, and brought into the database file only after one.
 */
export interface WalSync extends AsyncDisposable {
  /** Resolves when what was committed before this call is on the disk. */
  sync(): Promise<void>;
  /** @throws ExhibitError `store-failed` once a sync has failed: from then on nobody knows what is on the disk (fsync(2)) */
  check(): void;
  idle(): Promise<void>;
}

export function openWalSync(file: string): WalSync {
  return walSync(async () => {
    // Closing it lets go of no lock of SQLite's: those are on the file itself and its -shm.
    const log = await open(`${file}-wal`, 'r');
    return { sync: () => log.datasync(), close: () => log.close() };
  }, file);
}

/** `openLog` is called at the first sync: before that there is no log. */
export function walSync(openLog: () => Promise<Pick<FileHandle, 'sync' | 'close'>>, file: string): WalSync {
  let log: Promise<Pick<FileHandle, 'sync' | 'close'>> | undefined;
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  let broken: ExhibitError | undefined;
  const check = () => {
    if (broken !== undefined) throw broken;
  };
  const once = async () => {
    check();
    try {
      log ??= openLog();
      await (await log).sync();
    } catch (cause) {
      const words = `the log of the store ${file} could not be brought to the disk; what was stored last is not known: look at the disk, then start the controller again`;
      broken ??= new ExhibitError('store-failed', words, { cause });
      throw broken;
    }
  };
  const begin = (): Promise<void> => {
    const one = once().finally(() => {
      if (running === one) running = undefined;
    });
    running = one;
    return one;
  };
  return {
    check,
    sync() {
      if (running === undefined) return begin();
      const before = running;
      next ??= before
        .catch(() => undefined)
        .then(() => {
          next = undefined;
          return begin();
        });
      return next;
    },
    async idle() {
      while (running !== undefined || next !== undefined) await Promise.allSettled([running, next]);
    },
    async [Symbol.asyncDispose]() {
      await (await log?.catch(() => undefined))?.close();
    },
  };
}
