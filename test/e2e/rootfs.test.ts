import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath } from '../../agent/runtime/runtime.ts';
import { inventoryLineSchema } from '../../evidence/inventory.ts';
import { type BundleContext, bundleContext, makeTarget } from '../unit/collect/bundle-context.ts';

/**
 * The layer against the kernel's own merged view: trees are changed at random through a real overlay mount (in a mount
 * namespace that ends with its script), then Python and GNU tar apply what exhibit took from the upper directory.
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
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-rootfs-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const python = (...argv: string[]): string =>
  execFileSync('python3', [TREE, ...argv], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });

/** Makes lower layers and an upper one, changed through the mount; base is the lower layers merged. */
function changedOverlay(at: string, seed: number, options: string): void {
  const script = `
    set -e
    mkdir -p upper work merged lowers base
    python3 ${TREE} lower top ${seed}; python3 ${TREE} lower bottom ${seed + 1}
    mount -t overlay overlay -o lowerdir=top:bottom lowers
    cp -a --preserve=all lowers/. base
    mount -t overlay overlay -o lowerdir=top:bottom,upperdir=upper,workdir=work,${options} merged
    python3 ${TREE} mutate merged ${seed + 2} 150
    python3 ${TREE} snapshot merged > merged.json
  `;
  execFileSync('mkdir', ['-p', at]);
  execFileSync('unshare', ['--mount', 'sh', '-c', script], { cwd: at, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function capture(at: string, userXattr: boolean): Promise<BundleContext> {
  const lowers = ['top', 'bottom'].map((name) => asHostPath(path.join(at, name)));
  const rootfs = { kind: 'overlay' as const, upper: asHostPath(path.join(at, 'upper')), lowers, userXattr };
  const bundle = bundleContext(path.join(at, 'out'), makeTarget({ rootfs }));
  await rootfsCollector.collect(bundle.context);
  return bundle;
}

const inventoryOf = (bundle: BundleContext) =>
  bundle
    .content('rootfs.inventory.jsonl.zst')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => inventoryLineSchema.parse(JSON.parse(line)));

const OPTIONS = ['redirect_dir=off,metacopy=off,index=off', 'redirect_dir=on,metacopy=on', 'userxattr'];
const CASES = OPTIONS.flatMap((options) => [1, 2].map((seed) => ({ options, seed: seed * 10 })));

test.for(CASES)(
  'the layer over its image equals the container’s root ($options, seed $seed)',
  async (one, { skip }) => {
    if (obstacle !== undefined) skip(obstacle);
    const at = path.join(folder, `${one.options.replaceAll(/\W/g, '-')}-${one.seed}`);
    changedOverlay(at, one.seed, one.options);
    const bundle = await capture(at, one.options === 'userxattr');
    expect(bundle.gaps).toEqual([]);
    writeFileSync(path.join(at, 'layer.tar'), bundle.content('rootfs.tar.zst'));
    python('apply', path.join(at, 'layer.tar'), path.join(at, 'base'));
    const applied: unknown = JSON.parse(python('snapshot', path.join(at, 'base')));
    expect(applied).toEqual(JSON.parse(readFileSync(path.join(at, 'merged.json'), 'utf8')));
    expect(inventoryOf(bundle).length).toBeGreaterThan(5);
  },
);

test('inventory and archive agree member by member with what python’s tarfile and bsdtar read', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  const at = path.join(folder, 'listing');
  changedOverlay(at, 77, 'redirect_dir=on,metacopy=on');
  const bundle = await capture(at, false);
  const layer = path.join(at, 'layer.tar');
  writeFileSync(layer, bundle.content('rootfs.tar.zst'));
  const listed = inventoryOf(bundle).filter(({ inArchive }) => inArchive !== false);
  const script = `import tarfile,json,sys,base64,os
print(json.dumps([[base64.b64encode(os.fsencode(m.name)).decode(), m.size if m.isfile() else 0] for m in tarfile.open(sys.argv[1], errors='surrogateescape')]))`;
  const read: unknown = JSON.parse(
    execFileSync('python3', ['-c', script, layer], { encoding: 'utf8', maxBuffer: 1e8 }),
  );
  const bytes = (line: { path: string; pathBase64?: string | undefined }) =>
    line.pathBase64 ?? Buffer.from(line.path).toString('base64');
  expect(read).toEqual(listed.map((line) => [bytes(line), line.sizeBytes]));
  if (existsSync('/usr/bin/bsdtar')) {
    const names = execFileSync('bsdtar', ['-tf', layer], { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
    expect(names.length).toBeGreaterThan(0);
  }
});

test('mactime reads the body file and shows every name that was not UTF-8, or held a newline, on one line', async ({
  skip,
}) => {
  if (obstacle !== undefined) skip(obstacle);
  if (!existsSync('/usr/bin/mactime')) skip('needs mactime (Debian’s sleuthkit)');
  const at = path.join(folder, 'body');
  changedOverlay(at, 55, 'redirect_dir=off');
  const bundle = await capture(at, false);
  const body = bundle.content('rootfs.body.zst');
  const shown = execFileSync('mactime', ['-b', '-', '-d', '-y'], { input: body, encoding: 'utf8', maxBuffer: 1e8 });
  const names = new Set(
    body
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => line.split('|')[1] ?? ''),
  );
  const decoded = [...names].map((name) =>
    name.replaceAll(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
  );
  const missing = decoded.filter((name) => !shown.includes(`"${name}"`));
  expect(missing).toEqual([]);
});
