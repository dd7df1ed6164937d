import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  ftruncateSync,
  lstatSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { libc, open, SystemError } from '../../../agent/host/libc.ts';
import { isErrno, isExhibitError } from '../../../evidence/error.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-libc-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bytes = (text: string): Buffer => Buffer.from(text);
const thrown = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};

describe('the C library', () => {
  test('answers with the errno’s name, as Node’s own errors do', () => {
    const error = thrown(() => libc().lgetxattr(bytes('/'), bytes('user.exhibit.none')));
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toMatchObject({ code: 'ENODATA', errno: 61, syscall: 'lgetxattr' });
    expect(
      isErrno(
        thrown(() => libc().llistxattr(bytes('/no/such/file'))),
        'ENOENT',
      ),
    ).toBe(true);
    expect(
      isErrno(
        thrown(() => libc().flistxattr(1_000_000)),
        'EBADF',
      ),
    ).toBe(true);
  });

  test('refuses a path with a NUL byte before any call is made', () => {
    expect(thrown(() => libc().llistxattr(bytes('/etc\0/passwd')))).toMatchObject({ code: 'EINVAL' });
  });

  test('names the libraries that it tried when none can be loaded', () => {
    const error = thrown(() => open(['libno.so.1', 'libno.so.2']));
    expect(isExhibitError(error, 'internal')).toBe(true);
    expect(String(error)).toContain('libno.so.1, libno.so.2');
  });

  test('makes a FIFO with the mode that was asked for', () => {
    const at = path.join(folder, 'fifo');
    libc().mkfifo(bytes(at), 0o600);
    expect(lstatSync(at).isFIFO()).toBe(true);
    expect(lstatSync(at).mode & 0o777).toBe(0o600);
    expect(
      isErrno(
        thrown(() => libc().mkfifo(bytes(at), 0o600)),
        'EEXIST',
      ),
    ).toBe(true);
  });

  test('reads the target of a symlink through an O_PATH descriptor, bytes as they are', () => {
    const at = path.join(folder, 'link');
    const target = Buffer.concat([bytes('no/'), Buffer.from([0xff, 0x0a])]);
    symlinkSync(target, at);
    const fd = openSync(at, 0o10000000 | constants.O_NOFOLLOW);
    expect(libc().readlinkFd(fd)).toEqual(target);
    closeSync(fd);
  });

  test('finds data and holes, also beyond what a double can count', () => {
    const fd = openSync(path.join(folder, 'sparse'), 'w+');
    writeSync(fd, 'x', 8 * 1024 * 1024);
    ftruncateSync(fd, 16 * 1024 * 1024);
    expect(libc().seek(fd, 0n, 'data')).toBe(8n * 1024n * 1024n);
    expect(libc().seek(fd, 0n, 'hole')).toBe(0n);
    expect(thrown(() => libc().seek(fd, (1n << 62n) + 1n, 'data'))).toMatchObject({ code: 'ENXIO' });
    closeSync(fd);
  });

  test('reads back the attributes that setfattr wrote', ({ skip }) => {
    const at = path.join(folder, 'attributes');
    writeFileSync(at, '');
    try {
      execFileSync('setfattr', ['-n', 'user.exhibit', '-v', '0x00ff00', at], { stdio: 'pipe' });
    } catch {
      skip('needs setfattr (Debian’s attr) and a file system with user attributes');
    }
    expect(libc().llistxattr(bytes(at)).toString()).toContain('user.exhibit\0');
    expect(libc().lgetxattr(bytes(at), bytes('user.exhibit'))).toEqual(Buffer.from([0, 255, 0]));
    const fd = openSync(at, 'r');
    expect(libc().fgetxattr(fd, bytes('user.exhibit'))).toEqual(Buffer.from([0, 255, 0]));
    closeSync(fd);
  });
});
