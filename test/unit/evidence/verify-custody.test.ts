import { describe, expect, it } from 'vitest';
import { type CustodyEntry, custodyLines } from '../../../evidence/custody.ts';
import { createFindings } from '../../../evidence/findings.ts';
import { type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { parseCustody } from '../../../evidence/verify-custody.ts';
import { type CustodyBundleOptions, custodyBundle } from './custody-bundle.ts';
import { fc } from './properties.ts';
import { readerOf } from './sample-bundle.ts';

/** What is said about custody, as `severity code: message`. */
async function said(options: CustodyBundleOptions): Promise<{ report: VerifyReport; words: string[] }> {
  const { objects } = await custodyBundle({ tiny: true, ...options });
  const report = await verifyBundle(readerOf(objects));
  const about = report.findings.filter(({ code }) => code !== 'signer-unvouched');
  return { report, words: about.map(({ severity, code, message }) => `${severity} ${code}: ${message}`) };
}

const replaced = (change: (entry: CustodyEntry) => Partial<CustodyEntry>) => ({
  events: (entries: CustodyEntry[]) => entries.map((entry) => ({ ...entry, ...change(entry) })),
});

describe('the custody log of a bundle', () => {
  it('has nothing against that of an honest agent, and says what it proves and what other clocks said', async () => {
    const { report, words } = await said({});
    expect(words).toEqual([]);
    expect(report.intact).toBe(true);
    expect(report.custody).toEqual({
      events: 7,
      whole: true,
      clocks: [{ source: 'time.example.org', offsetMs: 12.5, uncertaintyMs: 4, at: '2026-11-22T10:00:01.000Z' }],
    });
    expect(report.proves).toContain(
      'The custody log has its 7 events, none taken out, put in or changed since the seal.',
    );
  });

  it('may be absent from an older bundle, and not from one of an agent that keeps it', async () => {
    const drop = (manifest: { objects: { name: string }[] }, objects: Map<string, Buffer>) => {
      manifest.objects = manifest.objects.filter(({ name }) => name !== 'custody.jsonl');
      objects.delete('custody.jsonl');
    };
    const newer = await said({ change: drop });
    expect(newer.words).toEqual([expect.stringContaining('warning custody-missing: there is no custody.jsonl')]);
    const older = await said({
      change(manifest, objects) {
        drop(manifest, objects);
        delete manifest.sink;
        delete manifest.chain;
      },
    });
    expect(older.words).toEqual([]);
    const gone = await said({ change: (_manifest, objects) => void objects.delete('custody.jsonl') });
    expect(gone.words.join()).toContain(
      'error custody-missing: custody.jsonl is listed in the manifest, but not there',
    );
    expect(gone.report.intact).toBe(false);
  });

  it('is broken at the line after one that was taken out, changed, moved or put in', async () => {
    const lines = (change: (lines: string[]) => string[]) => ({
      log: (bytes: Buffer) => Buffer.from(change(bytes.toString().split(/(?<=\n)/)).join('')),
    });
    const cases: [CustodyBundleOptions, string][] = [
      [lines((all) => all.toSpliced(2, 1)), 'line 3 of custody.jsonl: it is event 4: event 3 was taken out'],
      [lines((all) => all.toSpliced(2, 2)), 'line 3 of custody.jsonl: it is event 5: events 3 to 4 were taken out'],
      [lines((all) => all.toSpliced(0, 1)), 'line 1 of custody.jsonl: it is event 2: event 1 was taken out'],
      [lines((all) => all.slice(0, -1)), 'custody.jsonl does not end with `sealing`: its last lines are missing'],
      [
        lines((all) => all.toSpliced(1, 0, all[1] ?? '')),
        'line 3 of custody.jsonl: it is event 2, and follows event 2',
      ],
      [
        lines((all) => all.with(1, (all[1] ?? '').replace('took it on', 'TOOK it on'))),
        'line 3 of custody.jsonl: the digest that it has of the line before is not that line’s: one of the two was changed',
      ],
      [{ log: (bytes) => bytes.subarray(0, -1) }, 'line 7 of custody.jsonl: the log ends in the middle of it'],
      [
        { log: () => Buffer.from('garbage\n') },
        'line 1 of custody.jsonl: line 1 of custody.jsonl is not JSON in UTF-8',
      ],
      [{ log: () => Buffer.from('{}\n') }, 'line 1 of custody.jsonl: it is no event: '],
      [
        lines((all) => all.with(0, (all[0] ?? '').replace('{', '{"event":"frozen",'))),
        'line 1 of custody.jsonl: the key "event" is there twice',
      ],
      [
        lines((all) => all.with(0, (all[0] ?? '').replace('{', '{ '))),
        'line 1 of custody.jsonl: it is not written the way events are: it was edited',
      ],
    ];
    for (const [options, message] of cases) {
      const { words, report } = await said(options);
      expect(words[0]).toContain(`error custody-broken: ${message}`);
      expect(report.custody?.whole).toBe(false);
      expect(report.intact).toBe(false);
    }
  });

  it('finds any event that was taken out of any log', () => {
    const entry = (what: string): CustodyEntry => ({
      at: '2026-01-01T00:00:00.000Z',
      event: 'accepted',
      by: 'x',
      what,
      facts: {},
    });
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 1, maxLength: 8 }), fc.nat(), (texts, index) => {
        const all = [
          { ...entry('first'), event: 'requested' as const },
          ...texts.map(entry),
          { ...entry('last'), event: 'sealing' as const },
        ];
        const bytes = Buffer.from(custodyLines(all));
        const good = createFindings();
        expect(parseCustody(bytes, good).events).toHaveLength(all.length);
        expect(good.errors).toBe(0);
        const lines = bytes.toString().split(/(?<=\n)/);
        const bad = createFindings();
        parseCustody(Buffer.from(lines.toSpliced(index % lines.length, 1).join('')), bad);
        expect(bad.errors).toBeGreaterThan(0);
      }),
    );
  });

  it('reports a clock that was set back or was wrong, which is no error', async () => {
    const back = await said(replaced(({ event }) => (event === 'thawed' ? { at: '2026-11-22T10:00:00.500Z' } : {})));
    expect(back.words).toEqual([
      'warning custody-time: event 4 of custody.jsonl is 1500 ms before an earlier one: the clock was set',
    ]);
    expect(back.report.intact).toBe(true);
    const clock = { source: 'S3', offsetMs: -1_200_000, uncertaintyMs: 500 };
    const wrong = await said(replaced(({ event }) => (event === 'accepted' ? { clock } : {})));
    expect(wrong.words).toEqual([
      'warning custody-time: at 2026-11-22T10:00:01.000Z the node’s clock was 1200000 ms (± 500) ahead of that of S3',
    ]);
  });

  it('is held against the request and the manifest', async () => {
    const facts = (event: CustodyEntry['event'], change: CustodyEntry['facts']) =>
      replaced((entry) => (entry.event === event ? { facts: { ...entry.facts, ...change } } : {}));
    const cases: [CustodyBundleOptions, string][] = [
      [
        replaced(({ event }) => (event === 'requested' ? { by: 'uid 7' } : {})),
        'error custody-disagrees: it was requested by uid 7 says the log, by uid 0, pid 17 the request',
      ],
      [facts('requested', { captureId: 'other' }), 'error custody-disagrees: event 1 is of capture other'],
      [
        facts('requested', { trigger: 'spool' }),
        'error custody-disagrees: the request came by spool says the log, by socket the request',
      ],
      [facts('requested', { caseId: 'X' }), 'error custody-disagrees: the case is X in the log, CASE-7 in the request'],
      [
        facts('object-stored', { sha256: '0'.repeat(64) }),
        'error custody-disagrees: event 5 has another SHA-256 of processes.tar.zst than the manifest',
      ],
      [
        facts('object-stored', { sizeBytes: 1 }),
        'error custody-disagrees: event 5 has 1 bytes of processes.tar.zst, the manifest',
      ],
      [
        facts('object-stored', { object: 'ghost' }),
        'error custody-disagrees: ghost was stored, says event 5; the manifest does not list it',
      ],
      [
        facts('artifact-ended', { status: 'failed' }),
        'error custody-disagrees: artifact processes is failed in the log, captured in the manifest',
      ],
      [
        facts('artifact-ended', { artifact: 'memory' }),
        'error custody-disagrees: event 6 ends artifact memory, which the manifest does not have',
      ],
      [
        facts('sealing', { outcome: 'cancelled' }),
        'error custody-disagrees: the outcome is cancelled in the log, complete in the manifest',
      ],
      [
        facts('sealing', { sink: 'other' }),
        'error custody-disagrees: the log was sealed for sink other, the manifest for court',
      ],
      [
        replaced(({ event }) => (event === 'frozen' ? { event: 'accepted' } : {})),
        'warning custody-disagrees: the manifest has the target frozen at 2026-11-22T10:00:02.000Z; the log does not say so',
      ],
      [
        { change: (manifest) => void Object.assign(manifest.freeze, { frozenAt: '2026-11-22T09:00:00.000Z' }) },
        'error custody-disagrees: the manifest has the target frozen at 2026-11-22T09:00:00.000Z; the log at another time',
      ],
      [
        { change: (manifest) => void Object.assign(manifest, { outcome: 'truncated' }) },
        'error custody-disagrees: the outcome is complete in the log, truncated in the manifest',
      ],
    ];
    for (const [options, message] of cases) expect((await said(options)).words[0]).toContain(message);
  });

  it('may tell of other sinks, and of objects of which nothing was kept', async () => {
    const more = (event: CustodyEntry['event'], facts: CustodyEntry['facts']) => ({
      events: (entries: CustodyEntry[]) => {
        const { at } = entries[6] ?? { at: '' };
        return entries.toSpliced(6, 0, { event, at, by: 'x', what: 'y', facts });
      },
    });
    expect((await said(more('object-stored', { object: 'ghost', sink: 'elsewhere' }))).words).toEqual([]);
    expect((await said(more('object-cut', { object: 'ghost', sink: 'court' }))).words).toEqual([]);
  });
});
