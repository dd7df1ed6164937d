import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openVault, vaultSecret } from '../../../agent/sink/vault.ts';

const SECRET = Buffer.alloc(32, 7);

describe('the vault', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-vault-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const bytesOnDisk = () =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).size, 0);

  test('gives back what was written, to another process as well, and shows nothing of it on the file system', async () => {
    const secretWords = Buffer.from('the password of the victim');
    const vault = await openVault(folder, SECRET);
    await vault.write('a/part-1', secretWords);
    await vault.append('a/notes', { said: 'the password of the victim' });
    await vault.append('a/notes', [1, 2]);
    const again = await openVault(folder, SECRET);
    expect(await again.read('a/part-1')).toEqual(secretWords);
    expect(await again.records('a/notes')).toEqual([{ said: 'the password of the victim' }, [1, 2]]);
    expect(await again.list('a')).toEqual(['a/notes', 'a/part-1']);
    expect(again.usedBytes).toBe(bytesOnDisk());
    for (const name of ['a/part-1', 'a/notes']) {
      expect(readFileSync(path.join(folder, name)).includes('password')).toBe(false);
      expect(statSync(path.join(folder, name)).mode & 0o777).toBe(0o600);
    }
  });

  test('gives back records of any size, also those that are encrypted in pieces', async () => {
    const large = [0, 1, 2].map((index) => randomBytes(1_300_000 * (index + 1)).toString('hex'));
    const vault = await openVault(folder, SECRET);
    for (const record of large) await vault.append('large', record);
    await vault.write('file', Buffer.from(large[2] ?? ''));
    const again = await openVault(folder, SECRET);
    const read = await again.records('large');
    expect(large.map((one, index) => one === read[index])).toEqual([true, true, true]);
    expect((await again.read('file'))?.equals(Buffer.from(large[2] ?? ''))).toBe(true);
  });

  test('goes on with a log that another process began', async () => {
    await (await openVault(folder, SECRET)).append('log', 'one');
    const next = await openVault(folder, SECRET);
    await Promise.all([next.append('log', 'two'), next.append('log', 'three')]);
    expect(await next.records('log')).toEqual(['one', 'two', 'three']);
  });

  test('leaves out a record that was cut short, and nothing before it', async () => {
    const vault = await openVault(folder, SECRET);
    await vault.append('log', 'one');
    await vault.append('log', 'two');
    const file = path.join(folder, 'log');
    truncateSync(file, statSync(file).size - 1);
    expect(await vault.records('log')).toEqual(['one']);
  });

  test('refuses bytes that were changed, moved under another name, or written with another key', async () => {
    const vault = await openVault(folder, SECRET);
    await vault.write('one', Buffer.from('one'));
    await vault.write('two', Buffer.from('two'));
    renameSync(path.join(folder, 'one'), path.join(folder, 'moved'));
    await expect(vault.read('moved')).rejects.toMatchObject({ code: 'bundle-corrupt' });
    await expect((await openVault(folder, Buffer.alloc(32, 8))).read('two')).rejects.toMatchObject({
      code: 'bundle-corrupt',
    });
    const bytes = readFileSync(path.join(folder, 'two'));
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(path.join(folder, 'two'), bytes);
    await expect(vault.read('two')).rejects.toMatchObject({ code: 'bundle-corrupt' });
    appendFileSync(path.join(folder, 'garbage'), Buffer.alloc(100));
    await expect(vault.records('garbage')).rejects.toMatchObject({ code: 'bundle-corrupt' });
  });

  test('counts what it holds, and nothing after all was removed', async () => {
    const vault = await openVault(folder, SECRET);
    await vault.write('a/b/1', Buffer.alloc(1000));
    await vault.write('a/b/2', Buffer.alloc(500));
    await vault.write('a/b/2', Buffer.alloc(10));
    await vault.append('a/log', 1);
    expect(vault.usedBytes).toBe(bytesOnDisk());
    await vault.remove('a/b');
    expect(vault.usedBytes).toBe(bytesOnDisk());
    await vault.remove('a/log');
    expect(vault.usedBytes).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
    expect(await vault.read('a/b/1')).toBeUndefined();
    expect(await vault.records('a/log')).toEqual([]);
  });

  test('keeps its secret in a file of its own, and says what is wrong with one that is too short', async () => {
    const file = path.join(folder, 'state', 'spool.key');
    const secret = await vaultSecret(file);
    expect(secret.length).toBe(32);
    expect(await vaultSecret(file)).toEqual(secret);
    truncateSync(file, 3);
    await expect(vaultSecret(file)).rejects.toThrow(/shorter than 16 bytes/);
  });
});
