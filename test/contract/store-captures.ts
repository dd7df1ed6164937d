import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { END_STATES, type Store } from '../../controller/store/store.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { aCapture, anEntry, aRequest, NOW_MS, stored } from './store-rows.ts';

const COMMAND = {
  captureId: 'c',
  selector: null,
  artifacts: ['memory'],
  caseId: '',
  reason: 'why',
  consistency: '',
  scope: '',
  sinks: [],
  exhibitNumber: '',
  acquirer: '',
  force: false,
};

export function captureContract(start: StartStore): void {
  describe('captures', () => {
    let under: StoreUnderTest;
    let store: Store;
    let other: Store;
    beforeAll(async () => {
      under = await start();
      [store, other] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());
    const entries = async (captureId: string) => (await store.audit({ captureId }, { afterSeq: 0, limit: 100 })).length;

    test('are read back as they were stored, and again after it was closed', async () => {
      const capture = aCapture({
        approvals: [{ by: 'bob', atMs: NOW_MS + 1 }],
        cancelRequested: true,
        command: COMMAND,
        waits: true,
        error: 'so',
      });
      const [row] = await stored(store, capture);
      expect(row).toEqual({ ...capture, requestId: row?.requestId });
      expect(await other.capture(capture.captureId)).toEqual(row);
      [store, other] = await under.reopen();
      expect(await store.capture(capture.captureId)).toEqual(row);
      expect(await store.capture('nobody')).toBeUndefined();
    });

    test('of one request come all or none', async () => {
      const there = aCapture();
      await stored(store, there);
      const many = Array.from({ length: 60 }, () => aCapture());
      const added = await store.addCaptures(aRequest(many), []);
      expect(added.created).toBe(true);
      expect(added.captures.map(({ captureId }) => captureId).sort()).toEqual(
        many.map(({ captureId }) => captureId).sort(),
      );
      const fresh = aCapture();
      const failed = store.addCaptures(aRequest([fresh, there]), [anEntry({ captureId: fresh.captureId })]);
      await expect(failed).rejects.toSatisfy((error) => isExhibitError(error, 'capture-conflict'));
      expect(await store.capture(fresh.captureId)).toBeUndefined();
      expect(await entries(fresh.captureId)).toBe(0);
    });

    test('of a request that is there already are answered, and its audit entries are not written again', async () => {
      const capture = aCapture();
      const request = aRequest([capture]);
      const audit = [anEntry({ captureId: capture.captureId })];
      const first = await store.addCaptures(request, audit);
      const second = await other.addCaptures({ ...request, captures: [aCapture()] }, audit);
      expect(second).toEqual({ captures: first.captures, created: false });
      expect(await entries(capture.captureId)).toBe(1);
    });

    test('are counted by their state while they are open', async () => {
      const before = await store.countOpen();
      const count = (counts: ReadonlyMap<string, number>, state: string) => counts.get(state) ?? 0;
      const queued = aCapture({ state: 'queued' });
      await stored(store, queued, aCapture({ state: 'running' }), aCapture({ state: 'complete' }));
      const between = await other.countOpen();
      expect(count(between, 'queued') - count(before, 'queued')).toBe(1);
      expect(count(between, 'running') - count(before, 'running')).toBe(1);
      expect(
        [...between.keys()].every((state) => ['awaiting-approval', 'queued', 'sent', 'running'].includes(state)),
      ).toBe(true);
      await store.changeCapture(queued.captureId, ['queued'], { state: 'expired' });
      expect(count(await store.countOpen(), 'queued')).toBe(count(before, 'queued'));
    });

    test('of a request with another key are a conflict', async () => {
      const request = aRequest([aCapture()]);
      await store.addCaptures(request, []);
      const failed = store.addCaptures({ ...request, requestKey: 'b'.repeat(64) }, []);
      await expect(failed).rejects.toSatisfy((error) => isExhibitError(error, 'capture-conflict'));
    });

    test('of one request that two replicas store at once are created once', async () => {
      for (let round = 0; round < 10; round += 1) {
        const requests = [1, 2, 3, 4].map(() => [aCapture(), aCapture()]);
        const requestId = `race-${round}`;
        const added = await Promise.all(
          requests.map((captures, at) =>
            (at % 2 === 0 ? store : other).addCaptures(aRequest(captures, { requestId }), [
              anEntry({ captureId: requestId }),
            ]),
          ),
        );
        expect(added.filter(({ created }) => created)).toHaveLength(1);
        for (const one of added) expect(one.captures).toEqual(added[0]?.captures);
        expect(await entries(requestId)).toBe(1);
      }
    });

    test('are not stored into a case that is closed, or not there', async () => {
      const caseId = 'closed-case';
      await store.openCase({ caseId, title: 't', openedBy: 'alice', openedAtMs: NOW_MS }, anEntry());
      await stored(store, aCapture({ caseId }));
      await store.closeCase(caseId, { by: 'alice', atMs: NOW_MS, text: '' }, anEntry());
      for (const unfit of [caseId, 'no-case']) {
        const capture = aCapture({ caseId: unfit });
        const failed = store.addCaptures(aRequest([aCapture(), capture]), []);
        await expect(failed).rejects.toSatisfy((error) => isExhibitError(error, 'case-not-found'));
        expect(await store.capture(capture.captureId)).toBeUndefined();
      }
    });

    test('come into a case before it is closed, or not at all', async () => {
      for (let round = 0; round < 20; round += 1) {
        const caseId = `closing-${round}`;
        await store.openCase({ caseId, title: 't', openedBy: 'alice', openedAtMs: NOW_MS }, anEntry());
        const capture = aCapture({ caseId });
        const [added, closed] = await Promise.allSettled([
          store.addCaptures(aRequest([capture]), [anEntry({ caseId, action: 'capture.created' })]),
          other.closeCase(caseId, { by: 'bob', atMs: NOW_MS, text: '' }, anEntry({ caseId, action: 'case.closed' })),
        ]);
        expect(closed.status).toBe('fulfilled');
        const actions = (await store.audit({ caseId }, { afterSeq: 0, limit: 10 })).map(({ action }) => action);
        if (added.status === 'fulfilled') expect(actions).toEqual(['capture.created', 'case.closed']);
        else expect(actions).toEqual(['case.closed']);
        expect((await store.case(caseId))?.captureCount).toBe(added.status === 'fulfilled' ? 1 : 0);
      }
    });

    test('of a trigger on the node are adopted once', async () => {
      const capture = aCapture({ requestId: '', trigger: 'schedule', state: 'running', caseId: 'of-the-node' });
      await Promise.all([store.adoptCapture(capture), other.adoptCapture({ ...capture, reason: 'another' })]);
      await store.adoptCapture({ ...capture, state: 'complete' });
      const row = await store.capture(capture.captureId);
      expect(row?.state).toBe('running');
      expect([capture.reason, 'another']).toContain(row?.reason);
    });

    test('change only from the states that were expected, with the audit entry of the change', async () => {
      const [capture = aCapture()] = await stored(store, aCapture());
      const { captureId } = capture;
      const audit = anEntry({ captureId, action: 'capture.cancelled' });
      expect(await store.changeCapture(captureId, ['running'], { state: 'cancelled' }, audit)).toBeUndefined();
      expect(await store.changeCapture(captureId, [], { state: 'cancelled' }, audit)).toBeUndefined();
      expect(await store.changeCapture('nobody', ['queued'], { state: 'cancelled' }, audit)).toBeUndefined();
      expect(await entries(captureId)).toBe(0);
      const told = { captureId, state: 'running', stages: [] } as never;
      const change = {
        state: 'running',
        sentAtMs: 1,
        acceptedAtMs: 2,
        endedAtMs: 3,
        error: 'e',
        cancelRequested: true,
        told,
        waits: true,
        namespace: 'found',
      } as const;
      const row = await store.changeCapture(captureId, ['sent', 'queued'], change, audit);
      expect(row).toEqual({ ...capture, ...change });
      expect(await other.capture(captureId)).toEqual(row);
      expect(await entries(captureId)).toBe(1);
    });

    test('are changed by one of those that race', async () => {
      for (let round = 0; round < 10; round += 1) {
        const [capture = aCapture()] = await stored(store, aCapture());
        const { captureId } = capture;
        const won = await Promise.all(
          ['a', 'b', 'c', 'd'].map((error, at) =>
            (at % 2 === 0 ? store : other).changeCapture(
              captureId,
              ['queued'],
              { state: 'sent', error },
              anEntry({ captureId }),
            ),
          ),
        );
        const winners = won.filter((row) => row !== undefined);
        expect(winners).toHaveLength(1);
        expect(await store.capture(captureId)).toEqual(winners[0]);
        expect(await entries(captureId)).toBe(1);
      }
    });

    test('keep every approval once a person, also of those who approve at once', async () => {
      const [capture = aCapture()] = await stored(store, aCapture({ state: 'awaiting-approval' }));
      const { captureId } = capture;
      const approve = (replica: Store, by: string, atMs: number) =>
        replica.changeCapture(
          captureId,
          ['awaiting-approval'],
          { approval: { by, atMs } },
          anEntry({ captureId, actor: by }),
        );
      await Promise.all([
        approve(store, 'bob', 1),
        approve(other, 'carol', 2),
        approve(store, 'dave', 3),
        approve(other, 'erin', 4),
      ]);
      const again = await approve(store, 'bob', 9);
      expect([...(again?.approvals ?? [])].sort((a, b) => a.atMs - b.atMs)).toEqual([
        { by: 'bob', atMs: 1 },
        { by: 'carol', atMs: 2 },
        { by: 'dave', atMs: 3 },
        { by: 'erin', atMs: 4 },
      ]);
      expect(await entries(captureId)).toBe(4);
    });

    test('are open for their node while it has something to be told, oldest first', async () => {
      const here = { cluster: 'open', node: 'n1' };
      const rows = [
        aCapture({ ...here, state: 'running', createdAtMs: 30 }),
        aCapture({ ...here, state: 'queued', createdAtMs: 10 }),
        aCapture({ ...here, state: 'sent', createdAtMs: 20 }),
        aCapture({ ...here, state: 'complete', waits: true, createdAtMs: 5 }),
      ];
      const quiet = ['awaiting-approval' as const, ...END_STATES].map((state) => aCapture({ ...here, state }));
      await stored(
        store,
        ...rows,
        ...quiet,
        aCapture({ ...here, node: 'n2' }),
        aCapture({ ...here, cluster: 'closed' }),
      );
      expect((await store.openCaptures(here)).map(({ createdAtMs }) => createdAtMs)).toEqual([5, 10, 20, 30]);
      await store.changeCapture(rows[3]?.captureId ?? '', ['complete'], { waits: false });
      await store.changeCapture(rows[0]?.captureId ?? '', ['running'], { state: 'failed' });
      expect((await store.openCaptures(here)).map(({ createdAtMs }) => createdAtMs)).toEqual([10, 20]);
    });

    test('expire when their time is over and they were never sent', async () => {
      const late = { expiresAtMs: 1_000 };
      const [waiting, queued] = await stored(
        store,
        aCapture({ ...late, state: 'awaiting-approval' }),
        aCapture({ expiresAtMs: 999, state: 'queued' }),
        aCapture({ ...late, state: 'sent' }),
        aCapture({ ...late, state: 'complete' }),
        aCapture({ expiresAtMs: 1_001 }),
      );
      const ids = async (nowMs: number, limit: number) =>
        (await store.expiredCaptures(nowMs, limit)).map((row) => row.captureId);
      expect(await ids(1_000, 10)).toEqual([queued?.captureId, waiting?.captureId]);
      expect(await ids(1_000, 1)).toEqual([queued?.captureId]);
      expect(await ids(998, 10)).toEqual([]);
    });

    test('are found by the beginning of their id', async () => {
      const rows = ['zz-a1', 'zz-a2', 'zz-b', 'zz', 'zz\u{10ffff}', 'zz%'].map((captureId) => aCapture({ captureId }));
      await stored(store, ...rows);
      const found = async (prefix: string, limit = 10) =>
        (await store.capturesByPrefix(prefix, limit)).map(({ captureId }) => captureId);
      expect(await found('zz-a')).toEqual(['zz-a1', 'zz-a2']);
      expect(await found('zz')).toEqual(['zz', 'zz%', 'zz-a1', 'zz-a2', 'zz-b', 'zz\u{10ffff}']);
      expect(await found('zz', 2)).toEqual(['zz', 'zz%']);
      expect(await found('zz\u{10ffff}')).toEqual(['zz\u{10ffff}']);
      for (const none of ['zz_', 'zz%%', 'ZZ', 'zz*', "zz'"]) expect(await found(none)).toEqual([]);
    });
  });
}
