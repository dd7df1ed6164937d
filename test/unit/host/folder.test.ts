import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder } from '../../../agent/host/folder.ts';

let base: string;
beforeEach(async () => {
  base = await mkdtemp(path.join(os.tmpdir(), 'exhibit-folder-'));
});
afterEach(() => rm(base, { recursive: true, force: true }));

test('makes what is missing, for its owner only, and accepts what is there', async () => {
  const folder = path.join(base, 'a/b/c');
  await makeFolder(folder);
  await makeFolder(folder);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
});

test('fails where the kernel does not let a folder be made, instead of trying for ever', async () => {
  await expect(makeFolder('/proc/nowhere/x')).rejects.toMatchObject({ code: 'ENOENT' });
});

test('fails for a file that is in the way', async () => {
  await writeFile(path.join(base, 'file'), '');
  await expect(makeFolder(path.join(base, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
});
