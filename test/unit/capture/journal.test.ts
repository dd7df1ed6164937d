import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type JournalEntry, openJournal } from '../../../agent/capture/journal.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-journal-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const entry = (captureId: string, over: Partial<JournalEntry> = {}): JournalEntry => ({
  captureId,
  requestKey: 'k',
  state: 'complete',
  target: 'prod/web-0',
  caseId: '',
  reason: '',
  bundleUrl: 'file:///e',
  startedAtMs: 1,
  finishedAtMs: 2,
  error: '',
  stages: [],
  ...over,
});

describe('the journal', () => {
  test('remembers across a restart, newest first, with what was frozen', async () => {
    const journal = await openJournal(folder, () => undefined);
    await journal.put(entry('a', { startedAtMs: 1 }));
    await journal.put(
      entry('b', { startedAtMs: 2, state: 'running', frozen: { kind: 'cgroup-v2', path: '/sys/fs/cgroup/x' } }),
    );
    const again = await openJournal(folder, () => undefined);
    expect(again.entries().map((one) => one.captureId)).toEqual(['b', 'a']);
    expect(again.get('b')?.frozen).toEqual({ kind: 'cgroup-v2', path: '/sys/fs/cgroup/x' });
  });

  test('remembers a pod that was frozen together, and the scope', async () => {
    const frozen: JournalEntry['frozen'] = {
      kind: 'group',
      members: [
        { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'a', cgroup: { version: 2, path: '/g' } },
        { kind: 'docker', socket: '/s', containerId: 'd', cgroup: { version: 1, path: '/g' } },
        { kind: 'cgroup-v2', path: '/h' },
      ],
    };
    await (await openJournal(folder, () => undefined)).put(entry('a', { state: 'running', scope: 'pod', frozen }));
    const again = await openJournal(folder, () => undefined);
    expect(again.get('a')).toMatchObject({ scope: 'pod', frozen });
  });

  test('sets a damaged file aside and goes on', async () => {
    await (await openJournal(folder, () => undefined)).put(entry('a'));
    await writeFile(path.join(folder, 'journal', 'b.json'), '{"captureId": 7');
    await writeFile(path.join(folder, 'journal', 'c.json.new'), 'half');
    const damaged: string[] = [];
    const journal = await openJournal(folder, (file) => damaged.push(path.basename(file)));
    expect(damaged).toEqual(['b.json']);
    expect(journal.entries().map((one) => one.captureId)).toEqual(['a']);
  });

  test('keeps the last of many writes to one entry', async () => {
    const journal = await openJournal(folder, () => undefined);
    await Promise.all(Array.from({ length: 200 }, (_, i) => journal.put(entry('a', { finishedAtMs: i }))));
    expect((await openJournal(folder, () => undefined)).get('a')?.finishedAtMs).toBe(199);
  });

  test('forgets the oldest ended captures beyond its bound, never a running one', async () => {
    const journal = await openJournal(folder, () => undefined);
    await journal.put(entry('old-running', { startedAtMs: 0, state: 'running' }));
    for (let i = 1; i <= 1001; i += 1) await journal.put(entry(`c${i}`, { startedAtMs: i }));
    expect(journal.get('c1')).toBeUndefined();
    expect(journal.get('old-running')).toBeDefined();
    expect(await readdir(path.join(folder, 'journal'))).toHaveLength(1000);
  });

  test('keeps every capture of the last hour, which the budgets of the policy count', async () => {
    const hourMs = 3_600_000;
    const journal = await openJournal(
      folder,
      () => undefined,
      () => 2 * hourMs,
    );
    const put = (i: number, finishedAtMs: number) => journal.put(entry(`c${i}`, { startedAtMs: i, finishedAtMs }));
    for (let i = 1; i <= 10; i += 1) await put(i, hourMs);
    for (let i = 11; i <= 1100; i += 1) await put(i, hourMs + 1);
    expect(journal.get('c10')).toBeUndefined();
    expect(journal.get('c11')).toBeDefined();
    expect(await readdir(path.join(folder, 'journal'))).toHaveLength(1090);
  });
});
