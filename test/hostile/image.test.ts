import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256Of } from '../../evidence/base-image.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { fileBase } from '../../evidence/oci-file-base.ts';
import { blobPath, OCI_INDEX } from '../../evidence/oci-layout.ts';
import { createTarWriter } from '../../evidence/tar.ts';
import { MemorySink } from '../unit/evidence/memory-sink.ts';

/** Tars that somebody hands to `exhibit image --base`. */

async function tarOf(files: readonly (readonly [name: string, content: string | Uint8Array])[]): Promise<Buffer> {
  const sink = new MemorySink();
  const tar = createTarWriter(sink);
  for (const [path, content] of files) {
    await tar.add({ path, type: 'file', sizeBytes: Buffer.byteLength(content) }, Buffer.from(content));
  }
  await tar.end();
  return sink.bytes;
}

/** All of its layers, or the sentence that refuses it. */
async function taken(tar: Uint8Array): Promise<string> {
  try {
    const base = await fileBase(
      'base.tar',
      () =>
        (async function* () {
          yield tar;
        })(),
      undefined,
    );
    let bytes = 0;
    for await (const { body } of base.blobs()) for await (const chunk of body) bytes += chunk.length;
    return `${base.layers.length} layers, ${bytes} bytes`;
  } catch (error) {
    if (error instanceof ExhibitError && error.code === 'usage') return error.message;
    throw error;
  }
}

const layer = Buffer.from('a layer');
const config = Buffer.from(JSON.stringify({ rootfs: { diff_ids: [sha256Of(layer)] } }));
const manifest = Buffer.from(
  JSON.stringify({
    config: { digest: sha256Of(config), size: config.length },
    layers: [{ digest: sha256Of(layer), size: layer.length, mediaType: 'application/vnd.oci.image.layer.v1.tar' }],
  }),
);
const WHOLE: readonly (readonly [string, Uint8Array])[] = [
  [OCI_INDEX, Buffer.from(JSON.stringify({ manifests: [{ digest: sha256Of(manifest) }] }))],
  ...[config, manifest, layer].map((bytes) => [blobPath(sha256Of(bytes)), bytes] as const),
];

describe('a tar that is to be the base', () => {
  test('is taken when it is one', async () => {
    expect(await taken(await tarOf(WHOLE))).toBe('1 layers, 7 bytes');
  });

  test('of any bytes is a sentence', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (bytes) => {
        expect(await taken(bytes)).toMatch(/base\.tar (is no tar|is neither)/);
      }),
    );
  });

  test('with any byte changed is taken or refused, and nothing else', async () => {
    const whole = await tarOf(WHOLE);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bytes = Buffer.from(whole);
        bytes[at] = (bytes[at] ?? 0) ^ change;
        expect(await taken(bytes)).toMatch(/^base\.tar |layers/);
      }),
    );
  });

  test('whose index leads to itself a hundred times, at four depths, ends at once', async () => {
    const digest = sha256Of(Buffer.from('itself'));
    const loop = Buffer.from(JSON.stringify({ manifests: Array.from({ length: 100 }, () => ({ digest })) }));
    const files = [OCI_INDEX, blobPath(digest)].map((name) => [name, loop] as const);
    expect(await taken(await tarOf(files))).toMatch(/is neither/);
  });

  test('with a list of Docker’s that names what is not there, or climbs, is refused', async () => {
    for (const path of ['../../etc/passwd', '/etc/passwd', 'gone/layer.tar']) {
      const list = JSON.stringify([{ Config: 'c.json', Layers: [path] }]);
      const files = [
        ['manifest.json', list],
        ['c.json', config],
      ] as const;
      expect(await taken(await tarOf(files))).toBe(`base.tar has no ${path}: it is not whole.`);
    }
  });

  test('with more files than any image has is refused', async () => {
    const many = Array.from({ length: 100_001 }, (_, at) => [`${at}`, ''] as const);
    expect(await taken(await tarOf(many))).toMatch(/has more than 100000 files/);
  });
});
