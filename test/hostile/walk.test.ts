import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DirectoryPool } from '../../agent/host/directory.ts';
import { walk } from '../../agent/host/walk.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-walk-'));
});
afterEach(() => {
  // A tree deeper than PATH_MAX is beyond Node's own rm.
  execFileSync('rm', ['-rf', root]);
}, 60_000);

async function paths(limit?: number): Promise<string[]> {
  using pool = new DirectoryPool(limit);
  const seen: string[] = [];
  for await (const event of walk(pool.root(root), { signal: new AbortController().signal })) {
    if (event.kind === 'found') seen.push(event.path.toString('latin1'));
    if (event.kind === 'missed') seen.push(`missed ${event.errno}`);
  }
  return seen;
}

test('a tree three times deeper than PATH_MAX is walked to its end with a handful of descriptors', async () => {
  const script = `import os
os.chdir('${root}')
for i in range(3000):
    os.mkdir('d%03d' % (i % 1000)); os.chdir('d%03d' % (i % 1000))
open('end', 'w')`;
  execFileSync('python3', ['-c', script]);
  const seen = await paths(16);
  expect(seen).toHaveLength(3001);
  expect(seen.at(-1)?.endsWith('/end')).toBe(true);
  expect(seen.at(-1)?.length).toBeGreaterThan(3 * 4096);
});

test('a directory of 100,000 entries is walked without holding more than their names', async () => {
  // In memory: making and removing so many takes a disk a minute.
  if (existsSync('/dev/shm')) {
    rmdirSync(root);
    root = mkdtempSync('/dev/shm/exhibit-walk-');
  }
  execFileSync('python3', ['-c', `import os\nfor i in range(100000): os.mknod('${root}/name-%06d' % i)`]);
  global.gc?.();
  const before = process.memoryUsage().rss;
  using pool = new DirectoryPool();
  let count = 0;
  let most = 0;
  for await (const event of walk(pool.root(root), { signal: new AbortController().signal })) {
    if (event.kind !== 'found') continue;
    count += 1;
    if (count % 10_000 === 0) most = Math.max(most, process.memoryUsage().rss);
  }
  expect(count).toBe(100_000);
  expect((most - before) / 1024 / 1024).toBeLessThan(150);
}, 60_000);

test('a directory that is swapped for a link while it is walked never leads the walk outside', async () => {
  const outside = path.join(root, 'outside');
  mkdirSync(outside);
  writeFileSync(path.join(outside, 'SECRET'), '');
  const inside = path.join(root, 'inside');
  for (let index = 0; index < 50; index += 1) {
    mkdirSync(path.join(inside, `d${index}/e`), { recursive: true });
    writeFileSync(path.join(inside, `d${index}/e/f`), '');
  }
  const racer = spawn('python3', [
    '-c',
    `import os
os.chdir('${inside}')
print('up', flush=True)
while True:
    for i in range(50):
        a, b = 'd%d' % i, 'x%d' % i
        os.rename(a, b); os.symlink('../outside', a); os.unlink(a); os.rename(b, a)
        os.rename(a + '/e', a + '/g'); os.symlink('../../outside', a + '/e'); os.unlink(a + '/e'); os.rename(a + '/g', a + '/e')`,
  ]);
  try {
    await new Promise((resolve) => racer.stdout.once('data', resolve));
    for (let round = 0; round < 30; round += 1) {
      using pool = new DirectoryPool(4);
      for await (const event of walk(pool.root(inside), { signal: new AbortController().signal })) {
        if (event.kind === 'found') expect(event.path.toString()).not.toContain('SECRET');
      }
    }
  } finally {
    racer.kill('SIGKILL');
    await new Promise((resolve) => racer.once('close', resolve));
  }
}, 60_000);

test('names of any bytes come back as they are', async () => {
  const script = `import os
for i in range(1, 256):
    if i not in (46, 47): open(os.fsencode('${root}/') + bytes([i]), 'w')`;
  execFileSync('python3', ['-c', script]);
  const expected = Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 46 && byte !== 47);
  expect(await paths()).toEqual(expected.map((byte) => String.fromCharCode(byte)));
});

test('a file system that is mounted inside is not entered', async ({ skip }) => {
  if (process.getuid?.() !== 0) skip('needs root: a tmpfs is mounted');
  mkdirSync(path.join(root, 'mnt'));
  const script = path.join(root, 'walk.ts');
  writeFileSync(
    script,
    `import { DirectoryPool } from '${process.cwd()}/agent/host/directory.ts';
import { walk } from '${process.cwd()}/agent/host/walk.ts';
using pool = new DirectoryPool();
for await (const event of walk(pool.root('${root}'), { signal: new AbortController().signal })) {
  console.log(event.kind, event.path.toString(), event.kind === 'missed' ? event.why : '');
}`,
  );
  const run = `mount -t tmpfs none ${root}/mnt && touch ${root}/mnt/hidden && exec ${process.execPath} ${script}`;
  const shown = execFileSync('unshare', ['--mount', 'sh', '-c', run], { encoding: 'utf8' });
  expect(shown).toContain('missed mnt another file system');
  expect(shown).not.toContain('hidden');
});
