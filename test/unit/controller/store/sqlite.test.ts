import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { backup, DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SCHEMA_VERSION } from '../../../../controller/store/migrations.ts';
import { openStore } from '../../../../controller/store/open.ts';
import type { Store } from '../../../../controller/store/store.ts';
import { type AuditRow, verifyAudit } from '../../../../evidence/audit-log.ts';
import { isExhibitError } from '../../../../evidence/error.ts';
import { aCapture, aNode, anEntry, aRequest, stored } from '../../../contract/store-rows.ts';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-sqlite-'));
  file = path.join(folder, 'controller.db');
});
afterEach(() => rm(folder, { recursive: true }));

const open = (at = file) => openStore({ url: `sqlite:${at}` }, { log: pino({ level: 'silent' }), now: Date.now });

async function refusal(opening: Promise<Store>): Promise<{ code: string; message: string }> {
  const error = await opening.then(
    () => new Error('it opened'),
    (reason: unknown) => reason,
  );
  if (!isExhibitError(error)) throw error;
  return { code: error.code, message: error.message };
}

async function wholeAudit(store: Store): Promise<AuditRow[]> {
  const rows: AuditRow[] = [];
  for (;;) {
    const some = await store.audit({}, { afterSeq: rows.length, limit: 1_000 });
    if (some.length === 0) return rows;
    rows.push(...some);
  }
}

describe('a file that SQLite is to keep the store in', () => {
  test('is made, for nobody else to read', async () => {
    await using store = await open();
    await stored(store, aCapture());
    for (const name of [file, `${file}-wal`]) expect((await stat(name)).mode & 0o777).toBe(0o600);
  });

  test('is refused and left alone when it is no database', async () => {
    const text = 'not a database, but somebody else wants it\n'.repeat(100);
    await writeFile(file, text);
    const { code, message } = await refusal(open());
    expect(code).toBe('config');
    expect(message).toBe(`${file} is no SQLite database, and is left as it is`);
    expect(await readFile(file, 'utf8')).toBe(text);
  });

  test('is refused when it is the database of something else', async () => {
    const other = new DatabaseSync(file);
    other.exec('create table recipes (name text)');
    other.close();
    const { code, message } = await refusal(open());
    expect([code, message]).toEqual([
      'config',
      `${file} is a database of something else: it has tables, and none of exhibit's`,
    ]);
  });

  test('is refused when a newer controller wrote it', async () => {
    await (await open())[Symbol.asyncDispose]();
    const newer = new DatabaseSync(file);
    newer.exec(`insert into exhibit_schema values (${SCHEMA_VERSION + 1}, 0)`);
    newer.close();
    const { code, message } = await refusal(open());
    expect(code).toBe('config');
    expect(message).toContain(`its schema is version ${SCHEMA_VERSION + 1}, and this one knows ${SCHEMA_VERSION}`);
  });

  test('is refused while another controller has it, and free once that was ended', async () => {
    const first = await open();
    expect(await refusal(open())).toEqual({
      code: 'config',
      message: `${file} is open in another controller; several replicas need PostgreSQL`,
    });
    await first[Symbol.asyncDispose]();
    await (await open())[Symbol.asyncDispose]();
  });

  test('is refused in words when its folder is not there, or it is a folder', async () => {
    expect(await refusal(open(path.join(folder, 'none/x.db')))).toMatchObject({
      code: 'config',
      message: expect.stringContaining('folder is not there'),
    });
    await mkdir(file);
    expect(await refusal(open())).toMatchObject({
      code: 'config',
      message: expect.stringContaining('cannot be written'),
    });
  });

  test('is refused in words when it can only be read', async (context) => {
    if (process.getuid?.() === 0) context.skip('needs another user than root, who may write all the same');
    await (await open())[Symbol.asyncDispose]();
    await chmod(file, 0o400);
    expect(await refusal(open())).toMatchObject({ code: 'config' });
  });

  test('is told to be damaged when it is', async () => {
    const store = await open();
    await stored(store, ...Array.from({ length: 200 }, () => aCapture({ reason: 'x'.repeat(1_000) })));
    await store[Symbol.asyncDispose]();
    const bytes = await readFile(file);
    bytes.fill(0xa5, 4096, bytes.length);
    await writeFile(file, bytes);
    expect(await refusal(open())).toMatchObject({
      code: 'store-failed',
      message: expect.stringContaining('is damaged'),
    });
  });

  test('is copied whole by the backup of SQLite while it is written', async () => {
    await using store = await open();
    await stored(store, aCapture());
    const copy = path.join(folder, 'copy.db');
    const source = new DatabaseSync(file, { readOnly: true });
    const [pages] = await Promise.all([backup(source, copy), stored(store, aCapture()), store.putNode(aNode())]);
    source.exec(`vacuum into '${path.join(folder, 'vacuumed.db')}'`);
    source.close();
    expect(pages).toBeGreaterThan(10);
    await using restored = await open(copy);
    expect(verifyAudit(await wholeAudit(restored)).problems).toEqual([]);
    await using vacuumed = await open(path.join(folder, 'vacuumed.db'));
    expect(await wholeAudit(vacuumed)).toEqual(await wholeAudit(store));
  });
});

