import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createEncryption, type Encrypt } from '../../../evidence/age-writer.ts';
import { decryptingReader } from '../../../evidence/bundle-encrypted.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { gather } from '../evidence/memory-sink.ts';
import { ID, keyOf, manifestIn, readerIn, startAgent, type TestAgent, verified } from './agent.ts';
import { dyingAt } from './dying.ts';
import type { Collect } from './spine.ts';
import { SpoolingSink } from './spooling-sink.ts';

/**
 * Captures that are encrypted and outlive their agent, a sink, or the configuration: whatever is configured when they are sealed,
 * a bundle is of one form and to one set of readers, and verify says what it holds with their identity and without.
 */

let identity: string;
let otherIdentity: string;
let encrypt: Encrypt;
let toOthers: Encrypt;
beforeAll(async () => {
  [identity, otherIdentity] = [await generateX25519Identity(), await generateX25519Identity()];
  encrypt = await createEncryption([await identityToRecipient(identity)]);
  toOthers = await createEncryption([await identityToRecipient(otherIdentity)]);
});

let folder: string;
let one: SpoolingSink;
let two: SpoolingSink;
beforeEach(async () => {
  folder = await mkdtemp(path.join(existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'exhibit-encrypted-'));
  one = new SpoolingSink('mem://one');
  two = new SpoolingSink('mem://two');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sinks = () => [
  { name: 'one', sink: one.ofAgent() },
  { name: 'two', sink: two.ofAgent() },
];

/** In plain nowhere: the random bytes are large enough for some frames and chunks. */
const SECRET = 'planted-secret-77aa';
const noise = createHash('shake256', { outputLength: 300_000 }).update('memory').digest();
const body = Buffer.concat([Buffer.from(SECRET), noise]);

const memory: Collect = async (context) => {
  await (await context.freeze()).thaw();
  await using archive = await context.archive('memory.tar.zst');
  await archive.add({ path: '7/core', type: 'file', sizeBytes: body.length }, body);
  await archive.commit();
};

async function diesAt(record: number, to: Encrypt | undefined, work: (agent: TestAgent) => Promise<unknown>) {
  const death = Promise.withResolvers<boolean>();
  const around = dyingAt(record, 'after', () => death.resolve(true));
  const ended = startAgent({ folder, sinks: sinks(), around, encrypt: to })
    .then(work)
    .then(
      () => false,
      () => false,
    );
  const died = await Promise.race([death.promise, ended]);
  for (const sink of [one, two]) sink.kill();
  return died;
}

const namesIn = (sink: SpoolingSink) => [...sink.stored.keys()].map((key) => key.slice(keyOf('').length)).sort();

async function manifestOf(sink: SpoolingSink, by = identity): Promise<Manifest> {
  const reader = await decryptingReader(readerIn(sink), [by]);
  return JSON.parse((await gather(reader.read('manifest.json'))).toString()) as Manifest;
}

/** Errors, and what contradicts or is missing from the custody log. */
const faults = ({ findings }: Awaited<ReturnType<typeof verifyBundle>>) =>
  findings
    .filter(({ severity, code }) => severity === 'error' || code.startsWith('custody'))
    .map(({ code, message }) => `${code}: ${message}`);

async function expectEncrypted(sink: SpoolingSink, what: string): Promise<void> {
  expect(
    namesIn(sink).filter((name) => !name.endsWith('.age')),
    what,
  ).toEqual(['manifest.dsse.json']);
  for (const bytes of sink.stored.values()) expect(bytes.includes(SECRET), what).toBe(false);
  const opened = await verifyBundle(await decryptingReader(readerIn(sink), [identity]));
  expect([what, faults(opened), opened.intact]).toEqual([what, [], true]);
  const stored = await verifyBundle(await decryptingReader(readerIn(sink), []));
  expect([what, faults(stored), stored.intactAsStored]).toEqual([what, [], true]);
  const stranger = await verifyBundle(await decryptingReader(readerIn(sink), [otherIdentity]));
  expect([what, stranger.intact, stranger.intactAsStored]).toEqual([what, false, true]);
  const { objects } = await manifestOf(sink);
  expect(objects.map((object) => object.encryption)).toEqual(objects.map(() => 'age'));
  expect(sink.ledger.size, what).toBe(0);
}

async function expectPlain(sink: SpoolingSink): Promise<void> {
  expect(namesIn(sink).filter((name) => name.endsWith('.age'))).toEqual([]);
  const report = await verified(sink);
  expect([faults(report), report.intact]).toEqual([[], true]);
  expect(manifestIn(sink).objects.map(({ encryption }) => encryption)).toEqual(
    manifestIn(sink).objects.map(() => undefined),
  );
}

describe('a capture that is encrypted', () => {
  test('and whose agent dies at any record is sealed as it began, whatever the next one is configured to', async () => {
    const outcomes = new Set<string>();
    let record = 1;
    for (; ; record += 1) {
      one = new SpoolingSink('mem://one');
      two = new SpoolingSink('mem://two');
      await rm(path.join(folder, 'vault'), { recursive: true, force: true });
      if (!(await diesAt(record, encrypt, (agent) => agent.capture({ collectors: { memory } })))) break;
      const [config, to] = (
        [
          ['the same recipients', encrypt],
          ['no encryption', undefined],
          ['other recipients', toOthers],
        ] as const
      )[record % 3] ?? ['', undefined];
      if (record % 4 === 0) await diesAt(1 + ((record / 4) % 7), to, (agent) => agent.settled());
      await using next = await startAgent({ folder, sinks: sinks(), encrypt: to });
      await next.settled();
      for (const sink of [one, two]) {
        await expectEncrypted(sink, `record ${record}, then ${config}, ${sink.url}`);
        outcomes.add((await manifestOf(sink)).outcome);
      }
    }
    expect(record).toBeGreaterThan(30);
    expect([...outcomes].sort()).toEqual(['complete', 'truncated']);
  }, 120_000);

  test('leaves no word of what it took in the vault while it waits', async () => {
    one.away = true;
    await using agent = await startAgent({ folder, sinks: [{ name: 'one', sink: one }], encrypt });
    await agent.capture({ collectors: { memory } });
    for (const name of await agent.vault.list('captures'))
      expect(JSON.stringify(await agent.vault.records(name))).not.toContain(SECRET);
    one.away = false;
    await agent.settled();
    await expectEncrypted(one, 'delivered later');
  });

  test('and whose sink is away is delivered by an agent without encryption, in the form in which it waited', async () => {
    one.away = true;
    {
      await using agent = await startAgent({ folder, sinks: sinks(), encrypt });
      const { waiting } = await agent.capture({ collectors: { memory } });
      expect(waiting).toEqual(['one']);
      await expectEncrypted(two, 'the sink that was there');
    }
    one.kill();
    one.away = false;
    await using next = await startAgent({ folder, sinks: sinks() });
    await next.settled();
    await expectEncrypted(one, 'the sink that was away');
  });

  test('has its request written again, encrypted, where that was lost', async () => {
    one.away = true;
    one.cutTo.set('request.json.age', 0);
    {
      await using agent = await startAgent({ folder, sinks: [{ name: 'one', sink: one.ofAgent() }], encrypt });
      await agent.capture();
    }
    one.kill();
    one.away = false;
    await using next = await startAgent({ folder, sinks: [{ name: 'one', sink: one.ofAgent() }] });
    await next.settled();
    await expectEncrypted(one, 'request written again');
    const reader = await decryptingReader(readerIn(one), [identity]);
    expect((await gather(reader.read('custody.jsonl'))).toString()).toContain('wrote request.json to one again');
  });

  test('and has a part of its memory only says how many frames of it can be read', async () => {
    one.away = true;
    one.cutTo.set('memory.tar.zst.age', 200_000);
    {
      await using agent = await startAgent({ folder, sinks: [{ name: 'one', sink: one.ofAgent() }], encrypt });
      await agent.capture({ collectors: { memory } });
    }
    one.kill();
    one.away = false;
    await using next = await startAgent({ folder, sinks: [{ name: 'one', sink: one.ofAgent() }] });
    await next.settled();
    await expectEncrypted(one, 'a part of its memory');
    const { artifacts, objects } = await manifestOf(one);
    expect(objects.find(({ name }) => name === 'memory.tar.zst')).toMatchObject({
      stored: { sizeBytes: 200_000 },
      truncated: 'the rest was not kept',
      encryption: 'age',
    });
    expect(artifacts.find(({ name }) => name === 'memory')).toMatchObject({ status: 'partial', gapCount: 1 });
    const report = await verifyBundle(await decryptingReader(readerIn(one), [identity]));
    const said = report.findings.find(({ code }) => code === 'object-truncated');
    expect(said?.message).toMatch(
      /\(the rest was not kept\): \d+ whole frames of it can be read, \d+ bytes of content$/,
    );
  });

  test('asks its sinks to write no case beside its objects, and to lock them by it all the same', async () => {
    const asked: (readonly [string, boolean | undefined, string | undefined])[] = [];
    const sink = one.ofAgent();
    const listening = {
      ...sink,
      open: (key: string, options: Parameters<typeof sink.open>[1]) => {
        asked.push([key.slice(keyOf('').length), options.about?.unlabelled, options.about?.caseId]);
        return sink.open(key, options);
      },
    };
    await using agent = await startAgent({ folder, sinks: [{ name: 'one', sink: listening }], encrypt });
    await agent.capture();
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.filter(([, unlabelled, caseId]) => unlabelled !== true || caseId !== 'C-1')).toEqual([]);
  });
});

describe('a capture that began in plain', () => {
  test('and whose agent dies is sealed in plain, though the next one encrypts', async () => {
    for (const record of [1, 4, 12, 24]) {
      one = new SpoolingSink('mem://one');
      two = new SpoolingSink('mem://two');
      await rm(path.join(folder, 'vault'), { recursive: true, force: true });
      expect(await diesAt(record, undefined, (agent) => agent.capture({ collectors: { memory } }))).toBe(true);
      await using next = await startAgent({ folder, sinks: sinks(), encrypt });
      await next.settled();
      for (const sink of [one, two]) await expectPlain(sink);
    }
  });

  test('is one link of a chain with those that were encrypted after it', async () => {
    const id = '01a20000-0000-7000-8000-000000000002';
    one.away = true;
    {
      await using agent = await startAgent({ folder, sinks: [{ name: 'one', sink: one }] });
      await agent.capture();
    }
    one.away = false;
    await using next = await startAgent({ folder, sinks: [{ name: 'one', sink: one }], encrypt });
    while ((await next.vault.list('captures')).length > 0) await nextTurn();
    await next.capture({ captureId: id });
    const { chain } = manifestIn(one, ID);
    const reader = await decryptingReader(readerIn(one, id), [identity]);
    const later = JSON.parse((await gather(reader.read('manifest.json'))).toString()) as Manifest;
    expect(later.chain).toMatchObject({ chainId: chain?.chainId, sequence: 2, previous: { captureId: ID } });
  });
});
