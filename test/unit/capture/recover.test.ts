import { mkdtemp, rm } from 'node:fs/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Journal, type JournalEntry, openJournal } from '../../../agent/capture/journal.ts';
import { recover, tidyDumps } from '../../../agent/capture/recover.ts';
import type { CheckpointRung } from '../../../agent/runtime/runtime.ts';

const log = pino({ level: 'silent' });
const DUMPING = { rung: 'cri', containerId: 'c0ffee', startedAtMs: 1_000 } as const;

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = await mkdtemp('/tmp/exhibit-recover-');
  journal = await openJournal(folder, () => undefined);
});
afterEach(() => rm(folder, { recursive: true }));

const entry = (more: Partial<JournalEntry>): JournalEntry => ({
  captureId: 'a',
  requestKey: 'key',
  state: 'complete',
  target: 'web',
  caseId: '',
  reason: '',
  bundleUrl: '',
  startedAtMs: 900,
  finishedAtMs: 2_000,
  error: '',
  stages: [],
  ...more,
});

const recovered = () => recover(journal, { now: () => 5_000, log, procRoot: '/proc' });
/** As a later start would read it. */
const stored = async () => (await openJournal(folder, () => undefined)).get('a');

describe('what an agent that was killed left in its journal', () => {
  test('is an interrupted capture where it was running', async () => {
    await journal.put(entry({ state: 'running', finishedAtMs: 0, dumping: DUMPING }));
    await recovered();
    expect(await stored()).toMatchObject({
      state: 'interrupted',
      finishedAtMs: 5_000,
      error: 'the agent ended during the capture',
      dumping: DUMPING,
    });
  });

  test('is no fault of a capture that had ended, of which only a dump is left to look after', async () => {
    await journal.put(entry({ dumping: DUMPING }));
    await recovered();
    expect(await stored()).toEqual(entry({ dumping: DUMPING }));
  });
});

describe('what a runtime keeps of a checkpoint', () => {
  const rung = (name: 'cri' | 'tasks', clean: NonNullable<CheckpointRung['clean']>) =>
    ({ name, clean }) as Partial<CheckpointRung> as CheckpointRung;

  test('is asked of the rung that made it, once, for that container and from that time on', async () => {
    const asked: unknown[] = [];
    await journal.put(entry({ dumping: DUMPING }));
    const clean = async (...args: unknown[]) => {
      asked.push(args);
      return [];
    };
    await tidyDumps(journal, [rung('tasks', clean), rung('cri', clean)], log);
    await tidyDumps(journal, [rung('cri', clean)], log);
    expect(asked).toEqual([['c0ffee', 1_000]]);
    expect(await stored()).toEqual(entry({}));
  });

  test('is asked again at the next start where the runtime did not answer', async () => {
    await journal.put(entry({ dumping: DUMPING }));
    await tidyDumps(journal, [rung('cri', () => Promise.reject(new Error('containerd is away')))], log);
    expect(await stored()).toEqual(entry({ dumping: DUMPING }));
  });

  test('is asked again while its target may still be paused', async () => {
    const pause = { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'c0ffee' } as const;
    await journal.put(entry({ dumping: { ...DUMPING, pause } }));
    await tidyDumps(journal, [rung('cri', async () => ['image of c0ffee'])], log);
    expect((await stored())?.dumping).toEqual({ ...DUMPING, pause });
  });
});
