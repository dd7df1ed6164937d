import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { affordBuffer } from '../../../agent/collect/memory-strategy.ts';
import { diskRoom } from '../../../agent/host/disk-room.ts';
import { memoryPressurePercent } from '../../../agent/host/pressure.ts';

const MIB = 2 ** 20;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'exhibit-room-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function put(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true });
    await writeFile(path.join(root, name), text);
  }
}

describe('the pressure on memory', () => {
  test('is the share of the last ten seconds in which everything waited', async () => {
    await put({
      'proc/pressure/memory':
        'some avg10=41.20 avg60=1.00 avg300=0.00 total=1\nfull avg10=23.45 avg60=0.50 avg300=0.00 total=1\n',
    });
    expect(await memoryPressurePercent(path.join(root, 'proc'))).toBe(23.45);
  });

  test('is not known of a kernel without it', async () => {
    expect(await memoryPressurePercent(path.join(root, 'nowhere'))).toBeUndefined();
  });
});

describe('the room on a disk', () => {
  test('is that of the nearest folder there is, and of no interest where that is memory', async () => {
    const host = { procRoot: '/proc', hostRoot: root };
    const there = await diskRoom(host, root);
    const below = await diskRoom(host, path.join(root, 'not', 'made', 'yet'));
    // /tmp may be either.
    expect(below?.totalBytes).toBe(there?.totalBytes);
    expect(await diskRoom(host, '/dev/shm/nothing')).toBeUndefined();
  });

  test('is watched where the kubelet has its folder on it', async () => {
    const host = { procRoot: '/proc', hostRoot: root };
    expect((await diskRoom(host, root))?.isWatched ?? false).toBe(false);
    // Nobody evicts pods where there is a containerd alone.
    await mkdir(path.join(root, 'var/lib/containerd'), { recursive: true });
    expect((await diskRoom(host, root))?.isWatched ?? false).toBe(false);
    await mkdir(path.join(root, 'var/lib/kubelet'), { recursive: true });
    const after = await diskRoom(host, root);
    expect(after?.isWatched ?? true).toBe(true);
  });
});

describe('the copy buffer', () => {
  test('leaves the node what the limits keep, and says so', () => {
    const given = affordBuffer({
      ...{ askedBytes: 1024 * MIB, availableBytes: 300 * MIB, cgroupRoomBytes: undefined },
      keptBytes: 256 * MIB,
    });
    expect(given.bytes).toBe(44 * MIB);
    expect(given.why).toContain('limits.memory.minAvailableBytes keeps');
  });
});
