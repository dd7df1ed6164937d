import { constants, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';

/** A text file that is shipped with this program, by its path from the folder of package.json; undefined where it is left out. */
export function ownText(path: string): string | undefined {
  try {
    return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
  } catch {
    return undefined;
  }
}

/** A file that the pod was given, a token or a certificate: `mostBytes` of it. Waits for nobody, whatever is there in its place. */
export async function startOfFile(file: string, mostBytes: number): Promise<Buffer> {
  await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(mostBytes), 0, mostBytes, 0);
  return buffer.subarray(0, bytesRead);
}
