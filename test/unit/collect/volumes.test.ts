import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SizeSurvey, VolumesBudget } from '../../../agent/collect/volumes-budget.ts';
import { type Classified, classify, type Surroundings } from '../../../agent/collect/volumes-class.ts';
import { type Judged, numberVolumes } from '../../../agent/collect/volumes-find.ts';
import { VolumeGaps } from '../../../agent/collect/volumes-gaps.ts';
import { decide, isNodePath, type Origin, rank, VOLUMES_POLICY } from '../../../agent/collect/volumes-policy.ts';
import { hostPathOf, type MountLine, mountLines, mountPlaces } from '../../../agent/host/mount-table.ts';
import type { TargetMount } from '../../../agent/runtime/runtime.ts';
import { VOLUME_CLASSES, type VolumeClass } from '../../../evidence/volumes.ts';

const recorded = (name: string): MountLine[] =>
  mountLines(readFileSync(new URL(`../fixtures/mounts/${name}.mountinfo`, import.meta.url)));
const line = (text: string): MountLine => {
  const [mount] = mountLines(Buffer.from(text));
  if (mount === undefined) throw new Error(`no mount: ${text}`);
  return mount;
};

/** Recorded in a pod on containerd 2.1 and in a container of Docker 28, each with its node's own table. */
const POD_UID = '32436888-59de-416a-89da-fce2d8d73aee';
const bind = (containerPath: string, hostPath: string, type = 'bind'): [string, TargetMount] => [
  containerPath,
  { containerPath, hostPath, type, readOnly: false },
];

describe('a mount of a pod, as it was recorded', () => {
  const table = recorded('pod');
  const around: Surroundings = {
    root: table.find(({ mountPoint }) => mountPoint === '/'),
    nodeTable: recorded('pod-node'),
    runtime: new Map([bind('/node', '/'), bind('/host/log', '/var/log/app')]),
    podUid: POD_UID,
  };
  const classOf = (at: string, podUid: string | undefined = POD_UID): VolumeClass | undefined => {
    const mount = table.find(({ mountPoint }) => mountPoint === at);
    return mount && classify(mount, { ...around, podUid }).class;
  };

  test.each([
    ['/', 'root'],
    ['/proc', 'kernel'],
    ['/sys/fs/cgroup', 'kernel'],
    ['/dev', 'tmpfs'],
    ['/dev/pts', 'kernel'],
    ['/dev/shm', 'shm'],
    ['/scratch', 'empty-dir'],
    ['/cache', 'empty-dir-memory'],
    ['/data', 'persistent-volume'],
    ['/etc/secret', 'secret'],
    ['/etc/config', 'config-map'],
    ['/var/run/secrets/kubernetes.io/serviceaccount', 'service-account-token'],
    ['/etc/hosts', 'pod-file'],
    ['/dev/termination-log', 'pod-file'],
    ['/host/log', 'host-path'],
    ['/node', 'host-path'],
    ['/node/run', 'host-path'],
  ] as const)('at %s is %s', (at, expected) => {
    expect(classOf(at)).toBe(expected);
  });

  test('of another pod, seen through a mount of the node, is the node’s, secrets too', () => {
    expect(classOf('/etc/secret', 'another-pod')).toBe('host-path');
    expect(classOf('/cache', 'another-pod')).toBe('host-path');
  });

  test('without the node’s table is still told by what the runtime says', () => {
    const mount = line('1 2 8:1 /x /data rw - xfs /dev/sda1 rw');
    const hostPath = `/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~aws-ebs/vol-1`;
    const found = classify(mount, { ...around, nodeTable: [], runtime: new Map([bind('/data', hostPath)]) });
    expect(found).toMatchObject({ class: 'persistent-volume', plugin: 'aws-ebs', name: 'vol-1', hostPath });
  });
});

