import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { rootfsCollector } from '../../../agent/collect/rootfs.ts';
import { bodyLine } from '../../../agent/collect/rootfs-body.ts';
import { type Compared, compare } from '../../../agent/collect/rootfs-change.ts';
import { chooseForm, HOLES_ALWAYS, HOLES_IN_ALL } from '../../../agent/collect/rootfs-content.ts';
import { LinkTable } from '../../../agent/collect/rootfs-links.ts';
import { memberName, memberPathOf, opaqueMember, whiteoutName } from '../../../agent/collect/rootfs-names.ts';
import { bundleContext, makeTarget } from './bundle-context.ts';

const name = fc
  .uint8Array({ min: 1, max: 255, minLength: 1, maxLength: 30 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0x2f ? 0x30 : byte))));
const tricky = fc.oneof(
  name,
  name.map((rest) => Buffer.concat([Buffer.from('.wh.'), rest])),
  name.map((rest) => Buffer.concat([Buffer.from('.exhibit-escaped'), rest])),
  fc.constantFrom('.wh.', '.wh..wh..opq', '.exhibit-escaped.wh.').map((text) => Buffer.from(text)),
);

describe('names in the layer', () => {
  test('a real file never has a name that the layer reserves', () => {
    fc.assert(
      fc.property(tricky, (one) => {
        expect(memberName(one).toString('latin1').startsWith('.wh.')).toBe(false);
      }),
    );
  });

  test('two files never get one name', () => {
    fc.assert(
      fc.property(tricky, tricky, (a, b) => {
        expect(memberName(a).equals(memberName(b))).toBe(a.equals(b));
      }),
    );
  });

  test('whiteouts and opaque marks are those of the OCI image specification', () => {
    expect(whiteoutName(Buffer.from('gone')).toString()).toBe('.wh.gone');
    expect(opaqueMember(Buffer.from('a/b')).toString()).toBe('a/b/.wh..wh..opq');
  });

  test('every step of a path is escaped', () => {
    expect(memberPathOf(Buffer.from('a/.wh.b/c')).toString()).toBe('a/.exhibit-escaped.wh.b/c');
  });
});

describe('a line of the body file', () => {
  const entry = {
    path: Buffer.from('etc/passwd'),
    linkPath: undefined,
    kind: 'file',
    inode: 2n ** 63n,
    mode: 0o4755,
    uid: 4_000_000_000n,
    gid: 0n,
    sizeBytes: 5n,
    atimeNs: 1_500_000_000n,
    mtimeNs: -1n,
    ctimeNs: 5_000_000_000_000_000_001n,
    birthNs: 0n,
  } as const;

  test('has the eleven fields of version 3, with nanoseconds', () => {
    expect(bodyLine(entry)).toBe(
      '0|/etc/passwd|9223372036854775808|r/rrwsr-xr-x|4000000000|0|5|1.500000000|-0.000000001|5000000000.000000001|0.000000000',
    );
  });

  test('shows where a link leads, and that a whiteout is a deletion', () => {
    expect(bodyLine({ ...entry, kind: 'symlink', linkPath: Buffer.from('a|b') })).toContain('|/etc/passwd -> a%7Cb|');
    expect(bodyLine({ ...entry, kind: 'whiteout' })).toContain('|/etc/passwd (deleted)|');
  });
});

