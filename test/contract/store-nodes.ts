import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../controller/store/store.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { aNode, NOW_MS } from './store-rows.ts';

export function nodeContract(start: StartStore): void {
  describe('nodes', () => {
    let under: StoreUnderTest;
    let store: Store;
    let other: Store;
    beforeAll(async () => {
      under = await start();
      [store, other] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());

    test('are what was put last, for every replica', async () => {
      const node = aNode({ node: 'put' });
      await store.putNode(node);
      expect(await other.node(node)).toEqual(node);
      const back = aNode({
        node: 'put',
        sessionId: 'session-2',
        replicaId: 'replica-2',
        artifacts: [],
        clockAheadMs: 3,
      });
      await other.putNode(back);
      expect(await store.node(node)).toEqual(back);
      expect(await store.node({ cluster: 'prod-eu', node: 'nobody' })).toBeUndefined();
    });

    test('are gone only for the session that they still have', async () => {
      const node = aNode({ node: 'gone', sessionId: 'new' });
      await store.putNode(node);
      await other.nodeGone(node, 'old', NOW_MS + 5);
      expect(await store.node(node)).toEqual(node);
      await other.nodeGone(node, 'new', NOW_MS + 5);
      expect(await store.node(node)).toEqual({ ...node, replicaId: '', lastSeenMs: NOW_MS + 5 });
    });

    test('are touched many at once, each in its own session only', async () => {
      const nodes = Array.from({ length: 120 }, (_, at) =>
        aNode({ cluster: 'touch', node: `n${at}`, sessionId: `s${at}` }),
      );
      await Promise.all(nodes.map((node) => store.putNode(node)));
      const touches = nodes.map(({ cluster, node, sessionId }, at) => ({
        cluster,
        node,
        sessionId: at === 7 ? 'old' : sessionId,
        lastSeenMs: NOW_MS + at,
        running: at,
        waiting: 1,
      }));
      await other.touchNodes([
        ...touches,
        {
          ...touches[3],
          cluster: 'touch',
          node: 'n3',
          sessionId: 's3',
          lastSeenMs: NOW_MS + 500,
          running: 9,
          waiting: 2,
        },
      ]);
      await other.touchNodes([]);
      for (const [at, node] of nodes.entries()) {
        const touched =
          at === 7
            ? {}
            : at === 3
              ? { lastSeenMs: NOW_MS + 500, running: 9, waiting: 2 }
              : { lastSeenMs: NOW_MS + at, running: at, waiting: 1 };
        expect(await store.node(node)).toEqual({ ...node, ...touched });
      }
    });
  });
}
