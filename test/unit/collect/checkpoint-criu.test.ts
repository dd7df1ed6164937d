import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { criuErrors, criuLog, criuLogPath, criuWhy, lastLines } from '../../../agent/collect/checkpoint-criu.ts';

/** As containerd 2.1.9 with runc 1.3.6 and CRIU 4.2.1 said it in the lab. */
const LOG_FILE = '/run/containerd/io.containerd.runtime.v2.task/k8s.io/c803/criu-dump.log';
const FAILURE = `checkpointing container "c803" failed: runc did not terminate successfully: exit status 1: criu failed: type DUMP errno 0 path= ${LOG_FILE}`;
const LOG = `(00.000000) Version: 4.2.1 (gitid 0)
(00.000153) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.021201) inet: Collected: ino  0x5c2a family AF_INET type SOCK_STREAM
(00.038442) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.
(00.038501) Error (criu/cr-dump.c:1545): Dump files (pid: 250) failed with -1
(00.041999) Error (criu/cr-dump.c:1975): Dumping FAILED.
`;

describe('CRIU’s reason', () => {
  test('is in the log that the runtime names', () => {
    expect(criuLogPath(FAILURE)).toBe(LOG_FILE);
  });

  test.each([
    'no criu in PATH',
    'path= /etc/shadow',
    'path= /run/containerd/../../etc/dump.log',
    'path= /tmp/criu-dump.log',
  ])('is not looked for outside the runtime’s folders: %s', (words) => {
    expect(criuLogPath(words)).toBeUndefined();
  });

  test('is the first error that is no consequence of another', () => {
    expect(criuErrors(LOG)).toHaveLength(4);
    expect(criuWhy(criuErrors(LOG))).toBe('inet: Connected TCP socket, consider using --tcp-established option.');
  });

  test('of a log with a million errors is ten lines', () => {
    const line = `(00.1) Error (criu/x.c:1): ${'y'.repeat(1000)}\n`;
    const errors = criuErrors(line.repeat(1000));
    expect(errors).toHaveLength(10);
    expect(Math.max(...errors.map((text) => text.length))).toBeLessThanOrEqual(500);
  });

  test('is shown with its last lines, without what a terminal would obey', () => {
    const lines = lastLines(`${'(00.1) earlier\n'.repeat(100)}(00.2) name \x1b[2J\u009b31m\n`);
    expect(lines).toHaveLength(30);
    expect(lines.at(-1)).toBe('(00.2) name  [2J 31m');
  });

  test.each(['/run/docker/x/criu-dump.log', '/var/run/docker/x/dump.log', '/var/lib/docker/x/criu-dump.log'])(
    'is in Docker’s folders as well: %s',
    (file) => {
      expect(criuLogPath(`criu failed path= ${file}`)).toBe(file);
    },
  );

  test('is read from the end of a log however long that is', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'exhibit-criu-'));
    await mkdir(path.join(root, path.dirname(LOG_FILE)), { recursive: true });
    await writeFile(path.join(root, LOG_FILE), `${'(00.1) nothing of note\n'.repeat(300_000)}${LOG}`);
    const { log, problem } = await criuLog({ procRoot: '/proc', hostRoot: root }, new Error(FAILURE));
    await rm(root, { recursive: true });
    expect(problem).toBeUndefined();
    expect(log?.length).toBe(4 * 1024 * 1024);
    expect(criuWhy(criuErrors(log?.toString() ?? ''))).toContain('Connected TCP socket');
  });

  test('that cannot be read is said to be so', async () => {
    const { log, problem } = await criuLog({ procRoot: '/proc', hostRoot: '/nowhere' }, new Error(FAILURE));
    expect(log).toBeUndefined();
    expect(problem).toContain(LOG_FILE);
  });
});
