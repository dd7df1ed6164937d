import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readDrafts } from '../../../agent/capture/drafts.ts';
import { memoryFileSystem } from '../../../agent/host/folder-facts.ts';
import { openSpoolVault } from '../../../agent/sink/vault-place.ts';

/** Kept over reboots, and so on a disk (hier(7)); tmpdir() may be either. */
const DISK = '/var/tmp';
const MEMORY = '/dev/shm';
const onDisk = existsSync(DISK) && (await memoryFileSystem(DISK)) === undefined;
const inMemory = existsSync(MEMORY) && (await memoryFileSystem(MEMORY)) !== undefined;

let folders: string[];
beforeEach(() => {
  folders = [];
});
afterEach(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
const folderIn = (parent: string): string => {
  const folder = mkdtempSync(path.join(parent, 'exhibit-place-'));
  folders.push(folder);
  return folder;
};

const WORDS = Buffer.from('what waits');

describe.skipIf(!inMemory)(`a spool ${inMemory ? '' : `(needs a tmpfs at ${MEMORY})`}`, () => {
  test('is in the state folder unless told, where that is in memory, with its key beside it', async () => {
    const state = folderIn(MEMORY);
    const vault = await openSpoolVault({ disk: false }, state);
    expect(vault.folder).toBe(path.join(state, 'spool'));
    expect(vault.inMemory).toBe(true);
    await vault.write('a', WORDS);
    expect(readdirSync(state).sort()).toEqual(['spool', 'spool.key']);
    expect(await (await openSpoolVault({ disk: false }, state)).read('a')).toEqual(WORDS);
  });

  test('has a key of its own where one is given, and says how to make one that is too short or not there', async () => {
    const state = folderIn(MEMORY);
    const keyFile = path.join(state, 'given');
    await expect(openSpoolVault({ disk: false, keyFile }, state)).rejects.toThrow(`${keyFile} cannot be read`);
    writeFileSync(keyFile, 'fifteen bytes..');
    await expect(openSpoolVault({ disk: false, keyFile }, state)).rejects.toThrow(
      `${keyFile} is shorter than 16 bytes; make one with: openssl rand -out ${keyFile} 32`,
    );
    writeFileSync(keyFile, 'sixteen bytes...');
    await (await openSpoolVault({ disk: false, keyFile }, state)).write('a', WORDS);
    expect(readdirSync(state).sort()).toEqual(['given', 'spool']);
  });
});

const both = onDisk && inMemory;

describe.skipIf(!both)(`a spool on a disk ${both ? '' : `(needs a disk at ${DISK} and a tmpfs at ${MEMORY})`}`, () => {
  test('is refused with what to do instead, and nothing is made there', async () => {
    const disk = folderIn(DISK);
    const given = path.join(disk, 'spool');
    const refused = openSpoolVault({ disk: false, path: given }, folderIn(MEMORY));
    await expect(refused).rejects.toMatchObject({ code: 'config' });
    await expect(refused).rejects.toThrow(
      `The spool ${given} is not in memory, and would write evidence over the node's disk; ` +
        'put stateDir or spool.path on a tmpfs, or allow it with spool.disk: true',
    );
    await expect(openSpoolVault({ disk: false }, disk)).rejects.toThrow('is not in memory');
    expect(readdirSync(disk)).toEqual([]);
  });

  test('is read after a reboot, which empties the state folder, with a key in a file', async () => {
    const disk = folderIn(DISK);
    const keyFile = path.join(disk, 'key');
    writeFileSync(keyFile, Buffer.alloc(32, 7));
    const config = { disk: true, path: path.join(disk, 'spool'), keyFile };
    const vault = await openSpoolVault(config, folderIn(MEMORY));
    expect(vault.inMemory).toBe(false);
    await vault.write('a', WORDS);
    expect(await (await openSpoolVault(config, folderIn(MEMORY))).read('a')).toEqual(WORDS);
  });

  test('is there after a reboot and can be read by nobody, where its key was in memory, and that is said', async () => {
    const config = { disk: true, path: path.join(folderIn(DISK), 'spool') };
    const lines: string[] = [];
    const log = pino({}, { write: (line) => lines.push(line) });
    const captureId = '01a20000-0000-7000-8000-000000000001';
    const before = await openSpoolVault(config, folderIn(MEMORY));
    await before.write('objects/a/1', WORDS);
    await before.append(`captures/${captureId}`, { said: 'before' });
    const after = await openSpoolVault(config, folderIn(MEMORY));
    await expect(after.read('objects/a/1')).rejects.toMatchObject({ code: 'bundle-corrupt' });
    expect(await readDrafts({ vault: after, now: Date.now, log })).toEqual([]);
    expect(lines.join('')).toContain('draft set aside: its capture stays unsealed');
    expect(lines.join('')).toContain('was changed, or written with another key');
    // It goes on counting to the bound until somebody removes it.
    expect(after.usedBytes).toBe(before.usedBytes);
  });
});
