import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createChain } from '../../../agent/capture/chain.ts';
import { openDelivery } from '../../../agent/capture/delivery.ts';
import { readDrafts } from '../../../agent/capture/drafts.ts';
import { openVault } from '../../../agent/sink/vault.ts';
import type { CustodyEvent } from '../../../evidence/custody.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { generateSigner, type Sealer } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { ID, keyOf, manifestIn, startAgent, VERSION, verified } from './agent.ts';
import type { Collect } from './spine.ts';
import { SpoolingSink } from './spooling-sink.ts';

let folder: string;
let one: SpoolingSink;
let two: SpoolingSink;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-delivery-'));
  one = new SpoolingSink('mem://one');
  two = new SpoolingSink('mem://two');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const onlyOne = () => [{ name: 'one', sink: one }];
const both = () => [
  { name: 'one', sink: one },
  { name: 'two', sink: two },
];
const custodyIn = (sink: SpoolingSink, captureId = ID): CustodyEvent[] =>
  (sink.stored.get(keyOf('custody.jsonl', captureId))?.toString() ?? '')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as CustodyEvent);
const kinds = (sink: SpoolingSink) => custodyIn(sink).map(({ event }) => event);
const errorsOf = async (sink: SpoolingSink, captureId = ID) => {
  const { intact, findings } = await verified(sink, captureId);
  return { intact, bad: findings.filter(({ severity, code }) => severity !== 'info' && code !== 'signer-unvouched') };
};
const GOOD = { intact: true, bad: [] };

/** Frames of content that does not compress, so that a cut is in the middle of something. */
const large: Collect = async (context) => {
  await using archive = await context.archive('memory.tar.zst');
  const body = createHash('shake256', { outputLength: 3 << 20 })
    .update('memory')
    .digest();
  await archive.add({ path: '7/core', type: 'file', sizeBytes: body.length }, body);
  await archive.commit();
};

describe('a capture whose sink took everything', () => {
  test('is sealed before it ends, names its sink and its place in the chain, and leaves no draft', async () => {
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    expect(await agent.capture()).toEqual({ state: 'complete', waiting: [] });
    expect(await agent.vault.list('captures')).toEqual([]);
    expect(one.ledger.size).toBe(0);
    const { sink, chain, outcome } = manifestIn(one);
    expect({ sink, outcome, chain }).toEqual({
      sink: { name: 'one', url: 'mem://one' },
      outcome: 'complete',
      chain: { chainId: expect.any(String), sequence: 1 },
    });
    expect([...one.stored.keys()].slice(-3)).toEqual(
      ['custody.jsonl', 'manifest.json', 'manifest.dsse.json'].map((name) => keyOf(name)),
    );
    expect(await errorsOf(one)).toEqual(GOOD);
  });

  test('tells in its custody log who asked, what was done and when', async () => {
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    const freezing: Collect = async (context) => {
      await (await context.freeze()).thaw();
      await large(context);
    };
    await agent.capture({ collectors: { memory: freezing } });
    expect(kinds(one)).toEqual([
      'requested',
      'object-stored',
      'accepted',
      ...['artifact-started', 'object-stored', 'artifact-ended'],
      ...['artifact-started', 'frozen', 'thawed', 'object-stored', 'artifact-ended'],
      ...['artifact-started', 'object-stored', 'artifact-ended'],
      'sealing',
    ]);
    expect(custodyIn(one)[0]).toMatchObject({ by: 'uid 0, pid 17', facts: { trigger: 'socket', caseId: 'C-1' } });
    expect(custodyIn(one).at(-1)).toMatchObject({ facts: { sink: 'one', outcome: 'complete' } });
  });
});

describe('a draft that comes when the work on the one before it ends', () => {
  const [first, second] = ['01a20000-0000-7000-8000-00000000000a', '01a20000-0000-7000-8000-00000000000b'];

  test.each(Array.from({ length: 12 }, (_, turns) => turns))('is delivered, %i turns after that', async (turns) => {
    one.away = true;
    {
      await using agent = await startAgent({ folder, sinks: onlyOne() });
      for (const captureId of [first, second]) await agent.capture({ captureId });
    }
    one.away = false;
    const log = pino({ level: 'silent' });
    const vault = await openVault(path.join(folder, 'vault'), Buffer.alloc(32, 7));
    const drafts = await readDrafts({ vault, now: Date.now, log });
    const both = Promise.withResolvers<void>();
    await using delivery = openDelivery({
      ...{ sinks: onlyOne(), sealer: createSealer(generateSigner()), version: VERSION, now: Date.now, log },
      chain: createChain({ vault, log }),
      onDelivered: async ({ captureId }) => {
        if (captureId === second) return both.resolve();
        void (async () => {
          for (let turn = 0; turn < turns; turn += 1) await undefined;
          delivery.resume(drafts.slice(1));
        })();
      },
    });
    delivery.resume(drafts.slice(0, 1));
    await both.promise;
    expect([manifestIn(one, first).captureId, manifestIn(one, second).captureId]).toEqual([first, second]);
  });
});

