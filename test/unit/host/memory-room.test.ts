import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { leastRoomBytes, memoryRoom } from '../../../agent/host/memory-room.ts';
import { demandStartRoom } from '../../../agent/host/start-room.ts';
import { isExhibitError } from '../../../evidence/error.ts';

const MIB = 2 ** 20;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-room-'));
  mkdirSync(`${folder}/proc/self`, { recursive: true });
  writeFileSync(`${folder}/proc/meminfo`, 'MemTotal: 4096 kB\nMemAvailable:    2097152 kB\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

function cgroup(at: string, files: Record<string, string>): void {
  mkdirSync(`${folder}/cg/${at}`, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(`${folder}/cg/${at}/${name}`, text);
}

function mounted(version: 1 | 2): void {
  const kind = version === 2 ? 'cgroup2 cgroup rw' : 'cgroup cgroup rw,memory';
  writeFileSync(`${folder}/proc/self/mountinfo`, `30 20 0:26 / ${folder}/cg rw - ${kind}\n`);
  writeFileSync(`${folder}/proc/self/cgroup`, `${version === 2 ? '0:' : '4:memory'}:/pod/agent\n`);
}

describe('the memory that an agent may still take', () => {
  test('is without pages of files that the kernel takes back first (v2)', async () => {
    mounted(2);
    const stat = `anon 1\ninactive_file ${700 * MIB}\nactive_file 5\n`;
    cgroup('pod/agent', { 'memory.max': `${1000 * MIB}\n`, 'memory.current': `${990 * MIB}\n`, 'memory.stat': stat });
    const room = await memoryRoom(`${folder}/proc`);
    expect(room).toEqual({ availableBytes: 2048 * MIB, cgroupRoomBytes: 710 * MIB });
    expect(leastRoomBytes(room)).toBe(710 * MIB);
  });

  test('is the same by the files of v1', async () => {
    mounted(1);
    const stat = `inactive_file 1\ntotal_inactive_file ${100 * MIB}\n`;
    const of = (limitMib: number) => ({
      'memory.limit_in_bytes': `${limitMib * MIB}\n`,
      'memory.usage_in_bytes': `${300 * MIB}\n`,
      'memory.stat': stat,
    });
    cgroup('pod/agent', of(500));
    cgroup('pod', of(400));
    expect((await memoryRoom(`${folder}/proc`)).cgroupRoomBytes).toBe(200 * MIB);
  });

  test('is never more than the limit, whatever the statistics say', async () => {
    mounted(2);
    const stat = `inactive_file ${9000 * MIB}\n`;
    cgroup('pod/agent', { 'memory.max': `${64 * MIB}`, 'memory.current': `${60 * MIB}`, 'memory.stat': stat });
    expect((await memoryRoom(`${folder}/proc`)).cgroupRoomBytes).toBe(64 * MIB);
  });

  test('is what the node has, without a limit', async () => {
    mounted(2);
    cgroup('pod/agent', { 'memory.max': 'max\n', 'memory.current': '5\n' });
    const room = await memoryRoom(`${folder}/proc`);
    expect(room.cgroupRoomBytes).toBeUndefined();
    expect(leastRoomBytes(room)).toBe(2048 * MIB);
  });
});

describe('an agent that is to start', () => {
  const room = (availableMib: number, limitMib?: number) => async () => ({
    availableBytes: availableMib * MIB,
    cgroupRoomBytes: limitMib === undefined ? undefined : limitMib * MIB,
  });
  const refusal = (given: ReturnType<typeof room>) => demandStartRoom(given).catch((error: unknown) => error);

  test('does with just enough', async () => {
    await expect(demandStartRoom(room(48))).resolves.toBeUndefined();
    await expect(demandStartRoom(room(8000, 48))).resolves.toBeUndefined();
  });

  test('is refused by a limit as a fault of the manifest, and by the node as one that passes', async () => {
    const limited = await refusal(room(8000, 47));
    expect(isExhibitError(limited, 'config') && limited.message).toContain('resources.limits.memory');
    expect(isExhibitError(await refusal(room(47, 47)), 'config')).toBe(true);
    const full = await refusal(room(47, 2000));
    expect(isExhibitError(full, 'internal') && full.message).toContain('this node has 47 MiB left; it is tried again');
  });
});
