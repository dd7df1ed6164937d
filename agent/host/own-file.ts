import { readFileSync } from 'node:fs';

/** A text file that is shipped with this program, by its path from the folder of package.json; undefined where it is left out. */
export function ownText(path: string): string | undefined {
  try {
    return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
  } catch {
    return undefined;
  }
}
