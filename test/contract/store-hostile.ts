import fc from 'fast-check';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../controller/store/store.ts';
import { verifyAudit } from '../../evidence/audit-log.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { StartStore, StoreUnderTest } from './store.ts';
import { aCapture, aNode, anEntry, aRequest, NOW_MS, stored } from './store-rows.ts';

const NASTY = [
  "'; drop table captures; --",
  "' or '1'='1",
  '"',
  '\\',
  '$1 ? :name @p',
  '%',
  '_',
  '*',
  '[a-z]',
  '\0',
  'a\0b',
  '\ud800',
  '\udc00x',
  '\ufdd0',
  '\ufdd00000',
  '\ufffe\ufeff',
  '\u0001\u001b[31m\r\n\u202e',
  '{"a":1}',
  'null',
  '',
  'x'.repeat(2 ** 20),
  '\0'.repeat(1_000),
];

/** Text that somebody made to hurt: whole, or pieces of it put together. */
const hostileText = fc.oneof(
  fc.constantFrom(...NASTY),
  fc
    .array(fc.constantFrom(...NASTY.filter(({ length }) => length < 100)), { maxLength: 6 })
    .map((parts) => parts.join('')),
  fc.string({ unit: 'binary', maxLength: 30 }),
);

/** What can name something: everything but what no name is written with. */
const hostileKey = hostileText
  .map((text) =>
    text
      .slice(0, 200)
      .replace(/[\0\ufdd0]/g, '~')
      .toWellFormed(),
  )
  .map((text) => `${text}${uuidv7()}`);

const RUNS = { numRuns: 40 };

