import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type ControllerMetrics, openControllerMetrics } from '../../../../controller/metrics/controller.ts';
import { watchedStore } from '../../../../controller/metrics/store.ts';
import { openReadiness } from '../../../../controller/readiness.ts';
import { openStore } from '../../../../controller/store/open.ts';
import type { Store } from '../../../../controller/store/store.ts';
import { ExhibitError } from '../../../../evidence/error.ts';
import { aCapture, anEntry, aRequest, NOW_MS } from '../../../contract/store-rows.ts';
import { podRequest } from '../lab-domain.ts';

const log = pino({ level: 'silent' });

describe('the metrics of the store', () => {
  let folder: string;
  let opened: Store;
  let store: Store;
  let metrics: ControllerMetrics;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'exhibit-store-metrics-'));
    opened = await openStore({ url: `sqlite:${folder}/c.db`, durability: 'normal' }, { log, now: () => NOW_MS });
    metrics = await openControllerMetrics({ version: '1' });
    store = watchedStore(opened, metrics.storeEvents);
  });
  afterEach(async () => {
    metrics[Symbol.dispose]();
    await store[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });
  const value = async (name: string, labels: Record<string, string> = {}) => {
    const { values } = (await metrics.registry.getSingleMetric(name)?.get()) ?? { values: [] };
    const found = values.filter((one) =>
      Object.entries(labels).every(([key, wanted]) => String(one.labels[key]) === wanted),
    );
    return found.reduce((sum, one) => sum + one.value, 0);
  };

  test('count captures by the state that they came into, and audit entries once they are written', async () => {
    const command = { ...podRequest('shop', 'web-0'), captureId: 'c', force: false };
    const capture = aCapture({ command, approvals: [{ by: 'bob', atMs: NOW_MS + 500 }] });
    const request = aRequest([capture]);
    await store.addCaptures(request, [anEntry({ action: 'capture.created' })]);
    await store.addCaptures(request, [anEntry({ action: 'capture.created' })]);
    const { captureId } = capture;
    await store.changeCapture(captureId, ['queued'], { state: 'sent', sentAtMs: NOW_MS + 2_700 });
    expect(await store.changeCapture(captureId, ['queued'], { state: 'expired' }, anEntry())).toBeUndefined();
    const accepted = { state: 'running', acceptedAtMs: NOW_MS + 2_740 } as const;
    await store.changeCapture(captureId, ['sent'], accepted, anEntry({ action: 'capture.accepted' }));
    await store.changeCapture(captureId, ['running'], { state: 'complete' });
    // Told again by its agent, with what a sink has taken meanwhile.
    await store.changeCapture(captureId, ['complete'], { state: 'complete' });
    for (const state of ['queued', 'sent', 'running', 'complete'])
      expect([state, await value('exhibit_controller_captures_total', { state })]).toEqual([state, 1]);
    expect(await value('exhibit_controller_captures_total', { state: 'expired' })).toBe(0);
    expect(await value('exhibit_controller_audit_entries_total', { action: 'capture.created' })).toBe(1);
    expect(await value('exhibit_controller_audit_entries_total')).toBe(2);
    // 2.2 seconds after it was approved (2.7 after it was asked for), and 40 ms until its agent began.
    expect(await value('exhibit_controller_dispatch_seconds', { step: 'sent', le: '1' })).toBe(0);
    expect(await value('exhibit_controller_dispatch_seconds', { step: 'sent', le: '2.5' })).toBe(1);
    expect(await value('exhibit_controller_dispatch_seconds', { step: 'accepted', le: '0.025' })).toBe(0);
    expect(await value('exhibit_controller_dispatch_seconds', { step: 'accepted', le: '0.05' })).toBe(1);
  });

  test('have no dispatch of what a node began by itself', async () => {
    const capture = aCapture({ state: 'sent', sentAtMs: NOW_MS, command: null });
    await store.adoptCapture(capture);
    await store.changeCapture(capture.captureId, ['sent'], { state: 'running', acceptedAtMs: NOW_MS + 99_000 });
    expect(await value('exhibit_controller_dispatch_seconds', { le: '+Inf' })).toBe(0);
  });

  test('count alerts by their outcome, with those that were written down as one', async () => {
    await store.appendAudit([
      anEntry({ action: 'alert.fired' }),
      anEntry({ action: 'alert.duplicate', details: { count: 41 } }),
      anEntry({ action: 'alert.duplicate', details: { count: 'many' } }),
      anEntry({ action: 'access.denied' }),
    ]);
    expect(await value('exhibit_controller_alerts_total', { outcome: 'fired' })).toBe(1);
    expect(await value('exhibit_controller_alerts_total', { outcome: 'duplicate' })).toBe(42);
    expect(await value('exhibit_controller_alerts_total')).toBe(43);
  });

  test('tell a store that failed from one that answered no', async () => {
    await expect(
      store.openCase({ caseId: 'x', title: '', openedBy: 'a', openedAtMs: 1 }, anEntry()),
    ).resolves.toBeDefined();
    await expect(store.openCase({ caseId: 'x', title: '', openedBy: 'a', openedAtMs: 1 }, anEntry())).rejects.toThrow();
    const note = { by: 'a', atMs: 1, text: 'x' };
    await expect(store.noteCase('nobody', note, anEntry())).rejects.toMatchObject({ code: 'case-not-found' });
    for (const call of ['openCase', 'noteCase'])
      expect([call, await value('exhibit_controller_store_errors_total', { call })]).toEqual([call, 0]);
    await opened[Symbol.asyncDispose]();
    await expect(store.case('x')).rejects.toThrow();
    expect(await value('exhibit_controller_store_errors_total', { call: 'case' })).toBe(1);
    expect(await value('exhibit_controller_store_seconds', { call: 'openCase', le: '+Inf' })).toBe(2);
    opened = await openStore({ url: `sqlite:${folder}/c.db` }, { log, now: () => NOW_MS });
    store = opened;
  });

  test('show agents by cluster up to a bound, open captures and certificates, and no number that is old', async () => {
    const clusters = Array.from({ length: 150 }, (_, at) => `cluster-${at}`);
    let isAway = false;
    metrics.watch({
      links: { connected: () => clusters.map((cluster) => ({ cluster, node: 'n' })) },
      store: {
        countOpen: async () => {
          if (isAway) throw new ExhibitError('store-failed', 'away');
          return new Map([['queued', 7] as const]);
        },
      },
      ready: async () => ({ ready: !isAway }),
      listeners: [
        {
          name: 'api',
          connectionCount: () => 3,
          certificateNotAfterMs: () => Date.now() + 3_600_000,
          listsNotAfterMs: () => (isAway ? undefined : Date.now() + 7_200_000),
        },
      ],
    });
    await metrics.text();
    expect(await value('exhibit_controller_agents_connected')).toBe(150);
    expect(await value('exhibit_controller_agents_connected', { cluster: 'other' })).toBe(50);
    expect(await value('exhibit_controller_captures_open', { state: 'queued' })).toBe(7);
    expect(await value('exhibit_controller_certificate_expiry_seconds', { listener: 'api' })).toBeCloseTo(3600, -1);
    expect(await value('exhibit_controller_revocation_list_expiry_seconds', { listener: 'api' })).toBeCloseTo(7200, -1);
    expect(await value('exhibit_controller_connections', { listener: 'api' })).toBe(3);
    isAway = true;
    expect((await metrics.text()).text).not.toMatch(
      /^exhibit_controller_(captures_open|revocation_list_expiry_seconds)\{/m,
    );
    expect(await value('exhibit_controller_ready')).toBe(0);
  });
});

