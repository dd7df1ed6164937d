import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { chooseBaselines } from '../../../agent/capture/baseline-store.ts';
import { type BaselineRun, nextBaseline, openBaselines, sumOf } from '../../../agent/capture/baselines.ts';
import { openVault, type Vault } from '../../../agent/sink/vault.ts';
import { createEncryption } from '../../../evidence/age-writer.ts';
import { type Changes, changesSchema } from '../../../evidence/diff/document.ts';
import { FACT_KINDS, unknownFacts } from '../../../evidence/facts/facts.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { INVENTORY, process, someFacts, webBundle } from '../evidence/diff/facts-bundle.ts';
import { openIn } from '../evidence/memory-sink.ts';
import { artifactRecord, type Contents, inventoryLine } from '../evidence/timeline/timeline-bundle.ts';
import { target } from './spine.ts';

/** Baselines over a real vault, with objects that are written and encrypted as an agent writes them. */

const RECIPIENT = await identityToRecipient(await generateX25519Identity());

let folder: string;
let logged: Record<string, unknown>[];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-baselines-'));
  logged = [];
});
afterEach(() => rm(folder, { recursive: true }));

const open = (maxBytes = 1024 * 1024) =>
  openVault(folder, Buffer.alloc(32, 1)).then((vault) => started(vault, maxBytes));
async function started(vault: Vault, maxBytes: number) {
  const log = pino({ level: 'info' }, { write: (line: string) => logged.push(JSON.parse(line)) });
  return { vault, baselines: await openBaselines({ config: { maxBytes, from: ['schedule'] }, vault, log }) };
}
type Agent = Awaited<ReturnType<typeof open>>;

interface Capture {
  readonly id: string;
  readonly contents?: Contents;
  readonly trigger?: string;
  readonly container?: string;
  readonly outcome?: 'complete' | 'cancelled';
}

/** Writes the bundle past the run as the spine does, and seals it; undefined where the agent has nothing to do. */
async function capture(
  { baselines }: Agent,
  { id, contents = webBundle(), ...more }: Capture,
): Promise<Changes | undefined> {
  const { trigger = 'schedule', container = 'web', outcome = 'complete' } = more;
  const record = { ...target.record, name: container };
  const run = baselines.begin(id, { requester: { trigger, identity: 'test' }, target: record });
  if (run === undefined) return undefined;
  await write(run, contents);
  const changes = await run.compare({
    ...{ cluster: 'c', node: 'n', startedAt: `2026-11-22T10:00:0${id}.000Z`, outcome: 'complete', target: record },
    artifacts: contents.manifest?.artifacts ?? [],
  });
  await run.sealed(outcome);
  return changes && changesSchema.parse(JSON.parse(JSON.stringify(changes)));
}

async function write({ keep }: BaselineRun, contents: Contents): Promise<void> {
  const encrypt = await createEncryption([RECIPIENT]);
  const writer = createBundleWriter(openIn(new Map()), { onStored: () => undefined, encrypt, keep });
  for (const [name, members] of Object.entries(contents.archives ?? {})) {
    await using archive = await writer.openArchive(name);
    for (const [member, content] of Object.entries(members)) {
      const bytes = Buffer.from(content);
      await archive.add({ path: member, type: 'file', sizeBytes: bytes.length }, bytes);
    }
    await archive.commit();
  }
  for (const [name, lines] of Object.entries(contents.lists ?? {})) {
    await using list = await writer.openText(name, 'jsonl');
    for (const line of lines) await list.line(typeof line === 'string' ? line : JSON.stringify(line));
    await list.commit();
  }
}

const evil = webBundle({ processes: [process(7, '/usr/bin/web'), process(8, '/tmp/evil')] });
const newIn = (changes: Changes | undefined, kind: (typeof FACT_KINDS)[number]) =>
  changes?.diff?.kinds[kind]?.new.map(({ key }) => key.replace(/ sha256:.*/, ''));