describe('a comparison with the lower layers', () => {
  const file: Compared = {
    kind: 'file',
    mode: 0o100644n,
    uid: 0n,
    gid: 0n,
    mtimeNs: 1n,
    sizeBytes: 5n,
    rdev: 0n,
    sha256: 'a',
    linkPath: undefined,
    xattrs: new Map(),
  };
  const change = (upper: Partial<Compared>, lower: Partial<Compared> | undefined, opaque = false) =>
    compare({ ...file, ...upper }, lower && { ...file, ...lower }, opaque).change;

  test('sees a same-size edit whose mtime was put back', () => {
    expect(change({ sha256: 'b' }, {})).toBe('modified');
  });

  test('tells new, replaced, touched and copied-up entries apart', () => {
    expect(change({}, undefined)).toBe('added');
    expect(change({ kind: 'directory' }, {})).toBe('modified');
    expect(change({ mtimeNs: 2n }, {})).toBe('metadata');
    expect(change({ xattrs: new Map([['security.capability', Buffer.from('x')]]) }, {})).toBe('metadata');
    expect(change({ xattrs: new Map([['security.selinux', Buffer.from('x')]]) }, {})).toBe('unchanged');
    expect(change({}, {})).toBe('unchanged');
    expect(change({ kind: 'directory' }, { kind: 'directory' }, true)).toBe('opaque');
  });

  test('does not claim to have compared what was not digested', () => {
    expect(compare(file, { ...file, sha256: undefined }, false)).toEqual({
      change: 'modified',
      contentCompared: false,
    });
    expect(compare(file, { ...file, sha256: undefined, sizeBytes: 6n }, false).contentCompared).toBe(true);
  });

  test('of links and devices is one of targets and numbers', () => {
    expect(
      change({ kind: 'symlink', linkPath: Buffer.from('a') }, { kind: 'symlink', linkPath: Buffer.from('b') }),
    ).toBe('modified');
    expect(change({ kind: 'block-device', rdev: 1n }, { kind: 'block-device', rdev: 2n })).toBe('modified');
  });
});

describe('the form in which content is stored', () => {
  const GIB = 1024n ** 3n;

  test('is as it reads for what is dense, compressed or thin like a disk image', () => {
    expect(chooseForm(100n * GIB, 100n * GIB, HOLES_IN_ALL)).toBe('as-it-reads');
    expect(chooseForm(HOLES_ALWAYS, 0n, HOLES_IN_ALL)).toBe('as-it-reads');
    expect(chooseForm(10n * GIB, GIB, HOLES_IN_ALL)).toBe('as-it-reads');
  });

  test('is the data alone for decoys, however many', () => {
    expect(chooseForm(2n ** 63n - 1n, 4096n, HOLES_IN_ALL)).toBe('data-only');
    expect(chooseForm(GIB, 0n, GIB - 1n)).toBe('data-only');
  });

  test('never adds more zeros than the capture has left, but for a last chunk', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 2n ** 63n),
        fc.bigInt(0n, 2n ** 63n),
        fc.bigInt(0n, HOLES_IN_ALL),
        (size, allocated, left) => {
          const holes = size - allocated;
          if (chooseForm(size, allocated, left) === 'as-it-reads')
            expect(holes <= left || holes <= 1024n * 1024n).toBe(true);
        },
      ),
    );
  });
});

describe('the table of hardlinks', () => {
  const first = { memberPath: Buffer.from('a'), sha256: undefined };
  const inode = { dev: 1n, ino: 2n, nlink: 3n };

  test('gives the first name for each later one and then forgets the inode', () => {
    const links = new LinkTable();
    expect(links.find(inode)).toBeUndefined();
    links.remember(inode, first);
    expect(
      [links.find(inode), links.find(inode), links.find(inode)].map((found) => found?.memberPath.toString()),
    ).toEqual(['a', 'a', undefined]);
  });

  test('does not grow with inodes whose other names lie elsewhere', () => {
    const links = new LinkTable(1);
    links.remember(inode, first);
    links.remember({ ...inode, ino: 3n }, first);
    expect(links.find({ ...inode, ino: 3n })).toBeUndefined();
    expect(links.forgotten).toBe(1);
  });
});

test('a target without an overlay is refused with a sentence that says what to do', async () => {
  const { context } = bundleContext('/tmp', makeTarget({}));
  await expect(rootfsCollector.collect(context)).rejects.toThrow(/leave the artifact rootfs out/);
});
