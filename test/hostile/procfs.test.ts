import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { processesCollector } from '../../agent/collect/processes.ts';
import { hold, openRegular, Refused } from '../../agent/host/procfs-open.ts';
import { openInlineReader, openReader } from '../../agent/host/procfs-reader.ts';
import { readRootFile } from '../../agent/host/procfs-serve.ts';
import { fakeContext, jsonLines } from '../unit/collect/proc-context.ts';

const isRoot = process.platform === 'linux' && process.getuid?.() === 0;
const scratch = mkdtempSync(path.join(tmpdir(), 'exhibit-hostile-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let root = '';
let count = 0;
beforeEach(() => {
  root = path.join(scratch, `root-${count++}`);
  mkdirSync(`${root}/etc`, { recursive: true });
});

const read = (name: string) => readRootFile(root, name, 1000);
const text = (name: string) => {
  const result = read(name);
  return result.kind === 'read' ? result.bytes.toString() : result;
};

describe('a file in a hostile root', () => {
  test('an absolute link stays inside the root', () => {
    writeFileSync(`${root}/etc/passwd`, 'inside');
    symlinkSync('/etc/passwd', `${root}/etc/resolv.conf`);
    expect(text('etc/resolv.conf')).toBe('inside');
  });

  test('no number of dots climbs out', () => {
    writeFileSync(`${root}/top`, 'inside');
    symlinkSync('../../../../../../../../../../top', `${root}/etc/resolv.conf`);
    expect(text('etc/resolv.conf')).toBe('inside');
    symlinkSync('../../../../../../../../../../etc/hostname', `${root}/etc/hosts`);
    expect(read('etc/hosts')).toMatchObject({ kind: 'refused', errno: 'ENOENT' });
  });

  test('a folder that is a link to the outside is walked inside', () => {
    rmSync(`${root}/etc`, { recursive: true });
    symlinkSync('/proc/self/root/etc', `${root}/etc`);
    expect(read('etc/hosts')).toMatchObject({ kind: 'refused', errno: 'ENOENT' });
  });

  test('links in a circle are refused', () => {
    symlinkSync('b', `${root}/a`);
    symlinkSync('a', `${root}/b`);
    expect(read('a')).toMatchObject({ kind: 'refused', errno: 'ELOOP' });
    symlinkSync('c/c/c/c/c/c/c/c/c/c', `${root}/c`);
    expect(read('c')).toMatchObject({ kind: 'refused', errno: 'ELOOP' });
  });

  test('a FIFO, a folder and a device are refused without being opened', () => {
    execFileSync('mkfifo', [`${root}/etc/hosts`]);
    expect(read('etc/hosts')).toMatchObject({ kind: 'refused', why: 'it is a fifo, which is never opened' });
    expect(read('etc')).toMatchObject({ kind: 'refused', why: 'it is a directory, which is never opened' });
    expect(readRootFile('/', 'dev/null', 10)).toMatchObject({ why: 'it is a character-device, which is never opened' });
  });

  test('a file that is longer than the limit is cut and says so', () => {
    writeFileSync(`${root}/etc/hosts`, 'x'.repeat(1001));
    expect(read('etc/hosts')).toMatchObject({ kind: 'read', truncated: true });
    writeFileSync(`${root}/etc/hosts`, 'x'.repeat(1000));
    expect(read('etc/hosts')).toMatchObject({ kind: 'read', truncated: false });
  });

  test("a regular file of the kernel's own file systems is refused: reading it may block or change something", () => {
    expect(() => openRegular(hold('/proc/version'))).toThrow(Refused);
    expect(() => openRegular(hold('/proc/version'))).toThrow(/kernel's proc/);
  });

  test('descriptors are given back, also when a file is refused', () => {
    symlinkSync('/etc/../etc/./../nothing', `${root}/etc/resolv.conf`);
    const before = execFileSync('ls', [`/proc/${process.pid}/fd`])
      .toString()
      .split('\n').length;
    for (let round = 0; round < 50; round += 1) read('etc/resolv.conf');
    const after = execFileSync('ls', [`/proc/${process.pid}/fd`])
      .toString()
      .split('\n').length;
    expect(after - before).toBeLessThan(10);
  });
});

describe('a hostile /proc', () => {
  test('10,000 descriptors with names that are no words are all listed', async () => {
    const proc = path.join(scratch, 'many');
    mkdirSync(`${proc}/7/fd`, { recursive: true });
    mkdirSync(`${proc}/7/fdinfo`);
    writeFileSync(`${proc}/7/stat`, `7 (x) S 1 ${'0 '.repeat(49)}`);
    for (let fd = 0; fd < 10_000; fd += 1) {
      symlinkSync(Buffer.from(`/nowhere/\n\x1b[2J${fd}\xff`, 'latin1'), `${proc}/7/fd/${fd}`);
      writeFileSync(`${proc}/7/fdinfo/${fd}`, 'pos:\t1\nflags:\t02\nmnt_id:\t1\n');
    }
    const { context, written } = fakeContext({ procRoot: proc, hostRoot: '' }, [7]);
    await processesCollector({ openReader: openInlineReader }).collect(context);
    const [line] = jsonLines(written, 'processes.jsonl');
    expect(line?.descriptors).toHaveLength(10_000);
    expect(line?.descriptors?.[0]).toMatchObject({
      target: expect.stringContaining('\n\u001b[2J'),
      targetBase64: expect.any(String),
    });
    expect(written.members.get('processes.jsonl')?.includes('\x1b')).toBe(false);
  });

  test('files full of garbage give a line and no error', async () => {
    const proc = path.join(scratch, 'garbage');
    mkdirSync(`${proc}/7`, { recursive: true });
    for (const name of ['stat', 'status', 'maps', 'mountinfo', 'auxv', 'cmdline', 'environ', 'limits', 'syscall']) {
      writeFileSync(`${proc}/7/${name}`, Buffer.from(Array.from({ length: 3000 }, (_, index) => (index * 7919) % 256)));
    }
    const { context, written } = fakeContext({ procRoot: proc, hostRoot: '' }, [7]);
    await processesCollector({ openReader: openInlineReader }).collect(context);
    expect(jsonLines(written, 'processes.jsonl')).toHaveLength(1);
  });

  test('a FIFO in the place of a file does not block', async () => {
    const proc = path.join(scratch, 'fifo');
    mkdirSync(`${proc}/7`, { recursive: true });
    for (const name of ['cmdline', 'status', 'maps']) execFileSync('mkfifo', [`${proc}/7/${name}`]);
    const { context, written } = fakeContext({ procRoot: proc, hostRoot: '' }, [7]);
    await processesCollector({ openReader: openInlineReader }).collect(context);
    expect(written.committed).toBe(true);
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
const canBlock = isRoot && existsSync('/dev/fuse') && existsSync('/usr/bin/unshare') && existsSync('/usr/bin/perl');

describe.skipIf(!canBlock)('a process that makes the reader wait for ever (skipped without root or /dev/fuse)', () => {
  test('costs its own details only, and is named as a gap', async () => {
    mkdirSync(`${scratch}/fuse`);
    const blocker = spawn('unshare', ['-m', '--propagation', 'private', 'bash', '-c', BLOCKER, `${scratch}/fuse`]);
    const innocent = spawn('sleep', ['60']);
    try {
      const [line] = await once(blocker.stdout, 'data');
      const pid = Number(String(line));
      const { context, written } = fakeContext({ procRoot: '/proc', hostRoot: '' }, [pid, innocent.pid ?? 0]);
      await processesCollector({ openReader: (host) => openReader(host, { patienceMs: 400 }) }).collect(context);
      const [blocked, other] = jsonLines(written, 'processes.jsonl');
      expect(blocked).toMatchObject({ pid, comm: 'perl', commandLine: [] });
      expect(blocked?.descriptors?.find(({ target }) => String(target) === `${scratch}/fuse`)).toMatchObject({
        type: 'path',
      });
      expect(other).toMatchObject({ commandLine: ['sleep', '60'], executable: { sha256: expect.any(String) } });
      expect(written.gaps).toEqual([
        expect.objectContaining({
          pid,
          what: expect.stringContaining('cmdline'),
          why: expect.stringContaining('blocked'),
        }),
      ]);
    } finally {
      blocker.kill('SIGKILL');
      innocent.kill('SIGKILL');
    }
  });
});

describe.skipIf(!isRoot)('a file of an absurd size (skipped without root)', () => {
  test('is cut at the budget, and the gap says how long it claims to be', async () => {
    const holder = spawn('perl', [
      '-e',
      'open(my $f, "+>", $ARGV[0]); truncate $f, 2**43; unlink $ARGV[0]; $| = 1; print "$$\\n"; sleep 60',
      `${scratch}/giant`,
    ]);
    try {
      await once(holder.stdout, 'data');
      const { context, written } = fakeContext({ procRoot: '/proc', hostRoot: '' }, [holder.pid ?? 0]);
      await processesCollector({ budget: { fileBytes: 100_000 } }).collect(context);
      const [recovered] = jsonLines(written, 'recovered.jsonl');
      expect(recovered).toMatchObject({ sizeBytes: 2 ** 43, storedBytes: 100_000, truncated: true, allocatedBytes: 0 });
      expect(written.gaps).toContainEqual(expect.objectContaining({ why: `cut after 100000 of ${2 ** 43} bytes` }));
    } finally {
      holder.kill('SIGKILL');
    }
  });
});