describe('a baseline', () => {
  test('is the last good snapshot of the workload, and says so when there is none', async () => {
    const agent = await open();
    const first = await capture(agent, { id: '1' });
    expect(first).toMatchObject({ captureId: '1', workload: ['prod', 'web-0', 'web', ''], why: expect.any(String) });
    expect(first?.diff).toBeUndefined();
    const second = await capture(agent, { id: '2', contents: evil });
    expect(second?.diff).toMatchObject({ before: { captureId: '1' }, after: { captureId: '2' } });
    expect(newIn(second, 'processes')).toEqual(['/tmp/evil']);
    const third = await capture(agent, { id: '3', contents: evil });
    expect(third?.diff?.before.captureId).toBe('2');
    expect(newIn(third, 'processes')).toEqual([]);
    expect(sumOf(third as Changes)?.kinds).toEqual(FACT_KINDS.map((kind) => ({ kind, new: 0, gone: 0, changed: 0 })));
  });

  test('is said to be one, also by the next agent, until another takes its place', async () => {
    const agent = await open();
    await capture(agent, { id: '1' });
    await capture(agent, { id: '2', contents: evil, trigger: 'controller' });
    await capture(agent, { id: '3', container: 'other' });
    const isOne = ({ baselines }: Agent) => ['1', '2', '3'].filter((id) => baselines.isBaseline(id));
    expect(isOne(agent)).toEqual(['1', '3']);
    const next = await open();
    expect(isOne(next)).toEqual(['1', '3']);
    await capture(next, { id: '2' });
    expect(isOne(next)).toEqual(['2', '3']);
  });

  test('that was written with a key that is gone is let go, and the next snapshot is one', async () => {
    await capture(await open(), { id: '1' });
    const reboot = await started(await openVault(folder, Buffer.alloc(32, 2)), 1024 * 1024);
    expect(JSON.stringify(logged)).toContain('baselines cannot be read, and are begun anew');
    expect(await capture(reboot, { id: '2' })).toMatchObject({ why: expect.any(String) });
    expect((await capture(reboot, { id: '3' }))?.diff?.before.captureId).toBe('2');
    expect(JSON.stringify(logged)).not.toContain('baseline not kept');
  });

  test('is what an incident is compared with, and an incident becomes none', async () => {
    const agent = await open();
    await capture(agent, { id: '1' });
    for (const id of ['2', '3']) {
      const changes = await capture(agent, { id, contents: evil, trigger: 'controller' });
      expect(changes?.diff?.before.captureId).toBe('1');
      expect(newIn(changes, 'processes')).toEqual(['/tmp/evil']);
    }
  });

  test('is not asked for where there is none and none is made', async () => {
    const agent = await open();
    expect(await capture(agent, { id: '1', trigger: 'socket' })).toBeUndefined();
    await capture(agent, { id: '2' });
    expect(await capture(agent, { id: '3', trigger: 'socket', container: 'other' })).toBeUndefined();
  });

  test('is not made of what was not sealed', async () => {
    const agent = await open();
    await capture(agent, { id: '1' });
    await capture(agent, { id: '2', contents: evil, outcome: 'cancelled' });
    expect((await capture(agent, { id: '3' }))?.diff?.before.captureId).toBe('1');
  });

  test('outlives the agent, encrypted', async () => {
    await capture(await open(), { id: '1' });
    const agent = await open();
    expect((await capture(agent, { id: '2', trigger: 'socket' }))?.diff?.before.captureId).toBe('1');
  });

  test('that was tampered with is none', async () => {
    const agent = await open();
    await capture(agent, { id: '1' });
    const files = (await agent.vault.list('baselines')).filter((name) => name !== 'baselines/index');
    expect(files).toHaveLength(1);
    for (const name of files) await writeFile(path.join(folder, name), Buffer.alloc(100));
    expect(await capture(await open(), { id: '2' })).toMatchObject({ why: expect.any(String) });
    expect(logged.map(({ msg }) => msg)).toContain('baseline cannot be read, and is left alone');
  });

  test('of too many bytes is not kept, and of too many workloads the oldest goes', async () => {
    const agent = await open(3000);
    for (const id of ['1', '2', '3', '4', '5']) await capture(agent, { id, container: id });
    const kept = (await agent.vault.list('baselines')).length - 1;
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThan(5);
    expect((await capture(agent, { id: '6', container: '5' }))?.diff?.before.captureId).toBe('5');
    expect((await capture(agent, { id: '7', container: '1' }))?.diff).toBeUndefined();
    const tiny = await open(10);
    await capture(tiny, { id: '8', container: 'tiny' });
    expect(logged.map(({ msg }) => msg)).toContain('baseline not kept: it is larger than baselines.maxBytes');
  });

  test('is chosen by its time', () => {
    const index = ['2', '3', '1'].map((at) => ({ name: at, at, sizeBytes: 10 }));
    expect(chooseBaselines(index, 25)).toEqual({ stay: [index[1], index[0]], go: [index[2]] });
    expect(chooseBaselines(index, -1).stay).toEqual([]);
  });
});

