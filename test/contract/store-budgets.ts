import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../controller/store/store.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { NOW_MS } from './store-rows.ts';

export function budgetContract(start: StartStore): void {
  describe('claims and budgets', () => {
    let under: StoreUnderTest;
    let store: Store;
    let other: Store;
    beforeAll(async () => {
      under = await start();
      [store, other] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());

    test('give a key to one of all who claim it at once', async () => {
      for (let round = 0; round < 10; round += 1) {
        const claims = [store, other, store, other, other].map((replica) =>
          replica.claim(`alert-${round}`, NOW_MS, 1_000),
        );
        expect((await Promise.all(claims)).filter(Boolean)).toHaveLength(1);
      }
    });

    test('give a key again when its window is over', async () => {
      expect(await store.claim('window', NOW_MS, 1_000)).toBe(true);
      expect(await other.claim('window', NOW_MS + 999, 1_000)).toBe(false);
      expect(await other.claim('window', NOW_MS + 1_000, 1_000)).toBe(true);
      expect(await store.claim('window', NOW_MS + 1_001, 1_000)).toBe(false);
    });

    test('let old claims go by themselves', async () => {
      await Promise.all(Array.from({ length: 50 }, (_, at) => store.claim(`old-${at}`, NOW_MS, 10)));
      await store.spend('old', 1, { most: 1, windowMs: 10 }, NOW_MS);
      const count = async (table: string) =>
        Number((await under.raw(`select count(*) as rows from ${table}`))[0]?.rows);
      expect(await count('claims')).toBeGreaterThan(50);
      await store.claim('new', NOW_MS + 10 * 60_000, 10);
      expect(await count('claims')).toBe(1);
      expect(await count('spends')).toBe(0);
    });

    test('spend what there is and no more, over all replicas at once', async () => {
      const limit = { most: 10, windowMs: 1_000 };
      const later = NOW_MS + 20 * 60_000;
      const spent = await Promise.all(
        Array.from({ length: 12 }, (_, at) => (at % 2 === 0 ? store : other).spend('race', 3, limit, later + at)),
      );
      expect(spent.filter(Boolean)).toHaveLength(3);
      expect(await store.spend('race', 2, limit, later + 20)).toBe(false);
      expect(await store.spend('race', 1, limit, later + 20)).toBe(true);
      expect(await store.spend('another', 10, limit, later + 20)).toBe(true);
    });

    test('slide their window', async () => {
      const limit = { most: 3, windowMs: 100 };
      const at = (ms: number) => store.spend('slide', 1, limit, NOW_MS + 30 * 60_000 + ms);
      expect([await at(0), await at(0), await at(50), await at(99)]).toEqual([true, true, true, false]);
      expect([await at(100), await at(100), await at(100)]).toEqual([true, true, false]);
      expect([await at(149), await at(150), await at(150)]).toEqual([false, true, false]);
    });

    test('take nothing of less than one', async () => {
      for (const amount of [0, -5, 0.5, Number.NaN])
        await expect(store.spend('b', amount, { most: 1, windowMs: 1 }, NOW_MS)).rejects.toSatisfy((error) =>
          isExhibitError(error, 'usage'),
        );
      expect(await store.spend('b', 2, { most: 1, windowMs: 1 }, NOW_MS)).toBe(false);
    });
  });
}
