import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { deviceNumbers } from '../../../agent/host/directory.ts';
import { followRedirect, isWhiteout, NO_MARKS, readMarks, splitXattrs } from '../../../agent/host/overlay.ts';
import type { Xattrs } from '../../../agent/host/xattr.ts';

const xattrs = (values: Record<string, string>): Xattrs => ({
  named: new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value)])),
  unnamed: [],
  refused: [],
});
const none = { kind: 'file', rdev: 0n, sizeBytes: 0n, marks: NO_MARKS, parent: 'no' } as const;

describe('overlayfs', () => {
  test('a character device 0:0 is a whiteout, any other device is not', () => {
    expect(isWhiteout({ ...none, kind: 'character-device' })).toBe(true);
    expect(isWhiteout({ ...none, kind: 'character-device', rdev: 0x103n })).toBe(false);
    expect(isWhiteout({ ...none, kind: 'block-device' })).toBe(false);
  });

  test('an empty file with the whiteout attribute counts only in a directory that may hold such', () => {
    const marks = readMarks(xattrs({ 'trusted.overlay.whiteout': '' }), 'trusted');
    expect(isWhiteout({ ...none, marks, parent: 'holds-whiteouts' })).toBe(true);
    expect(isWhiteout({ ...none, marks, parent: 'no' })).toBe(false);
    expect(isWhiteout({ ...none, marks, parent: 'opaque' })).toBe(false);
    expect(isWhiteout({ ...none, marks, parent: 'holds-whiteouts', sizeBytes: 1n })).toBe(false);
  });

  test('opaque is y or x and nothing else', () => {
    const opaque = (value: string) => readMarks(xattrs({ 'trusted.overlay.opaque': value }), 'trusted').opaque;
    expect(['y', 'x', 'n', 'yes', ''].map(opaque)).toEqual(['opaque', 'holds-whiteouts', 'no', 'no', 'no']);
  });

  test('attributes of the other class are the container’s own', () => {
    const forged = xattrs({ 'user.overlay.opaque': 'y', 'user.overlay.redirect': '/etc' });
    expect(readMarks(forged, 'trusted')).toEqual(NO_MARKS);
    expect([...splitXattrs(forged, 'trusted').visible.keys()]).toEqual([
      'user.overlay.opaque',
      'user.overlay.redirect',
    ]);
    expect(readMarks(forged, 'user').opaque).toBe('opaque');
  });

  test('what a nested overlay set is shown under the name that the container gave it', () => {
    const { visible, internal } = splitXattrs(
      xattrs({ 'trusted.overlay.overlay.opaque': 'y', 'trusted.overlay.origin': 'o', 'user.mine': 'm' }),
      'trusted',
    );
    expect([...visible.keys()].sort()).toEqual(['trusted.overlay.opaque', 'user.mine']);
    expect([...internal.keys()]).toEqual(['trusted.overlay.origin']);
  });

  test('a redirect is a path from the root or one name', () => {
    const names = (redirect: string) => {
      const found = followRedirect(Buffer.from(redirect));
      return found?.kind === 'from-root' ? found.names.map(String) : found?.name.toString();
    };
    expect(names('/a/b c')).toEqual(['a', 'b c']);
    expect(names('old')).toBe('old');
    for (const bad of ['', '/', 'a/b', '//a', '/a//b', '/a/', '/a/../b', '..', '.', '/.']) {
      expect(names(bad), bad).toBeUndefined();
    }
  });

  test('no redirect whatever leads out of a layer', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const found = followRedirect(Buffer.from(bytes));
        const names = found === undefined ? [] : found.kind === 'here' ? [found.name] : found.names;
        for (const name of names) {
          expect(name.length).toBeGreaterThan(0);
          expect(['.', '..']).not.toContain(name.toString('latin1'));
          expect(name.includes('/') || name.includes(0)).toBe(false);
        }
      }),
    );
  });

  test('device numbers are taken apart as glibc’s makedev puts them together', () => {
    const makedev = (major: bigint, minor: bigint): bigint =>
      ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn);
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(0xffffffff), (major, minor) => {
        expect(deviceNumbers(makedev(BigInt(major), BigInt(minor)))).toEqual({ major, minor });
      }),
    );
  });
});
