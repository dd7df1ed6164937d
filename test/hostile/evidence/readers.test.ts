import { beforeAll, describe, expect, it } from 'vitest';
import { custodyLines } from '../../../evidence/custody.ts';
import { isExhibitError } from '../../../evidence/error.ts';
import { createFindings } from '../../../evidence/findings.ts';
import { decodeFrames, measureFrames } from '../../../evidence/frame-decoder.ts';
import { canonicalJson, duplicateKey, isCanonical, parseJson } from '../../../evidence/json.ts';
import { manifestSchema, requestSchema } from '../../../evidence/manifest.ts';
import { readMemberLines } from '../../../evidence/members.ts';
import { checkSeal } from '../../../evidence/seal.ts';
import { openSeekable } from '../../../evidence/seekable.ts';
import { readTar } from '../../../evidence/tar-reader.ts';
import { parseCustody } from '../../../evidence/verify-custody.ts';
import { custodyBundle } from '../../unit/evidence/custody-bundle.ts';
import { gather } from '../../unit/evidence/memory-sink.ts';
import { byteChange, changeBytes, fuzzing } from '../../unit/evidence/mutate.ts';
import { fc } from '../../unit/evidence/properties.ts';

/** Each reader with an object that it reads in a real bundle. It may refuse bytes in one way only. */
const READERS: Readonly<Record<string, { object: string; read: (bytes: Buffer) => unknown }>> = {
  seal: { object: 'manifest.dsse.json', read: (bytes) => checkSeal(bytes) },
  manifest: { object: 'manifest.json', read: (bytes) => manifestSchema.safeParse(parseJson(bytes, 1e8, 'it')) },
  request: { object: 'request.json', read: (bytes) => requestSchema.safeParse(parseJson(bytes, 1e8, 'it')) },
  custody: { object: 'custody.jsonl', read: (bytes) => parseCustody(bytes, createFindings()) },
  'seek table': {
    object: 'rootfs.tar.zst',
    read: async (bytes) => {
      const opened = await openSeekable(async (start, end) => bytes.subarray(start, end), bytes.length);
      await opened.read(0, Math.min(opened.contentBytes, 1e6));
      await opened.read(Math.max(0, opened.contentBytes - 10), 100);
    },
  },
  frames: { object: 'processes.tar.zst', read: async (bytes) => gather(decodeFrames([bytes])) },
  'frame headers': { object: 'processes.tar.zst', read: async (bytes) => measureFrames([bytes]) },
  members: { object: 'inventory.jsonl.zst', read: async (bytes) => drain(readMemberLines([bytes])) },
};

async function drain(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

async function drainTar(bytes: Buffer): Promise<void> {
  for await (const entry of readTar([bytes])) await drain(entry.body);
}

async function refusesOneWay(read: () => unknown): Promise<void> {
  try {
    await read();
  } catch (error) {
    if (!isExhibitError(error, 'bundle-corrupt')) throw error;
  }
}

describe('a reader of evidence', () => {
  let objects: Map<string, Buffer>;
  beforeAll(async () => {
    objects = (await custodyBundle()).objects;
  });
  const options = fuzzing(120);

  for (const [name, { object, read }] of Object.entries(READERS)) {
    it(`of ${name} takes any bytes, and refuses in one way`, { timeout: options.timeout }, async () => {
      const real = objects.get(object) ?? Buffer.alloc(0);
      await read(real);
      const others = [...objects.values()];
      const change = fc.array(byteChange, { minLength: 1, maxLength: 4 });
      const mutated = change.map((changes) => changes.reduce((now, one) => changeBytes(now, one, others), real));
      const bytes = fc.oneof({ weight: 3, arbitrary: mutated }, fc.uint8Array({ maxLength: 4000 }));
      await fc.assert(
        fc.asyncProperty(bytes, (some) => refusesOneWay(() => read(Buffer.from(some)))),
        options,
      );
    });
  }

  it('of tar takes any bytes, and refuses in one way', { timeout: options.timeout }, async () => {
    const real = await gather(decodeFrames([objects.get('rootfs.tar.zst') ?? Buffer.alloc(0)]));
    const change = fc.array(byteChange, { minLength: 1, maxLength: 4 });
    const mutated = change.map((changes) => changes.reduce((now, one) => changeBytes(now, one, [real]), real));
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, fc.uint8Array({ maxLength: 4000 })), (some) =>
        refusesOneWay(() => drainTar(Buffer.from(some))),
      ),
      options,
    );
  });

  it('of custody logs reads back what was written, whatever it says', () => {
    const facts = fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.boolean()), { maxKeys: 4 });
    const entry = fc.record({ by: fc.string({ unit: 'grapheme' }), what: fc.string({ unit: 'grapheme' }), facts });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
        const events = ['requested', ...entries.map(() => 'accepted'), 'sealing'] as const;
        const full = [{ by: 'a', what: 'b', facts: {} }, ...entries, { by: 'c', what: 'd', facts: {} }].map(
          (one, index) => ({
            ...one,
            at: '2026-01-01T00:00:00.000Z',
            event:
              events[index] === 'requested'
                ? ('requested' as const)
                : index === events.length - 1
                  ? ('sealing' as const)
                  : ('accepted' as const),
          }),
        );
        const findings = createFindings();
        const custody = parseCustody(Buffer.from(custodyLines(full)), findings);
        expect(findings.list()).toEqual([]);
        expect(custody.events).toMatchObject(full);
      }),
      options,
    );
  });

  it('of JSON names a key that is there twice at any depth, however it is spelled, and none that is there once', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.string(), (value, key) => {
        const once = Buffer.from(canonicalJson({ a: [value], b: value }));
        expect(duplicateKey(once)).toBeUndefined();
        expect(isCanonical(once)).toBe(true);
        const escaped = `"${[...key].map((c) => Array.from({ length: c.length }, (_, at) => `\\u${c.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')).join('')}"`;
        const twice = Buffer.from(`{"x":[${JSON.stringify(value)},{${JSON.stringify(key)} : 1, ${escaped}\n:2}]}`);
        expect(JSON.parse(twice.toString())).toBeDefined();
        expect(duplicateKey(twice)).toBe(key);
        expect(isCanonical(twice)).toBe(false);
      }),
      options,
    );
  });
});
