import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import type { Identities } from '../evidence/age-reader.ts';
import type { BundleReader } from '../evidence/bundle.ts';
import { ExhibitError, explain, isExhibitError } from '../evidence/error.ts';
import { isZstd, MANIFEST_OBJECT } from '../evidence/layout.ts';
import type { Manifest, StoredObject } from '../evidence/manifest.ts';
import type { ListedMember } from '../evidence/members.ts';
import type { CommonOptions } from './command.ts';

/** Reading one bundle for `verify` and `extract`. Everything heavy (zod, zlib, the AWS SDK) is loaded when it is needed. */

export interface BundleOptions extends CommonOptions {
  readonly endpoint?: string;
  readonly region?: string;
  readonly pathStyle?: boolean;
  /** Files of age identities. */
  readonly identity?: readonly string[];
}

/** The argument and the options by which a bundle is found. */
export function takesBundle(command: Command): Command {
  return command
    .argument('<bundle>', 'folder of one capture, file:// URL or s3://bucket/prefix/cluster/node/id')
    .addOption(new Option('--endpoint <url>', 'S3 endpoint that is not AWS (credentials: as the AWS CLI finds them)'))
    .option('--region <name>', 'S3 region')
    .option('--path-style', 'address the bucket in the path; the default with --endpoint')
    .option('--no-path-style', 'address the bucket in the host name')
    .addOption(
      new Option('--identity <file...>', 'files of age identities, for a bundle that is encrypted').env(
        'EXHIBIT_IDENTITY',
      ),
    );
}

/** Fails with the signal's reason while a server still keeps us waiting; the process then ends without it. */
export async function openBundle(bundle: string, options: BundleOptions, signal: AbortSignal): Promise<BundleReader> {
  const { openBundle: open } = await import('../evidence/bundle.ts');
  const identities = await identitiesOf(options);
  const opening = open(bundle, {
    identities,
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.pathStyle === undefined ? {} : { forcePathStyle: options.pathStyle }),
  });
  for await (const reader of until(once(opening), signal)) return reader;
  throw new ExhibitError('internal', `${bundle} could not be opened.`);
}

/** A pipe can be read once, and a command may open several bundles. */
const identitiesRead = new WeakMap<BundleOptions, Promise<Identities>>();

/** Throws ExhibitError `usage` for a file that cannot be read or holds no identities. */
export function identitiesOf(options: BundleOptions): Promise<Identities> {
  const identities = identitiesRead.get(options) ?? readIdentities(options.identity ?? []);
  identitiesRead.set(options, identities);
  return identities;
}

async function readIdentities(files: readonly string[]): Promise<Identities> {
  if (files.length === 0) return [];
  const { MAX_IDENTITY_BYTES, parseIdentities } = await import('../evidence/age-identity.ts');
  const read = await Promise.all(
    files.map(async (file) => {
      const bytes = await readFile(file).catch((error: unknown) => {
        throw new ExhibitError('usage', `The identity file ${file} cannot be read (${explain(error)}).`, {
          cause: error,
        });
      });
      if (bytes.length <= MAX_IDENTITY_BYTES) return parseIdentities(bytes.toString('latin1'), file);
      throw new ExhibitError('usage', `${file} is larger than ${MAX_IDENTITY_BYTES} bytes: this is no identity file.`);
    }),
  );
  return read.flat();
}

async function* once<T>(promise: Promise<T>): AsyncGenerator<T> {
  yield await promise;
}

