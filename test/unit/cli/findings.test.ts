import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { Finding } from '../../../evidence/file-finding.ts';
import type { BundleWriter } from '../../../evidence/write.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';
import { HOSTILE_NAME, someBundle } from './some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const finding = (parts: Partial<Finding>): Finding => ({
  kind: 'set-id',
  severity: 'high',
  reasons: ['setuid'],
  path: 'tmp/rootsh',
  type: 'file',
  change: 'added',
  inode: '7',
  mode: '4755',
  uid: 0,
  gid: 0,
  sizeBytes: 5,
  mtimeNs: '1',
  ctimeNs: '2',
  birthNs: '3',
  ...parts,
});

const withLines = (lines: readonly string[]) => ({
  fill: async (writer: BundleWriter) => {
    await using archive = await writer.openArchive('rootfs-originals.tar.zst');
    await archive.add({ path: 'etc/motd', type: 'file', sizeBytes: 3 }, Buffer.from('old'));
    await archive.commit();
    await using layer = await writer.openArchive('rootfs.tar.zst', { mediaType: 'ociLayer' });
    await layer.add({ path: 'etc/motd', type: 'file', sizeBytes: 3 }, Buffer.from('new'));
    await layer.commit();
    await using text = await writer.openText('rootfs.findings.jsonl.zst', 'jsonl');
    for (const line of lines) await text.line(line);
    await text.commit();
    return { rootfs: ['rootfs-originals.tar.zst', 'rootfs.tar.zst', 'rootfs.findings.jsonl.zst'] };
  },
});
const SOME = [
  finding({ kind: 'image-file-deleted', severity: 'low', reasons: ['by-whiteout'], path: 'app/readme' }),
  finding({ path: 'usr/bin/b' }),
  finding({ kind: 'hidden-name', severity: 'medium', reasons: ['unprintable-name'], path: HOSTILE_NAME }),
  finding({ path: 'usr/bin/a' }),
].map((one) => JSON.stringify(one));

describe('findings', () => {
  test('are a table, the weightiest first and then by path, with every name escaped and every reason in words', async () => {
    await using some = await someBundle(withLines(SOME));
    const ran = await exhibit(['findings', some.bundle]);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const text = ran.stdout.toString();
    expect(
      text
        .split('\n')
        .slice(0, 5)
        .map((line) => line.split(/ {2,}/).slice(0, 3).join('|')),
    ).toEqual([
      'SEVERITY|KIND|PATH',
      'high|set-id|/usr/bin/a',
      'high|set-id|/usr/bin/b',
      String.raw`medium|hidden-name|/a\x1b[2J\n\u{202e}gpj.exe`,
      'low|image-file-deleted|/app/readme',
    ]);
    expect(text).toContain('4 findings: 2 high, 1 medium, 1 low\n');
    expect(text).toMatch(/^setuid +runs with its owner’s rights$/m);
    expect(text).not.toContain('\x1b');
  });

  test('with --json are a line each, exact and in the order of the bundle; --kind chooses', async () => {
    await using some = await someBundle(withLines(SOME));
    const ran = await exhibit(['findings', some.bundle, '--json']);
    const lines = ran.stdout.toString().trimEnd().split('\n');
    expect(lines.map((line): unknown => JSON.parse(line))).toEqual(SOME.map((line): unknown => JSON.parse(line)));
    const one = await exhibit(['findings', some.bundle, '--json', '--kind', 'hidden-name']);
    expect(JSON.parse(one.stdout.toString())).toMatchObject({ path: HOSTILE_NAME });
  });

  test('that are none are said to be none', async () => {
    await using some = await someBundle(withLines([]));
    expect((await exhibit(['findings', some.bundle])).stdout.toString()).toBe('0 findings\n');
  });

  test('of a bundle without them end with a sentence that says why', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['findings', some.bundle]);
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('needs the artifact rootfs') });
  });

  test('of a kind that is none are wrong usage', async () => {
    await using some = await someBundle(withLines(SOME));
    const ran = await exhibit(['findings', some.bundle, '--kind', 'evil']);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('choose from timestomped') });
  });

  test.each(['{"kind":"set-id"}', '[]', 'x', JSON.stringify({ ...finding({}), extra: 1 })])(
    'of a bundle that somebody changed end without a stack trace: %s',
    async (line) => {
      await using some = await someBundle(withLines([line]));
      const ran = await exhibit(['findings', some.bundle]);
      expect(ran.code).toBe(1);
      expect(ran.stderr).toContain('line 1 of rootfs.findings.jsonl.zst');
      expect(ran.stderr).not.toMatch(/\bat .*\.ts/);
    },
  );
});

test('findings of an object that is damaged are named, and those of the others are shown', async () => {
  await using some = await someBundle({
    fill: async (writer) => {
      for (const [name, file] of [
        ['rootfs.findings.jsonl.zst', 'usr/bin/lost'],
        ['volumes.findings.jsonl.zst', 'dev/shm/kept'],
      ] as const) {
        await using text = await writer.openText(name, 'jsonl');
        await text.line(JSON.stringify(finding({ path: file })));
        await text.commit();
      }
      return { rootfs: ['rootfs.findings.jsonl.zst'], volumes: ['volumes.findings.jsonl.zst'] };
    },
  });
  await writeFile(path.join(some.bundle, 'rootfs.findings.jsonl.zst'), 'garbage');
  const ran = await exhibit(['findings', some.bundle]);
  expect(ran.code).toBe(1);
  expect(ran.stdout.toString()).toContain('/dev/shm/kept');
  expect(ran.stderr).toContain('There may be more findings than these: rootfs.findings.jsonl.zst: ');
  expect(ran.stderr).toContain('exhibit verify');
});

test('extract takes the layer of an artifact, whatever other archives it has', async () => {
  await using some = await someBundle(withLines(SOME));
  const ran = await exhibit(['extract', some.bundle, 'rootfs', 'etc/motd']);
  expect(ran.stdout.toString()).toBe('new');
  const original = await exhibit(['extract', some.bundle, 'rootfs-originals.tar', 'etc/motd']);
  expect(original.stdout.toString()).toBe('old');
});
