import { createCipheriv } from 'node:crypto';
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { CIPHER, TAG_BYTES } from './age-format.ts';
import { ExhibitError } from './error.ts';

/**
 * Seals one chunk with ChaCha20-Poly1305: the ciphertext of `parts` and its tag into `into`; returns how many bytes that is.
 * Node's own cipher makes a buffer for each result, some 1 GiB of garbage a GiB; libcrypto, called as in native.ts, writes where it is
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

/** openssl/evp.h: EVP_CTRL_AEAD_GET_TAG. */
const GET_TAG = 0x10;

/** `file` is for tests; without it, the symbols of the running program. Throws where one of them is missing. */
export function openNativeSeal(file: string | null = null): SealChunk {
  // Not an import, as in native.ts: the absence of koffi's own library must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const library = ffi.load(file);
  const init = library.func(
    'int EVP_EncryptInit_ex(void *context, void *cipher, void *engine, const void *key, const void *iv)',
  );
  const update = library.func(
    'int EVP_EncryptUpdate(void *context, void *into, void *written, const void *bytes, int length)',
  );
  const final = library.func('int EVP_EncryptFinal_ex(void *context, void *into, void *written)');
  const control = library.func('int EVP_CIPHER_CTX_ctrl(void *context, int type, int length, void *pointer)');
  // One for the process: a chunk is sealed within one turn of the event loop, and the next one brings its own key and nonce.
  const context: unknown = library.func('void *EVP_CIPHER_CTX_new()')();
  const cipher: unknown = library.func('void *EVP_chacha20_poly1305()')();
  const mustBeOne = (result: unknown): void => {
    if (result !== 1) throw new ExhibitError('internal', 'libcrypto could not seal a chunk');
  };
  const written = Buffer.allocUnsafeSlow(4);
  // It has nothing left to write, and must not be given nowhere to write it.
  const rest = Buffer.allocUnsafeSlow(TAG_BYTES);
  return (key, nonce, parts, into) => {
    const lengthBytes = parts.reduce((sum, part) => sum + part.length, TAG_BYTES);
    if (into.length < lengthBytes) throw new ExhibitError('internal', 'there is no room for a chunk');
    mustBeOne(init(context, cipher, null, key, nonce));
    let end = 0;
    for (const part of parts) {
      mustBeOne(update(context, into.subarray(end), written, part, part.length));
      end += part.length;
    }
    mustBeOne(final(context, rest, written));
    mustBeOne(control(context, GET_TAG, TAG_BYTES, into.subarray(end, end + TAG_BYTES)));
    return end + TAG_BYTES;
  };
}
