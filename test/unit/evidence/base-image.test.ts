import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  baseImageSchema,
  chainIds,
  isDigest,
  MAX_IMAGE_LAYERS,
  parseImageConfig,
  parseImageManifest,
} from '../../../evidence/base-image.ts';

const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const digest = fc.string().map(digestOf);

describe('chain ids', () => {
  test('of one layer are its diff id, as the image-spec says', () => {
    expect(chainIds([digestOf('a')])).toEqual([digestOf('a')]);
    expect(chainIds([])).toEqual([]);
  });

  test('of more are the digest of the chain below, a space, and the diff id', () => {
    const [a, b, c] = [digestOf('a'), digestOf('b'), digestOf('c')];
    const ab = digestOf(`${a} ${b}`);
    expect(chainIds([a, b, c])).toEqual([a, ab, digestOf(`${ab} ${c}`)]);
  });

  test('of a chain begin with those of its beginning, and two chains never end alike', () => {
    fc.assert(
      fc.property(fc.array(digest, { minLength: 1, maxLength: 6 }), digest, (chain, more) => {
        const longer = chainIds([...chain, more]);
        expect(longer.slice(0, -1)).toEqual(chainIds(chain));
        expect(new Set(longer).size).toBe(longer.length);
      }),
    );
  });
});

describe('documents of an image', () => {
  const config = (layers: number) =>
    Buffer.from(JSON.stringify({ rootfs: { diff_ids: Array.from({ length: layers }, (_, at) => digestOf(`${at}`)) } }));

  test('are read, whatever else they hold', () => {
    const text = JSON.stringify({ config: { digest: digestOf('c'), size: 3, urls: ['x'] }, layers: [], more: 1 });
    expect(parseImageManifest(Buffer.from(text))).toMatchObject({ config: { size: 3 }, layers: [] });
    expect(parseImageConfig(config(2))?.rootfs.diff_ids).toHaveLength(2);
  });

  test('with more layers than overlayfs stacks are none', () => {
    expect(parseImageConfig(config(MAX_IMAGE_LAYERS))).toBeDefined();
    expect(parseImageConfig(config(MAX_IMAGE_LAYERS + 1))).toBeUndefined();
  });

  test.each(['', 'null', '[]', '{"rootfs":{}}', '{"rootfs":{"diff_ids":["sha256:../../etc/passwd"]}}', '\xff'])(
    '%j is none',
    (text) => {
      expect(parseImageConfig(Buffer.from(text, 'latin1'))).toBeUndefined();
      expect(parseImageManifest(Buffer.from(text, 'latin1'))).toBeUndefined();
    },
  );

  test.each(['sha256:', `sha256:${'A'.repeat(64)}`, `sha512:${'a'.repeat(64)}`, `${digestOf('x')}\n`, undefined])(
    'have no digest %j',
    (text) => {
      expect(isDigest(text)).toBe(false);
    },
  );

  test('a record with a key that nobody defined is refused', () => {
    const record = { reference: 'x', layers: [], lowers: [], agreement: 'unknown', notes: [] };
    expect(baseImageSchema.safeParse(record).success).toBe(true);
    expect(baseImageSchema.safeParse({ ...record, more: 1 }).success).toBe(false);
  });
});