describe('a mount of a container of Docker, as it was recorded', () => {
  const table = recorded('docker');
  const id = '/var/lib/docker/containers/3a8b1cdaf2c7';
  const around: Surroundings = {
    root: table.find(({ mountPoint }) => mountPoint === '/'),
    nodeTable: recorded('docker-node'),
    runtime: new Map([
      bind('/data', '/var/lib/docker/volumes/shop-data/_data', 'volume'),
      bind('/shared', '/srv/shared'),
      bind('/scratch', '', 'tmpfs'),
      ...['hosts', 'hostname', 'resolv.conf'].map((name) => bind(`/etc/${name}`, `${id}/${name}`)),
    ]),
    podUid: undefined,
  };
  test.each([
    ['/', 'root'],
    ['/data', 'docker-volume'],
    ['/data/sub', 'tmpfs'],
    ['/scratch', 'tmpfs'],
    ['/shared', 'host-path'],
    ['/etc/resolv.conf', 'pod-file'],
    ['/proc/keys', 'tmpfs'],
    ['/proc/sys', 'kernel'],
    ['/dev/shm', 'shm'],
  ] as const)('at %s is %s', (at, expected) => {
    const mount = table.find(({ mountPoint }) => mountPoint === at);
    expect(mount && classify(mount, around).class).toBe(expected);
  });
});

describe('a mount that was not recorded here', () => {
  const root = line('100 1 0:50 / / rw - overlay overlay rw');
  const node = [
    line('20 1 259:1 / / rw - xfs /dev/nvme0n1p1 rw'),
    line('30 20 0:90 / /var/lib/kubelet/pods/u/volumes/kubernetes.io~secret/s rw - tmpfs tmpfs rw'),
  ];
  const around: Surroundings = { root, nodeTable: node, runtime: new Map(), podUid: 'u' };
  test.each([
    ['a bind of the container’s own root', '101 100 0:50 /etc /mnt rw - overlay overlay rw', 'root'],
    [
      'a container in the container',
      '101 100 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw',
      'overlay',
    ],
    ['an NFS export', '101 100 0:61 / /mnt rw - nfs4 server:/export rw', 'remote'],
    ['a FUSE mount', '101 100 0:62 / /mnt rw - fuse.sshfs x rw', 'remote'],
    ['a file system that nobody here knows', '101 100 0:63 / /mnt rw - newfs x rw', 'remote'],
    ['the node’s disk, mounted by the container', '101 100 259:1 / /mnt rw - xfs /dev/nvme0n1p1 rw', 'host-path'],
    ['a device that the node has nowhere', '101 100 7:0 / /mnt rw - ext4 /dev/loop0 rw', 'made-inside'],
    ['memory of its own', '101 100 0:64 / /opt/x rw - tmpfs none rw', 'tmpfs'],
    ['one key of a secret (subPath)', '101 100 0:90 /..data/key /etc/key rw - tmpfs tmpfs rw', 'secret'],
    [
      'a part of an emptyDir on the node’s disk (subPath)',
      '101 100 259:1 /var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/e/sub /e rw - xfs /dev/nvme0n1p1 rw',
      'empty-dir',
    ],
    [
      'a generic ephemeral or CSI volume',
      '101 100 259:1 /var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/p/mount /p rw - xfs /dev/nvme0n1p1 rw',
      'persistent-volume',
    ],
  ] as const)('%s', (_, text, expected) => {
    expect(classify(line(text), around).class).toBe(expected);
  });

  test('a part of a volume in memory whose plugin is not known is treated as a secret', () => {
    const mount = line('101 100 0:95 / /etc/key rw - tmpfs tmpfs rw');
    const runtime = new Map([bind('/etc/key', '/var/lib/kubelet/pods/u/volume-subpaths/some/app/0')]);
    expect(classify(mount, { ...around, runtime }).class).toBe('secret');
  });
});

