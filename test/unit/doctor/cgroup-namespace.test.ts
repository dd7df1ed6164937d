import { describe, expect, test } from 'vitest';
import { checkCgroupNamespace } from '../../../agent/doctor/cgroup-namespace.ts';
import { cgroupNamespaces } from '../../../agent/host/cgroup-namespace.ts';

describe('the cgroup namespace of the agent', () => {
  const [node, own] = ['cgroup:[4026531835]', 'cgroup:[4026532741]'];
  test.each([
    ["is the node's", { own: node, node }, true, 'ok', "is in the node's cgroup namespace", ''],
    [
      'is its own',
      { own, node },
      true,
      'warning',
      'did not get into',
      'hostPID is granted by .*; CAP_SYS_ADMIN is granted by',
    ],
    [
      'cannot be compared',
      { own, node: undefined },
      true,
      'warning',
      'neither be read nor entered',
      'CAP_SYS_PTRACE is granted by',
    ],
    ['is of a kernel without them', { own: undefined, node: undefined }, true, 'ok', 'no cgroup namespaces', ''],
    ['is not that of the command', { own, node }, false, 'ok', 'not known without an agent', ''],
  ])('%s', (_what, seen, isAgent, status, found, mend) => {
    const check = checkCgroupNamespace(seen, isAgent);
    expect(check).toMatchObject({ group: 'agent', name: 'cgroup-namespace', status });
    expect(check.found).toContain(found);
    expect(check.mend).toMatch(new RegExp(`${mend}`));
    expect(check.mend === '').toBe(status === 'ok');
  });

  test('is read from proc', async () => {
    const seen = await cgroupNamespaces({ procRoot: '/proc', hostRoot: '' });
    expect(seen.own).toMatch(/^cgroup:\[\d+\]$/);
    expect(await cgroupNamespaces({ procRoot: '/nowhere', hostRoot: '' })).toEqual({ own: seen.own, node: undefined });
  });
});
