import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';
import { BIG_BYTES, NOT_UTF8, someBundle } from './some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const run = promisify(execFile);

describe('extract --list', () => {
  test('shows digest, size, type and name of every member, in the order of the archive', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', '--list']);
    const lines = ran.stdout.toString().split('\n');
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(lines).toHaveLength(9);
    expect(lines[0]).toMatch(/^-{64} {13}0 {2}directory {2}17\/$/);
    expect(lines[1]).toMatch(/^[0-9a-f]{64} {13}6 {2}file {7}17\/cmdline$/);
    expect(lines[5]).toMatch(/ n\ufffdm {2}base64:bv9t$/);
  });

  test('with --json is one document, also for members that are listed in an object of their own', async () => {
    await using some = await someBundle();
    const inline = await exhibit(['extract', some.bundle, 'processes', '--list', '--json']);
    const document = JSON.parse(inline.stdout.toString());
    expect(document).toMatchObject({ bundle: `file://${some.bundle}`, object: 'processes.tar.zst' });
    expect(document.members).toHaveLength(8);
    const beside = await exhibit(['extract', some.bundle, 'rootfs', '--list', '--json']);
    expect(JSON.parse(beside.stdout.toString()).members).toMatchObject([{ path: 'etc/motd', sizeBytes: 3 }]);
  });

  test('of an object that is no archive, or with a member, is wrong usage', async () => {
    await using some = await someBundle();
    expect((await exhibit(['extract', some.bundle, 'inventory.jsonl', '--list'])).code).toBe(2);
    expect((await exhibit(['extract', some.bundle, 'processes', 'big', '--list'])).code).toBe(2);
  });
});

describe('extract of a whole artifact', () => {
  test('is a tar that GNU tar lists', async () => {
    await using some = await someBundle();
    const ran = await shell('set -o pipefail; $EXHIBIT extract "$B" processes | tar -tf - --quoting-style=escape', {
      env: { B: some.bundle },
    });
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString().split('\n').slice(0, 4)).toEqual(['17/', '17/cmdline', '17/status', '17/exe']);
  });

  test('takes the archive of several objects and says on stderr which others there are', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'rootfs']);
    expect(ran.stderr).toBe('exhibit: rootfs.tar.zst; rootfs also has inventory.jsonl.zst\n');
    expect(ran.stdout.length % 512).toBe(0);
  });

  test.each(['inventory.jsonl', 'inventory.jsonl.zst'])('takes an object by its own name %s', async (name) => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, name]);
    expect(
      ran.stdout
        .toString()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line).path),
    ).toEqual(['etc/motd', 'run/socket']);
  });

  test('into a folder gets the name without .zst and is for its owner only', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', '--out', some.folder]);
    const file = path.join(some.folder, 'processes.tar');
    const { sha256 } = JSON.parse(await readFile(path.join(some.bundle, 'manifest.json'), 'utf8')).objects.find(
      (object: { name: string }) => object.name === 'processes.tar.zst',
    ).content;
    expect(ran.stdout.toString()).toBe(`3.01 MiB in ${file}, sha256 ${sha256} as in the manifest\n`);
    expect((await run('sha256sum', [file])).stdout).toContain(sha256);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });
});

describe('extract of a member', () => {
  test('is its bytes, exactly', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', '17/cmdline']);
    expect(ran).toMatchObject({ code: 0, stderr: '', stdout: Buffer.from('sh\0-c\0') });
    const big = await exhibit(['extract', some.bundle, 'processes', './big']);
    expect(big.stdout.equals(Buffer.alloc(BIG_BYTES, 'abcdefgh\n'))).toBe(true);
  });

  test('finds a name that is not UTF-8 by its base64', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', `base64:${NOT_UTF8.toString('base64')}`]);
    expect(ran.stdout.toString()).toBe('bytes');
  });

  test('with --json reports the file, its digest and that it matches', async () => {
    await using some = await someBundle();
    const out = path.join(some.folder, 'out.bin');
    const ran = await exhibit(['extract', some.bundle, 'processes', '17/cmdline', '--out', out, '--json']);
    expect(JSON.parse(ran.stdout.toString())).toEqual({
      object: 'processes.tar.zst',
      member: '17/cmdline',
      file: out,
      sizeBytes: 6,
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      matches: true,
    });
    expect(await readFile(out)).toEqual(Buffer.from('sh\0-c\0'));
  });

  test('with --json and without --out is wrong usage, because stdout cannot be both', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', 'big', '--json']);
    expect(ran.code).toBe(2);
    expect(JSON.parse(ran.stderr).error.message).toContain('--out');
  });

  test.each([
    ['17/exe', 2, 'is a symlink and has no bytes of its own'],
    ['17', 2, 'is a directory and has no bytes of its own: name a file in it'],
    ['18/exe', 1, 'has no member 18/exe: --list shows those it has'],
  ])('that has no bytes says so: %s', async (member, code, words) => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', member]);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(words);
  });
});

describe('extract of what is not there', () => {
  test('says why an artifact was not stored', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'memory']);
    expect(ran).toMatchObject({
      code: 1,
      stderr: 'exhibit: Nothing is stored of memory (failed: ptrace is not permitted).\n',
    });
  });

  test('lists what the bundle has', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'nothing']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('choose from processes, rootfs, request.json, processes.tar.zst');
  });

  test('of an unfinished capture says how to read it all the same', async () => {
    await using some = await someBundle({ seal: false });
    const ran = await exhibit(['extract', some.bundle, 'processes']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('was never finished');
  });
});

describe('--out', () => {
  test('never overwrites', async () => {
    await using some = await someBundle();
    const out = path.join(some.folder, 'mine');
    await writeFile(out, 'mine');
    const ran = await exhibit(['extract', some.bundle, 'processes', '17/cmdline', '--out', out]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(`${out} exists and is not overwritten`);
    expect(await readFile(out, 'utf8')).toBe('mine');
  });

  test('into a folder that is not there makes none', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', 'big', '--out', `${some.folder}/no/`]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain('make it first');
    expect(await readdir(some.folder)).toHaveLength(1);
  });

  test('into a folder takes the last segment of the name', async () => {
    await using some = await someBundle();
    const out = path.join(some.folder, 'out');
    await mkdir(out);
    await exhibit(['extract', some.bundle, 'processes', '17/status', '--out', out]);
    expect(await readdir(out)).toEqual(['status']);
  });
});
