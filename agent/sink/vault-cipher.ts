import { createCipheriv } from 'node:crypto';
import { ExhibitError } from '../../evidence/error.ts';
import { mustBeOne, openCipher } from '../../evidence/libcrypto.ts';
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

/**
 * libcrypto on libuv's threads, into memory that is used again. A new buffer for each part makes V8 search its whole heap every
 * few of them: with parts of 8 MiB that cost three times what encrypting and storing them does. Throws where a symbol is missing.
 */
export function openNativeRecord(file: string | null = null): BeginRecord {
  const cipher = openCipher('EVP_aes_256_gcm', file);
  return (key, nonce, place) => {
    const context = cipher.create();
    const written = Buffer.allocUnsafeSlow(4);
    cipher.begin(context, key, nonce);
    mustBeOne(cipher.update(context, null, written, place, place.length));
    return {
      async next(piece, room) {
        if (room.length < piece.length) throw new ExhibitError('internal', 'there is no room for a piece');
        mustBeOne(await onThread(cipher.update, [context, room, written, piece, piece.length]));
        return room.subarray(0, piece.length);
      },
      tag() {
        const tag = Buffer.allocUnsafeSlow(TAG_BYTES);
        cipher.end(context, tag);
        return tag;
      },
      [Symbol.dispose]: () => cipher.free(context),
    };
  };
}
