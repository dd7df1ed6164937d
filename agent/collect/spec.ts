import type { BaseImage } from '../../evidence/base-image.ts';
import { canonicalJson } from '../../evidence/json.ts';
import type { CollectContext, Collector } from './collector.ts';

/** What the bundle knows of a document's name: one step, nothing that leads out of the archive. */
const PLAIN_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/**
 * What the target was meant to be: `target.json` (the record, as in request.json), `mounts.json` (what lies outside the
 * writable layer), `image.json` (what it lies on: evidence/base-image.ts) and, verbatim, every document that the runtime gave (OCI spec, CRI status, image config).
 */
export const specCollector: Collector = { artifact: 'spec', collect: collectSpec };

async function collectSpec(context: CollectContext): Promise<void> {
  const { record, mounts, documents, rootfs, image } = context.target;
  const mtimeNs = BigInt(context.now()) * 1_000_000n;
  await using archive = await context.archive('spec.tar.zst');
  const add = async (path: string, bytes: Uint8Array): Promise<void> => {
    await archive.add({ path, type: 'file', sizeBytes: bytes.length, mtimeNs }, bytes);
  };
  await add('target.json', canonicalJson(record));
  await add('mounts.json', canonicalJson(mounts));
  if (rootfs !== undefined) await add('rootfs.json', canonicalJson(rootfs));
  if (image !== undefined) await add('image.json', canonicalJson(image));
  const taken = new Set(['target.json', 'mounts.json', 'rootfs.json', 'image.json']);
  for (const { name, bytes } of documents) {
    if (!PLAIN_NAME.test(name) || taken.has(name)) {
      context.gap({ what: `document ${name}`, why: 'its name is taken, or is no plain file name' });
      continue;
    }
    taken.add(name);
    context.read(bytes.length);
    await add(name, bytes);
  }
  await archive.commit();
  if (documents.length === 0) context.note('the runtime gave no documents about this target');
  if (image !== undefined) context.fact('image', imageFact(image));
  context.fact(
    'documents',
    documents.map(({ name }) => name),
  );
}

/** The base in a few words, where everybody looks first; all of it is in image.json. */
function imageFact({ reference, manifestDigest, configDigest, layers, agreement }: BaseImage): unknown {
  return { reference, manifestDigest, configDigest, diffIds: layers.map(({ diffId }) => diffId), agreement };
}
