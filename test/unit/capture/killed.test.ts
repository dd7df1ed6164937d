import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createCaptures } from '../../../agent/capture/captures.ts';
import type { JournalEntry } from '../../../agent/capture/journal.ts';
import { openSink } from '../../../agent/sink/open.ts';
import type { NamedSink } from '../../../agent/sink/several.ts';
import { openBundle } from '../../../evidence/bundle.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { ID, keyOf, manifestIn, requestOf, startAgent, type TestAgent, verified } from './agent.ts';
import { dyingAt } from './dying.ts';
import type { Collect } from './spine.ts';
import { SpoolingSink } from './spooling-sink.ts';

/**
 * The agent dies at every record of its draft: nothing of it is left but what the vault and the sinks have. Whatever is there,
 * the next agent seals it once in each sink, what the manifest lists is there with its digests, and nothing else is.
 */

let folder: string;
let one: SpoolingSink;
let two: SpoolingSink;
beforeEach(async () => {
  folder = await mkdtemp(path.join(existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'exhibit-killed-'));
  one = new SpoolingSink('mem://one');
  two = new SpoolingSink('mem://two');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sinks = () => [
  { name: 'one', sink: one.ofAgent() },
  { name: 'two', sink: two.ofAgent() },
];

const body = createHash('shake256', { outputLength: 2 << 20 })
  .update('memory')
  .digest();
/** Freezes, and writes an archive with its list beside it, in parallel. */
const memory: Collect = async (context) => {
  await (await context.freeze()).thaw();
  await using lines = await context.text('inventory.jsonl.zst', 'jsonl');
  await using archive = await context.archive('memory.tar.zst', { membersIn: 'inventory.jsonl.zst' });
  await archive.add({ path: '7/core', type: 'file', sizeBytes: body.length }, body);
  const sha256 = createHash('sha256').update(body).digest('hex');
  await lines.line(JSON.stringify({ path: '7/core', type: 'file', sizeBytes: body.length, sha256 }));
  await lines.commit();
  await archive.commit();
};

/** One agent does what it has to do and dies there. False when it came to its end before. */
async function diesAt(
  record: number,
  when: 'before' | 'after',
  work: (agent: TestAgent) => Promise<unknown>,
  into: readonly NamedSink[] = sinks(),
): Promise<boolean> {
  const death = Promise.withResolvers<boolean>();
  const around = dyingAt(record, when, () => death.resolve(true));
  const ended = startAgent({ folder, sinks: into, around })
    .then(work)
    .then(
      () => false,
      () => false,
    );
  const died = await Promise.race([death.promise, ended]);
  for (const sink of [one, two]) sink.kill();
  return died;
}

async function expectSealedOnce(sink: SpoolingSink, what: string): Promise<void> {
  const report = await verified(sink);
  const bad = report.findings.filter(({ severity, code }) => severity !== 'info' && code !== 'signer-unvouched');
  // A list of members that died with its agent is a warning, as it should be.
  expect(
    bad.filter(({ code }) => code !== 'members-not-listed').map(({ message }) => message),
    what,
  ).toEqual([]);
  expect(report.intact, what).toBe(true);
  const manifest = manifestIn(sink);
  for (const { name, stored } of manifest.objects) {
    const bytes = sink.stored.get(keyOf(name)) ?? Buffer.alloc(0);
    expect([bytes.length, createHash('sha256').update(bytes).digest('hex')], `${what}: ${name}`).toEqual([
      stored.sizeBytes,
      stored.sha256,
    ]);
  }
  expect(sink.calls.filter((call) => call === 'open manifest.dsse.json').length, what).toBeGreaterThan(0);
  expect(sink.ledger.size, what).toBe(0);
}

/** As `recover` leaves it. */
const INTERRUPTED: JournalEntry = {
  captureId: ID,
  requestKey: 'key',
  state: 'interrupted',
  target: 'prod/web-0/web',
  caseId: 'C-1',
  reason: 'alert',
  bundleUrl: 'mem://one',
  startedAtMs: 1,
  finishedAtMs: 2,
  error: 'the agent ended during the capture',
  stages: [],
};

describe('an agent that is killed', () => {
  test.each(['before', 'after'] as const)(
    '%s any record of its draft is followed by one that seals exactly once',
    async (when) => {
      const outcomes = new Set<string>();
      let record = 1;
      for (; ; record += 1) {
        one = new SpoolingSink('mem://one');
        two = new SpoolingSink('mem://two');
        await rm(path.join(folder, 'vault'), { recursive: true, force: true });
        if (!(await diesAt(record, when, (agent) => agent.capture({ collectors: { memory } })))) break;
        // One death more, of the agent that follows, wherever that comes.
        if (record % 3 === 0) await diesAt(1 + ((record / 3) % 7), when, (agent) => agent.settled());
        await using next = await startAgent({ folder, sinks: sinks() });
        await next.settled();
        if (one.stored.size === 0) {
          // Killed before its first word: nobody was told of this capture, and nothing is left of it.
          expect([when, record, two.stored.size]).toEqual(['before', 1, 0]);
          continue;
        }
        for (const sink of [one, two]) {
          await expectSealedOnce(sink, `${when} record ${record}, ${sink.url}`);
          outcomes.add(manifestIn(sink).outcome);
        }
        expect(await next.vault.list('captures')).toEqual([]);
      }
      expect(record).toBeGreaterThan(30);
      expect([...outcomes].sort()).toEqual(['complete', 'truncated']);
    },
    120_000,
  );

  test.each([1, 2, 3, 12])(
    'after record %i is followed by one that knows the capture, though the journal did not',
    async (record) => {
      expect(await diesAt(record, 'after', (agent) => agent.capture({ collectors: { memory } }))).toBe(true);
      await using next = await startAgent({ folder, sinks: sinks() });
      await next.settled();
      expect(next.journal.get(ID)).toMatchObject({
        ...{ state: 'truncated', target: 'prod/web-0/web', error: 'the agent ended during the capture' },
        ...{ requestKey: expect.stringMatching(/^[0-9a-f]{64}$/), trigger: 'socket', caseId: 'C-1' },
        asked: { trigger: 'socket', identity: 'uid 0, pid 17', selector: 'prod/web-0' },
      });
      // Whoever asks for the same id gets what became of it, and no second capture.
      const captures = createCaptures({
        ...{ journal: next.journal, now: Date.now, log: pino({ level: 'silent' }) },
        execute: () => expect.fail('captured a second time'),
      });
      const again = await captures.start(requestOf(ID));
      expect(again.created).toBe(false);
      const events = await Array.fromAsync(again.events());
      expect(events.at(-1)).toMatchObject({ kind: 'ended', capture: { state: 'truncated' } });
    },
  );

  test('at any record leaves a folder that the next one seals, with nothing half written in it', async () => {
    const evidence = path.join(folder, 'evidence');
    const opened = () => [{ name: 'one', sink: openSink({ url: `file://${evidence}` }) }];
    let record = 1;
    for (; ; record += 1) {
      for (const one of [evidence, path.join(folder, 'vault')]) await rm(one, { recursive: true, force: true });
      const capture = (agent: TestAgent) => agent.capture({ collectors: { memory } });
      if (!(await diesAt(record, 'after', capture, opened()))) break;
      await using next = await startAgent({ folder, sinks: opened() });
      await next.settled();
      await using reader = await openBundle(path.join(evidence, keyOf('')));
      const { findings, intact } = await verifyBundle(reader);
      const bad = findings.filter(({ severity, code }) => severity === 'error' || code === 'custody-disagrees');
      expect({ record, intact, bad: bad.map(({ message }) => message) }).toEqual({ record, intact: true, bad: [] });
    }
    expect(record).toBeGreaterThan(25);
  }, 120_000);

  test('says of each artifact how far it came, and from which byte on nothing is there', async () => {
    const slow: Collect = async (context) => {
      const archive = await context.archive('memory.tar.zst');
      await archive.add({ path: '7/core', type: 'file', sizeBytes: body.length }, body);
      await new Promise(() => undefined);
    };
    const agent = await startAgent({ folder, sinks: sinks() });
    await agent.journal.put(INTERRUPTED);
    void agent.capture({ collectors: { memory: slow } });
    while (![one, two].every((sink) => sink.heldBytes(keyOf('memory.tar.zst')) > 1 << 20)) await nextTurn();
    for (const sink of [one, two]) sink.kill();
    await using next = await startAgent({ folder, sinks: sinks() });
    await next.settled();
    expect(next.journal.get(ID)).toMatchObject({ state: 'truncated', waiting: ['one', 'two'] });
    expect(next.delivered.at(-1)).toEqual({ captureId: ID, outcome: 'truncated', waiting: [] });
    const { outcome, artifacts, objects } = manifestIn(one);
    expect(outcome).toBe('truncated');
    expect(artifacts.map(({ name, status, reason }) => [name, status, reason])).toEqual([
      ['processes', 'captured', undefined],
      ['memory', 'partial', 'the agent ended during the capture'],
      ['logs', 'skipped', 'the agent ended during the capture'],
    ]);
    const there = one.stored.get(keyOf('memory.tar.zst'))?.length ?? 0;
    expect(there).toBeGreaterThan(1 << 20);
    expect(objects.find(({ name }) => name === 'memory.tar.zst')).toMatchObject({ stored: { sizeBytes: there } });
    expect(artifacts[1]?.gaps.map(({ why }) => why).join()).toContain(`from byte ${there} of an unknown number of`);
    await expectSealedOnce(one, 'in the middle of memory');
  });

  test('leaves a draft that cannot be read where it is, and the others are sealed', async () => {
    one.away = true;
    const id = '01a20000-0000-7000-8000-000000000002';
    {
      await using agent = await startAgent({ folder, sinks: [{ name: 'one', sink: one }] });
      await agent.capture();
      await agent.capture({ captureId: id });
      await agent.vault.append(`captures/${id}`, { at: 'never', change: { kind: 'nonsense' } });
    }
    one.away = false;
    await using next = await startAgent({ folder, sinks: [{ name: 'one', sink: one }] });
    expect(next.logged.find(({ msg }) => String(msg).startsWith('draft set aside'))).toMatchObject({
      draft: `captures/${id}`,
    });
    while (next.delivered.length === 0) await nextTurn();
    expect((await verified(one)).intact).toBe(true);
    expect(await next.vault.list('captures')).toEqual([`captures/${id}`]);
  });
});
