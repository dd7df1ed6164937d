import { ExhibitError, errnoOf, explain, isExhibitError } from '../../evidence/error.ts';

/** What a person can do about an errno met while writing to a folder. */
const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'the file system is full; free space or choose another sink',
  EDQUOT: 'the quota is used up; raise it or choose another sink',
  EROFS: 'the file system is read-only; mount it writable or choose another sink',
  EACCES: 'permission denied; run the agent as root or give it write permission on the folder',
  EPERM: 'not permitted; the folder may be immutable or on a file system without hard links, choose another one',
  ENOTSUP: 'the file system has no hard links, which a commit needs; choose another one',
  EMLINK: 'the file system has no hard links to spare; choose another one',
  ENOTDIR: 'a part of the path is not a folder; name a folder',
  ELOOP: 'a part of the path is a symbolic link; name the real folder',
  EIO: 'the disk reported an error; choose another sink',
  ESTALE: 'the network file system lost the folder; mount it again',
  ENAMETOOLONG: 'the path is longer than the file system allows; choose a shorter folder',
  EMFILE: 'the agent has too many files open; raise its limit of open files',
};

/** Turns what the kernel said about `path` into a `sink-failed` that says what to do; keeps errors that already do. */
export function localError(error: unknown, action: string, path: string): ExhibitError {
  if (isExhibitError(error)) return error;
  const errno = errnoOf(error);
  const remedy = (errno === undefined ? undefined : REMEDIES[errno]) ?? explain(error);
  return new ExhibitError('sink-failed', `cannot ${action} ${path}: ${remedy}`, { cause: error });
}
