import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { ExhibitError } from './error.ts';
import type { Foreign } from './native.ts';

/**
 * An authenticated cipher of libcrypto, as Node itself carries it (openssl/evp.h), that writes where it is told: each result of
 * Node's own is a new buffer, which is garbage outside of V8's heap.
 */
export interface NativeCipher {
  create(): unknown;
  free(context: unknown): void;
  /** Also for a context that has ended. Throws ExhibitError `internal`, as all calls here do. */
  begin(context: unknown, key: Uint8Array, nonce: Uint8Array): void;
  /** `(context, into, written, bytes, length)`, on this thread or another (native.ts, onThread); 1 when it is done. */
  readonly update: Foreign;
  /** After the last update: the tag, as long as `tag` is. */
  end(context: unknown, tag: Uint8Array): void;
}

/** EVP_CTRL_AEAD_GET_TAG. */
const GET_TAG = 0x10;
/** More than a cipher without padding has left at its end, which is nothing; it must not be given nowhere to write that. */
const REST_BYTES = 16;

export function mustBeOne(result: unknown): void {
  if (result !== 1) throw new ExhibitError('internal', 'libcrypto could not encrypt');
}

/** `file` is for tests; without it, the symbols of the running program. Throws where one of them is missing. */
export function openCipher(
  name: 'EVP_aes_256_gcm' | 'EVP_chacha20_poly1305',
  file: string | null = null,
): NativeCipher {
  // Not an import: the absence of koffi's own library must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const library = ffi.load(file);
  const create = library.func('void *EVP_CIPHER_CTX_new()');
  const free = library.func('void EVP_CIPHER_CTX_free(void *context)');
  const cipher: unknown = library.func(`void *${name}()`)();
  const init = library.func(
    'int EVP_EncryptInit_ex(void *context, void *cipher, void *engine, const void *key, const void *iv)',
  );
  const final = library.func('int EVP_EncryptFinal_ex(void *context, void *into, void *written)');
  const control = library.func('int EVP_CIPHER_CTX_ctrl(void *context, int type, int length, void *pointer)');
  const [rest, written] = [Buffer.allocUnsafeSlow(REST_BYTES), Buffer.allocUnsafeSlow(4)];
  return {
    create: () => create(),
    free: (context) => void free(context),
    begin: (context, key, nonce) => mustBeOne(init(context, cipher, null, key, nonce)),
    update: library.func(
      'int EVP_EncryptUpdate(void *context, void *into, void *written, const void *bytes, int length)',
    ),
    end(context, tag) {
      mustBeOne(final(context, rest, written));
      mustBeOne(control(context, GET_TAG, tag.length, tag));
    },
  };
}
