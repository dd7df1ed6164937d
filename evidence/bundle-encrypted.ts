import { AgeCut, AgeError, contentBytesOf } from './age-format.ts';
import {
  type AgeKey,
  decryptFile,
  decryptRange,
  describeKinds,
  type Identities,
  NoIdentity,
  readKey,
  storedRange,
} from './age-reader.ts';
import type { BundleEntry, BundleReader } from './bundle.ts';
import { readAtMost } from './byte-sink.ts';
import { ExhibitError, isExhibitError } from './error.ts';
import { ENCRYPTED_SUFFIX, MANIFEST_OBJECT, REQUEST_OBJECT, SEAL_OBJECT, TIMESTAMP_OBJECT } from './layout.ts';
import type { StoredObject } from './manifest.ts';
import { checkSeal, MAX_SEAL_BYTES } from './seal.ts';

/** What a reader of an encrypted bundle has beside its logical names. */
export interface BundleEncryption {
  /** The same bundle as it lies in the sink, under stored names. */
  readonly stored: BundleReader;
  readonly identities: Identities;
  /** Why nothing but the seal can be read: no identity fits. */
  readonly locked: LockedBundle | undefined;
  /** Bytes that `read` gives for an object whose age file has `storedBytes`. */
  contentBytes(name: string, storedBytes: number): Promise<number>;
}

export interface LockedBundle {
  /** A word for each recipient, as the header has it. */
  readonly kinds: readonly string[];
  /** Whole sentences for a person. */
  readonly words: string;
}

/**
 * How a bundle's objects lie there; undefined where there is neither a request nor a manifest. Where records of both kinds are
 * there, the seal says which are its own.
 */
export async function formOf(
  stored: BundleReader,
  exists: (reader: BundleReader, name: string) => Promise<boolean>,
): Promise<'plain' | 'age' | undefined> {
  for (const name of [REQUEST_OBJECT, MANIFEST_OBJECT]) {
    const isPlain = await exists(stored, name);
    const isAge = await exists(stored, encryptedName(name));
    if (isPlain && isAge) return (await isSealedEncrypted(stored)) ? 'age' : 'plain';
    if (isPlain || isAge) return isAge ? 'age' : 'plain';
  }
  return undefined;
}

async function isSealedEncrypted(stored: BundleReader): Promise<boolean> {
  try {
    const bytes = await readAtMost(stored.read(SEAL_OBJECT), MAX_SEAL_BYTES);
    if (bytes === undefined) return false;
    return checkSeal(bytes).statement.subject.some(({ name }) => name === encryptedName(MANIFEST_OBJECT));
  } catch (error) {
    if (isExhibitError(error)) return false;
    throw error;
  }
}

export function encryptedName(name: string): string {
  return `${name}${ENCRYPTED_SUFFIX}`;
}

/** These vouch for the stored bytes, so they are not encrypted themselves. */
const PLAIN: readonly string[] = [SEAL_OBJECT, TIMESTAMP_OBJECT];

/** Keys that are kept, so that a read of a few bytes does not read the header again. No bundle has so many objects. */
const MAX_KEYS = 1000;
/** A header is rarely longer than this: it has some 100 bytes a recipient. */
const HEADER_READ_BYTES = 4096;

/**
 * Reads an encrypted bundle by the names that its manifest has. Ranges cost the chunks of 64 KiB that they touch, and each object
 * its header once. Reads throw ExhibitError `bundle-encrypted` where no identity fits, AgeError where an object is damaged.
 */
export async function decryptingReader(stored: BundleReader, identities: Identities): Promise<BundleReader> {
  const keys = new Map<string, Promise<AgeKey>>();
  const keyOf = (name: string): Promise<AgeKey> => {
    const known = keys.get(name);
    if (known !== undefined) return known;
    if (keys.size >= MAX_KEYS) keys.clear();
    const key = headOf(stored, name, identities);
    key.catch(() => keys.delete(name));
    keys.set(name, key);
    return key;
  };
  const locked = await whyLocked(keyOf);
  return {
    url: stored.url,
    list: () => logicalEntries(stored),
    read: (name, range) =>
      PLAIN.includes(name)
        ? stored.read(name, range)
        : readDecrypted({ stored, identities, keyOf, locked }, name, range),
    encryption: {
      stored,
      identities,
      locked,
      async contentBytes(name, storedBytes) {
        const { headBytes } = await keyOf(name);
        const contentBytes = contentBytesOf(storedBytes - headBytes);
        if (contentBytes !== undefined) return contentBytes;
        throw new AgeError(`${name} is damaged: no age file of its header has ${storedBytes} bytes.`);
      },
    },
    [Symbol.asyncDispose]: () => stored[Symbol.asyncDispose](),
  };
}