describe('the policy', () => {
  const origin: Origin = { fileSystem: 'tmpfs', shared: false, cameAlong: false };
  const judge = (of: VolumeClass, more: Partial<Origin> = {}, hostPath?: string) =>
    decide({ class: of, hostPath, answers: true }, { ...origin, ...more }, VOLUMES_POLICY);

  test('never enters the root, the kernel, another overlay, what may wait or what the container put there', () => {
    for (const of of ['root', 'kernel', 'overlay', 'remote', 'made-inside'] as const) {
      expect(judge(of).taken, of).toBe('listed');
    }
    const waits = decide(
      { class: 'persistent-volume', hostPath: '/x', answers: false },
      { ...origin, fileSystem: 'nfs4' },
      VOLUMES_POLICY,
    );
    expect(waits).toMatchObject({ taken: 'listed', gap: true });
  });

  test('takes content where a container can leave something, and of secrets and tokens none unless told', () => {
    const taken = VOLUME_CLASSES.filter((of) => judge(of, {}, '/srv/x').taken === 'content');
    expect(taken).toEqual([
      'shm',
      'tmpfs',
      'empty-dir-memory',
      'empty-dir',
      'pod-file',
      'docker-volume',
      'persistent-volume',
      'host-path',
    ]);
    const told = decide({ class: 'secret', hostPath: '/x', answers: true }, origin, {
      ...VOLUMES_POLICY,
      content: ['secret'],
    });
    expect(told.taken).toBe('content');
  });

  test.each(['/', '/var', '/var/lib', '/run', '/proc', '/usr/bin', '/var/lib/containerd/io', '/var/lib/kubelet'])(
    'takes no content of %s, which has the node’s own',
    (hostPath) => {
      expect(isNodePath(hostPath, VOLUMES_POLICY.nodePaths)).toBe(true);
      expect(judge('host-path', {}, hostPath)).toMatchObject({ taken: 'metadata', notStored: 'node-path', gap: true });
    },
  );

  test.each(['/srv', '/var/log', '/home/app', '/etc/app', '/usrlocal', '/var/lib/dockerless'])(
    'takes content of %s',
    (hostPath) => {
      expect(judge('host-path', {}, hostPath).taken).toBe('content');
    },
  );

  test('takes no content of what lies mounted inside of a mount of the node', () => {
    expect(judge('host-path', { cameAlong: true }, '/tmp').taken).toBe('metadata');
  });

  test('lists only what processes that are no container share with the node', () => {
    expect(judge('host-path', { shared: true }, '/home').taken).toBe('listed');
  });

  test('spends on memory first, then on what goes with the pod, then on what stays', () => {
    const of = (one: VolumeClass, memoryBacked = false) => rank({ class: one, memoryBacked });
    const order = [
      of('shm', true),
      of('tmpfs', true),
      of('empty-dir-memory', true),
      of('secret', true),
      of('empty-dir'),
      of('persistent-volume'),
      of('host-path'),
    ];
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  });
});

describe('the budget', () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 60 });

  test('is never exceeded, and every file of the small ones has its place', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 20_000 }), (files, total) => {
        const survey = new SizeSurvey();
        for (const bytes of files) survey.add(bytes);
        const { upToBytes } = survey.smallest(total);
        const budget = new VolumesBudget(total);
        const admit = budget.of({ fileBytes: 4000 }, survey);
        const stored = files.filter((bytes) => admit(bytes) === undefined);
        const spent = stored.reduce((sum, bytes) => sum + bytes, 0);
        expect(spent).toBeLessThanOrEqual(total);
        expect(budget.leftBytes).toBe(total - spent);
        const small = (bytes: number) => bytes <= upToBytes && bytes <= 4000;
        expect(stored.filter(small)).toEqual(files.filter(small));
      }),
    );
  });

  test('goes from one mount to the next', () => {
    const budget = new VolumesBudget(100);
    expect(budget.of({ fileBytes: 80 })(90)).toBe('file-size');
    expect(budget.of({ fileBytes: 80 })(70)).toBeUndefined();
    expect(budget.of({ fileBytes: 80 })(40)).toBe('budget');
    expect(budget.of({ fileBytes: 80 })(30)).toBeUndefined();
  });
});

