import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesAny, matchesPattern } from '../../../evidence/wildcard.ts';

const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '.', '[', '*'), maxLength: 8 });
const word = fc.string({ unit: fc.constantFrom('a', 'b', '.', '['), maxLength: 8 });

/** The same by a regular expression, which the code itself never makes. */
const slowly = (from: string, text: string) =>
  new RegExp(`^${from.replaceAll(/[.[]/g, '\\$&').replaceAll(/\*+/g, '.*')}$`).test(text);

describe('a pattern', () => {
  test.each([
    ['prod', 'prod', true],
    ['prod', 'prod-eu', false],
    ['*', '', true],
    ['*', 'anything\nat all', true],
    ['IR-*', 'IR-', true],
    ['IR-*', 'xIR-1', false],
    ['*7', '77', true],
    ['a*a', 'a', false],
    ['ab*ba', 'aba', false],
    ['a**b', 'ab', true],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['*a*', 'bbb', false],
    ['I.-[0-9]', 'I.-[0-9]', true],
    ['I.-[0-9]', 'IR-7', false],
  ])('%s over %j is %s', (one, text, expected) => {
    expect(matchesPattern(one, text)).toBe(expected);
  });

  test('matches what a regular expression would', () => {
    fc.assert(
      fc.property(pattern, word, (one, text) => {
        expect(matchesPattern(one, text)).toBe(slowly(one, text));
      }),
      { numRuns: 3_000 },
    );
  });

  test('of many stars against a long text that nearly fits ends at once', () => {
    expect(matchesPattern(`${'a*'.repeat(120)}b`, 'a'.repeat(100_000))).toBe(false);
    expect(matchesPattern(`${'*a'.repeat(120)}*b`, 'a'.repeat(100_000))).toBe(false);
  });
});

test('a list matches where one of it does, and an empty one nowhere', () => {
  expect(matchesAny(['a*', '*z'], 'xyz')).toBe(true);
  expect(matchesAny(['a*', '*y'], 'xyz')).toBe(false);
  expect(matchesAny([], '')).toBe(false);
});
