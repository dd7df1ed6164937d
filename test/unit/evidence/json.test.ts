import { describe, expect, it } from 'vitest';
import { isExhibitError } from '../../../evidence/error.ts';
import { canonicalJson, isCanonical, parseJson } from '../../../evidence/json.ts';
import { fc } from './properties.ts';

describe('canonical JSON', () => {
  it('sorts keys at every depth, also those that look like numbers', () => {
    const text = Buffer.from(canonicalJson({ b: [{ z: 1, a: null }], '10': true, '9': 'x', a: {}, e: [] })).toString();
    expect(text).toBe(
      '{\n  "10": true,\n  "9": "x",\n  "a": {},\n  "b": [\n    {\n      "a": null,\n      "z": 1\n    }\n  ],\n  "e": []\n}\n',
    );
  });

  it('leaves out undefined fields and refuses what JSON cannot hold', () => {
    expect(Buffer.from(canonicalJson({ a: undefined })).toString()).toBe('{}\n');
    for (const value of [undefined, Number.NaN, 1n, [undefined], () => 1, { a: Number.POSITIVE_INFINITY }]) {
      expect(() => canonicalJson(value)).toThrow(/cannot hold/);
    }
  });

  it('is read back as the same value, and is canonical', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        const bytes = canonicalJson(value);
        expect(isCanonical(bytes)).toBe(true);
        expect(canonicalJson(parseJson(bytes, bytes.length, 'it'))).toEqual(bytes);
        expect(JSON.parse(Buffer.from(bytes).toString())).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('keeps a key named __proto__ as a key', () => {
    const value: unknown = JSON.parse('{"__proto__": {"x": 1}, "a": 2}');
    expect(JSON.parse(Buffer.from(canonicalJson(value)).toString())).toEqual(value);
  });

  it('does not call another spelling of the same value canonical', () => {
    for (const text of [
      '{"a":1}\n',
      '{\n  "a": 1\n}',
      '{\n  "b": 1,\n  "a": 1\n}\n',
      '{\n  "a": 1.0\n}\n',
      '\ufeff{}\n',
    ]) {
      expect(isCanonical(Buffer.from(text))).toBe(false);
    }
    expect(isCanonical(Buffer.from('{\n  "a": 1,\n  "a": 1\n}\n'))).toBe(false);
  });
});

describe('parsing JSON', () => {
  it('stops at its byte limit, at bytes that are not UTF-8, and at what is not JSON', () => {
    for (const bytes of [Buffer.alloc(11, '1'), Buffer.from([0x22, 0xff, 0x22]), Buffer.from('{'), Buffer.alloc(0)]) {
      try {
        parseJson(bytes, 10, 'the thing');
        expect.unreachable();
      } catch (error) {
        expect(isExhibitError(error, 'bundle-corrupt')).toBe(true);
      }
    }
  });

  it('survives nesting deeper than the stack', () => {
    expect(isCanonical(Buffer.from('['.repeat(200_000) + ']'.repeat(200_000)))).toBe(false);
  });
});