describe('the mount table', () => {
  test('says which mount a path ends in: the last of a place, and nothing below a covered one', () => {
    const places = mountPlaces([
      line('10 1 0:1 / / rw - tmpfs a rw'),
      line('11 10 0:2 / /d rw - tmpfs b rw'),
      line('12 11 0:3 / /d/e rw - tmpfs c rw'),
      line('13 11 0:4 / /d rw - tmpfs over rw'),
    ]);
    expect(['/', '/x', '/d', '/d/e', '/d/e/f'].map(places.at)).toEqual([10, 10, 13, 13, 13]);
  });

  test('says where the node has a mount, through the one that shows the most', () => {
    const node = [
      line('1 0 8:1 /images/root / rw - ext4 /dev/sda1 rw'),
      line('2 1 8:1 /images/root/var/data/x /mnt/again rw - ext4 /dev/sda1 rw'),
      line('3 1 8:2 / /var/lib/kubelet rw - ext4 /dev/sda2 rw'),
    ];
    const at = (text: string) => hostPathOf(line(text), node);
    expect(at('9 8 8:1 /images/root/var/data/x/y /y rw - ext4 /dev/sda1 rw')).toBe('/var/data/x/y');
    expect(at('9 8 8:2 /pods/u//deleted /y rw - ext4 /dev/sda2 rw')).toBe('/var/lib/kubelet/pods/u');
    expect(at('9 8 8:1 /images/root / rw - ext4 /dev/sda1 rw')).toBe('/');
    expect(at('9 8 8:1 /images/rooted /y rw - ext4 /dev/sda1 rw')).toBeUndefined();
    expect(at('9 8 8:3 / /y rw - ext4 /dev/sda3 rw')).toBeUndefined();
  });

  test('of any bytes is read without an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void mountPlaces(mountLines(bytes)).at('/a/b')),
    );
  });
});

describe('mounts that show the same files', () => {
  const judged = (text: string, more: Partial<Classified> = {}, taken: 'content' | 'metadata' = 'content'): Judged => ({
    space: {} as Judged['space'],
    ofContainer: true,
    mount: line(text),
    classified: { class: 'tmpfs', memoryBacked: true, answers: true, hostPath: undefined, runtime: undefined, ...more },
    decision: {
      taken,
      why: '',
      gap: false,
      entries: 1,
      ...(taken === 'metadata' ? { notStored: 'node-path' as const } : {}),
    },
  });
  const sameAs = (all: Judged[], reached = all) =>
    numberVolumes(all, new Set(reached.map(({ mount }) => mount))).map((one) => one.sameAs);
  const wide = judged('1 9 0:7 / /long/way rw - tmpfs x rw');
  const narrow = judged('2 9 0:7 /sub /s rw - tmpfs x rw');

  test('are taken by the widest', () => {
    expect(sameAs([narrow, wide])).toEqual([2, undefined]);
  });

  test('are taken where the runtime put them', () => {
    const [, told] = bind('/a/long/way', '/x');
    const asked = judged('3 9 0:7 / /a/long/way rw - tmpfs x rw', { runtime: told });
    expect(sameAs([judged('4 9 0:7 / /z rw - tmpfs x rw'), asked])).toEqual([2, undefined]);
  });

  test('are each taken where the wider one was not reached, or less is taken of it', () => {
    expect(sameAs([narrow, wide], [narrow])).toEqual([undefined, undefined]);
    expect(sameAs([narrow, judged('5 9 0:7 / /w rw - tmpfs x rw', {}, 'metadata')])).toEqual([undefined, undefined]);
    expect(sameAs([judged('6 9 0:7 /subway /s rw - tmpfs x rw'), narrow])).toEqual([undefined, undefined]);
  });
});

test('gaps of one volume are told up to a bound, then counted', () => {
  const told: string[] = [];
  const gaps = new VolumeGaps({ gap: ({ why }) => void told.push(why) }, '/vol');
  for (let index = 0; index < 250; index += 1) gaps.gap({ what: 'x', why: 'y' });
  gaps.end();
  expect(told).toHaveLength(101);
  expect(told.at(-1)).toContain('150 more');
});
