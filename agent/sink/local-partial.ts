import { randomBytes } from 'node:crypto';
import { glob, lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';
import { MAX_SEGMENT_BYTES } from './key.ts';

/** Enough that two writers of one name never meet. */
const RANDOM_BYTES = 8;
const PARTIAL = /^\.(.*)\.[0-9a-f]{16}\.partial$/s;

/** `.<name>.<random>.partial`; a name too long for that is cut, never in the middle of a character. */
export function partialName(name: string): string {
  const tail = `.${randomBytes(RANDOM_BYTES).toString('hex')}.partial`;
  const room = MAX_SEGMENT_BYTES - 1 - tail.length;
  let kept = name;
  while (Buffer.byteLength(kept) > room) kept = [...kept].slice(0, -1).join('');
  return `.${kept}${tail}`;
}

/** Whether a temporary name cannot hold all of it. */
export const isCutName = (name: string): boolean => PARTIAL.exec(partialName(name))?.[1] !== name;

export interface Partial {
  readonly path: string;
  /** Of the object it would have become, as far as it was kept in the temporary name. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

/**
 * What an agent that died left half written below `folder`. It is evidence that cannot be read again, so the sink never
 * removes it by itself: the caller reports it, and knows from its journal which captures are still being written.
 */
export async function* findPartials(folder: string): AsyncGenerator<Partial> {
  for await (const found of glob('**/.*.partial', { cwd: folder })) {
    const partial = await asPartial(path.join(folder, found));
    if (partial !== undefined) yield partial;
  }
}

/** The partials of one object, right in the folder where it would be; of a long name, as far as a partial's name keeps it. */
export async function partialsOf(folder: string, name: string): Promise<Partial[]> {
  const kept = PARTIAL.exec(partialName(name))?.[1];
  const names = await readdir(folder).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  const own = names.filter((found) => PARTIAL.exec(found)?.[1] === kept);
  const partials = await Promise.all(own.map((found) => asPartial(path.join(folder, found))));
  return partials.filter((partial) => partial !== undefined);
}

/** Undefined for what is no file of such a name, or was committed or dropped since it was listed. */
async function asPartial(file: string): Promise<Partial | undefined> {
  const name = PARTIAL.exec(path.basename(file))?.[1];
  if (name === undefined) return undefined;
  try {
    const stat = await lstat(file);
    return stat.isFile() ? { path: file, name, sizeBytes: stat.size, modifiedAt: stat.mtime } : undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
