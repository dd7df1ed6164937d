import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  captureOverlay,
  changedOverlay,
  inventoryOf,
  mergedView,
  overlayObstacle,
  treeProgram,
  viewOf,
} from './overlay-trees.ts';

/**
 * The layer against the kernel's own merged view: trees are changed at random through a real overlay mount (in a mount
 * namespace that ends with its script), then Python and GNU tar apply what exhibit took from the upper directory.
 */

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-rootfs-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const OPTIONS = ['redirect_dir=off,metacopy=off,index=off', 'redirect_dir=on,metacopy=on', 'userxattr'];
const CASES = OPTIONS.flatMap((options) => [
  { options, name: 'changed at random', mutation: { kind: 'random', seed: 10 } as const },
  { options, name: 'made to go wrong', mutation: { kind: 'hostile' } as const },
]);

test.for(CASES)('the layer over its image equals the container’s root ($name, $options)', async (one, { skip }) => {
  if (overlayObstacle !== undefined) skip(overlayObstacle);
  const at = mkdtempSync(path.join(folder, 'tree-'));
  changedOverlay(at, one.mutation, one.options);
  const bundle = await captureOverlay(at, one.options === 'userxattr');
  expect(bundle.gaps).toEqual([]);
  treeProgram('apply', path.join(at, 'layer.tar'), path.join(at, 'base'));
  expect(viewOf(path.join(at, 'base'))).toEqual(mergedView(at));
  expect(inventoryOf(bundle).length).toBeGreaterThan(5);
});

test('so it does for any tree', async ({ skip }) => {
  if (overlayObstacle !== undefined) skip(overlayObstacle);
  const tree = fc.record({ seed: fc.nat(2 ** 31), options: fc.constantFrom(...OPTIONS) });
  await fc.assert(
    fc.asyncProperty(tree, async ({ seed, options }) => {
      const at = mkdtempSync(path.join(folder, 'any-'));
      changedOverlay(at, { kind: 'random', seed }, options);
      const { gaps } = await captureOverlay(at, options === 'userxattr');
      treeProgram('apply', path.join(at, 'layer.tar'), path.join(at, 'base'));
      expect(gaps).toEqual([]);
      expect(viewOf(path.join(at, 'base'))).toEqual(mergedView(at));
      rmSync(at, { recursive: true });
    }),
    // A second and a half each; a smaller tree is not a simpler one.
    { numRuns: 8, endOnFailure: true },
  );
});

test('every member has the access, modification and change time that its inode had, to the nanosecond', async ({
  skip,
}) => {
  if (overlayObstacle !== undefined) skip(overlayObstacle);
  const at = path.join(folder, 'times');
  changedOverlay(at, { kind: 'hostile' }, 'redirect_dir=off,metacopy=off,index=off');
  const timesOf = (...argv: string[]) => JSON.parse(treeProgram(...argv)) as Record<string, string>;
  const before = timesOf('times', path.join(at, 'upper'));
  const inventory = inventoryOf(await captureOverlay(at));
  const after = timesOf('times', path.join(at, 'upper'));
  const read = timesOf('headers', path.join(at, 'layer.tar'));
  const names = Object.keys(before).filter((name) => name in read);
  expect(names.length).toBeGreaterThan(60);
  expect(names.filter((name) => read[name] !== before[name])).toEqual([]);
  // There is no O_NOATIME for links.
  const links = new Set(inventory.filter(({ type }) => type === 'symlink').map((line) => line.path));
  expect(Object.keys(before).filter((name) => after[name] !== before[name] && !links.has(name))).toEqual([]);
});

test('inventory and archive agree member by member with what python’s tarfile and bsdtar read', async ({ skip }) => {
  if (overlayObstacle !== undefined) skip(overlayObstacle);
  const at = path.join(folder, 'listing');
  changedOverlay(at, { kind: 'random', seed: 77 }, 'redirect_dir=on,metacopy=on');
  const bundle = await captureOverlay(at);
  const layer = path.join(at, 'layer.tar');
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
  if (overlayObstacle !== undefined) skip(overlayObstacle);
  if (!existsSync('/usr/bin/mactime')) skip('needs mactime (Debian’s sleuthkit)');
  const at = path.join(folder, 'body');
  changedOverlay(at, { kind: 'hostile' }, 'redirect_dir=off');
  const bundle = await captureOverlay(at);
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
  const missing = decoded.filter((name) => !shown.includes(`"${name.replaceAll('"', '""')}"`));
  expect(missing).toEqual([]);
});
