import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { newsOfCaptures } from '../../../controller/capture/inbox.ts';
import type { Bus } from '../../../controller/store/store.ts';
import type { CaptureUpdate } from '../../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { Capture__Output } from '../../../proto/gen/exhibit/v1/Capture.ts';
import { caller, container, context, failure, grant, type LabDomain, labDomain, podRequest, T0 } from './lab-domain.ts';

const rob = caller('rob', grant('responder', ['*'], ['prod']));

let lab: LabDomain;
let captureId: string;
beforeEach(async () => {
  lab = await labDomain();
  lab.agents.set({ cluster: 'east', node: 'n1' }, [container('prod', 'web-0', 'app')]);
  captureId = (await lab.api.CreateCapture(podRequest('prod', 'web-0'), context(rob))).captures?.[0]?.captureId ?? '';
});
afterEach(() => lab[Symbol.asyncDispose]());

const tell = (event?: Record<string, unknown>) =>
  lab.domain.store.bus.publish(
    'captures',
    JSON.stringify({ captureId, ...(event === undefined ? {} : { event: { captureId, atMs: String(T0), ...event } }) }),
  );
const progress = (second: number, doneBytes: number, stage = 'memory') =>
  tell({
    atMs: String(T0 + second * 1_000),
    stageProgress: { stage, doneBytes: String(doneBytes), totalBytes: '4000' },
  });

const watching = (signal?: AbortSignal) =>
  lab.api.WatchCapture({ captureId }, context(rob, signal))[Symbol.asyncIterator]();
const next = async (updates: AsyncIterator<CaptureUpdate>): Promise<CaptureUpdate> => (await updates.next()).value;
const set = (state: 'sent' | 'running' | 'complete') =>
  lab.domain.store.changeCapture(captureId, ['queued', 'sent', 'running'], { state, told: told(state) });
/** The agent tells of its own states only. */
const told = (state: string): Capture__Output | null =>
  state === 'sent'
    ? null
    : {
        ...{ captureId, state, target: 'prod/web-0/app', caseId: '', reason: '', bundleUrl: '', error: '' },
        ...{ startedAtMs: '0', finishedAtMs: '0', storedBytes: '0', gapCount: 0, pauseMs: 0, scope: 'container' },
        ...{ stages: [], waitingSinks: [], waitingProblems: [], changes: null },
      };