describe('the chain of captures in a sink', () => {
  const ids = [1, 2, 3, 4].map((number) => `01a20000-0000-7000-8000-00000000000${number}`);

  test('gives each its number, also to those that end together and after a restart', async () => {
    const sealer = createSealer(generateSigner());
    {
      await using agent = await startAgent({ folder, sinks: onlyOne(), sealer });
      await Promise.all(ids.slice(0, 3).map((captureId) => agent.capture({ captureId })));
    }
    await using next = await startAgent({ folder, sinks: onlyOne(), sealer });
    await next.capture({ captureId: ids[3] ?? '' });
    const links = ids.map((captureId) => ({ captureId, ...manifestIn(one, captureId).chain }));
    const sorted = links.toSorted((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
    expect(sorted.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4]);
    expect(new Set(links.map(({ chainId }) => chainId)).size).toBe(1);
    for (const [index, link] of sorted.entries()) {
      const before = sorted[index - 1];
      if (before === undefined) expect(link.previous).toBeUndefined();
      else {
        const seal = one.stored.get(keyOf('manifest.dsse.json', before.captureId)) ?? Buffer.alloc(0);
        const sealSha256 = createHash('sha256').update(seal).digest('hex');
        expect(link.previous).toEqual({ captureId: before.captureId, sealSha256 });
      }
    }
  });

  test('begins anew where its end is lost or was changed', async () => {
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    await agent.capture({ captureId: ids[0] ?? '' });
    await agent.vault.write('chain/one', Buffer.from('{}'));
    await using next = await startAgent({ folder, sinks: onlyOne() });
    await next.capture({ captureId: ids[1] ?? '' });
    const [first, second] = ids.map((captureId) => manifestIn(one, captureId)?.chain);
    expect(second?.sequence).toBe(1);
    expect(second?.chainId).not.toBe(first?.chainId);
  });

  test('does not spend a number on a seal that no key made', async () => {
    const good = createSealer(generateSigner());
    let broken = true;
    const sealer: Sealer = {
      keyId: good.keyId,
      seal: (facts, signal) =>
        broken ? Promise.reject(new ExhibitError('sink-failed', 'the key is away')) : good.seal(facts, signal),
    };
    await using agent = await startAgent({ folder, sinks: onlyOne(), sealer });
    expect(await agent.capture()).toEqual({ state: 'complete', waiting: ['one'] });
    expect(agent.seals).toEqual([]);
    broken = false;
    await agent.settled();
    expect(manifestIn(one).chain?.sequence).toBe(1);
    expect(agent.seals).toEqual([{ sink: 'one', whole: true }]);
    expect(kinds(one)).toContain('sink-failed');
    expect(await errorsOf(one)).toEqual(GOOD);
  });
});

describe('a seal that lacks what configuration promises', () => {
  test.for([
    ['a key', { signers: [{ name: 'kms', known: undefined, ask: () => Promise.reject(new Error('KMS is away')) }] }],
    ['a timestamp', { timestamp: { requestedFrom: ['tsa'], stamp: () => Promise.reject(new Error('refused')) } }],
  ] as const)('is told to whoever counts: %s', async ([, lacking]) => {
    const own = generateSigner();
    const sealer = createSealer({ ...lacking, signers: [own, ...('signers' in lacking ? lacking.signers : [])] });
    await using agent = await startAgent({ folder, sinks: both(), sealer });
    expect(await agent.capture()).toEqual({ state: 'complete', waiting: [] });
    expect(agent.seals).toEqual(expect.arrayContaining(['one', 'two'].map((sink) => ({ sink, whole: false }))));
    expect(agent.seals).toHaveLength(2);
  });
});

describe('a sink that is away', () => {
  test('gets objects and seal when it is back, from the same agent', async () => {
    one.away = true;
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    expect(await agent.capture()).toEqual({ state: 'complete', waiting: ['one'] });
    expect(one.stored.size).toBe(0);
    one.away = false;
    await agent.settled();
    expect(agent.delivered.at(-1)).toEqual({ captureId: ID, outcome: 'complete', waiting: [] });
    expect(kinds(one).filter((event) => event.startsWith('object'))).toEqual([
      ...Array(4).fill('object-spooled'),
      ...Array(4).fill('object-delivered'),
    ]);
    expect(one.ledger.size).toBe(0);
    expect(await errorsOf(one)).toEqual(GOOD);
  });

  test('gets them from the next agent, which says that it took over', async () => {
    one.away = true;
    {
      await using agent = await startAgent({ folder, sinks: onlyOne() });
      await agent.capture();
    }
    one.kill();
    one.away = false;
    await using next = await startAgent({ folder, sinks: onlyOne() });
    await next.settled();
    expect(manifestIn(one).outcome).toBe('complete');
    expect(kinds(one)).toContain('recovered');
    expect(await errorsOf(one)).toEqual(GOOD);
  });

  test('holds up no other sink, and is told of once however often it is tried', async () => {
    two.away = true;
    await using agent = await startAgent({ folder, sinks: both() });
    expect(await agent.capture()).toEqual({ state: 'complete', waiting: ['two'] });
    expect(await errorsOf(one)).toEqual(GOOD);
    const tried = () => two.calls.filter((call) => call === 'settle request.json').length;
    while (tried() < 5) await nextTurn();
    expect(agent.logged.filter(({ msg }) => msg === 'capture waits for a sink')).toHaveLength(1);
    expect([agent.problemOf('two'), agent.problemOf('one')]).toEqual(['the sink is away', undefined]);
    two.away = false;
    await agent.settled();
    expect(agent.problemOf('two')).toBeUndefined();
    expect(manifestIn(two).sink?.name).toBe('two');
    expect(kinds(two).filter((event) => event === 'sink-failed')).toHaveLength(1);
    expect(await errorsOf(two)).toEqual(GOOD);
  });

  test('is not waited for where the configuration has it no more, and its draft stays', async () => {
    two.away = true;
    {
      await using agent = await startAgent({ folder, sinks: both() });
      await agent.capture();
    }
    await using next = await startAgent({ folder, sinks: onlyOne() });
    expect(next.logged.find(({ sink }) => sink === 'two')?.msg).toMatch(/not configured/);
    expect(await next.vault.list('captures')).toEqual([`captures/${ID}`]);
  });
});

describe('an object that is not whole in a sink', () => {
  const taken = (sink: SpoolingSink) => manifestIn(sink).artifacts.find(({ name }) => name === 'memory');

  test.each([
    ['cut', 1_000_000, 'partial'],
    ['lost', 0, 'failed'],
  ])(
    'because what waited was %s is a gap with sizes, and the manifest lists what is there',
    async (_, keptBytes, status) => {
      one.away = true;
      await using agent = await startAgent({ folder, sinks: onlyOne() });
      await agent.capture({ collectors: { memory: large } });
      one.cutTo.set('memory.tar.zst', keptBytes);
      one.away = false;
      await agent.settled();
      const { outcome, objects } = manifestIn(one);
      expect(outcome).toBe('partial');
      expect(agent.delivered.at(-1)?.outcome).toBe('partial');
      expect(taken(one)).toMatchObject({ status, gapCount: 1 });
      expect(taken(one)?.gaps[0]?.why).toMatch(
        keptBytes === 0 ? /^none of its 3\d{6} stored bytes/ : /^from byte 1000000 of 3\d{6} stored bytes on nothing/,
      );
      const memory = objects.find(({ name }) => name === 'memory.tar.zst');
      if (keptBytes === 0) expect(memory).toBeUndefined();
      else {
        expect(memory).toMatchObject({ truncated: 'the rest was not kept', stored: { sizeBytes: keptBytes } });
        expect(memory).not.toHaveProperty('content');
        expect(memory).not.toHaveProperty('members');
      }
      expect(await errorsOf(one)).toEqual(GOOD);
    },
  );

  test('because the spool is full ends its artifact, and the capture goes on', async () => {
    one.fullAfter.set('memory.tar.zst', 2_000_000);
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    expect(await agent.capture({ collectors: { memory: large } })).toEqual({ state: 'partial', waiting: [] });
    expect(taken(one)).toMatchObject({ status: 'failed', gapCount: 1, objects: ['memory.tar.zst'] });
    expect(taken(one)?.gaps[0]?.why).toMatch(/^from byte 2000000 of an unknown number of stored bytes on/);
    expect(manifestIn(one).artifacts.find(({ name }) => name === 'logs')?.status).toBe('captured');
    expect(await errorsOf(one)).toEqual(GOOD);
  });

  test('in one of several is whole in the others, and each says so', async () => {
    two.fullAfter.set('memory.tar.zst', 2_000_000);
    await using agent = await startAgent({ folder, sinks: both() });
    await agent.capture({ collectors: { memory: large } });
    await agent.settled();
    expect([manifestIn(one).outcome, manifestIn(two).outcome]).toEqual(['complete', 'partial']);
    expect(taken(one)?.notes.join()).toMatch(/sink two has not all of memory.tar.zst/);
    expect([await errorsOf(one), await errorsOf(two)]).toEqual([GOOD, GOOD]);
  });

  test('because one of several sinks failed is noted there, and the capture goes on', async () => {
    two.failing.add('memory.tar.zst');
    await using agent = await startAgent({ folder, sinks: both() });
    await agent.capture({ collectors: { memory: large } });
    await agent.settled();
    expect(manifestIn(one).outcome).toBe('complete');
    expect(taken(two)).toMatchObject({ status: 'failed', objects: [] });
    expect(kinds(two)).toContain('sink-failed');
    expect([await errorsOf(one), await errorsOf(two)]).toEqual([GOOD, GOOD]);
  });

  test('of a list of members takes the list from its archive', async () => {
    one.away = true;
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    const listed: Collect = async (context) => {
      await using lines = await context.text('inventory.jsonl.zst', 'jsonl');
      await using archive = await context.archive('memory.tar.zst', { membersIn: 'inventory.jsonl.zst' });
      await archive.add({ path: 'a', type: 'file', sizeBytes: 1 }, Buffer.from('a'));
      await archive.commit();
      await lines.line(JSON.stringify({ path: 'a', type: 'file', sizeBytes: 1 }));
      await lines.commit();
    };
    await agent.capture({ collectors: { memory: listed } });
    one.cutTo.set('inventory.jsonl.zst', 0);
    one.away = false;
    await agent.settled();
    const archive = manifestIn(one).objects.find(({ name }) => name === 'memory.tar.zst');
    expect(archive).not.toHaveProperty('membersIn');
    expect((await verified(one)).intact).toBe(true);
  });

  test('is written again where it is the request, whose bytes are known', async () => {
    one.away = true;
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    await agent.capture();
    one.cutTo.set('request.json', 0);
    one.away = false;
    await agent.settled();
    expect(one.stored.has(keyOf('request.json'))).toBe(true);
    expect(await errorsOf(one)).toEqual(GOOD);
  });
});

describe('when no sink takes any more', () => {
  test('the capture fails, and what was stored is sealed as truncated', async () => {
    for (const sink of [one, two]) sink.failing.add('memory.tar.zst');
    await using agent = await startAgent({ folder, sinks: both() });
    await expect(agent.capture({ collectors: { memory: large } })).rejects.toMatchObject({ code: 'sink-failed' });
    for (const sink of [one, two]) {
      const { outcome, artifacts } = manifestIn(sink);
      expect(outcome).toBe('truncated');
      expect(artifacts.map(({ name, status }) => [name, status])).toEqual([
        ['processes', 'captured'],
        ['memory', 'failed'],
        ['logs', 'skipped'],
      ]);
      expect(await errorsOf(sink)).toEqual(GOOD);
    }
    expect(await agent.vault.list('captures')).toEqual([]);
  });

  test('of its first object there is no capture, and no draft', async () => {
    one.failing.add('request.json');
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    await expect(agent.capture()).rejects.toMatchObject({ code: 'sink-failed' });
    expect(await agent.vault.list('captures')).toEqual([]);
    expect(one.stored.size).toBe(0);
  });

  test('because a bundle of this id is in one of them, nothing is captured and that bundle is left alone', async () => {
    two.stored.set(keyOf('request.json'), Buffer.from('of another agent'));
    await using agent = await startAgent({ folder, sinks: both() });
    await expect(agent.capture()).rejects.toMatchObject({ code: 'sink-exists' });
    expect([...two.stored.values()].map(String)).toEqual(['of another agent']);
    expect(await agent.vault.list('captures')).toEqual([]);
  });
});

describe('the end of a bundle', () => {
  test('that failed in the middle is written again with the very same bytes', async () => {
    one.failing.add('manifest.json');
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    expect(await agent.capture()).toEqual({ state: 'complete', waiting: ['one'] });
    const custody = one.stored.get(keyOf('custody.jsonl'));
    expect(custody).toBeDefined();
    one.failing.clear();
    await agent.settled();
    expect(one.stored.get(keyOf('custody.jsonl'))).toBe(custody);
    expect(await errorsOf(one)).toEqual(GOOD);
  });

  test('is never written over somebody else’s, and the capture says so', async () => {
    one.stored.set(keyOf('manifest.json'), Buffer.from('of another agent'));
    await using agent = await startAgent({ folder, sinks: onlyOne() });
    await expect(agent.capture()).rejects.toMatchObject({ code: 'sink-exists' });
    expect(one.stored.get(keyOf('manifest.json'))?.toString()).toBe('of another agent');
    expect(await agent.vault.list('captures')).toEqual([]);
  });
});
