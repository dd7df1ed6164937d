import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CaptureFilter, CaptureRow, Page, PageRequest, Store } from '../../controller/store/store.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { aCapture, aNode, anEntry, NOW_MS, stored } from './store-rows.ts';

export function listContract(start: StartStore): void {
  describe('lists', () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await start();
      [store] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());

    async function all<Row>(list: (page: PageRequest) => Promise<Page<Row>>, limit: number): Promise<Row[]> {
      const rows: Row[] = [];
      let token: string | undefined;
      do {
        const page = await list(token === undefined ? { limit } : { limit, token });
        expect(page.rows.length).toBeLessThanOrEqual(limit);
        rows.push(...page.rows);
        token = page.next;
        if (token !== undefined) expect(page.rows).toHaveLength(limit);
      } while (token !== undefined);
      return rows;
    }

    test('of captures have every row once, newest first, whatever comes meanwhile', async () => {
      const cluster = 'paged';
      const rows = Array.from({ length: 23 }, (_, at) =>
        aCapture({ cluster, createdAtMs: NOW_MS + Math.floor(at / 3) }),
      );
      await stored(store, ...rows);
      const newestFirst = [...rows].sort(
        (a, b) => b.createdAtMs - a.createdAtMs || (a.captureId < b.captureId ? 1 : -1),
      );
      const ids = newestFirst.map(({ captureId }) => captureId);
      for (const limit of [1, 5, 22, 23, 24]) {
        const found = await all((page) => store.captures({ cluster }, page), limit);
        expect(found.map(({ captureId }) => captureId)).toEqual(ids);
      }
      const first = await store.captures({ cluster }, { limit: 10 });
      await stored(store, aCapture({ cluster, createdAtMs: NOW_MS + 99 }));
      const second = await store.captures({ cluster }, { limit: 30, token: first.next ?? '' });
      expect([...first.rows, ...second.rows].map(({ captureId }) => captureId)).toEqual(ids);
      expect(second.next).toBeUndefined();
    });

    test('of captures have what every filter asks for', async () => {
      const cluster = 'filtered';
      await store.openCase({ caseId: 'filter-case', title: '', openedBy: '', openedAtMs: 0 }, anEntry());
      const one: Partial<CaptureRow> = {
        cluster,
        node: 'n1',
        namespace: 'a',
        caseId: 'filter-case',
        requestedBy: 'bob',
        state: 'running',
        createdAtMs: 100,
      };
      const [row] = await stored(store, aCapture(one));
      await stored(store, aCapture({ cluster, node: 'n2', namespace: 'ab', createdAtMs: 200 }));
      const exact: CaptureFilter = {
        states: ['running', 'sent'],
        node: 'n1',
        namespace: 'a',
        caseId: 'filter-case',
        requestedBy: 'bob',
        requestId: row?.requestId ?? '',
        sinceMs: 100,
        untilMs: 100,
      };
      const found = async (filter: CaptureFilter) =>
        (await store.captures({ cluster, ...filter }, { limit: 10 })).rows.map(({ captureId }) => captureId);
      expect(await found({})).toHaveLength(2);
      expect(await found(exact)).toEqual([row?.captureId]);
      for (const [key, value] of Object.entries(exact)) {
        const both = key === 'sinceMs';
        expect(await found({ [key]: value })).toEqual(both ? await found({}) : [row?.captureId]);
      }
      for (const unlike of [
        { states: [] },
        { node: 'N1' },
        { namespace: '' },
        { caseId: 'x' },
        { sinceMs: 201 },
        { untilMs: 99 },
      ])
        expect(await found(unlike)).toEqual([]);
    });

    test('of captures have only what the caller may see', async () => {
      const names = ['vis-a', 'vis-b', 'vis-A', 'vis-%', 'vis-_', 'vis-[x]', 'vis-?', 'vis-\\'];
      await stored(
        store,
        ...names.map((namespace) => aCapture({ cluster: `c-${namespace}`, namespace, node: 'visible' })),
      );
      const seen = async (...visible: { clusters: string[]; namespaces: string[] }[]) =>
        (await store.captures({ node: 'visible', visible }, { limit: 50 })).rows
          .map(({ namespace }) => namespace)
          .sort();
      const everything = [...names].sort();
      expect(await seen()).toEqual([]);
      expect(await seen({ clusters: ['*'], namespaces: ['*'] })).toEqual(everything);
      expect(await seen({ clusters: ['c-*'], namespaces: ['vis-*'] })).toEqual(everything);
      expect(await seen({ clusters: [], namespaces: ['*'] })).toEqual([]);
      for (const name of names) {
        expect(await seen({ clusters: ['*'], namespaces: [name] })).toEqual([name]);
        expect(await seen({ clusters: ['*'], namespaces: [`v*${name.slice(1)}`] })).toEqual([name]);
        expect(await seen({ clusters: [`*${name}*`], namespaces: ['*'] })).toEqual([name]);
      }
      expect(await seen({ clusters: ['c-vis-a'], namespaces: ['vis-b'] })).toEqual([]);
      expect(
        await seen(
          { clusters: ['c-vis-a'], namespaces: ['vis-a'] },
          { clusters: ['c-vis-*'], namespaces: ['vis-b', 'vis-?'] },
        ),
      ).toEqual(['vis-?', 'vis-a', 'vis-b']);
    });

    test('of nodes come by name, and only those of a cluster or with a stream when asked', async () => {
      const nodes = ['b', 'a', 'c', 'B'].flatMap((node) => ['l1', 'l2'].map((cluster) => aNode({ cluster, node })));
      for (const node of nodes) await store.putNode(node);
      await store.nodeGone({ cluster: 'l1', node: 'a' }, 'session-1', NOW_MS);
      const names = (rows: readonly { cluster: string; node: string }[]) =>
        rows.map(({ cluster, node }) => `${cluster}/${node}`);
      const sorted = ['l1/B', 'l1/a', 'l1/b', 'l1/c', 'l2/B', 'l2/a', 'l2/b', 'l2/c'];
      for (const limit of [1, 3, 8, 9])
        expect(names(await all((page) => store.nodes({}, page), limit))).toEqual(sorted);
      expect(names(await all((page) => store.nodes({ cluster: 'l1', connectedOnly: true }, page), 2))).toEqual([
        'l1/B',
        'l1/b',
        'l1/c',
      ]);
    });

    test('of cases come newest first, with how many captures they have', async () => {
      for (const [at, caseId] of ['k1', 'k2', 'k3', 'k4'].entries())
        await store.openCase(
          { caseId, title: `T${at}`, openedBy: 'a', openedAtMs: NOW_MS + Math.floor(at / 2) },
          anEntry(),
        );
      await stored(store, aCapture({ caseId: 'k2' }), aCapture({ caseId: 'k2' }));
      await store.closeCase('k3', { by: 'b', atMs: 1, text: '' }, anEntry());
      const listed = async (state?: 'open' | 'closed') =>
        (await all((page) => store.cases(state === undefined ? {} : { state }, page), 2))
          .filter(({ caseId }) => caseId.startsWith('k'))
          .map(({ caseId, captureCount }) => `${caseId}:${captureCount}`);
      expect(await listed()).toEqual(['k4:0', 'k3:0', 'k2:2', 'k1:0']);
      expect(await listed('open')).toEqual(['k4:0', 'k2:2', 'k1:0']);
      expect(await listed('closed')).toEqual(['k3:0']);
    });

    test('refuse a token that is none of theirs, and a limit that is none', async () => {
      for (let at = 0; at < 3; at += 1) await stored(store, aCapture({ cluster: 'token' }));
      const { next = '' } = await store.captures({ cluster: 'token' }, { limit: 1 });
      expect(next).not.toBe('');
      const forged = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
      const tokens = [
        'x',
        `${next}x`,
        next.slice(0, -3),
        '\0',
        "' or 1=1",
        forged(['captures', 1]),
        forged(['captures', '1', 'x']),
        forged(['captures', 1.5, 'x']),
        forged(['captures', 1, { toString: 1 }]),
        forged({ length: 3 }),
        forged(['nodes', 'a', 'b']),
        'A'.repeat(1_000_000),
      ];
      const usage = (error: unknown) => isExhibitError(error, 'usage');
      for (const token of tokens) await expect(store.captures({}, { limit: 1, token })).rejects.toSatisfy(usage);
      await expect(store.nodes({}, { limit: 1, token: next })).rejects.toSatisfy(usage);
      await expect(store.cases({}, { limit: 1, token: next })).rejects.toSatisfy(usage);
      for (const limit of [0, -1, 1.5, Number.NaN])
        await expect(store.captures({}, { limit })).rejects.toSatisfy(usage);
    });
  });
}
