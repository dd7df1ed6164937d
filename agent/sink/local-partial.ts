import { randomBytes } from 'node:crypto';
import { glob, lstat } from 'node:fs/promises';
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
    const name = PARTIAL.exec(path.basename(found))?.[1];
    if (name === undefined) continue;
    try {
      const file = path.join(folder, found);
      const stat = await lstat(file);
      if (stat.isFile()) yield { path: file, name, sizeBytes: stat.size, modifiedAt: stat.mtime };
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error; // Committed or dropped since it was listed.
    }
  }
}
