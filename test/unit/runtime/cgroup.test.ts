import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  type Cgroup,
  cutAt,
  folderOf,
  hierarchies,
  isWithin,
  parseHierarchies,
  parseMemberships,
  processesIn,
  rankMemberships,
} from '../../../agent/host/cgroup.ts';

const EKS = '0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-3f1c.scope\n';

const DEBIAN_HYBRID = `9:name=systemd:/system.slice/nginx.service
8:pids:/system.slice/nginx.service
6:freezer:/
4:memory:/a:b
0::/system.slice/nginx.service
`;

const V1_DOCKER = `4:freezer:/docker/3f1c
3:cpu,cpuacct:/docker/3f1c
1:name=systemd:/system.slice/containerd.service
0::/system.slice/containerd.service
`;

const MOUNTS_V2 =
  '30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n';
const MOUNTS_HYBRID = `24 22 0:22 / /sys/fs/cgroup ro,nosuid shared:8 - tmpfs tmpfs ro,mode=755
25 24 0:23 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
26 24 0:24 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd
27 24 0:25 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
28 24 0:26 / /sys/fs/cgroup/freezer rw shared:12 - cgroup cgroup rw,freezer
29 24 0:27 /docker/3f1c /odd\\040place rw - cgroup cgroup rw,memory
`;

describe('reading /proc/PID/cgroup', () => {
  test('version 2 alone', () => {
    expect(parseMemberships(EKS)).toEqual([{ version: 2, controllers: [], path: EKS.slice(3, -1) }]);
  });

  test('paths with colons, and cgroups that were deleted', () => {
    expect(parseMemberships('4:memory:/a:b\n0::/x (deleted)\n').map((one) => one.path)).toEqual(['/a:b', '/x']);
  });

  test('nonsense is skipped', () => {
    expect(parseMemberships('\n\0\nfoo\n1:a\n')).toEqual([]);
  });
});

describe('finding the folder', () => {
  const at = (path: string, mounts: string) => {
    const [hierarchy] = parseHierarchies(mounts);
    return hierarchy === undefined ? undefined : folderOf(hierarchy, path);
  };

  test('below a whole hierarchy', () => {
    expect(at('/a/b', MOUNTS_V2)).toBe('/sys/fs/cgroup/a/b');
  });

  test('below a part of one, with an escaped space in its name', () => {
    const memory = parseHierarchies(MOUNTS_HYBRID).at(-1);
    expect(memory && folderOf(memory, '/docker/3f1c/sub')).toBe('/odd place/sub');
    expect(memory && folderOf(memory, '/docker/other')).toBeUndefined();
  });

  test('a path that leads out of the namespace has none', () => {
    expect(at('/../../system.slice', MOUNTS_V2)).toBeUndefined();
  });
});

describe('which cgroup stands for a process', () => {
  const ranked = (text: string, mounts: string) =>
    rankMemberships(parseMemberships(text), parseHierarchies(mounts)).map(({ version, path }) => `${version} ${path}`);

  test('on EKS there is only one', () => {
    expect(ranked(EKS, MOUNTS_V2)).toEqual([`2 ${EKS.slice(3, -1)}`]);
  });

  test('a v1 freezer comes before the v2 tree, which may be the runtime service itself', () => {
    expect(ranked(V1_DOCKER, MOUNTS_HYBRID)[0]).toBe('1 /docker/3f1c');
  });

  test('roots never stand for anything', () => {
    expect(ranked(DEBIAN_HYBRID, MOUNTS_HYBRID)[0]).toBe('2 /system.slice/nginx.service');
    expect(ranked('0::/\n', MOUNTS_V2)).toEqual([]);
  });
});

describe('the container that a cgroup belongs to', () => {
  const cgroup = (path: string): Cgroup => ({ version: 2, path, folder: `/sys/fs/cgroup${path}`, hasFreezer: true });

  test('is the segment named after it, however deep the process made cgroups below', () => {
    expect(cutAt(cgroup('/pods/cri-3f1c.scope/init.scope/x'), (segment) => segment.includes('3f1c'))).toEqual(
      cgroup('/pods/cri-3f1c.scope'),
    );
  });

  test('is nobody where no segment is', () => {
    expect(cutAt(cgroup('/system.slice/containerd.service'), (segment) => segment.includes('3f1c'))).toBeUndefined();
  });

  test('a neighbour with a longer name is not inside', () => {
    expect(isWithin('/a/bc', '/a/b')).toBe(false);
    expect(isWithin('/a/b/c', '/a/b')).toBe(true);
    expect(isWithin('/a/b', '/a/b')).toBe(true);
  });
});

test('processes are found through a /proc of another pid namespace by where they say they are', async () => {
  const root = mkdtempSync(path.join(tmpdir(), 'exhibit-cgroup-'));
  try {
    const give = (pid: number, cgroup: string) => {
      mkdirSync(path.join(root, 'proc', String(pid)), { recursive: true });
      writeFileSync(path.join(root, 'proc', String(pid), 'cgroup'), cgroup);
    };
    mkdirSync(path.join(root, 'sys/fs/cgroup/pods/3f1c'), { recursive: true });
    give(1, '0::/init.scope\n');
    give(20, '0::/pods/3f1c\n');
    give(21, '0::/pods/3f1c/nested\n');
    give(22, '0::/pods/3f1cd\n');
    writeFileSync(path.join(root, 'proc/1/mountinfo'), MOUNTS_V2);
    const host = { procRoot: path.join(root, 'proc'), hostRoot: root };
    const mounted = await hierarchies(host);
    expect(mounted.map(({ folder }) => folder)).toEqual([path.join(root, 'sys/fs/cgroup')]);
    const [cgroup] = rankMemberships(parseMemberships('0::/pods/3f1c\n'), mounted);
    expect(cgroup && (await processesIn(host, cgroup)).sort()).toEqual([20, 21]);
  } finally {
    rmSync(root, { recursive: true });
  }
});
