import { describe, expect, test } from 'vitest';
import { checkCgroup, checkKernel } from '../../../agent/doctor/kernel.ts';
import type { KernelFacts } from '../../../agent/host/kernel.ts';
import { AL2023, BOTTLEROCKET, DEBIAN } from './nodes.ts';

const statuses = (facts: KernelFacts) =>
  Object.fromEntries(checkKernel(facts).map(({ name, status }) => [name, status]));
const lineOf = (name: string, facts: KernelFacts) => {
  const check = checkKernel(facts).find((one) => one.name === name);
  if (check === undefined) throw new Error(`no line ${name}`);
  return check;
};
const WELL = {
  'page-scan': 'ok',
  'soft-dirty': 'ok',
  'process-memory': 'ok',
  'proc-mem': 'ok',
  yama: 'ok',
  lockdown: 'ok',
  selinux: 'ok',
};

describe('the kernel', () => {
  test.each([
    ['EKS AL2023 has nothing to mend', AL2023, WELL],
    [
      'Bottlerocket on Graviton is slower, and enough',
      BOTTLEROCKET,
      { ...WELL, 'page-scan': 'warning', 'soft-dirty': 'warning' },
    ],
    ['Debian 12 is slower', DEBIAN, { ...WELL, 'page-scan': 'warning' }],
  ])('%s', (_what, facts, expected) => {
    expect(statuses(facts)).toEqual(expected);
  });

  test.each([
    ['6.1.141', false, 'run a kernel of 6.7 or newer'],
    ['6.12.40', false, 'see the system-calls line'],
  ])('%s without PAGEMAP_SCAN says what to do', (release, pageScan, mend) => {
    expect(lineOf('page-scan', { ...AL2023, release, pageScan }).mend).toContain(mend);
  });

  test('a page map that could not be opened proves nothing', () => {
    expect(lineOf('page-scan', { ...AL2023, pageScan: undefined }).status).toBe('ok');
  });

  test.each([
    ['given', undefined, 'ok', 'gives protected pages'],
    ['given', 'always', 'ok', 'proc_mem.force_override=always'],
    ['refused', 'never', 'warning', 'proc_mem.force_override=never'],
    ['refused', 'ptrace', 'warning', 'proc_mem.force_override=ptrace'],
    ['refused', undefined, 'warning', 'refuses protected pages'],
    ['untried', undefined, 'ok', 'could not be tried'],
  ] as const)('protected pages %s (booted with %s): %s', (unreadablePages, forceOverride, status, found) => {
    const check = lineOf('proc-mem', { ...AL2023, unreadablePages, forceOverride });
    expect(check.status).toBe(status);
    expect(check.found).toContain(found);
  });

  test.each([
    [undefined, 'ok'],
    [0, 'ok'],
    [1, 'ok'],
    [2, 'ok'],
    [3, 'failure'],
  ] as const)('Yama at %s: %s', (ptraceScope, status) => {
    expect(lineOf('yama', { ...AL2023, ptraceScope }).status).toBe(status);
  });

  test.each([
    [32, 0, undefined, 0, 'ok', ''],
    [31, 1, 'EACCES', 0, 'warning', 'CAP_SYS_PTRACE'],
    [0, 32, 'EACCES', 0, 'failure', 'CAP_SYS_PTRACE'],
    [0, 32, 'EPERM', 3, 'failure', 'see the yama line'],
    [0, 0, undefined, 0, 'failure', 'see the processes line'],
  ])(
    '%d processes let their memory be read and %d do not (%s, Yama %s): %s',
    (opened, refused, errno, ptraceScope, status, mend) => {
      const check = lineOf('process-memory', { ...AL2023, memoryOfOthers: { opened, refused, errno }, ptraceScope });
      expect(check.status).toBe(status);
      expect(check.mend).toContain(mend);
    },
  );

  test.each([
    ['system_u:system_r:control_t:s0-s0:c0.c1023', true, 'ok'],
    ['system_u:system_r:super_t:s0', true, 'ok'],
    ['system_u:system_r:spc_t:s0', true, 'ok'],
    ['system_u:system_r:container_t:s0:c1,c2', true, 'warning'],
    ['system_u:system_r:container_t:s0:c1,c2', false, 'ok'],
    ['', true, 'warning'],
  ])('SELinux with the agent in %s, enforcing %s: %s', (context, enforcing, status) => {
    expect(lineOf('selinux', { ...BOTTLEROCKET, selinux: { context, enforcing } }).status).toBe(status);
  });

  test.each(['none', 'integrity', 'confidentiality', undefined])('lockdown %s never stops a capture', (lockdown) => {
    expect(lineOf('lockdown', { ...AL2023, lockdown }).status).toBe('ok');
  });
});

describe('control groups', () => {
  const freezer = { version: 2, folder: '/sys/fs/cgroup', writable: true } as const;
  test.each([
    ['v2 with a freezer', { mode: 'v2', freezer }, 'ok', ''],
    [
      'v2 mounted read-only',
      { mode: 'v2', freezer: { ...freezer, writable: false } },
      'warning',
      'runtime.hostRoot: the mount of /host is granted by manifests/base/agent/daemonset.yaml:',
    ],
    ['v1', { mode: 'v1', freezer: { ...freezer, version: 1 } }, 'warning', 'systemd.unified_cgroup_hierarchy=1'],
    ['both', { mode: 'hybrid', freezer: { ...freezer, version: 1 } }, 'warning', 'systemd.unified_cgroup_hierarchy=1'],
    ['v1 without a freezer', { mode: 'v1', freezer: undefined }, 'warning', 'mount'],
    ['none', { mode: 'none', freezer: undefined }, 'warning', 'mount'],
  ] as const)('%s', (_what, survey, status, mend) => {
    const check = checkCgroup(survey);
    expect(check.status).toBe(status);
    expect(check.mend).toContain(mend);
  });
});