export function hostileContract(start: StartStore): void {
  describe('hostile text', () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await start();
      [store] = under.replicas;
    });
    afterAll(() => under[Symbol.asyncDispose]());

    test('comes back from every field of a capture, and finds it in every filter', async () => {
      const texts = fc.record({
        namespace: hostileText,
        selector: hostileText,
        reason: hostileText,
        requestedBy: hostileText,
        trigger: hostileText,
        error: hostileText,
      });
      await fc.assert(
        fc.asyncProperty(texts, hostileKey, hostileKey, hostileText, async (fields, key, caseId, more) => {
          await store.openCase(
            { caseId, title: more, openedBy: more, openedAtMs: 1 },
            anEntry({ actor: more, caseId }),
          );
          const told = { captureId: key, state: more, stages: [], error: more } as never;
          const capture = aCapture({
            ...fields,
            captureId: key,
            cluster: key,
            node: key,
            caseId,
            told,
            approvals: [{ by: more, atMs: 1 }],
          });
          const request = aRequest([capture], { requestId: key, requestKey: more });
          const added = await store.addCaptures(request, [
            anEntry({ captureId: more, caseId: more, details: { [more]: more } }),
          ]);
          const row = { ...capture, requestId: key };
          expect(added).toEqual({ captures: [row], created: true });
          expect(await store.capture(key)).toEqual(row);
          expect(await store.openCaptures({ cluster: key, node: key })).toEqual([row]);
          expect(await store.capturesByPrefix(key.slice(0, -3).toWellFormed(), 9)).toContainEqual(row);
          const { namespace, requestedBy } = fields;
          const filter = { cluster: key, node: key, namespace, caseId, requestedBy, requestId: key };
          const found = await store.captures(
            { ...filter, visible: [{ clusters: [key], namespaces: [namespace] }] },
            { limit: 2 },
          );
          expect(found.rows).toEqual([row]);
          const changed = await store.changeCapture(
            key,
            ['queued'],
            { error: more, namespace: more },
            anEntry({ action: more }),
          );
          expect(changed).toEqual({ ...row, error: more, namespace: more });
          expect((await store.case(caseId))?.captureCount).toBe(1);
        }),
        RUNS,
      );
    });

    test('comes back from every field of a node', async () => {
      await fc.assert(
        fc.asyncProperty(
          hostileKey,
          hostileKey,
          fc.array(hostileText, { minLength: 9, maxLength: 9 }),
          async (cluster, node, texts) => {
            const [
              sessionId = '',
              replicaId = '',
              agentVersion = '',
              bootId = '',
              runtimeName = '',
              runtimeVersion = '',
              pod = '',
              ...lists
            ] = texts;
            const row = aNode({
              cluster,
              node,
              sessionId,
              replicaId,
              agentVersion,
              bootId,
              runtimeName,
              runtimeVersion,
              pod,
              artifacts: lists,
              sinks: lists,
            });
            await store.putNode(row);
            await store.touchNodes([{ cluster, node, sessionId, lastSeenMs: 5, running: 4_294_967_295, waiting: 3 }]);
            const touched = { ...row, lastSeenMs: 5, running: 4_294_967_295, waiting: 3 };
            expect(await store.node({ cluster, node })).toEqual(touched);
            expect((await store.nodes({ cluster }, { limit: 5 })).rows).toEqual([touched]);
            await store.nodeGone({ cluster, node }, sessionId, 6);
            expect((await store.node({ cluster, node }))?.replicaId).toBe('');
          },
        ),
        RUNS,
      );
    });

    test('comes back from every field of a case, a note and the audit log, whose chain stays whole', async () => {
      await fc.assert(
        fc.asyncProperty(hostileKey, hostileText, hostileText, async (caseId, a, b) => {
          await store.openCase(
            { caseId, title: a, openedBy: b, openedAtMs: 1 },
            anEntry({ actor: a, action: b, caseId, captureId: a, details: { [b]: [a] } }),
          );
          const closed = await store.closeCase(caseId, { by: a, atMs: 2, text: b }, anEntry({ caseId }));
          expect(closed).toMatchObject({
            caseId,
            title: a,
            openedBy: b,
            closedBy: a,
            notes: b === '' ? [] : [{ by: a, atMs: 2, text: b }],
          });
          const [entry] = await store.audit({ caseId, captureId: a }, { afterSeq: 0, limit: 5 });
          expect(entry).toMatchObject({ actor: a, action: b, caseId, captureId: a });
          expect(JSON.parse(entry?.details ?? '')).toEqual({ [b]: [a] });
        }),
        RUNS,
      );
      let after = { seq: 0, digest: '0'.repeat(64) };
      for (;;) {
        const rows = await store.audit({}, { afterSeq: after.seq, limit: 100 });
        const { problems, end } = verifyAudit(rows, { after });
        expect(problems).toEqual([]);
        if (rows.length === 0) break;
        after = end;
      }
      expect(after.seq).toBeGreaterThan(2 * RUNS.numRuns);
    });

    test('keeps budgets, claims and keys of requests apart', async () => {
      const seen = new Set<string>();
      for (const text of [...NASTY, 'x'.repeat(2 ** 20 + 1), '\ufffd']) {
        expect(seen.has(text)).toBe(false);
        seen.add(text);
        expect(await store.claim(text, NOW_MS, 1_000)).toBe(true);
        expect(await store.claim(text, NOW_MS, 1_000)).toBe(false);
        expect(await store.spend(text, 1, { most: 1, windowMs: 1_000 }, NOW_MS)).toBe(true);
        expect(await store.spend(text, 1, { most: 1, windowMs: 1_000 }, NOW_MS)).toBe(false);
        const request = aRequest([aCapture()], { requestKey: text });
        await store.addCaptures(request, []);
        expect((await store.addCaptures(request, [])).created).toBe(false);
        await expect(store.addCaptures({ ...request, requestKey: `${text} ` }, [])).rejects.toSatisfy((error) =>
          isExhibitError(error, 'capture-conflict'),
        );
      }
    });

    test('is refused in words where it would be the name of something', async () => {
      const usage = (error: unknown) => isExhibitError(error, 'usage');
      for (const key of ['a\0b', '\ud800', '\ufdd0', 'x'.repeat(2 ** 20), 'é'.repeat(600)]) {
        await expect(store.addCaptures(aRequest([aCapture({ captureId: key })]), [])).rejects.toSatisfy(usage);
        await expect(store.addCaptures(aRequest([], { requestId: key }), [])).rejects.toSatisfy(usage);
        await expect(store.adoptCapture(aCapture({ cluster: key }))).rejects.toSatisfy(usage);
        await expect(store.putNode(aNode({ node: key }))).rejects.toSatisfy(usage);
        await expect(
          store.openCase({ caseId: key, title: '', openedBy: '', openedAtMs: 1 }, anEntry()),
        ).rejects.toSatisfy(usage);
        expect(await store.capture(key)).toBeUndefined();
        expect(await store.capturesByPrefix(key, 5)).toEqual([]);
        expect(await store.case(key)).toBeUndefined();
        expect(await store.node({ cluster: key, node: key })).toBeUndefined();
        expect((await store.captures({ cluster: key, caseId: key, namespace: key }, { limit: 5 })).rows).toEqual([]);
      }
      for (const sentAtMs of [1.5, Number.NaN, 2 ** 60]) {
        await expect(store.adoptCapture(aCapture({ sentAtMs }))).rejects.toSatisfy(usage);
      }
      const pattern = `${'*a'.repeat(2_000)}*`;
      await expect(
        store.captures({ visible: [{ clusters: [pattern], namespaces: ['*'] }] }, { limit: 5 }),
      ).rejects.toSatisfy(usage);
    });

    test('of keys as long as they may be is indexed', async () => {
      // Bytes that do not compress: PostgreSQL's index entries end at 2,704.
      const long = () =>
        Array.from({ length: 28 }, () => uuidv7())
          .join('')
          .slice(0, 1024);
      const [cluster, node] = [long(), long()];
      const [row] = await stored(
        store,
        aCapture({ captureId: long(), cluster, node, namespace: long(), requestedBy: long() }),
      );
      expect(await store.openCaptures({ cluster, node })).toEqual([row]);
      await store.putNode(aNode({ cluster, node }));
      expect((await store.nodes({ cluster }, { limit: 1 })).rows).toHaveLength(1);
    });
  });
}