describe('of each kind', () => {
  const facts = (id: string, kinds: Parameters<typeof someFacts>[0] = {}) => {
    const made = someFacts(kinds);
    return { ...made, about: { ...made.about, captureId: id, image: { name: 'i', id: 'i' } } };
  };
  const without = (one: ReturnType<typeof facts>, ...kinds: (typeof FACT_KINDS)[number][]) => ({
    ...one,
    kinds: { ...one.kinds, ...Object.fromEntries(kinds.map((kind) => [kind, unknownFacts('not taken')])) },
  });

  test('the last whole one is kept, and the capture that it is of is named', () => {
    const full = facts('1', { files: { '/f': { size: 1 } } });
    const next = nextBaseline(full, without(facts('2'), 'files'));
    expect(next?.about.captureId).toBe('2');
    expect(next?.kinds.files).toMatchObject({ state: 'known', why: [expect.stringMatching(/^of capture 1 of /)] });
    const third = nextBaseline(next, without(facts('3'), 'files'));
    expect(third?.kinds.files).toEqual(next?.kinds.files);
    expect(nextBaseline(third, facts('4'))?.kinds.files).toMatchObject({ why: [], state: 'known' });
  });

  test('one with gaps is none, and neither is one of another image', () => {
    const partial = facts('2');
    const kinds = { ...partial.kinds, processes: { ...partial.kinds.processes, state: 'partial' as const } };
    expect(nextBaseline(undefined, { ...partial, kinds })?.kinds.processes.state).toBe('unknown');
    const other = { ...without(facts('2'), 'files'), about: { ...partial.about, image: { name: 'i', id: 'j' } } };
    expect(nextBaseline(facts('1'), other)?.kinds.files.state).toBe('unknown');
    expect(nextBaseline(facts('1'), without(facts('2'), ...FACT_KINDS))).toBeUndefined();
  });
});

describe('what an agent keeps of its bundle', () => {
  test('is the beginning of what is too large, and the rest is said not to be compared', async () => {
    const agent = await open();
    await capture(agent, { id: '1' });
    const files = Array.from({ length: 15_000 }, (_, index) =>
      inventoryLine({ path: `${index}`, note: randomBytes(600).toString('base64'), sha256: undefined }),
    );
    const changes = await capture(agent, { id: '2', contents: webBundle({ files }) });
    const kind = changes?.diff?.kinds.files;
    expect(kind?.comparable).toBe('partly');
    expect(kind?.why.after.join()).toMatch(/only its first \d+ compressed bytes are compared/);
    expect(kind?.counts.gone).toBe(0);
  });

  test('is nothing of an artifact that failed', async () => {
    const agent = await open();
    await capture(agent, { id: '1' });
    const contents = {
      manifest: { artifacts: [{ ...artifactRecord('rootfs', [INVENTORY]), status: 'failed' as const }] },
    };
    const changes = await capture(agent, { id: '2', contents });
    expect(Object.values(changes?.diff?.kinds ?? {}).map((kind) => kind?.comparable)).toEqual(
      FACT_KINDS.map(() => 'no'),
    );
  });
});
