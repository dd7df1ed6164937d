import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkNodeLogs, checkVolumes } from '../../../agent/doctor/artifacts.ts';
import { lookAtNodeLogs } from '../../../agent/host/node-logs.ts';

describe('copies of mounts', () => {
  test.each([
    ['quiet', 'ok', 'read-only'],
    ['writable', 'warning', '5.12'],
    [{ errno: 'EPERM' }, 'warning', 'EPERM'],
    [{ errno: 'ENOSYS' }, 'warning', 'ENOSYS'],
  ] as const)('%j is %s', (copy, status, words) => {
    expect(checkVolumes(copy)).toMatchObject({ status, found: expect.stringContaining(words) });
  });

  test('are mended by what refused them', () => {
    expect(checkVolumes({ errno: 'EPERM' }).mend).toContain('CAP_SYS_CHROOT');
    expect(checkVolumes({ errno: 'ENOSYS' }).mend).toContain('5.2');
  });
});

describe("the node's logs", () => {
  const folders = [{ folder: '/var/log/journal', errno: undefined }];

  test('that can be read are ok', () => {
    expect(checkNodeLogs({ kernelLog: undefined, folders })).toMatchObject({
      status: 'ok',
      found: '/dev/kmsg, /var/log/journal can be read',
    });
  });

  test('that the node does not have are no fault of the agent', () => {
    const none = [{ folder: '/var/log/audit', errno: 'ENOENT' }];
    expect(checkNodeLogs({ kernelLog: undefined, folders: none })).toMatchObject({
      status: 'ok',
      found: '/dev/kmsg can be read; the node has no /var/log/audit',
    });
  });

  test.each([
    [{ kernelLog: 'EPERM', folders }, '/dev/kmsg is refused (EPERM)'],
    [{ kernelLog: undefined, folders: [{ folder: '/var/log/audit', errno: 'EACCES' }] }, '/var/log/audit is refused'],
  ])('%j is a warning', (facts, words) => {
    expect(checkNodeLogs(facts)).toMatchObject({ status: 'warning', found: expect.stringContaining(words) });
  });

  test('are looked for below the root of the node', async () => {
    const hostRoot = await mkdtemp(path.join(os.tmpdir(), 'exhibit-node-logs-'));
    onTestFinished(() => rm(hostRoot, { recursive: true, force: true }));
    await mkdir(path.join(hostRoot, 'var/log/journal'), { recursive: true });
    await mkdir(path.join(hostRoot, 'dev'));
    expect(await lookAtNodeLogs({ hostRoot, procRoot: '/proc' }, AbortSignal.timeout(5000))).toEqual({
      kernelLog: 'ENOENT',
      folders: [
        { folder: '/run/log/journal', errno: 'ENOENT' },
        { folder: '/var/log/journal', errno: undefined },
        { folder: '/var/log/audit', errno: 'ENOENT' },
      ],
    });
  });
});
