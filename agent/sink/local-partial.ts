import { randomBytes } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { isErrno } from '../../evidence/error.ts';
import { MAX_SEGMENT_BYTES } from './key.ts';

/** Enough that two writers of one name never meet. */
const RANDOM_BYTES = 8;
const PARTIAL = /^\.(.*)\.[0-9a-f]{16}(\.whole)?\.partial$/s;

/**
 * `.<name>.<random>.partial`, and `.<name>.<random>.whole.partial` for what is all or nothing; a name too long for that is cut,
 * never in the middle of a character.
 */
export function partialName(name: string, whole = false): string {
  const tail = `.${randomBytes(RANDOM_BYTES).toString('hex')}${whole ? '.whole' : ''}.partial`;
  const room = MAX_SEGMENT_BYTES - 1 - tail.length;
  let kept = name;
  while (Buffer.byteLength(kept) > room) kept = [...kept].slice(0, -1).join('');
  return `.${kept}${tail}`;
}

/** Whether a temporary name cannot hold all of it. */
export const isCutName = (name: string, whole = false): boolean => keptName(name, whole) !== name;

const keptName = (name: string, whole: boolean): string | undefined => PARTIAL.exec(partialName(name, whole))?.[1];

export interface Partial {
  readonly path: string;
  /** Of the object it would have become, as far as it was kept in the temporary name. */
  readonly name: string;
  /** `OpenOptions.whole`: a part of it is of no use. */
  readonly whole: boolean;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

/**
 * What an agent that died left half written of one object, right in the folder where it would be; of a long name, as far as a
 * partial's name keeps it.
 */
export async function partialsOf(folder: string, name: string): Promise<Partial[]> {
  const kept = [keptName(name, false), keptName(name, true)];
  const names = await readdir(folder).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  const own = names.filter((found) => {
    const [, of, whole] = PARTIAL.exec(found) ?? [];
    return of !== undefined && of === kept[whole === undefined ? 0 : 1];
  });
  const partials = await Promise.all(own.map((found) => asPartial(path.join(folder, found))));
  return partials.filter((partial) => partial !== undefined);
}

/** Undefined for what is no file of such a name, or was committed or dropped since it was listed. */
async function asPartial(file: string): Promise<Partial | undefined> {
  const [, name, whole] = PARTIAL.exec(path.basename(file)) ?? [];
  if (name === undefined) return undefined;
  try {
    const stat = await lstat(file);
    if (!stat.isFile()) return undefined;
    return { path: file, name, whole: whole !== undefined, sizeBytes: stat.size, modifiedAt: stat.mtime };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
