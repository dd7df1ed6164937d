import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  escapeLines,
  escapeText,
  formatBytes,
  formatDuration,
  formatFields,
  formatTable,
  formatTime,
  toJson,
} from '../../../cli/print.ts';

const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/u;
const anyText = fc.string({ unit: 'binary' });

describe('escapeText', () => {
  test.each([
    ['plain text, ümlaut, 漢字, 🦀', 'plain text, ümlaut, 漢字, 🦀'],
    ['a\x1b[2Jb', 'a\\x1b[2Jb'],
    ['title \x1b]0;owned\x07', 'title \\x1b]0;owned\\x07'],
    ['line\nreturn\rtab\t', 'line\\nreturn\\rtab\\t'],
    ['one byte CSI \x9b31m', 'one byte CSI \\x9b31m'],
    ['gpj.\u202eexe', 'gpj.\\u{202e}exe'],
    ['zero\u200bwidth \ufeff', 'zero\\u{200b}width \\u{feff}'],
    ['tags \u{e0041}', 'tags \\u{e0041}'],
    ['lone \ud800 surrogate', 'lone \\u{d800} surrogate'],
    ['\u2028\u2029\x7f\x00', '\\u{2028}\\u{2029}\\x7f\\x00'],
  ])('shows %j', (text, shown) => {
    expect(escapeText(text)).toBe(shown);
  });

  test('leaves nothing that a terminal obeys or an eye cannot see, whatever comes in', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(escapeText(text)).not.toMatch(UNSEEN);
        expect(escapeLines(text).replaceAll(/[\n\t]/g, '')).not.toMatch(UNSEEN);
      }),
    );
  });

  test('does nothing to what it has escaped', () => {
    fc.assert(fc.property(anyText, (text) => void expect(escapeText(escapeText(text))).toBe(escapeText(text))));
  });
});

describe('toJson', () => {
  test('is read back to the same value', () => {
    fc.assert(
      fc.property(
        anyText,
        (text) => void expect(JSON.parse(toJson({ [text]: [text] }, 2))).toEqual({ [text]: [text] }),
      ),
    );
  });

  test('holds no control and no format character but its own line ends', () => {
    fc.assert(fc.property(anyText, (text) => void expect(toJson(text, 2)).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)));
    expect(toJson({ a: '\u202e\x9b\x7f' }, 2)).toBe('{\n  "a": "\\u202e\\u009b\\u007f"\n}');
  });
});

describe('numbers', () => {
  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.977 KiB'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [5_242_880, '5 MiB'],
    [1_288_490_189, '1.2 GiB'],
    [2 ** 60, '1020 PiB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test.each([
    [0, '0 ms'],
    [0.44, '0.4 ms'],
    [41.5, '42 ms'],
    [999.6, '1.0 s'],
    [3_449, '3.4 s'],
    [59_949, '59.9 s'],
    [59_960, '1 min 0 s'],
    [125_000, '2 min 5 s'],
    [3_720_000, '1 h 2 min'],
  ])('%d ms are %s', (ms, text) => expect(formatDuration(ms)).toBe(text));

  test('a time that is not yet, or that no clock can show, is a dash', () => {
    expect([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e17].map(formatTime)).toEqual(['-', '-', '-', '-', '-']);
    expect(formatTime(1772366400123)).toBe('2026-03-01T12:00:00Z');
  });
});

describe('tables and fields', () => {
  test('keep their columns whatever a cell holds', () => {
    const text = formatTable(
      ['A', 'B'],
      [
        ['x'.repeat(5000), '1'],
        ['two\nlines', '\x1b[1A'],
        ['', '3'],
      ],
    );
    const lines = text.split('\n');
    expect(lines).toHaveLength(5);
    expect(new Set(lines.slice(0, 4).map((line) => line.search(/\S+$/)))).toEqual(new Set([98]));
    expect(lines[1]?.length).toBeLessThan(110);
  });

  test('leave out what has no value', () => {
    expect(
      formatFields([
        ['a', '1'],
        ['bcd', undefined],
        ['ef', ''],
        ['gh', 'x\ny'],
      ]),
    ).toBe('a   1\ngh  x\\ny\n');
  });
});
