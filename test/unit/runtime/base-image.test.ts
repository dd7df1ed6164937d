import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { containerdImage, type ImageQuestion, joined } from '../../../agent/runtime/base-image.ts';
import type { ContainerdClient } from '../../../agent/runtime/containerd-client.ts';
import { asHostPath } from '../../../agent/runtime/runtime.ts';
import { chainIds } from '../../../evidence/base-image.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const digestOf = (bytes: string | Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const DIFF_IDS = ['one', 'two'].map(digestOf);
const CHAIN = chainIds(DIFF_IDS);

function image(diffIds = DIFF_IDS) {
  const config = Buffer.from(JSON.stringify({ rootfs: { diff_ids: diffIds } }));
  const layers = diffIds.map((diffId) => ({ mediaType: 'tar', digest: digestOf(`blob of ${diffId}`), size: 7 }));
  const manifest = Buffer.from(JSON.stringify({ config: { digest: digestOf(config), size: 1 }, layers }));
  return { config, manifest, configDigest: digestOf(config), manifestDigest: digestOf(manifest), layers };
}

/** containerd as far as it is asked: its images, blobs and snapshots are what the test says. */
interface Store {
  names: Map<string, string>;
  blobs: Map<string, Uint8Array>;
  kept: Map<string, number>;
  parents: Map<string, string>;
}

const clientOf = ({ names, blobs, kept, parents }: Store): ContainerdClient =>
  ({
    imageTarget: async (name: string) => names.get(name),
    blob: async (digest: string) => blobs.get(digest),
    blobBytes: async (digest: string) => kept.get(digest),
    snapshot: async (_: string, key: string) => ({ parent: parents.get(key) ?? '' }),
    usage: async () => ({ sizeBytes: 5, inodes: 2 }),
  }) as unknown as ContainerdClient;

function store(one = image()): Store {
  return {
    names: new Map([['web:1', one.manifestDigest]]),
    blobs: new Map([
      [one.manifestDigest, one.manifest],
      [one.configDigest, one.config],
    ]),
    kept: new Map([[one.layers[0]?.digest ?? '', 7]]),
    parents: new Map([
      ['box', CHAIN[1] ?? ''],
      [CHAIN[1] ?? '', CHAIN[0] ?? ''],
    ]),
  };
}

const question: ImageQuestion = {
  reference: 'web:1',
  candidates: ['web:1'],
  snapshotter: 'overlayfs',
  snapshotKey: 'box',
  rootfs: { kind: 'overlay', upper: asHostPath('/u'), lowers: ['/2', '/1'].map(asHostPath), userXattr: false },
};

const ask = (from: Store, more: Partial<ImageQuestion> = {}) =>
  containerdImage(
    { client: clientOf(from), host: { procRoot: '/proc', hostRoot: '' }, signal: new AbortController().signal },
    { ...question, ...more },
  );

