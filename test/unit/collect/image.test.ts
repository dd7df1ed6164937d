import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { imageCollector } from '../../../agent/collect/image.ts';
import type { Runtime, Target } from '../../../agent/runtime/runtime.ts';
import { asHostPath } from '../../../agent/runtime/runtime.ts';
import { type BaseImage, sha256Of } from '../../../evidence/base-image.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { type BundleContext, bundleContext, makeTarget } from './bundle-context.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-image-'));
  mkdirSync(path.join(root, 'lower/etc'), { recursive: true });
  writeFileSync(path.join(root, 'lower/etc/motd'), 'hi\n');
  symlinkSync('motd', path.join(root, 'lower/etc/link'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const LAYER = Buffer.from('a layer, for all that containerd knows');
const DIFF_ID = sha256Of(Buffer.from('its tar'));
const CONFIG = Buffer.from(JSON.stringify({ rootfs: { diff_ids: [DIFF_ID] } }));
const MANIFEST = Buffer.from(
  JSON.stringify({
    config: { digest: sha256Of(CONFIG), size: CONFIG.length },
    layers: [{ digest: sha256Of(LAYER), size: LAYER.length, mediaType: 'application/vnd.oci.image.layer.v1.tar' }],
  }),
);

const image = (more: Partial<BaseImage> = {}): BaseImage => ({
  reference: 'web:1',
  manifestDigest: sha256Of(MANIFEST),
  configDigest: sha256Of(CONFIG),
  layers: [{ diffId: DIFF_ID, chainId: DIFF_ID, digest: sha256Of(LAYER), sizeBytes: LAYER.length, blob: 'kept' }],
  lowers: [{ directory: '/lower', snapshot: DIFF_ID, layer: 0 }],
  agreement: 'agrees',
  notes: [],
  ...more,
});

const documents = [
  { name: 'image-config.json', bytes: CONFIG },
  { name: 'image-manifest.json', bytes: MANIFEST },
];

function prepared(
  target: Partial<Target> = {},
  blob: NonNullable<Runtime['blob']> = async function* () {
    yield LAYER.subarray(0, 5);
    yield LAYER.subarray(5);
  },
): BundleContext {
  const lowers = [asHostPath('/lower')];
  const rootfs = { kind: 'overlay' as const, upper: asHostPath('/upper'), lowers, userXattr: false };
  const given = makeTarget({ rootfs, image: image(), documents, ...target });
  const bundle = bundleContext(path.join(root, 'out'), given, { hostRoot: root });
  return { ...bundle, context: { ...bundle.context, runtime: { blob } as Runtime } };
}

const names = (bundle: BundleContext, object: string): string[] =>
  execFileSync('tar', ['-t'], { input: bundle.content(object), encoding: 'utf8' })
    .trimEnd()
    .split('\n');
const objects = (bundle: BundleContext): string[] => bundle.objects.map(({ name }) => name);
const blob = (bytes: Uint8Array): string => `blobs/${sha256Of(bytes).replace(':', '/')}`;

describe('the base of the writable layer', () => {
  test('is the image itself, as an OCI layout, where the runtime has all of its blobs', async () => {
    const bundle = prepared();
    await imageCollector.collect(bundle.context);
    expect(objects(bundle)).toEqual(['image.tar.zst']);
    const expected = ['image.json', blob(CONFIG), blob(MANIFEST), blob(LAYER), 'index.json', 'oci-layout'];
    expect(names(bundle, 'image.tar.zst')).toEqual(expected);
    const read = (name: string) => execFileSync('tar', ['-xO', name], { input: bundle.content('image.tar.zst') });
    expect(read(blob(LAYER))).toEqual(LAYER);
    expect(JSON.parse(read('index.json').toString()).manifests).toMatchObject([{ digest: sha256Of(MANIFEST) }]);
    expect(bundle.gaps).toEqual([]);
    expect(bundle.facts.get('base')).toBe('blobs');
    expect(bundle.footprint).toMatchObject({ bytes: LAYER.length, files: 1 });
  });

  test('has a layer that is twice in the image once', async () => {
    const config = Buffer.from(JSON.stringify({ rootfs: { diff_ids: [DIFF_ID, DIFF_ID] } }));
    const [layer] = image().layers;
    const twice = image({ configDigest: sha256Of(config), layers: [layer, layer].flatMap((one) => one ?? []) });
    const kept = [{ name: 'image-config.json', bytes: config }, ...documents.slice(1)];
    const bundle = prepared({ image: twice, documents: kept });
    await imageCollector.collect(bundle.context);
    expect(names(bundle, 'image.tar.zst').filter((name) => name === blob(LAYER))).toHaveLength(1);
  });

  const merged = async (bundle: BundleContext) => {
    await imageCollector.collect(bundle.context);
    expect(objects(bundle)).toEqual(['image.tar.zst', 'image-base.tar.zst']);
    expect(names(bundle, 'image.tar.zst')).not.toContain('index.json');
    expect(names(bundle, 'image-base.tar.zst')).toEqual(['etc', 'etc/link', 'etc/motd']);
    expect(bundle.objects[1]?.mediaType).toBe('application/vnd.oci.image.layer.v1.tar+zstd');
    expect(bundle.facts.get('base')).toBe('merged');
  };

  test.each([
    [
      'a blob is gone',
      { layers: image().layers.map((layer) => ({ ...layer, blob: 'gone' as const })) },
      /blobs of 1 of/,
    ],
    ['the container does not lie on the image', { agreement: 'differs' as const }, /does not lie on/],
    ['the runtime put a layer above it', { lowers: [{ directory: '/lower', snapshot: 'init' }] }, /layer of its own/],
    ['the config is not to be had', { configDigest: sha256Of(LAYER) }, /own documents/],
  ])('is the merged lower directories where %s, and a note says why', async (_, change, why) => {
    const bundle = prepared({ image: image(change) });
    await merged(bundle);
    expect(bundle.notes.join()).toMatch(why);
    expect(bundle.gaps).toEqual([]);
  });

  test('is merged, with a gap, where a blob is not what its digest says', async () => {
    const bundle = prepared({}, async function* () {
      yield Buffer.alloc(LAYER.length);
    });
    await merged(bundle);
    expect(bundle.gaps).toMatchObject([{ what: `blob ${sha256Of(LAYER)}`, why: expect.stringMatching(/SHA-256/) }]);
  });

  test.each([
    ['shorter', LAYER.subarray(1)],
    ['longer', Buffer.concat([LAYER, LAYER])],
  ])('is merged, with a gap, where a blob is %s than the manifest says', async (_, bytes) => {
    const bundle = prepared({}, async function* () {
      yield bytes;
    });
    await merged(bundle);
    expect(bundle.gaps[0]?.why).toMatch(/bytes, and the manifest of the image says/);
  });

  test('is merged, with a gap, where containerd stops in the middle of a blob', async () => {
    const bundle = prepared({}, async function* () {
      yield LAYER.subarray(0, 5);
      throw new ExhibitError('runtime-failed', 'Content.Read failed: it is gone');
    });
    await merged(bundle);
    expect(bundle.gaps[0]?.why).toMatch(/cannot be read: .*it is gone/);
  });

  test('is merged for a runtime that does not say what the image is', async () => {
    const bundle = prepared({ image: undefined, documents: [] });
    await imageCollector.collect(bundle.context);
    expect(objects(bundle)).toEqual(['image-base.tar.zst']);
  });

  test('is nothing, with the reason, where neither can be had', async () => {
    const rootfs = { kind: 'overlay' as const, upper: asHostPath('/upper'), lowers: [], userXattr: false };
    const bundle = prepared({ rootfs, image: undefined });
    await expect(imageCollector.collect(bundle.context)).rejects.toMatchObject({ code: 'capture-failed' });
    const missing = prepared({ rootfs: { ...rootfs, lowers: [asHostPath('/nowhere')] }, image: undefined });
    await expect(imageCollector.collect(missing.context)).rejects.toThrow(/cannot be opened/);
    expect(objects(bundle)).toEqual([]);
  });

  test('ends at once when the capture is cancelled', async () => {
    const controller = new AbortController();
    const bundle = prepared({}, async function* () {
      yield LAYER.subarray(0, 5);
      controller.abort(new ExhibitError('cancelled', 'enough'));
      controller.signal.throwIfAborted();
    });
    const context = { ...bundle.context, signal: controller.signal };
    await expect(imageCollector.collect(context)).rejects.toMatchObject({ code: 'cancelled' });
    expect(objects(bundle)).toEqual([]);
  });
});
