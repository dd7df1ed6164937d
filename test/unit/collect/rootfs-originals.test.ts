import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openBelow } from '../../../agent/collect/rootfs-hidden.ts';
import { searchImage } from '../../../agent/collect/rootfs-image-search.ts';
import { Originals } from '../../../agent/collect/rootfs-originals.ts';
import { DirectoryPool } from '../../../agent/host/directory.ts';
import { LowerLayers } from '../../../agent/host/lower.ts';
import { type BundleContext, bundleContext, makeTarget } from './bundle-context.ts';

/** What is taken of the lower layers beyond the entries that the container changed. */

let root = '';
let layer = '';
let pool: DirectoryPool;
let bundle: BundleContext;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-originals-'));
  layer = path.join(root, 'layer');
  mkdirSync(layer);
  pool = new DirectoryPool();
  bundle = bundleContext(path.join(root, 'out'), makeTarget({}));
});
afterEach(() => {
  pool[Symbol.dispose]();
  rmSync(root, { recursive: true });
});

const put = (name: string, content: string | Buffer): void => {
  mkdirSync(path.dirname(path.join(layer, name)), { recursive: true });
  writeFileSync(path.join(layer, name), content);
};
const layers = (): LowerLayers => new LowerLayers(pool, [layer], 'trusted');
const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex');
const wanted = (content: string) => ({ sizeBytes: BigInt(content.length), sha256: sha256(content) });

describe('a search of the image', () => {
  const bounds = { entries: 100, digestBytes: 1000n };

  test('finds a content under any name and reads only files of its size', async () => {
    put('deep/er/tool', 'tool');
    put('other', 'something else');
    const result = await searchImage(layers(), [wanted('tool'), wanted('lost')], bundle.context, bounds);
    expect([...result.found.keys()]).toEqual([sha256('tool')]);
    expect(result.incomplete).toBeUndefined();
    expect(bundle.footprint).toEqual({ bytes: 4, files: 1 });
  });

  test('says that it did not look at everything, unless everything was found', async () => {
    for (let index = 0; index < 5; index += 1) put(`f${index}`, `${index}`);
    const few = { ...bounds, entries: 2 };
    expect((await searchImage(layers(), [wanted('4')], bundle.context, few)).incomplete).toContain('entries');
    expect((await searchImage(layers(), [wanted('0')], bundle.context, few)).incomplete).toBeUndefined();
    const little = { ...bounds, digestBytes: 2n };
    expect((await searchImage(layers(), [wanted('4')], bundle.context, little)).incomplete).toContain('bytes');
  });
});

describe('originals', () => {
  const keep = async (originals: Originals, name: string) => {
    const below = layers();
    using lookup = below.lookup(below.roots, { kind: 'here', name: Buffer.from(name) });
    if (lookup.object === undefined || lookup.data === undefined) throw new Error(`no ${name}`);
    return await originals.keep(Buffer.from(name), lookup.object, lookup.data);
  };

  test('beyond the budget are one gap with their number and size, and smaller ones still fit', async () => {
    put('large', 'x'.repeat(100));
    put('small', 'y');
    await using originals = new Originals(bundle.context, 'trusted', undefined, 50);
    expect(await keep(originals, 'large')).toBeUndefined();
    expect(await keep(originals, 'small')).toMatchObject({ path: 'small', sha256: sha256('y') });
    await originals.commit();
    expect(bundle.gaps).toMatchObject([{ why: expect.stringContaining('1 files of the image, 100 bytes') }]);
    const listed = execFileSync('tar', ['-t'], { input: bundle.content('rootfs-originals.tar.zst') });
    expect(listed.toString()).toBe('small\n');
  });

  test('of many mebibytes are read in parts, and one is kept once however often it is asked for', async () => {
    const content = Buffer.alloc(3 * 1024 * 1024 + 5, 'abcdefg');
    put('large', content);
    await using originals = new Originals(bundle.context, 'trusted', undefined);
    const first = await keep(originals, 'large');
    expect(await keep(originals, 'large')).toBe(first);
    await originals.commit();
    const taken = execFileSync('tar', ['-xO', 'large'], {
      input: bundle.content('rootfs-originals.tar.zst'),
      maxBuffer: 1e8,
    });
    expect(sha256(taken)).toBe(sha256(content));
    expect(originals.files).toBe(1);
  });

  test('that nobody asks for leave no object', async () => {
    await using originals = new Originals(bundle.context, 'trusted', undefined);
    await originals.commit();
    expect(existsSync(bundle.at('rootfs-originals.tar.zst'))).toBe(false);
  });
});

test('a path below a directory is looked at name by name, through no link', () => {
  put('a/b/c', 'c');
  execFileSync('ln', ['-s', 'a', path.join(layer, 'link')]);
  const directory = pool.root(layer);
  const kindAt = (where: string) => {
    using node = openBelow(directory, Buffer.from(where));
    return node?.kind;
  };
  expect(['a', 'a/b/c', 'link', 'link/b/c', 'a/b/c/d', 'a/x/c', 'x'.repeat(300)].map(kindAt)).toEqual([
    'directory',
    'file',
    'symlink',
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
