import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { preflight } from '../../agent/host/preflight.ts';
import { asPid } from '../../agent/runtime/runtime.ts';

const scratch = mkdtempSync(path.join(tmpdir(), 'exhibit-preflight-hostile-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const signal = () => AbortSignal.timeout(15_000);

describe('a hostile /proc', () => {
  test('of garbage gives a forecast all the same', async () => {
    const proc = path.join(scratch, 'garbage');
    const garbage = Buffer.from(Array.from({ length: 3000 }, (_, index) => (index * 7919) % 256));
    mkdirSync(`${proc}/7/fd`, { recursive: true });
    mkdirSync(`${proc}/7/fdinfo`);
    mkdirSync(`${proc}/7/net`);
    for (const name of ['maps', 'mountinfo', 'stat', 'fdinfo/3', 'fdinfo/4', 'net/tcp', 'net/tcp6', 'net/sockstat'])
      writeFileSync(`${proc}/7/${name}`, garbage);
    writeFileSync(`${proc}/7/status`, Buffer.concat([garbage, Buffer.from('\nPPid:\t1\n')]));
    symlinkSync('anon_inode:inotify', `${proc}/7/fd/3`);
    symlinkSync('/a\x1b[2J\n (deleted)', `${proc}/7/fd/4`);
    symlinkSync('socket:[99]', `${proc}/7/fd/5`);
    const found = await preflight({ procRoot: proc, hostRoot: '' }, [asPid(7)], signal());
    expect(found.processes).toBe(1);
    expect(found.obstacles.map(({ what }) => what)).toEqual([
      '/a\\u{1b}[2J\\u{a} is deleted and still in use, on a file system that is not mounted here, which was not asked for its size',
    ]);
  });

  test('with 20,000 descriptors in one process is cut, and says so', async () => {
    const proc = path.join(scratch, 'many');
    mkdirSync(`${proc}/7/fd`, { recursive: true });
    writeFileSync(`${proc}/7/status`, 'Name:\tx\nPPid:\t1\n');
    writeFileSync(`${proc}/7/maps`, '');
    for (let fd = 0; fd < 20_000; fd += 1) symlinkSync('anon_inode:[io_uring]', `${proc}/7/fd/${fd}`);
    const found = await preflight({ procRoot: proc, hostRoot: '' }, [asPid(7)], signal());
    expect(found).toMatchObject({
      obstacleCount: 16_384,
      notes: ['process 7 has 20000 descriptors: 16384 were looked at'],
    });
    expect(found.obstacles).toHaveLength(100);
  });
});

/**
 * A FUSE file system whose server never answers, with an open folder on it: stat(2) of that descriptor waits for ever.
 * Perl's own open would wait as well, so it is the bare system call, with O_PATH.
 */
const BLOCKER = `
exec 7<>/dev/fuse
mount -i -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0 none "$0"
exec perl -MPOSIX -e '$| = 1; my $openat = (POSIX::uname())[4] =~ /^aarch64/ ? 56 : 257;
  syscall($openat, -100, $ARGV[0], 010000000) > 0 or die; print "$$\\n"; sleep 60' "$0"`;
const isRoot = process.platform === 'linux' && process.getuid?.() === 0;
const canBlock = isRoot && existsSync('/dev/fuse') && existsSync('/usr/bin/unshare') && existsSync('/usr/bin/perl');

describe.skipIf(!canBlock)('a file system that never answers (skipped without root or /dev/fuse)', () => {
  test('is not asked', async () => {
    mkdirSync(`${scratch}/fuse`);
    const blocker = spawn('unshare', ['-m', '--propagation', 'private', 'bash', '-c', BLOCKER, `${scratch}/fuse`]);
    try {
      const [line] = await once(blocker.stdout, 'data');
      const pid = Number(String(line));
      expect(readFileSync(`/proc/${pid}/mountinfo`, 'latin1')).toContain(`${scratch}/fuse`);
      const found = await preflight({ procRoot: '/proc', hostRoot: '' }, [asPid(pid)], signal());
      // Not even once: the process that looks would have been waited for.
      expect(found.wallMs).toBeLessThan(1000);
      expect(found.notes).toEqual([]);
    } finally {
      blocker.kill('SIGKILL');
    }
  });
});
