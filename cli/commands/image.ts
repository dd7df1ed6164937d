import { createReadStream } from 'node:fs';
import type { Command } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { isTar } from '../../evidence/layout.ts';
import type { Manifest, StoredObject } from '../../evidence/manifest.ts';
import type { Base, Original } from '../../evidence/oci-bundle-base.ts';
import { type BundleOptions, openBundle, readManifest, takesBundle, until } from '../bundle.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { openNewFile } from '../new-file.ts';
import { escapeText, formatBytes, formatCount, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = BundleOptions & { name?: string; base?: string; keepEntrypoint?: boolean; verify: boolean };

/** `exhibit image BUNDLE FILE`: the container's root file system as an image, for containerd, Docker and others. */
export function registerImage(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('image')
      .description("write the container's root as an OCI image that containerd and Docker load")
      .helpGroup(GROUPS.evidence),
  )
    .argument('<file>', 'the tar to write; nothing is overwritten')
    .option('--name <reference>', 'what the image is called (default: exhibit.local/capture:CAPTURE-ID)')
    .option('--base <none|file>', 'put the changes on nothing, or on the image in a tar (OCI layout, docker save)')
    .option('--keep-entrypoint', 'keep what the image starts, and as whom: by default it starts nothing')
    .option('--no-verify', 'also from a bundle whose seal is missing or does not hold')
    .action(async (bundle: string, file: string) => {
      await image(session, bundle, file, optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit image BUNDLE web-0.tar && ctr images import web-0.tar', 'for containerd'],
    ['exhibit image BUNDLE web-0.tar && docker load -i web-0.tar', 'for Docker'],
    ['docker run --rm --read-only --network none exhibit.local/capture:ID ls -la /tmp', 'look into it'],
    ['exhibit image BUNDLE web-0.tar --base pulled.tar', 'on the image as its registry has it'],
  ]);
}

/** What the image is made of, before a byte of it is written. */
interface Parts {
  readonly manifest: Manifest;
  readonly manifestSha256: string;
  readonly diff: StoredObject;
  readonly original: Original;
  readonly base: Base;
}

async function image(session: Session, bundle: string, file: string, options: Options): Promise<void> {
  await using opened = await openBundle(bundle, options, session.signal);
  const reader = interruptible(opened, session.signal);
  const { imageName } = await import('../../evidence/oci-image.ts');
  const manifest = await withPlainLayers(reader, await readManifest(reader, session.signal));
  const name = imageName(options.name, manifest.captureId);
  if (name === undefined) {
    throw new ExhibitError('usage', `${options.name} is no name of an image: write registry/path:tag, in lower case.`);
  }
  try {
    const { request, sha256 } = await readSealed(reader, options);
    const diff = writableLayer(manifest);
    const { hasBlobs, readOriginal } = await import('../../evidence/oci-bundle-base.ts');
    const blobs = options.base === undefined && hasBlobs(manifest);
    const original = await readOriginal(reader, manifest, blobs);
    const base = await chooseBase(session, reader, manifest, original, options);
    const parts = { manifest, manifestSha256: sha256, diff, original, base };
    const { imageDocuments } = await import('../../evidence/oci-image.ts');
    const { storedLayer } = await import('../../evidence/oci-export.ts');
    const documents = imageDocuments({
      ...parts,
      request,
      original: original.image,
      diff: storedLayer(diff),
      name,
      keepEntrypoint: options.keepEntrypoint === true,
    });
    const sizeBytes = await write(reader, file, parts, documents);
    await report(session, { file, name, sizeBytes, config: documents.config, ...parts }, options);
  } catch (error) {
    if (!isExhibitError(error, 'bundle-corrupt')) throw error;
    const words = `${error.message.replace(/\.?$/, '.')} No image was written; \`exhibit verify\` says what else differs.`;
    throw new ExhibitError('bundle-corrupt', words, { cause: error });
  }
}

/** A layer of the image is an object byte for byte: of an encrypted one that is what the age file holds. */
async function withPlainLayers(reader: BundleReader, manifest: Manifest): Promise<Manifest> {
  if (reader.encryption === undefined) return manifest;
  const { asStoredPlain } = await import('../../evidence/age-plain.ts');
  const owners = manifest.artifacts.filter(({ name }) => name === 'rootfs' || name === 'image' || name === 'spec');
  const names = new Set(owners.flatMap(({ objects }) => objects));
  const objects: StoredObject[] = [];
  for (const object of manifest.objects) {
    const isLayer = names.has(object.name) && isTar(object.mediaType);
    objects.push(isLayer ? await asStoredPlain(reader, object) : object);
  }
  return { ...manifest, objects };
}

/** A reader whose reads end with the signal. */
function interruptible(reader: BundleReader, signal: AbortSignal): BundleReader {
  return { ...reader, read: (name, range) => until(reader.read(name, range), signal) };
}

/** The request, and the digest of the manifest: checked against the seal. */
async function readSealed(reader: BundleReader, { verify }: Options) {
  const { createFindings } = await import('../../evidence/findings.ts');
  const { compareRecords, compareSubjects, readRecords } = await import('../../evidence/verify-records.ts');
  const { NO_TRUST } = await import('../../evidence/trust.ts');
  const findings = createFindings();
  const records = await readRecords(reader, findings, NO_TRUST);
  compareRecords(records, findings);
  compareSubjects(records, findings);
  const wrong = findings.list().find(({ severity }) => severity === 'error');
  if (verify && wrong !== undefined) {
    const words = `the bundle is not what was sealed: ${wrong.message} (with --no-verify it is taken all the same)`;
    throw new ExhibitError('bundle-corrupt', words);
  }
  return { request: records.request?.value, sha256: records.manifest?.sha256 ?? '' };
}

function writableLayer(manifest: Manifest): StoredObject {
  const diff = manifest.objects.find(({ name }) => name === 'rootfs.tar.zst');
  if (diff !== undefined) return diff;
  const artifact = manifest.artifacts.find(({ name }) => name === 'rootfs');
  const why = artifact === undefined ? 'it was not asked for' : `${artifact.status}: ${artifact.reason ?? ''}`;
  throw new ExhibitError(
    'bundle-not-found',
    `The bundle has no writable layer to make an image of (${why}): capture with --artifacts rootfs,image,spec.`,
  );
}

/** Read at a time from the file of --base. */
const FILE_CHUNK_BYTES = 1024 * 1024;

async function chooseBase(
  { signal }: Session,
  reader: BundleReader,
  manifest: Manifest,
  original: Original,
  options: Options,
): Promise<Base> {
  const { bundleBase, NO_BASE } = await import('../../evidence/oci-bundle-base.ts');
  if (options.base === 'none') return { ...NO_BASE, config: original.config };
  if (options.base !== undefined) {
    const { fileBase } = await import('../../evidence/oci-file-base.ts');
    const open = (file: string) => until(createReadStream(file, { highWaterMark: FILE_CHUNK_BYTES }), signal);
    return fileBase(options.base, open, knownLayers(original, options));
  }
  const base = bundleBase(reader, manifest, original);
  if (base !== undefined) return base;
  const { reference, manifestDigest } = original.image ?? {};
  const pull = manifestDigest === undefined ? (reference ?? 'the image') : `${reference}@${manifestDigest}`;
  throw new ExhibitError(
    'bundle-not-found',
    `The bundle has what the container changed, and not the image below it: save ${pull} as a tar and name it with --base FILE, ` +
      'or take --base none for the changes alone; a capture with --artifacts rootfs,image,spec has both.',
  );
}

/** The layers that a file must have; undefined where nothing tells and nobody wants to know. */
function knownLayers({ image: record, config }: Original, { verify, base }: Options): readonly string[] | undefined {
  const diffIds = record?.layers.map(({ diffId }) => diffId) ?? [];
  const known = diffIds.length > 0 ? diffIds : config?.rootfs.diff_ids;
  if (known !== undefined || !verify) return known;
  throw new ExhibitError(
    'bundle-not-found',
    `The bundle does not say on which layers the container lay, so ${base} cannot be checked: --no-verify takes it as it is.`,
  );
}

async function write(
  reader: BundleReader,
  file: string,
  { manifest, diff, base }: Parts,
  documents: Parameters<typeof import('../../evidence/oci-export.ts')['writeImage']>[1],
): Promise<number> {
  const { storedBlob, writeImage } = await import('../../evidence/oci-export.ts');
  await using out = await openNewFile(file, 'choose another FILE');
  let sizeBytes = 0;
  const counted = {
    async write(chunk: Uint8Array) {
      sizeBytes += chunk.length;
      await out.write(chunk);
    },
  };
  async function* blobs() {
    yield* base.blobs();
    yield storedBlob(reader, diff);
  }
  await writeImage(counted, documents, blobs(), BigInt(Date.parse(manifest.finishedAt)) * 1_000_000n);
  await out.commit();
  return sizeBytes;
}

interface Written extends Parts {
  readonly file: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly config: Uint8Array;
}

async function report({ stdout, stderr }: Session, written: Written, options: Options): Promise<void> {
  const { file, name, sizeBytes, config, base, manifest } = written;
  const { sha256Of } = await import('../../evidence/base-image.ts');
  const warnings = warningsOf(written);
  if (options.json === true) {
    const document = { file, name, sizeBytes, imageId: sha256Of(config), base: base.kind, warnings };
    await stdout.write(`${toJson({ ...document, layers: base.layers.length + 1 }, 2)}\n`);
    return;
  }
  for (const warning of warnings) await stderr.write(`exhibit: ${escapeText(warning)}\n`);
  const layers = formatCount(base.layers.length, 'base layer');
  const words = `${formatBytes(sizeBytes)} in ${file}: ${name}, ${layers} and the writable layer of ${manifest.target.name}`;
  await stdout.write(`${escapeText(words)}\n`);
}

/** Where the image is not the root that the container had. */
function warningsOf({ manifest, original, base }: Written): string[] {
  const artifact = (wanted: string) => manifest.artifacts.find(({ name }) => name === wanted);
  const special = artifact('rootfs')?.facts.special;
  const count = (key: string): number => {
    const value = typeof special === 'object' && special !== null ? Object.entries(special) : [];
    return Number(value.find(([name]) => name === key)?.[1] ?? 0);
  };
  const gaps = ['rootfs', 'image'].map((name) => ({ name, gaps: artifact(name)?.gapCount ?? 0 }));
  const own = original.image?.lowers.filter(({ layer }) => layer === undefined).length ?? 0;
  return [
    ...gaps
      .filter((one) => one.gaps > 0)
      .map((one) => `${formatCount(one.gaps, 'gap')} of ${one.name}: see manifest.json`),
    ...(count('sparseFiles') > 0 ? [`${count('sparseFiles')} files with large holes have their data alone`] : []),
    ...(count('escapedNames') > 0 ? [`${count('escapedNames')} names that a layer cannot have are escaped`] : []),
    ...(count('sockets') > 0 ? [`${formatCount(count('sockets'), 'socket')} cannot be in an image`] : []),
    ...(base.kind === 'file' && own > 0
      ? [`the runtime had put ${formatCount(own, 'layer')} of its own above the image, which the file has not`]
      : []),
    ...(base.kind !== 'none' && original.image?.agreement === 'differs'
      ? ['the container did not lie on the layers of the image that its name stood for']
      : []),
  ];
}