describe('the readiness of the controller', () => {
  test('asks the store once for all who ask at the same moment, and tells why only in the log', async () => {
    let asked = 0;
    const lines: string[] = [];
    const told = pino({}, { write: (line: string) => void lines.push(line) });
    const readiness = openReadiness(
      {
        node: async () => {
          asked += 1;
          throw new ExhibitError('store-failed', 'no route to db.internal');
        },
      },
      told,
    );
    const answers = await Promise.all(Array.from({ length: 10 }, () => readiness.now()));
    expect(asked).toBe(1);
    expect(answers[0]).toEqual({ ready: false, reasons: [expect.not.stringContaining('db.internal')] });
    expect(lines).toEqual([expect.stringContaining('no route to db.internal')]);
  });

  test('is not there where the store hangs, and asks no second time while it does', async () => {
    let asked = 0;
    const hang = Promise.withResolvers<undefined>();
    const readiness = openReadiness(
      {
        node: () => {
          asked += 1;
          return hang.promise;
        },
      },
      log,
    );
    vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
    try {
      for (let probe = 0; probe < 3; probe += 1) {
        const answer = readiness.now();
        await vi.advanceTimersByTimeAsync(1_001);
        expect(await answer).toMatchObject({ ready: false });
      }
      expect(asked).toBe(1);
      hang.resolve(undefined);
      await vi.advanceTimersByTimeAsync(1_001);
      expect(await readiness.now()).toEqual({ ready: true, reasons: [] });
      expect(asked).toBe(2);
    } finally {
      vi.useRealTimers();
    }
  });

  test('asks the store once a second, however often it is asked itself', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      let asked = 0;
      const node = async () => {
        asked += 1;
        return undefined;
      };
      const readiness = openReadiness({ node }, log);
      for (let probe = 0; probe < 5; probe += 1) expect((await readiness.now()).ready).toBe(true);
      expect(asked).toBe(1);
      vi.advanceTimersByTime(1_001);
      await readiness.now();
      expect(asked).toBe(2);
    } finally {
      vi.useRealTimers();
    }
  });
});
