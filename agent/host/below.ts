import { lstat, readlink, stat } from 'node:fs/promises';
import path from 'node:path';

/** As many as the kernel follows in one path (path_resolution(7)). */
const MOST_LINKS = 40;

/**
 * Where `file` of the system whose root is at `root` really is, as the caller opens it: absolute links are taken from
 * `root` on, which the kernel does not do for a path through /proc/PID/root. Nothing is opened. Throws what lstat(2) says,
 * ELOOP for too many links. For systems whose owner is trusted only: nothing keeps a folder from being swapped meanwhile.
 */
export async function resolveBelow(root: string, file: string): Promise<string> {
  let left = file.split('/').filter((segment) => segment !== '');
  let at = '/';
  let links = 0;
  for (let segment = left.shift(); segment !== undefined; segment = left.shift()) {
    if (segment === '.') continue;
    if (segment === '..') {
      at = path.posix.dirname(at);
      continue;
    }
    const next = path.posix.join(at, segment);
    if (!(await lstat(path.posix.join(root, next))).isSymbolicLink()) {
      at = next;
      continue;
    }
    links += 1;
    if (links > MOST_LINKS) throw Object.assign(new Error(`ELOOP: too many links in ${file}`), { code: 'ELOOP' });
    const target = await readlink(path.posix.join(root, next));
    if (target.startsWith('/')) at = '/';
    left = [...target.split('/').filter((one) => one !== ''), ...left];
  }
  return path.posix.join(root, at);
}

/** A program of a system below `root`: by which name it was found there, and where the caller opens it. */
export interface Program {
  readonly name: string;
  readonly file: string;
}

/** The first of `folders` that has an executable file of this name, as execvp(3) would choose. */
export async function findProgram(
  root: string,
  folders: readonly string[],
  name: string,
): Promise<Program | undefined> {
  const names = name.startsWith('/') ? [name] : folders.map((folder) => path.posix.join(folder, name));
  for (const candidate of names) {
    try {
      const file = await resolveBelow(root, candidate);
      const { mode } = await stat(file);
      if ((mode & 0o111) !== 0 && (mode & 0o170000) === 0o100000) return { name: candidate, file };
    } catch {
      // Not there, or not for us to see: execvp goes on as well.
    }
  }
  return undefined;
}
