import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { O_PATH } from '../../../agent/host/directory.ts';
import { AT_FDCWD, openAt } from '../../../agent/host/open-at.ts';
import { statOf } from '../../../agent/host/stat.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-stat-'));
  writeFileSync(path.join(folder, 'file'), 'content');
  utimesSync(path.join(folder, 'file'), -1.5, 5_000_000_000.25);
  symlinkSync('nowhere', path.join(folder, 'link'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('what an inode says of itself', () => {
  const places = ['file', 'link', '.', '/dev/null', '/dev/tty', '/proc/self/status', '/sys', '/'];

  test.for(places)('is what Node reads of it: %s', (place) => {
    const fd = openSync(path.resolve(folder, place), O_PATH | constants.O_NOFOLLOW);
    try {
      const expected = fstatSync(fd, { bigint: true });
      const { dev, ino, mode, nlink, uid, gid, rdev, size, blocks } = expected;
      const { atimeNs, mtimeNs, ctimeNs, birthtimeNs } = expected;
      const all = { dev, ino, mode, nlink, uid, gid, rdev, size, blocks, atimeNs, mtimeNs, ctimeNs, birthtimeNs };
      expect(statOf(fd)).toEqual(all);
    } finally {
      closeSync(fd);
    }
  });

  test('is not asked of a descriptor that is none', () => {
    expect(() => statOf(1_000_000)).toThrow(/EBADF/);
  });
});

describe('opening a name in a directory', () => {
  test('answers with the negative errno where there is nothing', () => {
    const fd = openAt(AT_FDCWD, Buffer.from(folder), constants.O_DIRECTORY);
    try {
      expect(openAt(fd, Buffer.from('none'), O_PATH)).toBe(-2);
      expect(openAt(fd, Buffer.from('link'), constants.O_NOFOLLOW)).toBe(-40);
      const opened = openAt(fd, Buffer.from('file'), constants.O_RDONLY);
      expect(fstatSync(opened).size).toBe(7);
      closeSync(opened);
    } finally {
      closeSync(fd);
    }
  });

  test('takes names of any bytes but NUL, up to the longest there are', () => {
    const fd = openAt(AT_FDCWD, Buffer.from(folder), constants.O_DIRECTORY);
    try {
      expect(() => openAt(fd, Buffer.from('file\0x'), O_PATH)).toThrow(/EINVAL/);
      expect(openAt(fd, Buffer.alloc(255, 0xff), O_PATH)).toBe(-2);
      expect(openAt(fd, Buffer.alloc(256, 0xff), O_PATH)).toBe(-36);
    } finally {
      closeSync(fd);
    }
  });
});