/** The bytes that `reader` gives for an object: what a reader of its seek table needs to know. */
export async function readableBytes(reader: BundleReader, object: StoredObject): Promise<number> {
  const { encryption } = reader;
  if (encryption === undefined || object.encryption === undefined) return object.stored.sizeBytes;
  return await encryption.contentBytes(object.name, object.stored.sizeBytes);
}

async function headOf(stored: BundleReader, name: string, identities: Identities): Promise<AgeKey> {
  for (const end of [HEADER_READ_BYTES, undefined]) {
    try {
      return await readKey(stored.read(encryptedName(name), end === undefined ? {} : { start: 0, end }), identities);
    } catch (error) {
      if (end !== undefined && error instanceof AgeError) continue;
      // Whether one fits is for the caller to say in words.
      throw error instanceof NoIdentity ? error : named(error, name);
    }
  }
  throw new AgeError(`${name} is damaged: it has no age header.`);
}

/** The first record that can be told: with a damaged one the other decides. */
async function whyLocked(keyOf: (name: string) => Promise<AgeKey>): Promise<LockedBundle | undefined> {
  let kinds: readonly string[] | undefined;
  for (const name of [MANIFEST_OBJECT, REQUEST_OBJECT]) {
    try {
      await keyOf(name);
      return undefined;
    } catch (error) {
      if (error instanceof NoIdentity) kinds ??= error.kinds;
      else if (!isExhibitError(error)) throw error;
    }
  }
  return kinds === undefined ? undefined : { kinds, words: lockedWords(kinds) };
}

function lockedWords(kinds: readonly string[]): string {
  return (
    `The bundle is encrypted to ${describeKinds(kinds)} with age, and no identity that was given opens it: name the file of one ` +
    'with --identity or in EXHIBIT_IDENTITY. Without it `exhibit verify` checks the seal, who signed it, and every stored byte.'
  );
}

async function* logicalEntries(stored: BundleReader): AsyncGenerator<BundleEntry> {
  for await (const entry of stored.list()) {
    const { name } = entry;
    yield name.endsWith(ENCRYPTED_SUFFIX) ? { ...entry, name: name.slice(0, -ENCRYPTED_SUFFIX.length) } : entry;
  }
}

interface Opened {
  readonly stored: BundleReader;
  readonly identities: Identities;
  readonly keyOf: (name: string) => Promise<AgeKey>;
  readonly locked: LockedBundle | undefined;
}

async function* readDecrypted(
  { stored, identities, keyOf, locked }: Opened,
  name: string,
  range: Parameters<BundleReader['read']>[1],
): AsyncGenerator<Uint8Array> {
  if (locked !== undefined) throw new ExhibitError('bundle-encrypted', locked.words);
  const { start = 0, end = Number.POSITIVE_INFINITY } = range ?? {};
  try {
    if (start === 0 && end === Number.POSITIVE_INFINITY) {
      return yield* decryptFile(stored.read(encryptedName(name)), identities);
    }
    const key = await keyOf(name);
    const inFile = storedRange(key, start, end);
    const bytes = stored.read(
      encryptedName(name),
      inFile.end < Number.MAX_SAFE_INTEGER ? inFile : { start: inFile.start },
    );
    yield* decryptRange(bytes, key, start, end);
  } catch (error) {
    throw named(error, name);
  }
}

/** An error of decrypting with the object's name before its words. */
export function named(error: unknown, name: string): unknown {
  if (error instanceof NoIdentity) {
    return new ExhibitError('bundle-encrypted', `${name}: ${error.message}.`, { cause: error });
  }
  if (!(error instanceof AgeError) || error.message.startsWith(name)) return error;
  const words = `${name} is damaged: ${error.message}.`;
  if (error instanceof AgeCut) return new AgeCut(words, error.contentBytes, { cause: error });
  return new AgeError(words, { cause: error });
}
