import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SystemError } from '../../../agent/host/libc.ts';
import { collect, splitNames } from '../../../agent/host/xattr.ts';

const list = (...names: Array<string | Buffer>): Buffer =>
  Buffer.concat(names.flatMap((name) => [Buffer.from(name), Buffer.from([0])]));

describe('extended attributes', () => {
  test('come in bytewise order, whatever order the kernel lists them in', () => {
    expect(splitNames(list('user.b', 'user.a', 'trusted.z')).map(String)).toEqual(['trusted.z', 'user.a', 'user.b']);
  });

  test('any names survive being listed', () => {
    const name = fc.uint8Array({ min: 1, max: 255, minLength: 1, maxLength: 40 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.array(name), (names) => {
        expect(splitNames(list(...names))).toEqual([...names].sort(Buffer.compare));
      }),
    );
  });

  test('of a file system without any are none', () => {
    const none = collect(
      () => {
        throw new SystemError('ENOTSUP', 'listxattr');
      },
      () => Buffer.alloc(0),
    );
    expect(none.named.size).toBe(0);
  });

  test('with a name that is not UTF-8 are kept apart, with their bytes', () => {
    const odd = Buffer.from([0x75, 0x2e, 0xff]);
    const found = collect(
      () => list('user.ok', odd),
      (name) => name,
    );
    expect([...found.named.keys()]).toEqual(['user.ok']);
    expect(found.unnamed).toEqual([{ name: odd, value: odd }]);
  });

  test('that vanish after they were listed are left out, and refused ones are told', () => {
    const found = collect(
      () => list('user.gone', 'user.kept', 'security.secret'),
      (name) => {
        if (name.toString() === 'user.gone') throw new SystemError('ENODATA', 'getxattr');
        if (name.toString() === 'security.secret') throw new SystemError('EACCES', 'getxattr');
        return Buffer.from('value');
      },
    );
    expect([...found.named.keys()]).toEqual(['user.kept']);
    expect(found.refused).toEqual([{ name: Buffer.from('security.secret'), errno: 'EACCES' }]);
  });

  test('that grow between the question for their size and the answer are asked again, but not for ever', () => {
    let asked = 0;
    const found = collect(
      () => list('user.x'),
      () => {
        asked += 1;
        throw new SystemError('ERANGE', 'getxattr');
      },
    );
    expect(asked).toBe(3);
    expect(found.refused).toHaveLength(1);
  });
});
