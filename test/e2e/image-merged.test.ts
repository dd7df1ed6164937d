import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { imageCollector } from '../../agent/collect/image.ts';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath, type Target } from '../../agent/runtime/runtime.ts';
import { type BundleContext, bundleContext, makeTarget } from '../unit/collect/bundle-context.ts';

/**
 * The merged lower layer against the kernel's own view: layers that are themselves changes of an overlay, with whiteouts,
 * opaque and renamed folders and metadata-only copies, mounted by overlayfs and taken by exhibit.
 */

const TREE = path.join(import.meta.dirname, 'rootfs-tree.py');
const obstacle =
  process.platform !== 'linux' || process.getuid?.() !== 0
    ? 'needs Linux and root: overlayfs is mounted'
    : !existsSync('/usr/bin/unshare') || !existsSync('/usr/bin/python3')
      ? 'needs unshare and python3'
      : undefined;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-merged-'));
});
afterAll(() => {
  // rm(1) gets along with paths beyond PATH_MAX.
  execFileSync('rm', ['-rf', folder]);
});

const python = (...argv: string[]): string =>
  execFileSync('python3', [TREE, ...argv], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });

/** `middle` is changed over `bottom`, then `upper` over both; lowers.json and merged.json are the kernel's views. */
function stacked(at: string, seed: number, options: string): void {
  const script = `
    set -e
    mkdir -p bottom middle upper work work2 lowers merged
    python3 ${TREE} lower bottom ${seed}
    mount -t overlay overlay -o lowerdir=bottom,upperdir=middle,workdir=work,${options} merged
    python3 ${TREE} mutate merged ${seed + 1} 150
    umount merged
    mount -t overlay overlay -o lowerdir=middle:bottom,${options} lowers
    python3 ${TREE} snapshot lowers > lowers.json
    mount -t overlay overlay -o lowerdir=middle:bottom,upperdir=upper,workdir=work2,${options} merged
    python3 ${TREE} mutate merged ${seed + 2} 80
    python3 ${TREE} snapshot merged > merged.json
  `;
  mkdirSync(at, { recursive: true });
  execFileSync('unshare', ['--mount', 'sh', '-c', script], { cwd: at, stdio: ['ignore', 'pipe', 'pipe'] });
}

function targetOf(at: string, userXattr: boolean): Target {
  const lowers = ['middle', 'bottom'].map((name) => asHostPath(path.join(at, name)));
  const rootfs = { kind: 'overlay' as const, upper: asHostPath(path.join(at, 'upper')), lowers, userXattr };
  return makeTarget({ rootfs });
}

/** What Python and GNU tar make of the layers, one over the other, in an empty folder. */
function applied(at: string, bundle: BundleContext, ...objects: string[]): unknown {
  const base = path.join(at, 'base');
  mkdirSync(base, { recursive: true });
  for (const object of objects) {
    writeFileSync(path.join(at, 'layer.tar'), bundle.content(object));
    python('apply', path.join(at, 'layer.tar'), base);
  }
  return JSON.parse(python('snapshot', base));
}

const read = (at: string, name: string): unknown => JSON.parse(readFileSync(path.join(at, name), 'utf8'));

const OPTIONS = ['redirect_dir=off,metacopy=off,index=off', 'redirect_dir=on,metacopy=on', 'userxattr'];
const CASES = OPTIONS.flatMap((options) => [1, 2].map((seed) => ({ options, seed: seed * 100 })));

test.for(CASES)(
  'the merged lower layers are the kernel’s, and with the writable layer the container’s root ($options, seed $seed)',
  async ({ options, seed }, { skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const at = path.join(folder, `${options.replaceAll(/\W/g, '-')}-${seed}`);
    stacked(at, seed, options);
    const bundle = bundleContext(path.join(at, 'out'), targetOf(at, options === 'userxattr'));
    await imageCollector.collect(bundle.context);
    expect(bundle.gaps).toEqual([]);
    expect(applied(at, bundle, 'image-base.tar.zst')).toEqual(read(at, 'lowers.json'));
    await rootfsCollector.collect(bundle.context);
    expect(applied(at, bundle, 'rootfs.tar.zst')).toEqual(read(at, 'merged.json'));
  },
);

test('a lower folder deeper than is walked is a gap, and the rest is taken', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  const at = path.join(folder, 'deep');
  const script = `import os,sys
os.makedirs(sys.argv[1] + '/bottom/after'); os.makedirs(sys.argv[1] + '/middle'); os.makedirs(sys.argv[1] + '/upper')
open(sys.argv[1] + '/bottom/after/file', 'w').write('x')
os.chdir(sys.argv[1] + '/bottom')
for _ in range(200):
    os.mkdir('d' * 200); os.chdir('d' * 200)
open('below', 'w').write('y')`;
  execFileSync('python3', ['-c', script, at]);
  const bundle = bundleContext(path.join(at, 'out'), targetOf(at, false));
  await imageCollector.collect(bundle.context);
  expect(bundle.gaps).toMatchObject([{ errno: 'ENAMETOOLONG', why: expect.stringContaining('not complete') }]);
  const lines = { input: bundle.content('image-base.tar.zst'), encoding: 'utf8', maxBuffer: 1e8 } as const;
  const names = execFileSync('tar', ['-t'], lines);
  expect(names).toContain('after/file');
  expect(names).not.toContain('below');
});
