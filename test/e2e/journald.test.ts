import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { logsCollector } from '../../agent/collect/logs.ts';
import { LOGS_DEFAULTS } from '../../agent/collect/logs-options.ts';
import { journalRecordSchema } from '../../evidence/log-records.ts';
import { startJournald } from '../lab/journald.ts';
import { judge, requireLogJudges } from '../lab/log-judges.ts';
import { requireLab } from '../lab/requires.ts';
import { bundleContext, makeTarget, TARGET_RECORD } from '../unit/collect/bundle-context.ts';
import { shell } from './readers.ts';

/** A container's id, by which entries are found. */
const ID = 'c0ffee'.repeat(10);

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-journald-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What a capture of now takes of the journal below `hostRoot`. */
async function collect(hostRoot: string, out: string) {
  const target = makeTarget({ record: { ...TARGET_RECORD, id: ID }, createdAt: new Date().toISOString() });
  const bundle = bundleContext(path.join(folder, out), target, { hostRoot });
  Object.assign(bundle.context, { now: Date.now });
  await logsCollector({ ...LOGS_DEFAULTS, node: ['journal'] }).collect(bundle.context);
  const archive = bundle.at('node-logs.tar.zst');
  const member = (name: string): string => shell('zstd -dc "$1" | tar -xO -f - "$2"', archive, name);
  const records = member('journal.jsonl')
    .trimEnd()
    .split('\n')
    .map((line) => journalRecordSchema.parse(JSON.parse(line)));
  return { records, exported: member('journal.export'), gaps: bundle.gaps };
}

test('a journal that journald writes to meanwhile is read whole as far as it goes, as journalctl reads it', async (context) => {
  requireLab(context);
  requireLogJudges(context);
  await using journald = await startJournald(ID);
  let before = 0;
  for (let run = 0; run < 5; run += 1) {
    const { records, exported, gaps } = await collect(journald.hostRoot, `run-${run}`);
    expect(gaps).toEqual([]);
    const numbers = records
      .filter(({ identifier }) => identifier === 'writer')
      .map(({ message }) => Number(message?.split(' ')[1]));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    expect(numbers.length).toBeGreaterThanOrEqual(before);
    before = numbers.length;
    if (run < 4) continue;
    expect(numbers.length).toBeGreaterThan(0);
    // The file as it is a moment later has all of these entries and more.
    const journals = path.join(journald.hostRoot, 'run/log/journal');
    cpSync(path.join(journals, readdirSync(journals)[0] ?? ''), path.join(folder, 'copy'), { recursive: true });
    const told = judge('journalctl', [
      '--file',
      path.join(folder, 'copy/system.journal'),
      '-o',
      'export',
      '--no-pager',
    ]);
    const entries = new Set(
      told.stdout
        .toString('latin1')
        .split('\n\n')
        .map((entry) => entry.replaceAll(/^__SEQNUM.*\n/gm, '')),
    );
    const ours = exported.split('\n\n').filter((entry) => entry !== '');
    expect(ours.length).toBe(records.length);
    expect(ours.filter((entry) => !entries.has(entry))).toEqual([]);
  }
});
