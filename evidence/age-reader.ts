import { createDecipheriv } from 'node:crypto';
import type { Stanza } from 'age-encryption';
import {
  AgeCut,
  AgeError,
  CHUNK_BYTES,
  CIPHER,
  chunkNonce,
  headerBytesOf,
  PAYLOAD_NONCE_BYTES,
  payloadKey,
  STORED_CHUNK_BYTES,
  TAG_BYTES,
} from './age-format.ts';
import type { ByteSource } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import { Window } from './frame-decoder.ts';

/** Native X25519 identities of age, `AGE-SECRET-KEY-1...`. They are never shown. */
export type Identities = readonly string[];

/** The key of one age file, and where its first chunk begins. */
export interface AgeKey {
  readonly headBytes: number;
  readonly key: Uint8Array;
}

/** No identity opens the file. */
export class NoIdentity extends ExhibitError {
  /** What the header says it was encrypted to, one word a recipient: `X25519`, `ssh-ed25519`, `scrypt`... */
  readonly kinds: readonly string[];

  constructor(kinds: readonly string[]) {
    super('bundle-encrypted', `no identity opens it; it is encrypted to ${describeKinds(kinds)}`);
    this.kinds = kinds;
  }
}

/** Words of a hostile header are shown up to here. */
const MAX_KINDS = 20;
const KIND = /^[\x21-\x7e]{1,64}$/;

/** `2 x X25519` */
export function describeKinds(kinds: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const words = [...counts].slice(0, MAX_KINDS).map(([kind, count]) => `${count} x ${kind}`);
  return words.length === 0 ? 'nobody' : words.join(', ');
}

/** Opens a header, nothing behind it. Throws NoIdentity, or AgeError where it is damaged. */
export async function unlock(header: Uint8Array, identities: Identities): Promise<Uint8Array> {
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  let kinds: string[] = [];
  let noneFits = false;
  decrypter.addIdentity({
    unwrapFileKey(stanzas: readonly Stanza[]) {
      kinds = stanzas.map(({ args: [kind = ''] }) => (KIND.test(kind) ? kind : 'unknown'));
      return null;
    },
  });
  for (const identity of identities) decrypter.addIdentity(identity);
  // Asked in their order: whoever comes to this one had none that fits.
  decrypter.addIdentity({
    unwrapFileKey() {
      noneFits = true;
      return null;
    },
  });
  try {
    return await decrypter.decryptHeader(header);
  } catch (cause) {
    if (noneFits) throw new NoIdentity(kinds);
    throw new AgeError('its age header is damaged', { cause });
  }
}

/** The key of the file that `input` begins with; takes header and nonce off it. */
async function takeKey(input: Window, identities: Identities): Promise<AgeKey> {
  let headerBytes: number | undefined;
  for (let known = -1; headerBytes === undefined; headerBytes = headerBytesOf(input.bytes)) {
    if (known === input.bytes.length) throw new AgeCut('it ends inside its age header', 0);
    known = input.bytes.length;
    await input.fill(known + 1);
  }
  const fileKey = await unlock(input.take(headerBytes), identities);
  if (!(await input.fill(PAYLOAD_NONCE_BYTES))) throw new AgeCut('it ends after its age header', 0);
  return {
    headBytes: headerBytes + PAYLOAD_NONCE_BYTES,
    key: payloadKey(fileKey, input.take(PAYLOAD_NONCE_BYTES)),
  };
}

/** From the beginning of a file; reads no more than the header. Throws NoIdentity, AgeError. */
export async function readKey(file: ByteSource, identities: Identities): Promise<AgeKey> {
  const input = new Window(file);
  try {
    return await takeKey(input, identities);
  } finally {
    await input.close();
  }
}

/**
 * The content of a whole age file. Nothing of a chunk is given out before it was authenticated in its place. Throws AgeCut where the
 * file ends too early, after everything before that; AgeError at the first chunk that is not what was written.
 */
export async function* decryptFile(file: ByteSource, identities: Identities): AsyncGenerator<Uint8Array> {
  const input = new Window(file);
  try {
    const { key } = await takeKey(input, identities);
    yield* decryptChunks(input, key, 0);
  } finally {
    await input.close();
  }
}

