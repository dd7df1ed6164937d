import { randomBytes } from 'node:crypto';
import { nodeSeal, tryNativeSeal } from './age-cipher.ts';
import {
  CHUNK_BYTES,
  chunkNonce,
  PAYLOAD_NONCE_BYTES,
  payloadKey,
  STORED_CHUNK_BYTES,
  TAG_BYTES,
} from './age-format.ts';
import { ExhibitError } from './error.ts';

/** One age file as it is written, for a frame writer or for bytes that are all there. */
export interface AgeStream {
  /** What is to be stored next, the header first. Up to a chunk is kept back: the last one is sealed differently. */
  push(bytes: Uint8Array): StoredBytes;
  /** Once: the last chunk. */
  end(): StoredBytes;
}

export interface StoredBytes {
  readonly bytes: Uint8Array;
  /** When nobody needs `bytes` any more: their memory is that of later ones. */
  release(): void;
}

/** Begins an age file to all recipients, with a key of its own. */
export interface Encrypt {
  (): Promise<AgeStream>;
  /** `age1...`, as they were given. */
  readonly recipients: readonly string[];
}

/** Each adds some 100 bytes and a millisecond to every object. */
export const MAX_RECIPIENTS = 32;
/** Native X25519 recipients: bech32 of 32 bytes. Others of age's kinds have a longer prefix. */
const X25519_RECIPIENT = /^age1[02-9ac-hj-np-z]{58}$/;

/**
 * Throws ExhibitError `config` for a recipient that is no X25519 recipient of age. Loads the library, and makes one header,
 * so that what cannot be encrypted to is known before there is evidence.
 */
export async function createEncryption(recipients: readonly string[]): Promise<Encrypt> {
  const { Encrypter } = await import('age-encryption');
  if (recipients.length === 0) throw new ExhibitError('config', 'encryption needs one recipient at least');
  if (recipients.length > MAX_RECIPIENTS) {
    throw new ExhibitError('config', `encryption takes ${MAX_RECIPIENTS} recipients at most, not ${recipients.length}`);
  }
  const begin = async (to: readonly string[]): Promise<AgeStream> => {
    let fileKey = new Uint8Array();
    const encrypter = new Encrypter();
    // The library's own interface for recipients shows them the file key; this one adds nothing to the header.
    encrypter.addRecipient({
      wrapFileKey: (key) => {
        fileKey = Uint8Array.from(key);
        return [];
      },
    });
    for (const recipient of to) encrypter.addRecipient(recipient);
    const empty = await encrypter.encrypt(new Uint8Array());
    const header = empty.subarray(0, empty.length - PAYLOAD_NONCE_BYTES - TAG_BYTES);
    return new Stream(header, fileKey);
  };
  for (const recipient of recipients) {
    try {
      if (!X25519_RECIPIENT.test(recipient)) throw new Error('it is not age1 and 58 characters');
      await begin([recipient]);
    } catch (cause) {
      // Only what claims to be a recipient is shown: anything else might be a key.
      const shown = recipient.startsWith('age1') ? recipient : 'a line that does not begin with age1';
      const words = `${shown} is no X25519 recipient of age; \`age-keygen\` makes an identity and tells its recipient`;
      throw new ExhibitError('config', words, { cause });
    }
  }
  return Object.assign(() => begin(recipients), { recipients: [...recipients] });
}

/** All of a small object. */
export async function encryptWhole(encrypt: Encrypt, content: Uint8Array): Promise<Uint8Array> {
  const stream = await encrypt();
  return Buffer.concat([stream.push(content).bytes, stream.end().bytes]);
}

/** As engine.ts' bound for its own threads: 256 KiB at once. */
const NATIVE_FROM_CHUNKS = 4;

class Stream implements AgeStream {
  readonly #key: Uint8Array;
  /** Header and nonce, until they were handed out. */
  #head: Uint8Array;
  /** Content that may be the last chunk's. */
  readonly #held = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #heldBytes = 0;
  #chunks = 0;
  readonly #free: Buffer[] = [];

  constructor(header: Uint8Array, fileKey: Uint8Array) {
    const nonce = randomBytes(PAYLOAD_NONCE_BYTES);
    this.#key = payloadKey(fileKey, nonce);
    this.#head = Buffer.concat([header, nonce]);
  }

  push(bytes: Uint8Array): StoredBytes {
    const chunks = Math.max(0, Math.ceil((this.#heldBytes + bytes.length) / CHUNK_BYTES) - 1);
    const out = this.#room(chunks);
    let from = 0;
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      const part = bytes.subarray(from, from + CHUNK_BYTES - this.#heldBytes);
      out.addChunk(this.#chunks, false, this.#held.subarray(0, this.#heldBytes), part);
      from += part.length;
      this.#heldBytes = 0;
      this.#chunks += 1;
    }
    this.#held.set(bytes.subarray(from), this.#heldBytes);
    this.#heldBytes += bytes.length - from;
    return out.stored();
  }

  end(): StoredBytes {
    const out = this.#room(1);
    out.addChunk(this.#chunks, true, this.#held.subarray(0, this.#heldBytes));
    return out.stored();
  }

  /** Room for the head, if it is still to come, and so many chunks. */
  #room(chunks: number) {
    const head = this.#head;
    this.#head = new Uint8Array();
    const neededBytes = head.length + chunks * STORED_CHUNK_BYTES;
    const kept = this.#free.findIndex((buffer) => buffer.length >= neededBytes);
    const buffer = this.#free.splice(kept, kept === -1 ? 0 : 1)[0] ?? Buffer.allocUnsafeSlow(neededBytes);
    buffer.set(head);
    // What is small never pays for loading the libraries.
    const seal = (chunks < NATIVE_FROM_CHUNKS ? undefined : tryNativeSeal()) ?? nodeSeal;
    let end = head.length;
    return {
      addChunk: (index: number, isLast: boolean, ...content: readonly Uint8Array[]) => {
        const parts = content.filter((part) => part.length > 0);
        end += seal(this.#key, chunkNonce(index, isLast), parts, buffer.subarray(end));
      },
      stored: (): StoredBytes => ({ bytes: buffer.subarray(0, end), release: () => void this.#free.push(buffer) }),
    };
  }
}
