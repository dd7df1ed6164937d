import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BODY_LETTERS, bodyName, permissions } from '../../../evidence/bodyfile.ts';

const bytes = fc.uint8Array({ min: 1, minLength: 1, maxLength: 30 }).map((array) => Buffer.from(array));
const text = fc
  .array(fc.nat(0x10ffff), { maxLength: 30 })
  .map((points) => Buffer.from(String.fromCodePoint(...points)));
const name = fc.oneof(bytes, text);

describe('a name in a body file', () => {
  test('stays one field of one line, without a byte for the terminal', () => {
    fc.assert(
      fc.property(name, (one) => {
        expect(bodyName(one)).toMatch(/^[^|\p{Cc}]*$/u);
      }),
    );
  });

  test('never reads like another', () => {
    fc.assert(
      fc.property(name, name, (a, b) => {
        expect(bodyName(a) === bodyName(b)).toBe(a.equals(b));
      }),
    );
    expect(bodyName(Buffer.from('\\x0a'))).not.toBe(bodyName(Buffer.from('\n')));
  });

  test.each([
    ['/etc/passwd', '/etc/passwd'],
    ['Grüße 日本', 'Grüße 日本'],
    ['100%|a\\b', '100%25%7Ca%5Cb'],
    ['a\nb\x1b[2J', 'a\\x0ab\\x1b[2J'],
    ['gpj\u202eexe', 'gpj\\xe2\\x80\\xaeexe'],
    ['\ufffd', '\ufffd'],
  ])('%j is %j', (raw, shown) => {
    expect(bodyName(Buffer.from(raw))).toBe(shown);
  });

  test('has what is not UTF-8 byte by byte', () => {
    expect(bodyName(Buffer.from([0x61, 0xff, 0xc3, 0x7c]))).toBe('a\\xff\\xc3%7C');
  });
});

describe('a mode in a body file', () => {
  test.each([
    [0o755, 'rwxr-xr-x'],
    [0o4644, 'rwSr--r--'],
    [0o2755, 'rwxr-sr-x'],
    [0o1777, 'rwxrwxrwt'],
    [0o1776, 'rwxrwxrwT'],
    [0, '---------'],
  ])('%o is %s, as ls shows it', (mode, shown) => {
    expect(permissions(mode)).toBe(shown);
    expect(permissions(mode | 0o100000)).toBe(shown);
  });

  test('has one letter for each kind of inode', () => {
    expect(new Set(Object.values(BODY_LETTERS)).size).toBe(Object.keys(BODY_LETTERS).length - 1);
    expect(BODY_LETTERS.hardlink).toBe(BODY_LETTERS.file);
  });
});
