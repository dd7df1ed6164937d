import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openAdmission } from '../../../agent/capture/admission.ts';
import { captureExecutor } from '../../../agent/capture/capture.ts';
import type { CaptureEvent, CaptureRequest } from '../../../agent/capture/captures.ts';
import { createChain } from '../../../agent/capture/chain.ts';
import { openDelivery } from '../../../agent/capture/delivery.ts';
import type { Freezer } from '../../../agent/capture/freeze.ts';
import type { Turn } from '../../../agent/capture/heavy-line.ts';
import { carefreeNeighbour } from '../../../agent/capture/neighbour.ts';
import { displayName } from '../../../agent/capture/record.ts';
import { parseConfig } from '../../../agent/config.ts';
import type { Runtime, Target } from '../../../agent/runtime/runtime.ts';
import { asContainerId, asPid } from '../../../agent/runtime/runtime.ts';
import { openSink } from '../../../agent/sink/open.ts';
import { openVault } from '../../../agent/sink/vault.ts';
import { openBundle } from '../../../evidence/bundle.ts';
import type { CustodyEvent } from '../../../evidence/custody.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { ARTIFACTS, type ArtifactName } from '../../../evidence/layout.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { type Collect, type Freezes, fakeFreezer, oneFile, runtime, target } from './spine.ts';

/** The spine with fakes of every port but the sink, which is a real folder. */

const ID = '01a20000-0000-7000-8000-000000000001';
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-spine-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

interface Setting {
  readonly collectors?: Partial<Record<ArtifactName, Collect>>;
  readonly signal?: AbortSignal;
  readonly artifacts?: ArtifactName[];
  readonly startFreezer?: () => Promise<Freezer>;
  readonly scope?: CaptureRequest['scope'];
  readonly runtimes?: Runtime[];
  readonly turn?: Turn;
  /** What the node lacks when the turn comes. */
  readonly short?: string;
}

async function capture({
  collectors = {},
  scope = 'container',
  runtimes = [runtime],
  signal = new AbortController().signal,
  artifacts = [...ARTIFACTS],
  startFreezer,
  turn,
  short,
}: Setting) {
  const freezes: Freezes = { log: [] };
  const events: Exclude<CaptureEvent, { kind: 'ended' }>[] = [];
  const journal: string[] = [];
  const waiting: string[] = [];
  const config = parseConfig(`sink: { url: "file://${folder}" }\nnode: n1`, 'test', {});
  const log = pino({ level: 'silent' });
  const sinks = config.sinks.map(({ name, sink }) => ({ name, sink: openSink(sink) }));
  const sealer = createSealer(generateSigner());
  const vault = await openVault(path.join(folder, 'vault'), Buffer.alloc(32));
  const chain = createChain({ vault, log });
  await using delivery = openDelivery({
    ...{ sinks, sealer, chain, version: '0.0.0', now: Date.now, log },
    onDelivered: async () => undefined,
  });
  const host = { procRoot: '/proc', hostRoot: '' };
  const execute = captureExecutor({
    config,
    host,
    admission: openAdmission({ config, host, sinks, runtimes, journal: { entries: () => [] }, now: Date.now, log }),
    sinks,
    runtimes,
    collectors: Object.fromEntries(
      ARTIFACTS.map((artifact) => [artifact, { artifact, collect: collectors[artifact] ?? oneFile(artifact) }]),
    ) as Parameters<typeof captureExecutor>[0]['collectors'],
    sealer,
    vault,
    delivery,
    neighbour: turn && {
      ...carefreeNeighbour(),
      admit: async () => ({ turn, overridden: [], stillShort: async () => short }),
    },
    startFreezer: startFreezer ?? fakeFreezer(freezes),
    version: '0.0.0',
    now: Date.now,
    log,
  });
  const request: CaptureRequest = {
    captureId: ID,
    selector: 'prod/web-0',
    artifacts,
    caseId: 'C',
    reason: '',
    consistency: 'frozen',
    scope,
    requester: { trigger: 'socket', identity: 'test' },
  };
  const ending = execute(ID, request, {
    signal,
    emit: (event) => events.push(event),
    frozen: async (spec) => void journal.push(spec === undefined ? 'clear' : spec.kind),
    dumping: async (dump) => void journal.push(dump === undefined ? 'no dump' : dump.rung),
    waiting: async (names) => void waiting.push(...names),
  });
  const bundle = path.join(folder, 'local', 'n1', ID);
  const outcome = await ending.then(
    ({ state }) => state,
    (error: unknown) => error,
  );
  const manifest = async () => JSON.parse(await readFile(path.join(bundle, 'manifest.json'), 'utf8')) as Manifest;
  return { outcome, events, journal, waiting, vault, freezes: freezes.log, bundle, manifest };
}

