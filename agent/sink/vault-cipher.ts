import { createCipheriv } from 'node:crypto';
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { ExhibitError } from '../../evidence/error.ts';
import { onThread } from '../../evidence/native.ts';

/** The encryption of one record, piece by piece (AES-256-GCM). Disposed when no piece is under way. */
export interface RecordCipher extends Disposable {
  /** The ciphertext of the next piece, as long as it is; may lie in `room`. Neither may be changed until it resolves. */
  next(piece: Uint8Array, room: Uint8Array): Promise<Uint8Array>;
  /** Once, after the last piece. */
  tag(): Buffer;
}

export type BeginRecord = (key: Uint8Array, nonce: Uint8Array, place: Uint8Array) => RecordCipher;

const CIPHER = 'aes-256-gcm';
const TAG_BYTES = 16;

/** Node's own, on the caller's thread. Each piece becomes a buffer of its own. */
export const nodeRecord: BeginRecord = (key, nonce, place) => {
  const cipher = createCipheriv(CIPHER, key, nonce).setAAD(place);
  return {
    next: async (piece) => cipher.update(piece),
    tag() {
      cipher.final();
      return cipher.getAuthTag();
    },
    [Symbol.dispose]() {},
  };
};

let shared: BeginRecord | undefined;
let unavailable = false;

/** Opened on first use; undefined where Node does not export what is needed or koffi has no build for the platform. */
export function tryNativeRecord(): BeginRecord | undefined {
  if (unavailable) return undefined;
  try {
    shared ??= openNativeRecord();
  } catch {
    unavailable = true;
  }
  return shared;
}

/** openssl/evp.h: EVP_CTRL_AEAD_GET_TAG. */
const GET_TAG = 0x10;

/**
 * libcrypto as Node itself carries it, on libuv's threads (evidence/native.ts says more), into memory that is used again. A new
 * buffer for each part is garbage outside of V8's heap, and V8 searches its whole heap every few of them: with parts of 8 MiB
 * that cost three times what encrypting and storing them does. Throws where a symbol is missing.
 */
export function openNativeRecord(file: string | null = null): BeginRecord {
  // Not an import: the absence of koffi's own library must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const library = ffi.load(file);
  const create = library.func('void *EVP_CIPHER_CTX_new()');
  const free = library.func('void EVP_CIPHER_CTX_free(void *context)');
  const cipher: unknown = library.func('void *EVP_aes_256_gcm()')();
  const init = library.func(
    'int EVP_EncryptInit_ex(void *context, void *cipher, void *engine, const void *key, const void *iv)',
  );
  const update = library.func(
    'int EVP_EncryptUpdate(void *context, void *into, void *written, const void *bytes, int length)',
  );
  const final = library.func('int EVP_EncryptFinal_ex(void *context, void *into, void *written)');
  const control = library.func('int EVP_CIPHER_CTX_ctrl(void *context, int type, int length, void *pointer)');
  const mustBeOne = (result: unknown): void => {
    if (result !== 1) throw new ExhibitError('internal', 'libcrypto could not encrypt a record');
  };
  return (key, nonce, place) => {
    const context: unknown = create();
    const written = Buffer.allocUnsafeSlow(4);
    mustBeOne(init(context, cipher, null, key, nonce));
    mustBeOne(update(context, null, written, place, place.length));
    return {
      async next(piece, room) {
        if (room.length < piece.length) throw new ExhibitError('internal', 'there is no room for a piece');
        mustBeOne(await onThread(update, [context, room, written, piece, piece.length]));
        return room.subarray(0, piece.length);
      },
      tag() {
        const tag = Buffer.allocUnsafeSlow(TAG_BYTES);
        // It has nothing left to write, and must not be given nowhere to write it.
        mustBeOne(final(context, Buffer.allocUnsafeSlow(TAG_BYTES), written));
        mustBeOne(control(context, GET_TAG, TAG_BYTES, tag));
        return tag;
      },
      [Symbol.dispose]: () => void free(context),
    };
  };
}
