import { mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { EVERYTHING } from '../evidence/timeline/everything.ts';
import { type Contents, inventoryLine, timelineBundle } from '../evidence/timeline/timeline-bundle.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';
import { judgesObstacle, readAsTimesketch } from './timeline-judges.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

describe('a large timeline', () => {
  const large = (): Contents => ({
    lists: {
      'rootfs.inventory.jsonl.zst': Array.from({ length: 30_000 }, (_, index) =>
        inventoryLine({
          path: `usr/lib/file-${index}`,
          inode: String(index),
          mtimeNs: `${1_700_000_000 + ((index * 7919) % 10_000)}000000005`,
        }),
      ),
    },
    artifacts: { rootfs: ['rootfs.inventory.jsonl.zst'] },
  });

  test('is sorted outside of memory, and leaves nothing in the folder for it', async () => {
    await using bundle = await timelineBundle(large());
    const temp = path.join(bundle.folder, 'temp');
    await mkdir(temp);
    const script =
      '$EXHIBIT timeline "$B" --temp "$T" --format csv | tail -n +2 > "$T/out" && LC_ALL=C sort -c -s -t, -k1,1 "$T/out" && wc -l < "$T/out"';
    const ran = await shell(script, { env: { B: bundle.folder, T: temp } });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(Number(ran.stdout.toString())).toBe(30_000 * 4 + 6);
    expect(await readdir(temp)).toEqual(['out']);
  });

  test('ends quietly when its reader hangs up', async () => {
    await using bundle = await timelineBundle(large());
    const ran = await shell('set -o pipefail; $EXHIBIT timeline "$B" | head -n 2', { env: { B: bundle.folder } });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.toString().trimEnd().split('\n')).toHaveLength(2);
  });

  test('leaves nothing in the folder when Ctrl-C ends it', async () => {
    await using bundle = await timelineBundle(large());
    const temp = path.join(bundle.folder, 'temp');
    await mkdir(temp);
    const ran = await exhibit(['timeline', bundle.folder, '--temp', temp], {
      when: { text: /datetime/, act: (child) => void child.kill('SIGINT') },
    });
    expect(ran).toMatchObject({ code: 130, stderr: 'exhibit: Stopped by SIGINT.\n' });
    expect(await readdir(temp)).toEqual([]);
  });

  test('that cannot be sorted in the folder says which option helps', async () => {
    await using bundle = await timelineBundle(large());
    const ran = await exhibit(['timeline', bundle.folder, '--temp', '/nonexistent']);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('name a folder with room by --temp') });
    expect(ran.stderr).not.toContain('Error:');
  });
});

describe('a damaged bundle', () => {
  test('still has everything else, says what is missing and ends with exit code 1', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(EVERYTHING);
    await truncate(path.join(bundle.folder, 'rootfs.inventory.jsonl.zst'), 100);
    await rm(path.join(bundle.folder, 'logs.tar.zst'));
    await writeFile(path.join(bundle.folder, 'request.json'), '{}');
    const ran = await exhibit(['timeline', bundle.folder]);
    expect(ran.code).toBe(1);
    expect(ran.stderr.split('\n')).toEqual([
      'exhibit: request.json: it has not the shape of format version 1',
      expect.stringMatching(/^exhibit: rootfs\.inventory\.jsonl\.zst: .*; what comes after is missing$/),
      expect.stringMatching(/^exhibit: logs\.tar\.zst: .*no object.*; what comes after is missing$/),
      'exhibit: The timeline is not complete, 3 things could not be read: run `exhibit verify` on this bundle.',
      '',
    ]);
    const rows = readAsTimesketch('jsonl', ran.stdout);
    expect(rows.filter(({ message }) => message === 'kernel: segfault at 0')).toHaveLength(1);
    expect(rows.filter(({ object }) => object === 'logs.tar.zst' || object === 'request.json')).toEqual([]);
  });

  test('with lines that are garbage tells how many, and has the others', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle({
      lists: { 'rootfs.inventory.jsonl.zst': ['garbage', inventoryLine(), '[]', '{"path":"x"}'] },
      artifacts: { rootfs: ['rootfs.inventory.jsonl.zst'] },
    });
    const ran = await exhibit(['timeline', bundle.folder, '--json']);
    expect(ran.code).toBe(1);
    const [missing, error] = ran.stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(missing).toEqual({
      missing: {
        object: 'rootfs.inventory.jsonl.zst',
        why: '3 lines are left out, the first: line 1 is not JSON of the shape that is expected',
      },
    });
    expect(error).toMatchObject({ error: { code: 'bundle-corrupt' } });
    expect(readAsTimesketch('jsonl', ran.stdout).filter(({ path }) => path === '/tmp/dropper')).toHaveLength(4);
  });
});
