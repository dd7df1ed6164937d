import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import {
  checkCapabilities,
  checkHostRoot,
  checkMemory,
  checkProcesses,
  checkSettings,
  checkState,
  checkSystemCalls,
} from '../../../agent/doctor/agent.ts';

const MIB = 2 ** 20;

/** CAP_DAC_READ_SEARCH, FOWNER, KILL, NET_ADMIN, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN, SYS_NICE, SYSLOG: linux/capability.h. */
const NEEDED = [2n, 3n, 5n, 12n, 18n, 19n, 21n, 23n, 34n].reduce((mask, bit) => mask | (1n << bit), 0n);

describe('what the agent sees', () => {
  const view = {
    init: 'systemd',
    initPids: 'pid:[1]',
    ownPids: 'pid:[1]',
    system: { id: 'amzn', name: 'Amazon Linux 2023' },
  };
  test.each([
    ['the node itself', view, '/proc', 'ok'],
    ['a pod without hostPID', { ...view, ownPids: 'pid:[2]' }, '/proc', 'failure'],
    ['the node through another /proc', { ...view, ownPids: 'pid:[2]' }, '/proc/7/root/proc', 'warning'],
    ['a /proc whose namespaces are closed', { ...view, initPids: undefined }, '/proc', 'warning'],
    ['an empty folder', { ...view, init: undefined, initPids: undefined }, '/host/proc', 'failure'],
  ])('%s', (_what, seen, procRoot, status) => {
    expect(checkProcesses(seen, procRoot).status).toBe(status);
  });

  test('a name of process 1 is data', () => {
    expect(checkProcesses({ ...view, init: 'a\x1b[2J' }, '/proc').found).not.toContain('\x1b');
  });

  test('a root without a system on it is a warning', () => {
    expect(checkHostRoot(view, '/proc/1/root')).toMatchObject({
      status: 'ok',
      found: 'Amazon Linux 2023 at /proc/1/root',
    });
    expect(checkHostRoot({ ...view, system: undefined }, '').status).toBe('warning');
  });
});

describe('what the agent may do', () => {
  test.each([
    ['everything', 0x1ff_ffff_ffffn, 'ok', 'CAP_SYS_PTRACE'],
    ['what it needs and no more', NEEDED, 'ok', 'CAP_SYS_ADMIN'],
    ['nothing', 0n, 'warning', 'missing CAP_DAC_READ_SEARCH'],
    ['all but ptrace', NEEDED & ~(1n << 19n), 'warning', 'missing CAP_SYS_PTRACE (read'],
    ['nothing for the log of the kernel', NEEDED & ~(1n << 34n), 'warning', 'missing CAP_SYSLOG (read'],
    ['nothing for packet filters', NEEDED & ~(1n << 12n), 'warning', 'missing CAP_NET_ADMIN (read'],
    ['nothing for volumes', NEEDED & ~(1n << 18n), 'warning', 'missing CAP_SYS_CHROOT (enter'],
  ])('capabilities: %s', (_what, held, status, found) => {
    const check = checkCapabilities(held);
    expect(check.status).toBe(status);
    expect(check.found).toContain(found);
  });

  test.each([
    [{ libc: true, readProcess: 'works' }, 'none', 'ok'],
    [{ libc: true, readProcess: 'works' }, 'filter', 'ok'],
    [{ libc: true, readProcess: 'EPERM' }, 'filter', 'warning'],
    [{ libc: true, readProcess: 'missing' }, undefined, 'warning'],
    [{ libc: false, readProcess: 'missing' }, 'none', 'warning'],
  ])('system calls %o under seccomp %s: %s', (calls, seccomp, status) => {
    expect(checkSystemCalls(calls, seccomp).status).toBe(status);
  });
});

describe('where the agent keeps its state', () => {
  test.each([
    ['tmpfs', true, 'ok'],
    ['tmpfs', undefined, 'ok'],
    ['ramfs', true, 'ok'],
    [undefined, true, 'warning'],
    ['tmpfs', false, 'warning'],
  ])('on %s, the runtime sees it: %s: %s', (memoryFileSystem, shared, status) => {
    expect(checkState({ folder: '/run/exhibit', memoryFileSystem, shared }).status).toBe(status);
  });
});

describe('memory for the copy', () => {
  test.each([
    ['a node with plenty', 8192, undefined, 'ok', ''],
    ['just enough', 2048, undefined, 'ok', ''],
    ['a byte too little', 2047, undefined, 'warning', 'lower memory.bufferBytes'],
    ['a limit that leaves room', 8192, 1024 + 192, 'ok', ''],
    ['a limit that does not', 8192, 1024 + 191, 'warning', 'raise the memory limit'],
    ['nothing at all', 0, 0, 'warning', 'memory'],
  ])('%s', (_what, availableMib, limitMib, status, mend) => {
    const room = {
      availableBytes: availableMib * MIB,
      cgroupRoomBytes: limitMib === undefined ? undefined : limitMib * MIB,
    };
    const check = checkMemory(room, 1024 * MIB);
    expect(check.status).toBe(status);
    expect(check.mend).toContain(mend);
  });
});

describe('settings', () => {
  const settings = (text: string) =>
    checkSettings(parseConfig(`node: n1\nsink: { url: 'file:///e' }\n${text}`, 'f', {}));
  test.each([
    ['cluster: prod', 'ok', ''],
    ['', 'warning', 'cluster is "local"'],
    ['runtime: { kind: host }', 'ok', ''],
    ['cluster: prod\nfreeze: { deadlineMs: 20000 }', 'ok', ''],
    ['cluster: prod\nfreeze: { deadlineMs: 20001 }', 'warning', 'freeze.deadlineMs is 20001'],
    ['cluster: prod\ncompression: { level: 19 }', 'warning', 'compression.level is 19'],
  ])('%j: %s', (text, status, found) => {
    const check = settings(text);
    expect(check.status).toBe(status);
    expect(check.found).toContain(found);
  });

  test('several doubts are told in one line', () => {
    expect(settings('freeze: { deadlineMs: 60000 }').found).toContain('cluster is "local"; freeze.deadlineMs is 60000');
  });
});
