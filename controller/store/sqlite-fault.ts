import { ExhibitError, isErrno } from '../../evidence/error.ts';

/** SQLite's result codes (https://sqlite.org/rescode.html); the low byte of an extended one is its kind. */
const BUSY = 5;
const READ_ONLY = 8;
const IO_ERROR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANNOT_OPEN = 14;
const CONSTRAINT = 19;
const NO_DATABASE = 26;

interface SqliteError extends Error {
  readonly errcode: number;
}

function isSqliteError(error: unknown): error is SqliteError {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number';
}

/** Whether only the work failed that threw it, and not the database under it. */
export const isOfWork = (error: unknown): boolean => !isSqliteError(error) || (error.errcode & 0xff) === CONSTRAINT;

/** In words for the person who keeps the file. */
export function sqliteFault(error: unknown, file: string): ExhibitError {
  if (error instanceof ExhibitError) return error;
  const cause = { cause: error };
  if (isErrno(error, 'ENOENT', 'ENOTDIR'))
    return new ExhibitError('config', `${file} cannot be made: its folder is not there`, cause);
  if (isErrno(error, 'EACCES', 'EPERM', 'EROFS', 'EISDIR'))
    return new ExhibitError('config', `${file} cannot be written: ${error.message}`, cause);
  if (isErrno(error, 'ENOSPC')) return new ExhibitError('store-failed', `the disk of ${file} is full`, cause);
  if (!isSqliteError(error)) return new ExhibitError('store-failed', `the store ${file} failed`, cause);
  return sqliteError(error, file);
}

function sqliteError(error: SqliteError, file: string): ExhibitError {
  const cause = { cause: error };
  const failed = (why: string) => new ExhibitError('store-failed', `${why}; nothing was stored`, cause);
  switch (error.errcode & 0xff) {
    case NO_DATABASE:
      return new ExhibitError('config', `${file} is no SQLite database, and is left as it is`, cause);
    case CORRUPT:
      return failed(`the store ${file} is damaged: restore a backup, or try sqlite3's .recover`);
    case FULL:
      return failed(`the disk of the store ${file} is full`);
    case READ_ONLY:
      return failed(`the store ${file} can only be read`);
    case BUSY:
      return failed(`the store ${file} is locked by another program`);
    case IO_ERROR:
      return failed(`the disk of the store ${file} failed, or has no room`);
    case CANNOT_OPEN:
      return failed(`the store ${file} cannot be opened`);
    default:
      return failed(`the store ${file} failed`);
  }
}
