import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Archive } from '../../agent/collect/collector.ts';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath } from '../../agent/runtime/runtime.ts';
import { type InventoryLine, inventoryLineSchema } from '../../evidence/inventory.ts';
import { bundleContext, makeTarget } from '../unit/collect/bundle-context.ts';

/** Large files that are changed between the first and the last byte that is read of them, as a running container does. */

const MIB = 1024 * 1024;
const SIZE = 8 * MIB;

let root: string;
let upper: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-changing-'));
  upper = path.join(root, 'upper');
  mkdirSync(upper);
  mkdirSync(path.join(root, 'lower'));
  writeFileSync(path.join(upper, 'a'), Buffer.alloc(SIZE, 'a'));
  writeFileSync(path.join(upper, 'z'), 'last');
});
afterEach(() => rmSync(root, { recursive: true }));

/** The archive as it is, but that `change` is called when the first MiB of the file `a` has come. */
function disturbed(archive: Archive, change: () => void): Archive {
  return new Proxy(archive, {
    get(target, name) {
      if (name !== 'add') {
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      }
      const add: Archive['add'] = (header, body) =>
        target.add(
          header,
          header.path.toString() === 'a' ? interrupted(body as AsyncIterable<Uint8Array>, change) : body,
        );
      return add;
    },
  });
}

async function* interrupted(body: AsyncIterable<Uint8Array>, change: () => void): AsyncGenerator<Uint8Array> {
  let first = true;
  for await (const chunk of body) {
    yield chunk;
    if (first) change();
    first = false;
  }
}

async function captureWhile(change: () => void) {
  const rootfs = {
    kind: 'overlay' as const,
    upper: asHostPath(upper),
    lowers: [asHostPath(path.join(root, 'lower'))],
    userXattr: false,
  };
  const bundle = bundleContext(path.join(root, 'out'), makeTarget({ rootfs }));
  const context = {
    ...bundle.context,
    archive: async (...argv: Parameters<typeof bundle.context.archive>) => {
      const archive = await bundle.context.archive(...argv);
      return argv[0] === 'rootfs.tar.zst' ? disturbed(archive, change) : archive;
    },
  };
  await rootfsCollector.collect(context);
  const lines = bundle.content('rootfs.inventory.jsonl.zst').toString().trimEnd().split('\n');
  const inventory = lines.map((line): InventoryLine => inventoryLineSchema.parse(JSON.parse(line)));
  const read = (name: string): Buffer =>
    execFileSync('tar', ['-xO', name], { input: bundle.content('rootfs.tar.zst'), maxBuffer: 1e9 });
  return { ...bundle, read, lineOf: (name: string) => inventory.find((line) => line.path === name) };
}

test('a file that shrinks keeps its size in the archive, with zeros for what is gone and a gap that says so', async () => {
  const taken = await captureWhile(() => truncateSync(path.join(upper, 'a'), 1));
  const content = taken.read('a');
  expect(content).toHaveLength(SIZE);
  const end = content.indexOf(0);
  // One chunk is read ahead, and may have been being read.
  expect(end).toBeGreaterThanOrEqual(MIB);
  expect(end).toBeLessThanOrEqual(2 * MIB);
  expect(content.subarray(end).every((byte) => byte === 0)).toBe(true);
  expect(taken.lineOf('a')).toMatchObject({ sizeBytes: SIZE, changedWhileRead: true });
  expect(taken.gaps).toMatchObject([{ what: 'a', why: expect.stringContaining('became shorter') }]);
  expect(taken.read('z').toString()).toBe('last');
});

test('a file that grows is cut at the size that it had', async () => {
  const taken = await captureWhile(() => appendFileSync(path.join(upper, 'a'), 'more'));
  expect(taken.read('a').equals(Buffer.alloc(SIZE, 'a'))).toBe(true);
  expect(taken.lineOf('a')).toMatchObject({ sizeBytes: SIZE, changedWhileRead: true });
  expect(taken.facts.get('changedWhileRead')).toBe(1);
  expect(taken.gaps).toEqual([]);
});

test('a file that is deleted while it is read is read to its end, and one that is not reached any more is a gap', async () => {
  const taken = await captureWhile(() => {
    rmSync(path.join(upper, 'a'));
    rmSync(path.join(upper, 'z'));
  });
  expect(taken.read('a').equals(Buffer.alloc(SIZE, 'a'))).toBe(true);
  expect(taken.lineOf('a')).toMatchObject({ changedWhileRead: true });
  expect(taken.lineOf('z')).toBeUndefined();
  expect(taken.gaps).toMatchObject([{ what: 'z', errno: 'ENOENT' }]);
});

test('a file that nobody touches is not marked', async () => {
  const taken = await captureWhile(() => undefined);
  expect(taken.lineOf('a')?.changedWhileRead).toBeUndefined();
  expect(taken.gaps).toEqual([]);
});
