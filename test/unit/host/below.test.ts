import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findProgram, resolveBelow } from '../../../agent/host/below.ts';
import { optionsIn, readCriuSurroundings } from '../../../agent/host/criu.ts';
import { isErrno } from '../../../evidence/error.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'exhibit-below-'));
  for (const folder of [
    'usr/sbin',
    'usr/bin',
    'etc/alternatives',
    'etc/criu',
    'usr/lib/criu',
    'dev',
    'opt/criu/folder',
  ])
    await mkdir(path.join(root, folder), { recursive: true });
  const links: [target: string, link: string][] = [
    ['usr/sbin', 'sbin'],
    ['/etc/alternatives/criu', 'usr/bin/criu'],
    ['/usr/sbin/criu-ns', 'etc/alternatives/criu'],
    ['../../../../../../usr/sbin/criu-ns', 'usr/bin/up'],
    ['loop-b', 'loop-a'],
    ['/loop-a', 'loop-b'],
    ['/usr/sbin/gone', 'usr/bin/dangling'],
  ];
  for (const [target, link] of links) await symlink(target, path.join(root, link));
  await writeFile(path.join(root, 'usr/sbin/criu-ns'), '#!/bin/sh\n');
  await chmod(path.join(root, 'usr/sbin/criu-ns'), 0o755);
  await writeFile(path.join(root, 'usr/sbin/plain'), '');
});
afterAll(() => rm(root, { recursive: true, force: true }));

describe('a path of the node', () => {
  test.each([
    ['/sbin/criu-ns', '/usr/sbin/criu-ns'],
    ['/usr/bin/criu', '/usr/sbin/criu-ns'],
    ['/usr/bin/up', '/usr/sbin/criu-ns'],
    ['/usr/../../usr/./sbin/plain', '/usr/sbin/plain'],
    ['/', '/'],
  ])('%s is %s, with links taken from the node’s own root', async (file, expected) => {
    expect(await resolveBelow(root, file)).toBe(path.join(root, expected));
  });

  test.each([
    ['/loop-a', 'ELOOP'],
    ['/usr/bin/dangling', 'ENOENT'],
    ['/usr/sbin/plain/below', 'ENOTDIR'],
  ])('%s ends with %s', async (file, errno) => {
    await expect(resolveBelow(root, file)).rejects.toSatisfy((error) => isErrno(error, errno));
  });
});

describe('a program of the node', () => {
  test('is the first executable file in its PATH', async () => {
    expect(await findProgram(root, ['/nowhere', '/usr/bin', '/usr/sbin'], 'criu')).toEqual({
      name: '/usr/bin/criu',
      file: path.join(root, 'usr/sbin/criu-ns'),
    });
  });

  test.each([
    ['a file without a right to run', ['/usr/sbin'], 'plain'],
    ['a folder', ['/opt'], 'criu'],
    ['a link that leads nowhere', ['/usr/bin'], 'dangling'],
    ['an empty PATH', [], 'criu'],
  ])('is not %s', async (_what, folders, name) => {
    expect(await findProgram(root, folders, name)).toBeUndefined();
  });

  test('may be named by its whole path', async () => {
    expect((await findProgram(root, [], '/sbin/criu-ns'))?.name).toBe('/sbin/criu-ns');
  });
});

describe('what changes how CRIU works', () => {
  test('is nothing on a node without it', async () => {
    expect(await readCriuSurroundings('/nowhere')).toEqual({ configurations: [], plugins: [], graphics: [] });
  });

  test('are options, plugins and graphics processors', async () => {
    await writeFile(path.join(root, 'etc/criu/runc.conf'), '# ours\ntcp-established # always\n\n  log-file /tmp/x\n');
    await writeFile(path.join(root, 'usr/lib/criu/cuda_plugin.so'), '');
    await writeFile(path.join(root, 'usr/lib/criu/readme'), '');
    await writeFile(path.join(root, 'dev/nvidia0'), '');
    await writeFile(path.join(root, 'dev/nvidiactl'), '');
    expect(await readCriuSurroundings(root)).toEqual({
      configurations: [{ file: '/etc/criu/runc.conf', options: ['tcp-established', 'log-file /tmp/x'] }],
      plugins: ['cuda_plugin.so'],
      graphics: ['/dev/nvidia0'],
    });
  });

  test('are at most 32 options of a file', () => {
    expect(optionsIn('verbose\n'.repeat(100))).toHaveLength(32);
  });
});
