import { hkdfSync } from 'node:crypto';
import { ExhibitError } from './error.ts';

/**
 * The age file format, version 1 (https://c2sp.org/age): a header of text that wraps a file key to each recipient, a nonce of
 * 16 bytes, and the payload in chunks of 64 KiB, each sealed with ChaCha20-Poly1305 under its number and whether it is the last.
 * The header is made and opened by the library; the payload's chunks are ours (docs/decisions/0014-age.md).
 */
export const CHUNK_BYTES = 64 * 1024;
/** Poly1305's, after each chunk. */
export const TAG_BYTES = 16;
export const STORED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
/** After the header. */
export const PAYLOAD_NONCE_BYTES = 16;
export const CIPHER = 'chacha20-poly1305';
/** Some 500 X25519 recipients; the format has no bound, and a hostile header no end. */
export const MAX_HEADER_BYTES = 64 * 1024;

/** What an object in age's format is not: cut, altered, moved, or not of that format at all. */
export class AgeError extends ExhibitError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('bundle-corrupt', message, options);
  }
}

/** The file ends before its last chunk. `contentBytes` is where what can be read ends. */
export class AgeCut extends AgeError {
  readonly contentBytes: number;

  constructor(message: string, contentBytes: number, options?: { cause?: unknown }) {
    super(message, options);
    this.contentBytes = contentBytes;
  }
}

export function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
}

/** 11 bytes of the chunk's number, big endian, and one that says whether it is the last. */
export function chunkNonce(index: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  // Six bytes hold 2^48 chunks: 16 EiB.
  nonce.writeUIntBE(index, 5, 6);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

/** Content bytes of a payload of `payloadBytes`; undefined where no payload has that length. */
export function contentBytesOf(payloadBytes: number): number | undefined {
  const chunks = Math.max(1, Math.ceil(payloadBytes / STORED_CHUNK_BYTES));
  const last = payloadBytes - (chunks - 1) * STORED_CHUNK_BYTES;
  // Only a payload without content has an empty last chunk.
  if (last < TAG_BYTES || (last === TAG_BYTES && chunks > 1)) return undefined;
  return payloadBytes - chunks * TAG_BYTES;
}

const VERSION_LINE = 'age-encryption.org/v1\n';
const MAC_LINE = '\n--- ';

/** Length of the header that `bytes` begin with; undefined where more are needed. Throws AgeError where there is none. */
export function headerBytesOf(bytes: Uint8Array): number | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MAX_HEADER_BYTES)).toString('latin1');
  if (!VERSION_LINE.startsWith(text.slice(0, VERSION_LINE.length)))
    throw new AgeError('it is no age file of version 1');
  const macAt = text.indexOf(MAC_LINE);
  const endAt = macAt === -1 ? -1 : text.indexOf('\n', macAt + MAC_LINE.length);
  if (endAt !== -1) return endAt + 1;
  if (bytes.length >= MAX_HEADER_BYTES) throw new AgeError(`its age header is longer than ${MAX_HEADER_BYTES} bytes`);
  return undefined;
}
