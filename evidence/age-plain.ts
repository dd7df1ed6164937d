import { decryptFile } from './age-reader.ts';
import type { BundleReader } from './bundle.ts';
import { named } from './bundle-encrypted.ts';
import { ExhibitError } from './error.ts';
import { RunningDigest } from './frames.ts';
import { storedName } from './layout.ts';
import type { StoredObject } from './manifest.ts';

/**
 * The record that an encrypted object would have if it were stored as it is: for programs that pass the object on byte for byte
 * under its digest, as an image's layer. Reads all of it, and checks its stored bytes on the way. Throws ExhibitError
 * `bundle-corrupt` where they are not what the manifest lists, and what decrypting throws.
 */
export async function asStoredPlain(reader: BundleReader, object: StoredObject): Promise<StoredObject> {
  const { encryption } = reader;
  const { encryption: kind, ...record } = object;
  if (encryption === undefined || kind === undefined) return object;
  const stored = new RunningDigest();
  const plain = new RunningDigest();
  const bytes = measured(encryption.stored.read(storedName(object)), stored);
  try {
    for await (const chunk of decryptFile(bytes, encryption.identities)) plain.update(chunk);
  } catch (error) {
    throw named(error, object.name);
  }
  if (stored.digest().sha256 === object.stored.sha256) return { ...record, stored: plain.digest() };
  throw new ExhibitError('bundle-corrupt', `${object.name} is damaged: its SHA-256 is not the manifest's.`);
}

async function* measured(chunks: AsyncIterable<Uint8Array>, digest: RunningDigest): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    digest.update(chunk);
    yield chunk;
  }
}
