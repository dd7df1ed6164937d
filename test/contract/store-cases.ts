import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../controller/store/store.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { aCapture, anEntry, NOW_MS, stored } from './store-rows.ts';

const missing = (error: unknown) => isExhibitError(error, 'case-not-found');

export function caseContract(start: StartStore): void {
  describe('cases', () => {
    let under: StoreUnderTest;
    let store: Store;
    let other: Store;
    beforeAll(async () => {
      under = await start();
      [store, other] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());
    const open = (caseId: string, replica = store) =>
      replica.openCase(
        { caseId, title: 'Web shell', openedBy: 'alice', openedAtMs: NOW_MS },
        anEntry({ caseId, action: 'case.opened' }),
      );
    const actions = async (caseId: string) =>
      (await store.audit({ caseId }, { afterSeq: 0, limit: 50 })).map(({ action }) => action);

    test('live from their opening over notes to their end', async () => {
      const opened = await open('IR-1');
      const whole = { caseId: 'IR-1', title: 'Web shell', openedBy: 'alice', openedAtMs: NOW_MS, captureCount: 0 };
      expect(opened).toEqual({ ...whole, state: 'open', closedBy: '', closedAtMs: 0, notes: [] });
      await stored(store, aCapture({ caseId: 'IR-1' }));
      const first = { by: 'bob', atMs: NOW_MS + 1, text: 'seen before' };
      const noted = await other.noteCase('IR-1', first, anEntry({ caseId: 'IR-1', action: 'case.noted' }));
      expect(noted.notes).toEqual([first]);
      const last = { by: 'carol', atMs: NOW_MS + 2, text: 'done' };
      const closed = await store.closeCase('IR-1', last, anEntry({ caseId: 'IR-1', action: 'case.closed' }));
      expect(closed).toEqual({
        ...whole,
        captureCount: 1,
        state: 'closed',
        closedBy: 'carol',
        closedAtMs: NOW_MS + 2,
        notes: [first, last],
      });
      const late = { by: 'dave', atMs: NOW_MS + 3, text: 'from the court' };
      expect((await store.noteCase('IR-1', late, anEntry({ caseId: 'IR-1', action: 'case.noted' }))).notes).toEqual([
        first,
        last,
        late,
      ]);
      expect(await other.case('IR-1')).toEqual({ ...closed, notes: [first, last, late] });
      expect(await actions('IR-1')).toEqual(['case.opened', 'case.noted', 'case.closed', 'case.noted']);
    });

    test('are opened once', async () => {
      const opened = await Promise.allSettled([open('IR-2'), open('IR-2', other), open('IR-2')]);
      expect(opened.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const one of opened) if (one.status === 'rejected') expect(isExhibitError(one.reason, 'usage')).toBe(true);
      expect(await actions('IR-2')).toEqual(['case.opened']);
    });

    test('are closed once, and what was refused left no entry', async () => {
      await open('IR-3');
      const close = (replica: Store, by: string) =>
        replica.closeCase('IR-3', { by, atMs: 1, text: by }, anEntry({ caseId: 'IR-3', action: 'case.closed' }));
      const closed = await Promise.allSettled([close(store, 'a'), close(other, 'b'), close(store, 'c')]);
      expect(closed.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const one of closed) if (one.status === 'rejected') expect(missing(one.reason)).toBe(true);
      const row = await store.case('IR-3');
      expect(row?.notes).toEqual([{ by: row?.closedBy, atMs: 1, text: row?.closedBy }]);
      expect(await actions('IR-3')).toEqual(['case.opened', 'case.closed']);
    });

    test('that are not there are not found', async () => {
      expect(await store.case('nobody')).toBeUndefined();
      const note = { by: 'a', atMs: 1, text: 't' };
      await expect(store.noteCase('nobody', note, anEntry({ caseId: 'nobody' }))).rejects.toSatisfy(missing);
      await expect(store.closeCase('nobody', note, anEntry({ caseId: 'nobody' }))).rejects.toSatisfy(missing);
      expect(await actions('nobody')).toEqual([]);
    });

    test('keep every note of those who write at once', async () => {
      await open('IR-4');
      const texts = Array.from({ length: 30 }, (_, at) => `note ${at}`);
      await Promise.all(
        texts.map((text, at) =>
          (at % 2 === 0 ? store : other).noteCase('IR-4', { by: 'a', atMs: at, text }, anEntry({ caseId: 'IR-4' })),
        ),
      );
      expect((await store.case('IR-4'))?.notes.map(({ text }) => text).sort()).toEqual([...texts].sort());
    });
  });
}
