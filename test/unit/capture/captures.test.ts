import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type CaptureEvent,
  type CaptureRequest,
  type Captures,
  createCaptures,
  type Execute,
  requestKey,
} from '../../../agent/capture/captures.ts';
import { type Journal, openJournal } from '../../../agent/capture/journal.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const ID = '019aa000-0000-7000-8000-000000000001';
const request: CaptureRequest = {
  captureId: ID,
  selector: 'prod/web-0',
  artifacts: ['memory'],
  caseId: 'C-1',
  reason: '',
  consistency: 'frozen',
  scope: 'container',
  requester: { trigger: 'socket', identity: 'test' },
};

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-captures-'));
  journal = await openJournal(folder, () => undefined);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const create = (execute: Execute): Captures =>
  createCaptures({ journal, execute, now: Date.now, log: pino({ level: 'silent' }) });

const accept: Parameters<Execute>[2]['emit'] extends (event: infer E) => void ? E : never = {
  kind: 'accepted',
  target: 'prod/web-0/web',
  bundleUrl: 'file:///e/x',
  stages: ['memory', 'seal'],
};

async function collect(events: AsyncIterable<CaptureEvent>): Promise<CaptureEvent[]> {
  const all: CaptureEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe('what a request asked for', () => {
  test('has the key it had before a request could pick sinks, where it picks none', () => {
    // Of the request above, by the agent as it was then: its journals must still find their captures.
    expect(requestKey(request)).toBe('fcd7d0ee8d5e62faa1061dbaae126d3dbba2792db767bd0aed32b55be3dad438');
  });

  test('differs by sinks, exhibit number and acquirer, but not by the order of the sinks', () => {
    const keys = [
      {},
      { sinks: ['a'] },
      { sinks: ['a', 'b'] },
      { exhibitNumber: '1' },
      { acquirer: '1' },
      { exhibitNumber: '1', acquirer: '1' },
    ].map((more) => requestKey({ ...request, ...more }));
    expect(new Set(keys).size).toBe(keys.length);
    expect(requestKey({ ...request, sinks: ['b', 'a', 'b'] })).toBe(keys[2]);
  });
});

describe('captures', () => {
  test('two callers with one id share one capture and both see all of it', async () => {
    let runs = 0;
    const gate = Promise.withResolvers<void>();
    const captures = create(async (_id, _request, { emit }) => {
      runs += 1;
      emit(accept);
      emit({ kind: 'stage-started', stage: 'memory' });
      await gate.promise;
      emit({
        kind: 'stage-ended',
        result: { stage: 'memory', status: 'captured', reason: '', storedBytes: 5, wallMs: 1, pauseMs: 0, gapCount: 0 },
      });
      return { state: 'complete' };
    });
    const first = await captures.start(request);
    const second = await captures.start(request);
    const seen = Promise.all([collect(first.events()), collect(second.events())]);
    gate.resolve();
    const [a, b] = await seen;
    expect(runs).toBe(1);
    expect([first.created, second.created]).toEqual([true, false]);
    expect(a.map((event) => event.kind)).toEqual(['accepted', 'stage-started', 'stage-ended', 'ended']);
    expect(b).toEqual(a);
  });

  test('the same id after the end answers with what came of it, also after a restart', async () => {
    const execute: Execute = async (_id, _request, { emit }) => {
      emit(accept);
      return { state: 'partial' };
    };
    await collect((await create(execute).start(request)).events());
    journal = await openJournal(folder, () => undefined);
    const again = await create(async () => Promise.reject(new Error('ran twice'))).start(request);
    const events = await collect(again.events());
    expect(again.created).toBe(false);
    expect(events.at(-1)).toMatchObject({ kind: 'ended', capture: { state: 'partial', captureId: ID } });
  });

  test('one id for two different requests is refused', async () => {
    const captures = create(async (_id, _request, { emit }) => {
      emit(accept);
      return { state: 'complete' };
    });
    const handle = await captures.start(request);
    await expect(captures.start({ ...request, artifacts: ['logs'] })).rejects.toMatchObject({
      code: 'capture-conflict',
    });
    await expect(captures.start({ ...request, scope: 'pod' })).rejects.toMatchObject({ code: 'capture-conflict' });
    // Or its journal is still written while the folder is removed.
    await collect(handle.events());
  });

  test('a request that finds no target fails for the caller and leaves nothing', async () => {
    const captures = create(async () => Promise.reject(new ExhibitError('target-not-found', 'no such pod')));
    await expect(captures.start(request)).rejects.toMatchObject({ code: 'target-not-found' });
    expect(captures.list(10)).toEqual([]);
    await expect(captures.start(request)).rejects.toMatchObject({ code: 'target-not-found' });
  });

  test('a failure after acceptance is the last event, in words', async () => {
    const captures = create(async (_id, _request, { emit }) => {
      emit(accept);
      throw new ExhibitError('sink-failed', 'the bucket is gone');
    });
    const events = await collect((await captures.start(request)).events());
    expect(events.at(-1)).toMatchObject({ kind: 'ended', capture: { state: 'failed', error: 'the bucket is gone' } });
  });

  test('cancelling aborts the work and answers with its end', async () => {
    const captures = create(async (_id, _request, { emit, signal }) => {
      emit(accept);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      return { state: 'cancelled' };
    });
    await captures.start(request);
    expect(await captures.cancel(ID.slice(0, 12))).toMatchObject({ state: 'cancelled' });
    expect(await captures.cancel(ID)).toMatchObject({ state: 'cancelled' });
    await expect(captures.cancel('ffff')).rejects.toMatchObject({ code: 'capture-not-found' });
  });

  test('a slow reader misses progress but no other event', async () => {
    const gate = Promise.withResolvers<void>();
    const captures = create(async (_id, _request, { emit }) => {
      emit(accept);
      for (let i = 0; i < 100_000; i += 1)
        emit({ kind: 'stage-progress', stage: 'memory', doneBytes: i, totalBytes: 0 });
      await gate.promise;
      return { state: 'complete' };
    });
    const { events } = await captures.start(request);
    gate.resolve();
    const kinds = (await collect(events())).map((event) => event.kind);
    expect(kinds).toEqual(['accepted', 'stage-progress', 'ended']);
  });

  test('what is not a UUID is a usage error', async () => {
    await expect(
      create(async () => ({ state: 'complete' })).start({ ...request, captureId: '../../etc' }),
    ).rejects.toMatchObject({ code: 'usage' });
  });

  test('what was sealed later is in the journal, and what was cut on the way makes less of it', async () => {
    const captures = create(async (_id, _request, { emit, waiting }) => {
      emit(accept);
      await waiting(['s3']);
      return { state: 'complete' };
    });
    const handle = await captures.start(request);
    const last = (await collect(handle.events())).at(-1);
    expect(last).toMatchObject({ kind: 'ended', capture: { state: 'complete', waiting: ['s3'] } });
    await captures.delivered({ captureId: handle.captureId, outcome: 'partial', waiting: [] });
    expect(captures.get(handle.captureId)).toMatchObject({ state: 'partial', waiting: [] });
  });

  test('draining waits, then cancels, and takes nothing new', async () => {
    const captures = create(async (_id, _request, { emit, signal }) => {
      emit(accept);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      return { state: 'cancelled' };
    });
    await captures.start(request);
    await captures.drain(10);
    expect(captures.get(ID).state).toBe('cancelled');
    await expect(captures.start({ ...request, captureId: '' })).rejects.toMatchObject({ code: 'cancelled' });
  });
});

describe('captures as a controller follows them', () => {
  test('are recalled without ever being begun', async () => {
    let runs = 0;
    const gate = Promise.withResolvers<void>();
    const captures = create(async (_id, _request, { emit }) => {
      runs += 1;
      emit(accept);
      await gate.promise;
      return { state: 'complete' };
    });
    expect(await captures.recall(ID)).toBeUndefined();
    expect(runs).toBe(0);
    const handle = await captures.start(request);
    expect((await captures.recall(ID))?.map(({ event }) => event.kind)).toEqual(['accepted']);
    gate.resolve();
    await collect(handle.events());
    const past = await captures.recall(ID);
    expect(past?.map(({ event, entry }) => `${event.kind} ${entry.state}`)).toEqual([
      'accepted complete',
      'ended complete',
    ]);
    expect(runs).toBe(1);
  });

  test('are told to whoever watches, with who asked, until they stop watching', async () => {
    const captures = create(async (_id, _request, { emit }) => {
      emit({ ...accept, namespace: 'prod' });
      return { state: 'complete' };
    });
    const told: string[] = [];
    const watch = captures.watch(({ entry, event }) => {
      told.push(`${event.kind} ${entry.state} ${entry.asked?.trigger} ${entry.asked?.namespace}`);
    });
    await collect((await captures.start(request)).events());
    await captures.delivered({ captureId: ID, outcome: 'partial', waiting: [] });
    expect(told).toEqual(['accepted running socket prod', 'ended complete socket prod', 'ended partial socket prod']);
    watch[Symbol.dispose]();
    await captures.delivered({ captureId: ID, outcome: 'partial', waiting: [] });
    expect(told.length).toBe(3);
  });

  test('that fail before they are accepted fail whoever recalls them, and are told to nobody', async () => {
    const gate = Promise.withResolvers<void>();
    const captures = create(async () => {
      await gate.promise;
      throw new ExhibitError('target-not-found', 'no such pod');
    });
    let told = 0;
    using _watch = captures.watch(() => {
      told += 1;
    });
    const start = captures.start(request);
    const recalled = captures.recall(ID);
    gate.resolve();
    await expect(start).rejects.toThrow('no such pod');
    await expect(recalled).rejects.toThrow('no such pod');
    expect(told).toBe(0);
  });
});
