import { X509Certificate } from 'node:crypto';
import { startOfFile } from '../host/own-file.ts';

/** A chain in PEM; whatever is larger is none. */
const MAX_BYTES = 256 * 1024;

/** When the first certificate of a PEM file expires, ms since the epoch; undefined where it cannot be read: the doctor says why. */
export async function certificateEndMs(file: string): Promise<number | undefined> {
  try {
    return new X509Certificate(await startOfFile(file, MAX_BYTES)).validToDate.getTime();
  } catch {
    return undefined;
  }
}