describe('what containerd knows of the layers below a container', () => {
  test('is the image, its layers with their blobs, and the directory of each', async () => {
    const { image: found, documents } = await ask(store());
    expect(found).toMatchObject({ agreement: 'agrees', manifestDigest: image().manifestDigest, notes: [] });
    expect(found.layers.map(({ blob, chainId }) => [blob, chainId])).toEqual([
      ['kept', CHAIN[0]],
      ['gone', CHAIN[1]],
    ]);
    expect(found.lowers).toEqual([
      { directory: '/2', snapshot: CHAIN[1], layer: 1, sizeBytes: 5, inodes: 2 },
      { directory: '/1', snapshot: CHAIN[0], layer: 0, sizeBytes: 5, inodes: 2 },
    ]);
    expect(documents.map(({ name }) => name)).toEqual(['image-manifest.json']);
  });

  test('goes through an index to the manifest of this machine', async () => {
    const from = store();
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
    const manifests = [
      { digest: digestOf('other'), platform: { os: 'linux', architecture: 's390x' } },
      { digest: image().manifestDigest, platform: { os: 'linux', architecture } },
    ];
    const index = Buffer.from(JSON.stringify({ manifests }));
    from.blobs.set(digestOf(index), index);
    from.names.set('web:1', digestOf(index));
    const { image: found } = await ask(from);
    expect(found).toMatchObject({ indexDigest: digestOf(index), manifestDigest: image().manifestDigest });
  });

  test('is of the image that the container was made of, where the tag has moved since', async () => {
    const from = store();
    const other = image([digestOf('other')]);
    from.names.set('web:1', other.manifestDigest).set(image().configDigest, image().manifestDigest);
    from.blobs.set(other.manifestDigest, other.manifest).set(other.configDigest, other.config);
    const { configDigest } = image();
    const { image: found } = await ask(from, { candidates: ['web:1', configDigest], configDigest });
    expect(found).toMatchObject({ configDigest, agreement: 'agrees' });
  });

  test('says that container and image differ, where the tag has moved and nothing else tells', async () => {
    const other = image([digestOf('other')]);
    expect((await ask({ ...store(other), parents: store().parents })).image.agreement).toBe('differs');
  });

  test('is unknown, with the reason, where containerd keeps neither manifest nor config', async () => {
    const { image: found } = await ask({ ...store(), blobs: new Map() });
    expect(found).toMatchObject({ layers: [], agreement: 'unknown' });
    expect(found.lowers.map(({ snapshot }) => snapshot)).toEqual([CHAIN[1], CHAIN[0]]);
    expect(found.notes.join()).toMatch(/manifest.*diff ids are not known/);
  });

  test('believes no blob that is not what its digest says', async () => {
    const from = store();
    from.blobs.set(image().configDigest, Buffer.from('{"rootfs":{"diff_ids":[]}} '));
    expect((await ask(from)).image).toMatchObject({ layers: [], agreement: 'unknown' });
  });

  test('tells a blob of another size from one that is kept', async () => {
    const from = store();
    for (const digest of from.kept.keys()) from.kept.set(digest, 8);
    expect((await ask(from)).image.layers.map(({ blob }) => blob)).toEqual(['differs', 'gone']);
  });

  test('ends with snapshots that are their own parents', async () => {
    const { image: found } = await ask({ ...store(), parents: new Map([['box', 'box']]) });
    expect(found.lowers).toEqual([{ directory: '/2' }, { directory: '/1' }]);
  });

  test('is a note where containerd refuses, and an error where nobody answers', async () => {
    const refusing = (code: 'runtime-failed' | 'runtime-unreachable') => {
      const client = { ...clientOf(store()), snapshot: () => Promise.reject(new ExhibitError(code, 'no')) };
      const inspector = { client, host: { procRoot: '/proc', hostRoot: '' }, signal: new AbortController().signal };
      return containerdImage(inspector, question);
    };
    expect((await refusing('runtime-failed')).image.notes.join()).toContain('snapshots');
    await expect(refusing('runtime-unreachable')).rejects.toMatchObject({ code: 'runtime-unreachable' });
  });
});

describe('layers and directories', () => {
  const layers = DIFF_IDS.map((diffId, index) => ({ diffId, chainId: CHAIN[index] ?? '' }));
  const lowers = [...CHAIN].reverse().map((snapshot) => ({ directory: snapshot, snapshot }));

  test('agree also below what the runtime put above the image', () => {
    const found = joined(layers, [{ directory: '/init', snapshot: 'box-init' }, ...lowers]);
    expect(found).toMatchObject({ agreement: 'agrees', lowers: [{ directory: '/init' }, { layer: 1 }, { layer: 0 }] });
  });

  test('differ when one is missing, is another, or lies elsewhere', () => {
    expect(joined(layers, lowers.slice(1)).agreement).toBe('differs');
    expect(joined(layers, [{ directory: '/x', snapshot: 'x' }]).agreement).toBe('differs');
    expect(joined(layers, lowers.toReversed()).agreement).toBe('differs');
    expect(joined(layers, [...lowers, { directory: '/below', snapshot: 'below' }]).agreement).toBe('differs');
  });

  test('are not compared when one side is not known', () => {
    expect(joined([], lowers).agreement).toBe('unknown');
    expect(joined(layers, []).agreement).toBe('unknown');
    expect(joined(layers, [{ directory: '/2' }, { directory: '/1' }]).agreement).toBe('unknown');
  });
});
