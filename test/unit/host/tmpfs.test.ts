import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import { makeDumpRoom, touchRoom } from '../../../agent/host/dump-folder.ts';
import { cleanStaleTmpfs, mountTmpfs } from '../../../agent/host/tmpfs.ts';
import { asHostPath, type HostPath } from '../../../agent/runtime/runtime.ts';

const HOST = { procRoot: '/proc', hostRoot: '' };
const MIB = 2 ** 20;

let folder: string;
let runDir: HostPath;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-tmpfs-'));
  runDir = asHostPath(path.join(folder, 'run'));
});
afterEach(async () => {
  expect(mounts()).toEqual([]);
  await rm(folder, { recursive: true });
});

const mounts = () =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder));

function requireMounts(context: TestContext): void {
  const held = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  if (((BigInt(`0x${held}`) >> 21n) & 1n) === 0n) context.skip('needs CAP_SYS_ADMIN: a tmpfs is mounted');
}

const mount = (sizeBytes: number, hugePages = false) =>
  mountTmpfs(HOST, runDir, { purpose: 'checkpoint', id: 'one', sizeBytes, hugePages });

describe('a tmpfs of the agent’s own', () => {
  test.for([false, true])('holds its budget and no more, huge pages %s', async (hugePages, context) => {
    requireMounts(context);
    await using tmpfs = await mount(4 * MIB, hugePages);
    await writeFile(path.join(tmpfs.folder, 'fits'), Buffer.alloc(2 * MIB));
    const more = writeFile(path.join(tmpfs.folder, 'more'), Buffer.alloc(4 * MIB));
    await expect(more).rejects.toMatchObject({ code: 'ENOSPC' });
  });

  test('is for root alone, runs nothing, and is copied into no other tree', async (context) => {
    requireMounts(context);
    await using _ = await mount(MIB);
    expect(mounts()).toHaveLength(1);
    expect(mounts()[0]).toMatch(/nosuid,nodev,noexec.*unbindable.* tmpfs exhibit rw.*size=1024k.*mode=700/);
  });

  test('gives everything back with what is in it', async (context) => {
    requireMounts(context);
    {
      await using tmpfs = await mount(MIB);
      await mkdir(path.join(tmpfs.folder, 'images'));
      await writeFile(path.join(tmpfs.folder, 'images', 'pages-1.img'), 'x');
    }
    expect(await readdir(runDir)).toEqual([]);
  });

  test('that cannot be mounted is a sentence, and leaves nothing', async (context) => {
    requireMounts(context);
    await writeFile(runDir, 'a file where a folder should be');
    await expect(mount(MIB)).rejects.toMatchObject({
      code: 'capture-failed',
      message: expect.stringContaining('no tmpfs could be mounted'),
    });
  });

  test('of a dead agent is unmounted at the next start; one of a living agent is not', async (context) => {
    requireMounts(context);
    const dead = path.join(runDir, 'checkpoint-999999999-1-x.tmpfs');
    await mkdir(dead, { recursive: true });
    await writeFile(path.join(dead, 'written-below-a-mount-that-nobody-saw'), 'x');
    await using alive = await mount(MIB);
    expect(await cleanStaleTmpfs(HOST, runDir)).toEqual([dead]);
    expect(await readdir(runDir)).toEqual([path.basename(alive.path)]);
  });
});

describe('the room of a dump', () => {
  test('has its log apart, so that full images do not silence it', async (context) => {
    requireMounts(context);
    await using room = await makeDumpRoom(HOST, runDir, {
      id: 'one',
      imagesBytes: MIB,
      hugePages: false,
      makeFolder: true,
    });
    await writeFile(path.join(room.images, 'pages-1.img'), Buffer.alloc(2 * MIB)).catch(() => undefined);
    await writeFile(path.join(room.work, 'dump.log'), 'no space left');
    expect(readFileSync(path.join(room.work, 'dump.log'), 'utf8')).toBe('no space left');
  });

  test('is touched as far as it goes, and has nothing but its folder again', async (context) => {
    requireMounts(context);
    await using room = await makeDumpRoom(HOST, runDir, {
      id: 'one',
      imagesBytes: 2 * MIB,
      hugePages: false,
      makeFolder: true,
    });
    await touchRoom(room, 100 * MIB, new AbortController().signal);
    expect(await readdir(path.dirname(room.images))).toEqual(['images']);
    await expect(touchRoom(room, MIB, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
    expect(await readdir(path.dirname(room.images))).toEqual(['images']);
  });
});
