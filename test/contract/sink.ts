import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Committed, Sink, SinkRights } from '../../agent/sink/sink.ts';
import { isExhibitError } from '../../evidence/error.ts';

/** One sink with a way past it: what it stored is read and listed by other means than its own. */
export interface SinkUnderTest extends AsyncDisposable {
  readonly sink: Sink;
  /** Sizes around it are tried; undefined for a sink without parts. */
  readonly partBytes?: number;
  /** False for S3 servers that do not know If-None-Match: there nothing can be promised. */
  readonly refusesOverwrite: boolean;
  /** False for an S3 sink without a vault, which knows nothing of an object that has ended. */
  readonly settles: boolean;
  read(key: string): Promise<Uint8Array | undefined>;
  /** What `rights` finds here, asked about an object that is there. */
  readonly rights: SinkRights;
  /** Everything that is there: objects by their keys, and whatever is unfinished, temporary or left over. */
  list(): Promise<string[]>;
}

const TYPE = 'application/octet-stream';
/** Larger than anything a sink buffers for a small object. */
const MEDIUM_BYTES = 3 * 2 ** 20 + 17;

/** What every sink promises (agent/sink/sink.ts), on a real one. `obstacle`: why it cannot be had here. */
export function sinkContract(name: string, start: () => Promise<SinkUnderTest>, obstacle?: string): void {
  describe.skipIf(obstacle !== undefined)(obstacle === undefined ? name : `${name}: ${obstacle}`, () => {
    let under: SinkUnderTest;
    let count = 0;
    const never = new AbortController().signal;
    const freshKey = () => {
      count += 1;
      return `contract/${count}/object.bin`;
    };
    const open = (key: string, signal = never) => under.sink.open(key, { contentType: TYPE, signal });

    async function store(key: string, ...chunks: Uint8Array[]): Promise<Committed> {
      await using object = await open(key);
      for (const chunk of chunks) await object.write(chunk);
      return await object.commit();
    }

    async function expectStored(key: string, bytes: Uint8Array): Promise<void> {
      const found = await under.read(key);
      expect(found?.length).toBe(bytes.length);
      expect(digest(found ?? new Uint8Array())).toBe(digest(bytes));
    }

    /** What comes and goes meanwhile; nothing may stay. */
    async function expectNothingLeftBy(work: () => Promise<void>): Promise<void> {
      const before = await under.list();
      await work();
      expect(await under.list()).toEqual(before);
    }

    beforeAll(async () => {
      under = await start();
    });
    afterAll(() => under?.[Symbol.asyncDispose]());

    test('a check passes and leaves nothing behind', async () => {
      await expectNothingLeftBy(() => under.sink.check(never));
    });

    test('the rights on the evidence are told, and nothing is left behind', async () => {
      const key = freshKey();
      await store(key, Buffer.from('known'));
      await expectNothingLeftBy(async () => {
        expect(await under.sink.rights(key, never)).toEqual(under.rights);
      });
    });

    test('an empty object is an object', async () => {
      const key = freshKey();
      await store(key);
      await expectStored(key, new Uint8Array());
    });

    test('many small writes make one object', async () => {
      const key = freshKey();
      const bytes = randomBytes(20_000);
      await store(key, ...Array.from({ length: 4000 }, (_, index) => bytes.subarray(index * 5, index * 5 + 5)));
      await expectStored(key, bytes);
    });

    test('a chunk is its writer’s again when its write has resolved', async () => {
      const key = freshKey();
      const written: Uint8Array[] = [];
      await using object = await open(key);
      for (const size of [10, 300_000, 10, 5000, 1_200_000, 1]) {
        const chunk = randomBytes(size);
        written.push(Uint8Array.from(chunk));
        await object.write(chunk);
        chunk.fill(0x55);
      }
      await object.commit();
      await expectStored(key, Buffer.concat(written));
    });

    test('sizes around that of a part come back as they were', { timeout: 120_000 }, async () => {
      const { partBytes } = under;
      for (const size of partBytes === undefined
        ? [MEDIUM_BYTES]
        : [partBytes - 1, partBytes, partBytes + 1, 2 * partBytes, 2 * partBytes + 1]) {
        const key = freshKey();
        const bytes = randomBytes(size);
        await store(key, bytes);
        await expectStored(key, bytes);
      }
    });

    test('however the bytes are cut into writes, the same bytes come back', { timeout: 120_000 }, async () => {
      const most = under.partBytes === undefined ? 600_000 : under.partBytes;
      const cuts = fc.array(fc.integer({ min: 0, max: most }), { maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(cuts, async (sizes) => {
          const key = freshKey();
          const chunks = sizes.map((size) => randomBytes(size));
          await store(key, ...chunks);
          await expectStored(key, Buffer.concat(chunks));
        }),
        { numRuns: 12 },
      );
    });

    test('keys with odd characters are kept apart', async () => {
      const names = [
        'a b',
        'a+b',
        'a%20b',
        'ä€😀',
        'quote\'"`',
        'semi;colon&and=is',
        '#hash?query',
        'back\\slash',
        'a'.repeat(180),
        '~tilde*',
      ];
      for (const odd of names) await store(`contract/odd/${odd}`, Buffer.from(odd));
      for (const odd of names) await expectStored(`contract/odd/${odd}`, Buffer.from(odd));
    });

    test.each(['/absolute', 'a/../b', '..', '.', 'a//b', 'a/', '', 'nul\0byte', 'a/./b', 'x'.repeat(300), '\ud800'])(
      'the key %j is refused',
      async (key) => {
        await expect(open(key)).rejects.toSatisfy((error) => isExhibitError(error, 'sink-failed'));
      },
    );

    test('nothing is visible before the commit', async () => {
      const key = freshKey();
      await using object = await open(key);
      await object.write(randomBytes(under.partBytes === undefined ? MEDIUM_BYTES : under.partBytes + 1));
      expect(await under.read(key)).toBeUndefined();
      await object.commit();
      expect(await under.read(key)).toBeDefined();
    });

    test('disposal without a commit leaves nothing', async () => {
      const first = freshKey();
      await store(first, randomBytes(10));
      await expectNothingLeftBy(async () => {
        await using object = await open(first.replace('object', 'dropped'));
        await object.write(randomBytes(under.partBytes === undefined ? MEDIUM_BYTES : under.partBytes + 1));
      });
    });

    test('disposal after a commit changes nothing', async () => {
      const key = freshKey();
      const object = await open(key);
      await object.write(Buffer.from('kept'));
      await object.commit();
      await object[Symbol.asyncDispose]();
      await object[Symbol.asyncDispose]();
      await expectStored(key, Buffer.from('kept'));
    });

    test('an abort ends the object with `cancelled` and leaves nothing', async () => {
      const key = freshKey();
      await store(key, randomBytes(1));
      await expectNothingLeftBy(async () => {
        const end = new AbortController();
        await using object = await open(key.replace('object', 'aborted'), end.signal);
        await object.write(randomBytes(under.partBytes === undefined ? MEDIUM_BYTES : under.partBytes + 1));
        end.abort(new Error('the responder pressed Ctrl-C'));
        await expect(object.write(Buffer.from('more'))).rejects.toSatisfy((error) =>
          isExhibitError(error, 'cancelled'),
        );
        await expect(object.commit()).rejects.toSatisfy((error) => isExhibitError(error, 'cancelled'));
      });
    });

    test('a write after the commit is refused', async () => {
      await using object = await open(freshKey());
      await object.commit();
      await expect(object.write(Buffer.from('late'))).rejects.toSatisfy((error) =>
        isExhibitError(error, 'sink-failed'),
      );
      await expect(object.commit()).rejects.toSatisfy((error) => isExhibitError(error, 'sink-failed'));
    });

    test('an object that exists is never overwritten', async (context) => {
      if (!under.refusesOverwrite) context.skip('this server does not know If-None-Match');
      for (const size of [3, (under.partBytes ?? MEDIUM_BYTES) + 1]) {
        const key = freshKey();
        await store(key, Buffer.from('first'));
        await expectNothingLeftBy(async () => {
          await expect(store(key, randomBytes(size))).rejects.toSatisfy((error) =>
            isExhibitError(error, 'sink-exists'),
          );
        });
        await expectStored(key, Buffer.from('first'));
      }
    });

    test('what was stored is said to be, as often as it is asked, until it is forgotten', async () => {
      for (const size of [3, (under.partBytes ?? MEDIUM_BYTES) + 1]) {
        const key = freshKey();
        const bytes = randomBytes(size);
        expect(await store(key, bytes)).toBe('stored');
        if (under.settles) {
          expect(await under.sink.settle(key, never)).toEqual({ kind: 'stored' });
          expect(await under.sink.settle(key, never)).toEqual({ kind: 'stored' });
        }
        await under.sink.forget(key);
        await under.sink.forget(key);
        await expectStored(key, bytes);
      }
    });

    test('of what was dropped, and of what never was, nothing is known', async () => {
      const key = freshKey();
      {
        await using object = await open(key);
        await object.write(randomBytes((under.partBytes ?? MEDIUM_BYTES) + 1));
      }
      await expectNothingLeftBy(async () => {
        for (const unknown of [key, key.replace('object', 'never')]) {
          expect(await under.sink.settle(unknown, never)).toEqual({ kind: 'lost', why: expect.any(String) });
          await under.sink.forget(unknown);
        }
      });
      expect(await under.read(key)).toBeUndefined();
    });

    test('of two writers of one key one wins, and the other is told', async (context) => {
      if (!under.refusesOverwrite) context.skip('this server does not know If-None-Match');
      const key = freshKey();
      const sizes = [4, (under.partBytes ?? MEDIUM_BYTES) + 1];
      const bodies = sizes.map((size) => randomBytes(size));
      // Both are open before either commits.
      await using one = await open(key);
      await using other = await open(key);
      await one.write(bodies[0] ?? Buffer.of());
      await other.write(bodies[1] ?? Buffer.of());
      const outcomes = await Promise.allSettled([one.commit(), other.commit()]);
      const winner = outcomes.findIndex(({ status }) => status === 'fulfilled');
      const losers = outcomes.filter((outcome) => outcome.status === 'rejected');
      expect(losers).toHaveLength(1);
      expect(losers[0]?.reason).toSatisfy((error) => isExhibitError(error, 'sink-exists'));
      await expectStored(key, bodies[winner] ?? Buffer.of());
    });
  });
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