/** The manifest by its schema. It says nothing about the seal: that is what `verify` is for. */
export async function readManifest(reader: BundleReader, signal: AbortSignal): Promise<Manifest> {
  const { readAtMost } = await import('../evidence/byte-sink.ts');
  const { parseJson } = await import('../evidence/json.ts');
  const { manifestSchema } = await import('../evidence/manifest.ts');
  const { MAX_MANIFEST_BYTES } = await import('../evidence/verify-records.ts');
  let bytes: Uint8Array | undefined;
  try {
    bytes = await readAtMost(until(reader.read(MANIFEST_OBJECT), signal), MAX_MANIFEST_BYTES);
  } catch (error) {
    if (!isExhibitError(error, 'bundle-not-found')) throw error;
    throw new ExhibitError(
      'bundle-corrupt',
      `The capture in ${reader.url} was never finished, it has no ${MANIFEST_OBJECT}: read its objects with zstd and tar.`,
      { cause: error },
    );
  }
  if (bytes === undefined) throw corrupt(`${MANIFEST_OBJECT} is larger than ${MAX_MANIFEST_BYTES} bytes`);
  const parsed = manifestSchema.safeParse(parseJson(bytes, MAX_MANIFEST_BYTES, MANIFEST_OBJECT));
  if (parsed.success) return parsed.data;
  throw corrupt(`${MANIFEST_OBJECT} has not the shape of format version 1`, parsed.error);
}

/** The object ends before its content did, and the manifest says so: everything that can be read of it was read. */
export class EndsEarly extends ExhibitError {
  constructor(object: string, why: string) {
    super(
      'bundle-corrupt',
      `${object} is a first part only, as the manifest says (${why}): nothing can be read after it.`,
    );
  }
}

/**
 * What an object holds, decompressed. Throws `EndsEarly` after the last whole frame of one that is truncated, of one that is not
 * compressed after its last byte that can be read.
 */
export async function* readContent(
  reader: BundleReader,
  object: Pick<StoredObject, 'name' | 'mediaType' | 'truncated'>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const stored = until(reader.read(object.name), signal);
  const { decodeFrames, endsEarly } = await import('../evidence/frame-decoder.ts');
  try {
    yield* isZstd(object.mediaType) ? decodeFrames(stored) : stored;
  } catch (error) {
    if (object.truncated === undefined || !endsEarly(error)) throw error;
  }
  if (object.truncated !== undefined) throw new EndsEarly(object.name, object.truncated);
}

/** The members of an archive in its order, from the manifest or from the object that lists them. */
export async function* readMembers(
  reader: BundleReader,
  manifest: Manifest,
  object: StoredObject,
  signal: AbortSignal,
): AsyncGenerator<ListedMember> {
  const { membersIn } = object;
  if (object.truncated !== undefined) return yield* membersThere(reader, object, signal);
  if (membersIn === undefined) {
    if (object.members !== undefined) return yield* object.members;
    const mend = `\`exhibit extract BUNDLE ${object.name} | tar -tv\` shows what can be read`;
    throw new ExhibitError('bundle-not-found', `The manifest lists no members of ${object.name}: ${mend}.`);
  }
  if (!manifest.objects.some((one) => one.name === membersIn)) {
    throw corrupt(`${membersIn}, which lists the members of ${object.name}, is not in the manifest`);
  }
  const { readMemberLines } = await import('../evidence/members.ts');
  yield* readMemberLines(until(reader.read(membersIn), signal));
}

/** Of an archive that ends early nobody has listed the members: those that are whole, as they are met. */
async function* membersThere(
  reader: BundleReader,
  object: StoredObject,
  signal: AbortSignal,
): AsyncGenerator<ListedMember> {
  const { RunningDigest } = await import('../evidence/frames.ts');
  const { readTar, toMember } = await import('../evidence/tar-reader.ts');
  for await (const entry of readTar(readContent(reader, object, signal))) {
    const digest = new RunningDigest();
    for await (const chunk of entry.body) digest.update(chunk);
    yield toMember(entry.header, digest);
  }
}

/** `source` until the signal: a read that hangs (a network) ends with it. */
export async function* until<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  signal.throwIfAborted();
  const iterator = source[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    const closed = iterator.return?.();
    // A read that hangs would make its own ending hang as well.
    if (!signal.aborted) await closed;
  }
}

function corrupt(message: string, cause?: unknown): ExhibitError {
  const words = `${message}: run \`exhibit verify\` on this bundle.`;
  return new ExhibitError('bundle-corrupt', words, cause === undefined ? undefined : { cause });
}
