import { createCipheriv } from 'node:crypto';
import { CIPHER, TAG_BYTES } from './age-format.ts';
import { ExhibitError } from './error.ts';
import { mustBeOne, openCipher } from './libcrypto.ts';

/**
 * Seals one chunk with ChaCha20-Poly1305: the ciphertext of `parts` and its tag into `into`; returns how many bytes that is.
 * Node's own cipher makes a buffer for each result, some 1 GiB of garbage a GiB; libcrypto, called as libcrypto.ts does, writes where it is
 * told, for less than half of the CPU time (docs/decisions/0014-age.md). Both give the same bytes.
 */
export type SealChunk = (key: Uint8Array, nonce: Uint8Array, parts: readonly Uint8Array[], into: Uint8Array) => number;

export const nodeSeal: SealChunk = (key, nonce, parts, into) => {
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  let end = 0;
  const add = (bytes: Uint8Array): void => {
    into.set(bytes, end);
    end += bytes.length;
  };
  for (const part of parts) add(cipher.update(part));
  cipher.final();
  add(cipher.getAuthTag());
  return end;
};

let shared: SealChunk | undefined;
let unavailable = false;

/** Opened on first use; undefined where Node does not export what is needed or koffi has no build for the platform. */
export function tryNativeSeal(): SealChunk | undefined {
  if (unavailable) return undefined;
  try {
    shared ??= openNativeSeal();
  } catch {
    unavailable = true;
  }
  return shared;
}

/** `file` is for tests; without it, the symbols of the running program. Throws where one of them is missing. */
export function openNativeSeal(file: string | null = null): SealChunk {
  const cipher = openCipher('EVP_chacha20_poly1305', file);
  // One for the process: a chunk is sealed within one turn of the event loop, and the next one brings its own key and nonce.
  const context = cipher.create();
  const written = Buffer.allocUnsafeSlow(4);
  return (key, nonce, parts, into) => {
    const lengthBytes = parts.reduce((sum, part) => sum + part.length, TAG_BYTES);
    if (into.length < lengthBytes) throw new ExhibitError('internal', 'there is no room for a chunk');
    cipher.begin(context, key, nonce);
    let end = 0;
    for (const part of parts) {
      mustBeOne(cipher.update(context, into.subarray(end), written, part, part.length));
      end += part.length;
    }
    cipher.end(context, into.subarray(end, end + TAG_BYTES));
    return end + TAG_BYTES;
  };
}