describe('a watch', () => {
  test('shows the row first, then what changed it, and ends with the end', async () => {
    const updates = watching();
    expect((await next(updates)).capture).toMatchObject({ captureId, state: 'queued' });
    await set('sent');
    await tell();
    expect(await next(updates)).toEqual({ capture: expect.objectContaining({ state: 'sent' }) });
    await set('running');
    await tell({ stageStarted: { stage: 'memory' } });
    expect(await next(updates)).toMatchObject({
      capture: { state: 'running' },
      event: { stageStarted: { stage: 'memory' } },
    });
    await set('complete');
    await tell({ ended: { captureId, state: 'complete' } });
    expect(await next(updates)).toMatchObject({
      capture: { state: 'complete' },
      event: { ended: { state: 'complete' } },
    });
    expect(await updates.next()).toEqual({ done: true, value: undefined });
  });

  test('says how fast a stage goes and how long it will take', async () => {
    const updates = watching();
    await next(updates);
    await tell({ stageStarted: { stage: 'memory' } });
    await next(updates);
    await progress(1, 1_000);
    expect(await next(updates)).toMatchObject({ bytesPerSecond: 1_000, remainingMs: 3_000 });
    await progress(2, 2_000);
    expect(await next(updates)).toMatchObject({ bytesPerSecond: 1_000, remainingMs: 2_000 });
  });

  test('has a rate for each of the stages that run at once', async () => {
    const updates = watching();
    await next(updates);
    for (const [second, stage] of ['memory', 'rootfs', 'memory', 'rootfs'].entries()) {
      await progress(second, second * 500, stage);
      const fast = second < 2 ? 0 : 500;
      expect(await next(updates)).toMatchObject({ event: { stageProgress: { stage } }, bytesPerSecond: fast });
    }
  });

  test('gives a slow reader the last progress alone, and every other event', async () => {
    const updates = watching();
    await next(updates);
    const delivered: string[] = [];
    using _ear = lab.domain.store.bus.subscribe('captures', (text) => delivered.push(text));
    await set('running');
    await tell({ stageStarted: { stage: 'memory' } });
    for (let second = 1; second <= 500; second += 1) await progress(second, second);
    await tell({ stageEnded: { stage: 'memory', status: 'captured' } });
    for (let second = 501; second <= 900; second += 1) await progress(second, second);
    await set('complete');
    await tell({ ended: { captureId, state: 'complete' } });
    await vi.waitFor(() => expect(delivered).toHaveLength(903));
    const seen: CaptureUpdate[] = [];
    for (let update = await updates.next(); update.done !== true; update = await updates.next())
      seen.push(update.value);
    const kinds = seen.map(({ event }) => Object.keys(event ?? {}).at(-1));
    expect(kinds).toEqual(['stageStarted', 'stageProgress', 'stageEnded', 'stageProgress', 'ended']);
    expect(seen.map(({ event }) => event?.stageProgress?.doneBytes).filter(Boolean)).toEqual(['500', '900']);
    expect(seen.slice(0, -1).every(({ capture }) => capture?.state !== 'complete')).toBe(true);
    expect(seen.at(-1)?.capture?.state).toBe('complete');
  });

  test('of one that has ended is one update', async () => {
    await set('complete');
    const updates = watching();
    expect((await next(updates)).capture?.state).toBe('complete');
    expect((await updates.next()).done).toBe(true);
  });

  test('ends when the reader hangs up, while nothing happens', async () => {
    const hangUp = new AbortController();
    const updates = watching(hangUp.signal);
    await next(updates);
    const waiting = updates.next();
    hangUp.abort();
    expect((await failure(waiting)).code).toBe('cancelled');
  });

  test('passes over messages of the bus that are none', async () => {
    const updates = watching();
    await next(updates);
    for (const text of ['', '{', 'null', '[]', '{"captureId":7}', `{"captureId":"${captureId}","event":7}`])
      await lab.domain.store.bus.publish('captures', text);
    await set('complete');
    await tell();
    expect((await next(updates)).capture?.state).toBe('complete');
  });

  test('is one of a hundred at most for one caller', async () => {
    const open = Array.from({ length: 100 }, () => watching());
    await Promise.all(open.map((one) => one.next()));
    expect((await failure(watching().next())).code).toBe('rate-limited');
    await open[0]?.return?.();
    expect((await next(watching())).capture?.captureId).toBe(captureId);
    await Promise.all(open.map((one) => one.return?.()));
  });
});

describe('news of captures', () => {
  function fakeBus(): { bus: Bus; gap: () => void; subscribed: () => number } {
    const gaps = new Set<() => void>();
    return {
      bus: {
        publish: async () => undefined,
        subscribe: () => ({ [Symbol.dispose]: () => undefined }),
        onGap: (handler) => {
          gaps.add(handler);
          return { [Symbol.dispose]: () => void gaps.delete(handler) };
        },
        replicaId: 'r',
        replicas: async () => ['r'],
      },
      gap: () => {
        for (const one of gaps) one();
      },
      subscribed: () => gaps.size,
    };
  }

  test('tell of a gap in the bus, so that the store is looked into', async () => {
    const { bus, gap } = fakeBus();
    using inbox = newsOfCaptures(bus).follow('a');
    gap();
    await inbox.wait(new AbortController().signal, 10_000);
    expect(inbox.take()).toEqual({ events: [], isStale: true });
  });

  test('hold one subscription while somebody listens, and none after', () => {
    const { bus, subscribed } = fakeBus();
    const news = newsOfCaptures(bus);
    const [one, two] = [news.follow('a'), news.follow('b')];
    expect(subscribed()).toBe(1);
    one[Symbol.dispose]();
    expect(subscribed()).toBe(1);
    two[Symbol.dispose]();
    expect(subscribed()).toBe(0);
  });
});
