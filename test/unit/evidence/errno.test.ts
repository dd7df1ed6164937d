import { describe, expect, test } from 'vitest';
import { errnoName } from '../../../evidence/errno.ts';
import { errnoOf, explain, isErrno } from '../../../evidence/error.ts';

/** As Node makes it for a number that libuv does not know. */
const unknown = (errno: number): Error =>
  Object.assign(new Error(`Unknown system error -${errno}: Unknown system error -${errno}, open '/f'`), {
    errno: -errno,
    code: `Unknown system error -${errno}`,
    syscall: 'open',
  });

describe('a system error that Node has no name for', () => {
  test('is a system error all the same, with its Linux name', () => {
    expect([126, 117, 116, 122].map((errno) => errnoOf(unknown(errno)))).toEqual([
      'ENOKEY',
      'EUCLEAN',
      'ESTALE',
      'EDQUOT',
    ]);
    expect(isErrno(unknown(116), 'ESTALE')).toBe(true);
  });

  test('keeps its number where nobody has named it', () => {
    expect(errnoOf(unknown(530))).toBe('E530');
    expect(explain(unknown(530))).toBe("E530, open '/f'");
  });

  test('is explained in words', () => {
    expect(explain(unknown(126))).toBe("ENOKEY: required key not available: it is encrypted, open '/f'");
    expect(explain(new Error('ENOENT: no such file or directory'))).toBe('ENOENT: no such file or directory');
  });

  test('is no other kind of error', () => {
    expect(errnoOf(Object.assign(new Error('x'), { code: 'ERR_OUT_OF_RANGE' }))).toBeUndefined();
    expect(errnoOf(new Error('Unknown system error -126'))).toBeUndefined();
  });
});

test('one number has one name', () => {
  expect([2, 11, 95, 126, 4711].map(errnoName)).toEqual(['ENOENT', 'EAGAIN', 'ENOTSUP', 'ENOKEY', 'E4711']);
});
