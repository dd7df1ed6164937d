import { createHash, randomBytes } from 'node:crypto';
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openLocalSink } from '../../../agent/sink/local.ts';
import { partialName } from '../../../agent/sink/local-partial.ts';
import type { Sink } from '../../../agent/sink/sink.ts';

const KEY = 'node/id/memory.tar.zst';
const never = new AbortController().signal;
const BYTES = randomBytes(3_000_000);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-local-settle-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** As the next process opens it. */
const sinkAgain = (): Sink => openLocalSink({ url: pathToFileURL(folder).href });
const at = (name = '') => path.join(folder, 'node/id', name);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** What a writer leaves that is killed after so many bytes. */
async function leave(bytes: Uint8Array): Promise<void> {
  await mkdir(at(), { recursive: true });
  await writeFile(at(partialName('memory.tar.zst')), bytes);
}

describe('what an agent that died left in a folder', () => {
  test('becomes the beginning of the object, with its size and digest, and the answer stays until it is forgotten', async () => {
    await leave(BYTES);
    const settled = await sinkAgain().settle(KEY, never);
    expect(settled).toMatchObject({ kind: 'cut', sizeBytes: BYTES.length, sha256: sha256(BYTES) });
    expect(settled).toHaveProperty('why', expect.stringContaining('the first 3000000 bytes'));
    expect(sha256(await readFile(at('memory.tar.zst')))).toBe(sha256(BYTES));
    const next = sinkAgain();
    expect(await next.settle(KEY, never)).toEqual(settled);
    await next.forget(KEY);
    expect(await readdir(at())).toEqual(['memory.tar.zst']);
  });

  test('is the whole object where it was killed after that had its name, and its second name goes', async () => {
    await leave(BYTES);
    const [partial = ''] = await readdir(at());
    await link(at(partial), at('memory.tar.zst'));
    expect(await sinkAgain().settle(KEY, never)).toEqual({ kind: 'stored' });
    expect(await readdir(at())).toEqual(['memory.tar.zst']);
  });

  test('is cut all the same where the one that settled it was killed before it could answer', async () => {
    await leave(BYTES);
    const [partial = ''] = await readdir(at());
    await link(at(partial), at(partial.replace('.partial', '.cut')));
    await rm(at(partial));
    expect(await sinkAgain().settle(KEY, never)).toMatchObject({ kind: 'cut', sizeBytes: BYTES.length });
    expect((await readFile(at('memory.tar.zst'))).equals(BYTES)).toBe(true);
  });

  test('is lost where nothing of it had reached the folder', async () => {
    expect(await sinkAgain().settle(KEY, never)).toMatchObject({ kind: 'lost' });
    await leave(Buffer.of());
    expect(await sinkAgain().settle(KEY, never)).toMatchObject({ kind: 'lost' });
    expect(await readdir(at())).toEqual([]);
  });

  test('is the larger where there are two, which cannot be, and the other is named and stays', async () => {
    await leave(BYTES.subarray(0, 100));
    const [smaller = ''] = await readdir(at());
    await leave(BYTES);
    const settled = await sinkAgain().settle(KEY, never);
    expect(settled).toMatchObject({ kind: 'cut', sizeBytes: BYTES.length, why: expect.stringContaining(smaller) });
    expect(await readdir(at())).toContain(smaller);
  });

  test('is removed where it is all or nothing, and can be written again', async () => {
    await mkdir(at(), { recursive: true });
    await writeFile(at(partialName('memory.tar.zst', true)), BYTES);
    const sink = sinkAgain();
    const lost = { kind: 'lost', why: expect.stringContaining('the 3000000 bytes that were there are removed') };
    expect(await sink.settle(KEY, never)).toMatchObject(lost);
    expect(await readdir(at())).toEqual([]);
    await sink.forget(KEY);
    await using object = await sink.open(KEY, { contentType: 'application/zstd', whole: true, signal: never });
    await object.write(BYTES);
    await expect(sink.settle(KEY, never)).rejects.toMatchObject({ code: 'sink-failed' });
    expect(await object.commit()).toBe('stored');
    expect(await sink.settle(KEY, never)).toEqual({ kind: 'stored' });
    expect(await readdir(at())).toEqual(['memory.tar.zst']);
  });

  test('that is all or nothing stays where its name is too long to tell whose it is', async () => {
    const long = 'x'.repeat(250);
    await mkdir(at(), { recursive: true });
    await writeFile(at(partialName(long, true)), BYTES);
    const settled = await sinkAgain().settle(`node/id/${long}`, never);
    expect(settled).toMatchObject({ kind: 'lost', why: expect.stringContaining('too long to tell') });
    expect(await readdir(at())).toHaveLength(1);
  });

  test('is left alone where its name is too long to tell whose it is', async () => {
    const long = 'x'.repeat(250);
    await mkdir(at(), { recursive: true });
    const partial = partialName(long);
    await writeFile(at(partial), BYTES);
    const settled = await sinkAgain().settle(`node/id/${long}`, never);
    expect(settled).toMatchObject({ kind: 'lost', why: expect.stringContaining(partial) });
    expect(await readdir(at())).toEqual([partial]);
  });

  test('is not reached through a link that somebody planted', async () => {
    const elsewhere = path.join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await symlink(elsewhere, path.join(folder, 'node'));
    await expect(sinkAgain().settle(KEY, never)).rejects.toMatchObject({ code: 'sink-failed' });
    await rm(path.join(folder, 'node'));
    await mkdir(at(), { recursive: true });
    await writeFile(path.join(elsewhere, 'file'), BYTES);
    await symlink(path.join(elsewhere, 'file'), at(partialName('memory.tar.zst')));
    expect(await sinkAgain().settle(KEY, never)).toMatchObject({ kind: 'lost' });
  });

  test('is not touched while it is still being written', async () => {
    const sink = sinkAgain();
    await using object = await sink.open(KEY, { contentType: 'application/zstd', signal: never });
    await object.write(BYTES);
    await expect(sink.settle(KEY, never)).rejects.toMatchObject({ code: 'sink-failed' });
    expect(await object.commit()).toBe('stored');
    expect(await sink.settle(KEY, never)).toEqual({ kind: 'stored' });
    expect((await readFile(at('memory.tar.zst'))).equals(BYTES)).toBe(true);
  });
});
