import { X509Certificate } from 'node:crypto';
import { open } from 'node:fs/promises';

/** A chain in PEM; whatever is larger is none. */
const MAX_BYTES = 256 * 1024;

/** When the first certificate of a PEM file expires, ms since the epoch; undefined where it cannot be read: the doctor says why. */
export async function certificateEndMs(file: string): Promise<number | undefined> {
  try {
    await using handle = await open(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_BYTES), 0, MAX_BYTES, 0);
    return new X509Certificate(buffer.subarray(0, bytesRead)).validToDate.getTime();
  } catch {
    return undefined;
  }
}