const intact = async (bundle: string) => {
  await using reader = await openBundle(bundle);
  return (await verifyBundle(reader, {})).intact;
};

const freezing: Collect = async (context) => {
  await using frozen = await context.freeze();
  await frozen.thaw();
  await oneFile('memory')(context);
};

describe('the spine', () => {
  test('stores every artifact, seals, and says each stage', async () => {
    const { outcome, events, bundle, manifest } = await capture({});
    expect(outcome).toBe('complete');
    expect(events.filter((event) => event.kind === 'stage-ended').map((event) => event.result.stage)).toEqual([
      'processes',
      'network',
      'node',
      'memory',
      'checkpoint',
      'volumes',
      'rootfs',
      'logs',
      'spec',
      'image',
      'seal',
    ]);
    expect(events[0]).toMatchObject({
      kind: 'accepted',
      target: 'prod/web-0/web',
      bundleUrl: `file://${folder}/local/n1/${ID}`,
    });
    expect((await manifest()).target.notes).toEqual(['its image is not known any more']);
    expect(await intact(bundle)).toBe(true);
  });

  test('waits for its turn after what is gone first, says its place, and leaves the turn before the seal', async () => {
    const left: number[] = [];
    const turn: Turn = {
      before: 2,
      wait: async (_signal, onPlace) => {
        for (const before of [2, 1]) onPlace(before);
        return true;
      },
      [Symbol.dispose]: () => void left.push(1),
    };
    const { outcome, events, freezes, manifest } = await capture({ turn, collectors: { memory: freezing } });
    expect(outcome).toBe('complete');
    const seen = events.flatMap((event) =>
      event.kind === 'stage-started' ? [`${event.stage} ${event.before ?? ''}`.trim()] : [],
    );
    expect(seen.slice(0, 6)).toEqual(['processes', 'network', 'node', 'queue 2', 'queue 1', 'memory']);
    expect(events[0]).toMatchObject({ stages: expect.arrayContaining(['node', 'queue', 'memory']) });
    expect(left.length).toBeGreaterThan(0);
    expect(freezes.length).toBeGreaterThan(0);
    expect((await manifest()).artifacts.map(({ name }) => name)).not.toContain('queue');
  });

  test('leaves out what is heavy when the node has filled up by its turn, and seals what is light', async () => {
    const turn: Turn = { before: 1, wait: async () => true, [Symbol.dispose]: () => undefined };
    const startFreezer = () => Promise.reject(new Error('nothing heavy begins'));
    const { outcome, bundle, manifest } = await capture({ turn, short: 'the disk is full', startFreezer });
    const { artifacts } = await manifest();
    expect(artifacts.filter(({ reason }) => reason === 'the disk is full').map(({ name }) => name)).toContain('memory');
    expect(artifacts.find(({ name }) => name === 'processes')?.status).toBe('captured');
    expect(outcome).toBe('complete');
    expect(await intact(bundle)).toBe(true);
  });

  test('leaves out what is heavy when its turn does not come, says why, and seals what is light', async () => {
    const turn: Turn = { before: 1, wait: async () => false, [Symbol.dispose]: () => undefined };
    const startFreezer = () => Promise.reject(new Error('nothing is to be frozen'));
    const { bundle, manifest } = await capture({ turn, startFreezer });
    const { artifacts } = await manifest();
    const of = (status: string) => artifacts.filter((one) => one.status === status).map(({ name }) => name);
    expect(of('captured')).toEqual(['processes', 'network', 'node', 'spec']);
    expect(of('skipped')).toEqual(['memory', 'checkpoint', 'volumes', 'rootfs', 'logs', 'image']);
    expect(artifacts.find(({ name }) => name === 'memory')?.reason).toContain('limits.queue.waitMs');
    expect(await intact(bundle)).toBe(true);
  });

  test('goes on after a collector that fails, and drops what it had begun', async () => {
    const half: Collect = async (context) => {
      await using archive = await context.archive('network.tar.zst');
      await archive.add({ path: 'x', type: 'file', sizeBytes: 1 }, Buffer.from('x'));
      throw new Error('the table is gone');
    };
    const { outcome, bundle, manifest } = await capture({ collectors: { network: half } });
    expect(outcome).toBe('partial');
    const { artifacts } = await manifest();
    expect(artifacts.find((artifact) => artifact.name === 'network')).toMatchObject({
      status: 'failed',
      reason: 'the table is gone',
      objects: [],
    });
    expect(artifacts.filter((artifact) => artifact.status === 'captured')).toHaveLength(ARTIFACTS.length - 1);
    expect(await readdir(bundle)).not.toContain('network.tar.zst');
    expect(await intact(bundle)).toBe(true);
  });

  test('makes a gap of what a collector could not get', async () => {
    const gappy: Collect = async (context) => {
      context.gap({ what: 'pid 9 maps', pid: 9, errno: 'ESRCH', why: 'it ended' });
      await oneFile('processes')(context);
    };
    const { outcome, manifest } = await capture({ collectors: { processes: gappy } });
    expect(outcome).toBe('partial');
    expect((await manifest()).artifacts[0]).toMatchObject({
      status: 'partial',
      gapCount: 1,
      gaps: [{ errno: 'ESRCH', pid: 9 }],
    });
  });

  test('notes the freeze in the journal before it, and clears it after the thaw', async () => {
    const { journal, freezes, manifest } = await capture({ collectors: { memory: freezing } });
    expect(journal).toEqual(['containerd', 'clear']);
    expect(freezes).toEqual(['frozen', 'thawed', 'guard ended']);
    expect((await manifest()).freeze).toMatchObject({ method: 'containerd', pauseMs: 12 });
    expect((await manifest()).artifacts.find((artifact) => artifact.name === 'memory')?.footprint.pauseMs).toBe(12);
  });

  test('thaws when the collector dies in the freeze', async () => {
    const dying: Collect = async (context) => {
      await context.freeze();
      throw new Error('out of cheese');
    };
    const { outcome, journal, freezes } = await capture({ collectors: { memory: dying } });
    expect(outcome).toBe('partial');
    expect(journal).toEqual(['containerd', 'clear']);
    expect(freezes).toEqual(['frozen', 'thawed', 'guard ended']);
  });

  test('keeps in the journal what may still be frozen', async () => {
    const startFreezer = async (): Promise<Freezer> => ({
      freeze: () => Promise.reject(new ExhibitError('freeze-stuck', 'nobody knows')),
      [Symbol.asyncDispose]: async () => undefined,
    });
    const { journal, outcome, manifest } = await capture({ collectors: { memory: freezing }, startFreezer });
    expect(journal).toEqual(['containerd']);
    expect(outcome).toBe('partial');
    expect((await manifest()).freeze).toEqual({
      ...{ consistency: 'live', method: 'containerd', pauseMs: 0, notes: ['nobody knows'] },
    });
  });

  describe('of a target that could not be stopped', () => {
    const refused = 'The target did not freeze and runs on: pid 7 cannot be stopped: kill EPERM';
    /** As the memory collector does. */
    const readingLive: Collect = async (context) => void (await context.freeze().catch(() => undefined));
    const failsTimes = (count: number) => {
      let left = count;
      return async (): Promise<Freezer> => {
        const works = await fakeFreezer({ log: [] })();
        return {
          freeze: (options) => {
            left -= 1;
            return left >= 0 ? Promise.reject(new ExhibitError('freeze-failed', refused)) : works.freeze(options);
          },
          [Symbol.asyncDispose]: async () => undefined,
        };
      };
    };

    test('says why in the manifest and in the log of custody', async () => {
      const { journal, manifest, bundle } = await capture({
        ...{ collectors: { memory: readingLive }, startFreezer: failsTimes(1) },
      });
      expect(journal).toEqual(['containerd', 'clear']);
      expect((await manifest()).freeze).toEqual({
        ...{ consistency: 'live', method: 'containerd', pauseMs: 0, notes: [refused] },
      });
      const custody = (await readFile(path.join(bundle, 'custody.jsonl'), 'utf8')).trimEnd().split('\n');
      const events = custody.map((line) => JSON.parse(line) as CustodyEvent);
      expect(events.filter(({ event }) => ['frozen', 'thawed'].includes(event))).toMatchObject([
        { event: 'frozen' },
        { event: 'thawed', what: 'could not stop the target, which runs on', facts: { why: refused } },
      ]);
    });

    test('says when it stood, where a later step could stop it', async () => {
      const { manifest } = await capture({
        ...{ collectors: { memory: readingLive, checkpoint: freezing }, startFreezer: failsTimes(1) },
      });
      expect((await manifest()).freeze).toMatchObject({ consistency: 'frozen', method: 'containerd' });
    });
  });

  test('ends when the sink fails, and seals what it has as truncated', async () => {
    const broken: Collect = () => Promise.reject(new ExhibitError('sink-failed', 'the bucket is gone'));
    const { outcome, bundle, manifest, vault } = await capture({ collectors: { network: broken } });
    expect(outcome).toMatchObject({ code: 'sink-failed' });
    const { artifacts, ...sealed } = await manifest();
    expect(sealed.outcome).toBe('truncated');
    expect(artifacts.map(({ status }) => status)).toEqual([
      'captured',
      'partial',
      ...ARTIFACTS.slice(2).map(() => 'skipped'),
    ]);
    expect(artifacts[1]?.reason).toBe('the capture ended: the bucket is gone');
    expect(await intact(bundle)).toBe(true);
    expect(await vault.list('captures')).toEqual([]);
  });

  test('seals a cancelled capture with what it has, and says what is missing', async () => {
    const controller = new AbortController();
    const cancelling: Collect = async (context) => {
      await context.freeze();
      controller.abort(new ExhibitError('cancelled', 'enough'));
      context.signal.throwIfAborted();
    };
    const { outcome, freezes, bundle, manifest } = await capture({
      signal: controller.signal,
      collectors: { memory: cancelling },
    });
    expect(outcome).toBe('cancelled');
    expect(freezes).toEqual(['frozen', 'thawed', 'guard ended']);
    const { artifacts, freeze } = await manifest();
    const before = ARTIFACTS.indexOf('memory');
    expect(artifacts.map((artifact) => artifact.status)).toEqual(
      ARTIFACTS.map((_, index) => (index < before ? 'captured' : 'skipped')),
    );
    expect(freeze.pauseMs).toBe(12);
    expect(await intact(bundle)).toBe(true);
  });

  test('starts no guard where nothing is to be frozen', async () => {
    const { freezes } = await capture({ artifacts: ['logs'] });
    expect(freezes).toEqual([]);
  });

  test('takes the processes of a whole pod, and what there is once a container of one', async () => {
    const side: Target = {
      ...target,
      record: { ...target.record, id: 'side', name: 'side', initPid: 8, pids: [8] },
      freeze: { kind: 'cgroup-v2', path: '/g' },
    };
    const both = [target, side];
    const pod = { namespace: 'prod', name: 'web-0', uid: 'u', sandboxId: 's' };
    const summaries = both.map(({ record: { id, name } }) => ({
      ...{ id: asContainerId(id), name, pod, labels: new Map(), image: 'i' },
      ...{ state: 'running' as const, createdAt: `2026-11-0${name === 'web' ? 1 : 2}T00:00:00.000Z` },
    }));
    const ofPod: Runtime = {
      ...runtime,
      list: async () => summaries,
      resolve: async (selector) => both.find(({ record }) => 'id' in selector && record.id === selector.id) ?? target,
      pids: async ({ record }) => (record.id === 'side' ? [asPid(8), asPid(9)] : [asPid(7)]),
    };
    const asked: Record<string, unknown> = {};
    const asking =
      (name: string): Collect =>
      async (context) => {
        const { freeze, companions } = context.target;
        const pids = await context.runtime.pids(context.target, context.signal);
        asked[name] = { freeze: freeze?.kind, companions: companions.length, pids };
        if (name === 'memory') await (await context.freeze()).thaw();
        await oneFile(name)(context);
      };
    const collectors = { memory: asking('memory'), rootfs: asking('rootfs') };
    const { outcome, events, journal, bundle, manifest } = await capture({
      scope: 'pod',
      runtimes: [ofPod],
      collectors,
    });
    expect(outcome).toBe('complete');
    expect(asked).toEqual({
      memory: { freeze: 'group', companions: 1, pids: [7, 8, 9] },
      rootfs: { freeze: 'containerd', companions: 0, pids: [7] },
    });
    expect(journal).toEqual(['group', 'clear']);
    expect(events[0]).toMatchObject({ target: 'prod/web-0 (web, side)' });
    const { target: record, freeze } = await manifest();
    expect(freeze.method).toBe('group: containerd x1, cgroup-v2 x1');
    expect(record.companions).toMatchObject([{ name: 'side', pids: [8, 9] }]);
    expect(await intact(bundle)).toBe(true);
  });
});

describe('the name of a target for people', () => {
  const { record } = target;
  const named = (name: string) => ({ ...record, name });

  test('of a pod has its containers, and not too many', () => {
    expect(displayName(record)).toBe('prod/web-0/web');
    expect(displayName({ ...record, companions: [named('a')] })).toBe('prod/web-0 (web, a)');
    expect(displayName({ ...record, companions: ['a', 'b', 'c', 'd'].map(named) })).toBe(
      'prod/web-0 (web, a, b, 2 more)',
    );
  });
});