describe('a process that is killed while it writes', () => {
  test('loses nothing that had resolved, and leaves nothing half done', async () => {
    const promised = new Map<string, string>();
    for (let round = 0; round < 5; round += 1) {
      const child = spawn(process.execPath, [path.join(import.meta.dirname, 'killed-writer.ts'), `sqlite:${file}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exit = once(child, 'exit');
      let lines = 0;
      for await (const line of createInterface({ input: child.stdout })) {
        const [state = '', captureId = ''] = line.split(' ');
        promised.set(captureId, state);
        lines += 1;
        if (lines === 40 + 37 * round) child.kill('SIGKILL');
      }
      expect((await exit)[1]).toBe('SIGKILL');
      await using store = await open();
      for (const [captureId, state] of promised) {
        const row = await store.capture(captureId);
        expect(state === 'sent' ? ['sent'] : ['queued', 'sent']).toContain(row?.state);
        expect((await store.captures({ requestId: row?.requestId ?? '' }, { limit: 5 })).rows).toHaveLength(2);
      }
      const audit = await wholeAudit(store);
      expect(verifyAudit(audit).problems).toEqual([]);
      for (const state of ['queued', 'sent'] as const) {
        const listed = (await store.captures({ states: [state] }, { limit: 1_000 })).rows;
        for (const { captureId } of listed.filter((row) => promised.has(row.captureId)))
          expect(audit.filter((entry) => entry.captureId === captureId)).toHaveLength(state === 'sent' ? 2 : 1);
      }
    }
    expect(promised.size).toBeGreaterThan(100);
  }, 60_000);
});

describe('a disk that is full', () => {
  test('fails the call in words, keeps nothing of it, and is used again when there is room', async ({ skip }) => {
    if (process.getuid?.() !== 0) skip('needs root: mounts a small file system in a namespace of its own');
    const script = 'mount -t tmpfs -o size=6m none "$1" && exec "$2" "$3" "$1"';
    const argv = [
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-c',
      script,
      'sh',
      folder,
      process.execPath,
      path.join(import.meta.dirname, 'full-disk.ts'),
    ];
    const { stdout } = await promisify(execFile)('unshare', argv);
    const { before, full, after, ...rest } = JSON.parse(stdout);
    expect([before.code, after.code]).toEqual(['', '']);
    const failed = full.filter(({ code }: { code: string }) => code !== '');
    expect(failed.length).toBeGreaterThan(0);
    for (const { code, error } of failed) {
      expect(code).toBe('store-failed');
      expect(error).toContain(`the disk of the store ${file} is full; nothing was stored`);
    }
    const succeeded = 2 + full.length - failed.length;
    expect(rest).toEqual({
      rowsOfFailed: 0,
      kept: Array(succeeded).fill(true),
      entries: succeeded,
      problems: [],
      integrity: 'ok',
    });
  });
});

describe('writers of one file', () => {
  test('that wait together do not fail each other', async () => {
    await using store = await open();
    const request = aRequest([aCapture()]);
    await store.addCaptures(request, []);
    const outcomes = await Promise.allSettled([
      store.addCaptures(aRequest([aCapture()]), [anEntry()]),
      store.addCaptures({ ...request, requestKey: 'another' }, [anEntry()]),
      store.noteCase('nobody', { by: '', atMs: 0, text: '' }, anEntry()),
      store.addCaptures(aRequest([aCapture()]), [anEntry()]),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    expect(await wholeAudit(store)).toHaveLength(2);
  });

  test('that were promised something are done before it closes', async () => {
    const store = await open();
    const capture = aCapture();
    const adding = store.addCaptures(aRequest([capture]), []);
    await store[Symbol.asyncDispose]();
    await adding;
    await using again = await open();
    expect((await again.capture(capture.captureId))?.state).toBe('queued');
  });
});
