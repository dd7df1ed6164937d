import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Identities } from './age-reader.ts';
import type { BundleEncryption } from './bundle-encrypted.ts';
import { openFolderBundle } from './bundle-folder.ts';
import { ExhibitError } from './error.ts';
import { MANIFEST_OBJECT, REQUEST_OBJECT, SEAL_OBJECT } from './layout.ts';

/** A bundle to read, wherever it is. Nothing of it is trusted: names, sizes and bytes are whatever somebody left there. */
export interface BundleReader extends AsyncDisposable {
  /** For people: `file:///evidence/...` or `s3://bucket/...`. */
  readonly url: string;
  /** Every object below the bundle's folder, in no order. */
  list(): AsyncIterable<BundleEntry>;
  /**
   * The bytes of an object from `start` up to, not including, `end`; all of them without. Fewer where the object ends.
   * Throws ExhibitError `bundle-not-found` when there is no such object.
   */
  read(name: string, range?: { readonly start?: number; readonly end?: number }): AsyncIterable<Uint8Array>;
  /** Where the objects are age files: `list` and `read` speak of what they hold, by the manifest's names. */
  readonly encryption?: BundleEncryption;
}

export interface BundleEntry {
  /** Relative to the bundle, with `/` between folders. */
  readonly name: string;
  readonly sizeBytes: number;
  /** What it is when it is no regular file: `symbolic link`, `socket`... It cannot be read. */
  readonly irregular?: string;
}

/** For S3, but for `identities`. What is absent comes from the SDK's own chain: environment, shared config, instance role. */
export interface OpenBundleOptions {
  readonly endpoint?: string;
  readonly region?: string;
  /** True when absent and there is an endpoint: servers that are not AWS rarely have a host name a bucket. */
  readonly forcePathStyle?: boolean;
  /** Of age, `AGE-SECRET-KEY-1...`: for bundles that are encrypted; others are read as ever. */
  readonly identities?: Identities;
}

/**
 * Opens `s3://bucket/prefix/cluster/node/captureId`, a `file://` URL or a folder's path. Throws ExhibitError
 * `bundle-not-found` when there is no bundle: neither a request, a manifest nor a seal.
 */
export async function openBundle(urlOrPath: string, options: OpenBundleOptions = {}): Promise<BundleReader> {
  const reader = await openReader(urlOrPath, options);
  try {
    // Loaded only here: this module is a type for most.
    const { decryptingReader, formOf } = await import('./bundle-encrypted.ts');
    const form = await formOf(reader, exists);
    if (form === 'age') return await decryptingReader(reader, options.identities ?? []);
    if (form === 'plain' || (await exists(reader, SEAL_OBJECT))) return reader;
  } catch (error) {
    await reader[Symbol.asyncDispose]();
    throw error;
  }
  await reader[Symbol.asyncDispose]();
  throw new ExhibitError(
    'bundle-not-found',
    `${reader.url} holds no capture: there is no ${REQUEST_OBJECT} and no ${MANIFEST_OBJECT}. ` +
      'Name the folder of one capture: <sink>/<cluster>/<node>/<captureId>',
  );
}

async function openReader(urlOrPath: string, options: OpenBundleOptions): Promise<BundleReader> {
  if (urlOrPath.startsWith('s3://')) {
    // Loaded only here: the SDK takes longer to start than a small bundle takes to verify.
    const { openS3Bundle } = await import('./bundle-s3.ts');
    return openS3Bundle(urlOrPath, options);
  }
  return openFolderBundle(urlOrPath.startsWith('file://') ? fileURLToPath(urlOrPath) : resolve(urlOrPath));
}

async function exists(reader: BundleReader, name: string): Promise<boolean> {
  try {
    for await (const _ of reader.read(name, { start: 0, end: 1 })) break;
    return true;
  } catch (error) {
    if (error instanceof ExhibitError && error.code === 'bundle-not-found') return false;
    throw error;
  }
}
