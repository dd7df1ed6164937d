import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { afterPrefix, storableText, textOfStored } from '../../../../controller/store/text.ts';

/** Any UTF-16, halves of pairs too. */
const anyText = fc
  .array(fc.oneof(fc.constantFrom(0, 0xd800, 0xdc00, 0xfdd0, 0x30, 0x66), fc.nat(0xffff)))
  .map((units) => String.fromCharCode(...units));

const bytes = (text: string) => Buffer.from(text);

describe('text on its way into a database', () => {
  test('has nothing that PostgreSQL refuses or UTF-8 replaces, and comes back as it was', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const stored = storableText(text);
        expect(stored).not.toContain('\0');
        expect(bytes(stored).toString()).toBe(stored);
        expect(textOfStored(stored)).toBe(text);
      }),
      { numRuns: 2_000 },
    );
  });

  test('stays two texts when it is two', () => {
    fc.assert(
      fc.property(anyText, anyText, (a, b) => {
        expect(storableText(a) === storableText(b)).toBe(a === b);
      }),
    );
  });
});

describe('the end of a prefix', () => {
  test('is after everything that begins so, and before everything else that follows', () => {
    const word = fc.string({ unit: 'binary', maxLength: 4 }).filter((text) => text.isWellFormed());
    fc.assert(
      fc.property(word, word, (prefix, other) => {
        const end = afterPrefix(prefix);
        const isBefore = (text: string) => end === undefined || bytes(text).compare(bytes(end)) < 0;
        expect(isBefore(prefix + other)).toBe(true);
        const inRange = bytes(other).compare(bytes(prefix)) >= 0 && isBefore(other);
        expect(inRange).toBe(other.startsWith(prefix));
      }),
      { numRuns: 500 },
    );
  });
});