/** Stored bytes of the chunks that hold the content from `start` to `end`, and one byte more where another chunk follows. */
export function storedRange({ headBytes }: AgeKey, start: number, end: number): { start: number; end: number } {
  const first = Math.floor(start / CHUNK_BYTES);
  return {
    start: headBytes + first * STORED_CHUNK_BYTES,
    end: headBytes + Math.ceil(end / CHUNK_BYTES) * STORED_CHUNK_BYTES + 1,
  };
}

/** The content from `start` to `end`, fewer where it ends, of `stored`: the bytes of `storedRange`. Errors as `decryptFile`. */
export async function* decryptRange(
  stored: ByteSource,
  { key }: AgeKey,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array> {
  if (end <= start) return;
  const first = Math.floor(start / CHUNK_BYTES);
  const input = new Window(stored);
  let at = first * CHUNK_BYTES;
  try {
    if (first > 0 && !(await input.fill(1))) return;
    for await (const chunk of decryptChunks(input, key, first, Math.ceil(end / CHUNK_BYTES))) {
      const part = chunk.subarray(Math.max(0, start - at), end - at);
      at += chunk.length;
      if (part.length > 0) yield part;
    }
  } finally {
    await input.close();
  }
}

async function* decryptChunks(
  input: Window,
  key: Uint8Array,
  first: number,
  end = Number.POSITIVE_INFINITY,
): AsyncGenerator<Uint8Array> {
  for (let index = first; index < end; index += 1) {
    const isFollowed = await input.fill(STORED_CHUNK_BYTES + 1);
    const chunk = input.bytes.subarray(0, STORED_CHUNK_BYTES);
    const content = openChunk(key, chunk, index, !isFollowed);
    if (content === undefined) return yield* judge({ key, chunk, index, isFollowed });
    if (content.length === 0 && index > 0) throw new AgeError(`its last chunk, ${index}, is empty`);
    if (content.length > 0) yield content;
    if (!isFollowed) return;
    input.skip(STORED_CHUNK_BYTES);
  }
}

interface BadChunk {
  readonly key: Uint8Array;
  readonly chunk: Uint8Array;
  readonly index: number;
  readonly isFollowed: boolean;
}

/** What happened to a chunk that is not what was written there. A whole one at which a cut file ends is given out first. */
function* judge({ key, chunk, index, isFollowed }: BadChunk): Generator<Uint8Array> {
  const at = index * CHUNK_BYTES;
  if (isFollowed && openChunk(key, chunk, index, true) !== undefined) {
    throw new AgeError(`bytes were appended after its last chunk, ${index}`);
  }
  if (!isFollowed && chunk.length === STORED_CHUNK_BYTES) {
    const whole = openChunk(key, chunk, index, false);
    if (whole !== undefined) {
      yield whole;
      const end = at + CHUNK_BYTES;
      throw new AgeCut(`it is cut after chunk ${index}: what can be read ends at byte ${end}`, end);
    }
  }
  const place = placeOf(key, chunk, index);
  if (place !== undefined) throw new AgeError(`chunk ${index} is its chunk ${place}, moved`);
  if (isFollowed || chunk.length === STORED_CHUNK_BYTES) {
    const range = `content from byte ${at}`;
    throw new AgeError(`chunk ${index} (${range}) is altered, or not in its place: nothing from there on is given out`);
  }
  throw new AgeCut(`it is cut or altered inside chunk ${index}: what can be read ends at byte ${at}`, at);
}

/** How far from its place a moved chunk is looked for: some 0.1 s of work, once a file. */
const PLACES = 500;

function placeOf(key: Uint8Array, chunk: Uint8Array, index: number): number | undefined {
  for (let place = Math.max(0, index - PLACES); place <= index + PLACES; place += 1) {
    const isThere = (isLast: boolean) => openChunk(key, chunk, place, isLast) !== undefined;
    if (place !== index && (isThere(false) || isThere(true))) return place;
  }
  return undefined;
}

/** The chunk's content; undefined where it is not the one that was sealed as this. */
function openChunk(key: Uint8Array, chunk: Uint8Array, index: number, isLast: boolean): Uint8Array | undefined {
  if (chunk.length < TAG_BYTES) return undefined;
  const tagAt = chunk.length - TAG_BYTES;
  const decipher = createDecipheriv(CIPHER, key, chunkNonce(index, isLast), { authTagLength: TAG_BYTES });
  decipher.setAuthTag(chunk.subarray(tagAt));
  const content = decipher.update(chunk.subarray(0, tagAt));
  try {
    decipher.final();
    return content;
  } catch {
    return undefined;
  }
}
