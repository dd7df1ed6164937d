import { describe, expect, test } from 'vitest';
import { judgeOnMount, type MountFacts, type MountSubject } from '../../../agent/collect/finding-mount.ts';
import type { Judgement } from '../../../agent/collect/finding-subject.ts';
import type { FindingKind } from '../../../evidence/file-finding.ts';
import { INNOCENT, T, TEXT } from './innocent-file.ts';

/** Each kind of finding that is made of files on mounts has examples that are one, and near misses that are none. */

const DAY_NS = 86_400_000_000_000n;
const MOMENTS = { nowNs: T + DAY_NS, containerNs: T - DAY_NS, sinceNs: T - 2n * DAY_NS };
const ELF = Buffer.from('\x7fELF\x02');
const SCRIPT = Buffer.from('#!/bin/sh\n');

type File = Partial<Omit<MountSubject, 'path' | 'head' | 'nodePath'>> & {
  path?: string;
  node?: string;
  head?: Buffer | 'not taken';
};

function subject({ path = 'data/file', node, head = TEXT, ...parts }: File): MountSubject {
  return {
    ...INNOCENT,
    path: Buffer.from(path),
    nodePath: node === undefined ? undefined : Buffer.from(node),
    head: () => (head === 'not taken' ? undefined : head),
    ...parts,
  };
}

const PLAIN: MountFacts = {
  origin: 'pod',
  memory: false,
  readOnly: false,
  noexec: false,
  nosuid: false,
  nodev: false,
};
const SHM: MountFacts = { ...PLAIN, memory: true, noexec: true, nosuid: true, nodev: true };
const CLAIM: MountFacts = { ...PLAIN, origin: 'data' };
const NODE: MountFacts = { ...PLAIN, origin: 'node' };
const KUBELET: MountFacts = { ...PLAIN, origin: 'kubelet', memory: true };
const readOnly = (mount: MountFacts): MountFacts => ({ ...mount, readOnly: true });

const inMemory = { worldWritable: true, memory: true };
const forAll = { worldWritable: true, memory: false };
const shm = (parts: File = {}): File => ({ path: 'dev/shm/x', place: inMemory, ...parts });
const onNode = (node: string, parts: File = {}): File => ({ path: `host/${node}`, node, ...parts });
/** Ctime and all: from before the pod. */
const old: File = { mtimeNs: T - 9n * DAY_NS, ctimeNs: T - 9n * DAY_NS, birthNs: T - 9n * DAY_NS };
const device = (major: number, minor: number): bigint => BigInt(major * 256 + minor);
const toNothing: File = { kind: 'symlink', linkPath: Buffer.from('/dev/null') };
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');

const all = (file: File, mount: MountFacts): Judgement[] => judgeOnMount(subject(file), MOMENTS, mount);
const of = (kind: FindingKind, file: File, mount: MountFacts) => all(file, mount).find((one) => one.kind === kind);

type True = readonly [what: string, file: File, mount: MountFacts, said: Partial<Judgement>];
type False = readonly [what: string, file: File, mount: MountFacts];
type Kind = Exclude<FindingKind, 'image-file-deleted' | 'same-size-edit'>;

const EXAMPLES: Readonly<Record<Kind, { are: True[]; areNot: False[] }>> = {
  timestomped: {
    are: [
      [
        'a file in memory that claims to be older than itself, which says little',
        shm({ mtimeNs: T - 900n * DAY_NS }),
        SHM,
        { severity: 'low', reasons: ['mtime-before-birth', 'mtime-before-container'] },
      ],
      ['a file from the future on a claim', { mtimeNs: T + 9n * DAY_NS }, CLAIM, { severity: 'low' }],
    ],
    areNot: [
      ['a file that was restored before the pod was there', { ...old, mtimeNs: T - 900n * DAY_NS }, CLAIM],
      ['a log of the node that was rotated', onNode('var/log/a.1.gz', { mtimeNs: T - 3n * DAY_NS }), NODE],
      ['a file with its own times', {}, PLAIN],
    ],
  },
  'set-id': {
    are: [
      ['a setuid file of root in an emptyDir', { mode: 0o4755 }, PLAIN, { severity: 'high', reasons: ['setuid'] }],
      [
        'one that is without effect where it is mounted',
        shm({ mode: 0o4755 }),
        SHM,
        { severity: 'medium', reasons: ['setuid', 'mounted-nosuid'] },
      ],
      [
        'one that lay on a claim before the pod was there',
        { ...old, mode: 0o4755 },
        CLAIM,
        { severity: 'medium', reasons: ['setuid', 'older-than-pod'] },
      ],
      ['one that came to the node', onNode('opt/x', { mode: 0o4755 }), NODE, { reasons: ['setuid', 'on-node'] }],
      [
        'one that this container cannot have written',
        { mode: 0o4755 },
        readOnly(CLAIM),
        { severity: 'low', reasons: ['setuid', 'mounted-read-only'] },
      ],
    ],
    areNot: [
      ['a setgid folder, as fsGroup makes them', { kind: 'directory', mode: 0o2775 }, CLAIM],
      ['sudo of the node, from before the pod', onNode('usr/bin/sudo', { ...old, mode: 0o4755 }), NODE],
      ['a file of the node that is mounted to be read', onNode('usr/bin/sudo', { mode: 0o4755 }), readOnly(NODE)],
    ],
  },
  'file-capability': {
    are: [
      ['a capability in an emptyDir', { capability: CAPABILITY }, PLAIN, { severity: 'high', reasons: ['capability'] }],
      ['one without effect there', { capability: CAPABILITY }, SHM, { severity: 'medium' }],
    ],
    areNot: [['ping of the node', onNode('usr/bin/ping', { ...old, capability: CAPABILITY }), NODE]],
  },
  'executable-in-writable-place': {
    are: [
      [
        'a program in /dev/shm, though it is mounted noexec',
        shm({ head: ELF, mode: 0o755 }),
        SHM,
        {
          severity: 'high',
          reasons: ['elf', 'execute-permission', 'memory-place', 'world-writable-folder', 'mounted-noexec'],
        },
      ],
      [
        'a program in an emptyDir in memory',
        { head: ELF, place: inMemory },
        { ...PLAIN, memory: true },
        { severity: 'high', reasons: ['elf', 'memory-place', 'world-writable-folder'] },
      ],
      ['a script in /dev/shm', shm({ head: SCRIPT }), SHM, { severity: 'medium' }],
      ['a program in an emptyDir on a disk', { head: ELF, place: forAll }, PLAIN, { severity: 'medium' }],
      ['a program in an emptyDir that is /tmp', { path: 'tmp/x', head: ELF }, PLAIN, { severity: 'high' }],
      ['a program that came to the node’s /tmp', onNode('tmp/x', { head: ELF }), NODE, { severity: 'high' }],
      [
        'something executable that came to the node’s /tmp, of which no content was taken',
        onNode('tmp/x', { head: 'not taken', mode: 0o755 }),
        NODE,
        { severity: 'low', reasons: ['execute-permission', 'temporary-place'] },
      ],
    ],
    areNot: [
      ['a start script that an init container left in an emptyDir', { head: SCRIPT, place: forAll }, PLAIN],
      ['data with the x bit in memory', shm({ mode: 0o777 }), SHM],
      ['data with the x bit in the node’s /tmp', onNode('tmp/x', { mode: 0o755 }), NODE],
      ['what is not executable there', onNode('tmp/x', { head: 'not taken' }), NODE],
      ['what is executable elsewhere on the node', onNode('opt/x', { head: 'not taken', mode: 0o755 }), NODE],
      ['what is executable in /dev/shm and was not taken', shm({ head: 'not taken', mode: 0o755 }), SHM],
      ['a program on a claim', { head: ELF, mode: 0o755, place: forAll }, CLAIM],
      ['a program of the node from before the pod', onNode('tmp/x', { ...old, head: ELF }), NODE],
    ],
  },
  'executable-not-in-image': {
    are: [
      ['a program in memory', shm({ head: ELF }), SHM, { severity: 'medium', reasons: ['elf', 'mounted-noexec'] }],
      ['a program on a claim, which says little', { head: ELF }, CLAIM, { severity: 'low', reasons: ['elf'] }],
    ],
    areNot: [
      ['a script on a claim', { head: SCRIPT, mode: 0o755 }, CLAIM],
      ['a program on a claim from before the pod', { ...old, head: ELF }, CLAIM],
      ['a program on a claim that is mounted to be read', { head: ELF }, readOnly(CLAIM)],
      ['a script of a config map', { head: SCRIPT, mode: 0o755 }, KUBELET],
    ],
  },
  'system-file-changed': {
    are: [
      [
        'the node’s shadow file, changed since the pod is there',
        onNode('etc/shadow'),
        NODE,
        { severity: 'high', reasons: ['accounts', 'on-node'] },
      ],
      [
        'a program of the node',
        onNode('usr/bin/kubelet', { head: ELF }),
        NODE,
        { reasons: ['program-or-library', 'on-node'] },
      ],
    ],
    areNot: [
      ['the node’s shadow file as it was', onNode('etc/shadow', old), NODE],
      ['names that the node’s DHCP client writes', onNode('etc/resolv.conf'), NODE],
      ['a file on a claim that is called so', { path: 'data/etc/shadow' }, CLAIM],
    ],
  },
  persistence: {
    are: [
      ['a job for the node’s cron', onNode('etc/cron.d/job'), NODE, { severity: 'high', reasons: ['cron', 'on-node'] }],
      [
        'a job for the node’s cron through a mount that is called otherwise',
        { path: 'out/job', node: 'etc/cron.d/job' },
        NODE,
        { severity: 'high', reasons: ['cron', 'on-node'] },
      ],
      ['a key of the node’s root', onNode('root/.ssh/authorized_keys'), NODE, { severity: 'high' }],
      [
        'a pod of kubelet’s own',
        onNode('etc/kubernetes/manifests/x.yaml'),
        NODE,
        { severity: 'high', reasons: ['static-pod', 'on-node'] },
      ],
      ['a unit of the node', onNode('etc/systemd/system/x.service'), NODE, { severity: 'high' }],
      [
        'a network plugin',
        onNode('opt/cni/bin/bridge'),
        NODE,
        { severity: 'medium', reasons: ['node-runtime', 'on-node'] },
      ],
      [
        'a job for the container’s own cron, in a folder of the node',
        { path: 'etc/cron.d/job', node: 'srv/jobs/job' },
        NODE,
        { severity: 'medium', reasons: ['cron'] },
      ],
      ['a key in a home that is a claim', { path: 'root/.ssh/authorized_keys' }, CLAIM, { severity: 'medium' }],
    ],
    areNot: [
      ['the node’s own jobs, from before the pod', onNode('etc/cron.d/sysstat', old), NODE],
      ['a manifest that is mounted to be read', onNode('etc/kubernetes/manifests/x.yaml'), readOnly(NODE)],
      ['the folder itself', onNode('etc/cron.d', { kind: 'directory' }), NODE],
      ['start-up files of a config map', { path: 'etc/profile.d/app.sh' }, KUBELET],
      ['a home on a claim from before the pod', { ...old, path: 'home/me/.bashrc' }, CLAIM],
    ],
  },
  'hidden-name': {
    are: [
      ['a dot file in /dev/shm', shm({ path: 'dev/shm/.x' }), SHM, { severity: 'medium', reasons: ['dot-name'] }],
      ['a name of a blank in an emptyDir', { path: 'cache/ ' }, PLAIN, { severity: 'high', reasons: ['blank-name'] }],
      ['a name with a blank at its end among data', { path: 'data/a ' }, CLAIM, { severity: 'low' }],
    ],
    areNot: [
      ['what kubelet calls its own', { path: 'etc/..data', kind: 'symlink' }, KUBELET],
      ['the folder that it leads to', { path: 'etc/..2026_01_01_00_00_00.1', kind: 'directory' }, KUBELET],
      ['a dot file among data', { path: 'data/.git' }, CLAIM],
    ],
  },
  'device-node': {
    are: [
      [
        'a disk in an emptyDir',
        { kind: 'block-device', rdev: device(8, 0) },
        PLAIN,
        { severity: 'high', reasons: ['block-device'] },
      ],
      ['a disk that cannot be opened there', { kind: 'block-device', rdev: device(8, 0) }, SHM, { severity: 'medium' }],
    ],
    areNot: [['a null device', { kind: 'character-device', rdev: device(1, 3) }, PLAIN]],
  },
  'log-silenced': {
    are: [
      [
        'a log of the node that leads to nothing',
        onNode('var/log/auth.log', toNothing),
        NODE,
        { severity: 'high', reasons: ['log-or-history', 'link-to-nothing', 'on-node'] },
      ],
      ['a history on a claim', { ...toNothing, path: 'home/me/.bash_history' }, CLAIM, { severity: 'medium' }],
    ],
    areNot: [
      ['a log that was like this before the pod', onNode('var/log/auth.log', { ...old, ...toNothing }), NODE],
      ['a link to nothing elsewhere', { ...toNothing, path: 'data/out' }, PLAIN],
    ],
  },
};

for (const [kind, { are, areNot }] of Object.entries(EXAMPLES) as [Kind, { are: True[]; areNot: False[] }][]) {
  describe(`on a mount, ${kind}`, () => {
    test.each(are)('is %s', (_, file, mount, said) => {
      expect(of(kind, file, mount)).toMatchObject(said);
    });
    test.each(areNot)('is not %s', (_, file, mount) => {
      expect(of(kind, file, mount)).toBeUndefined();
    });
  });
}

describe('files on a mount', () => {
  test('of the node are not judged where nobody says since when the container is there', () => {
    const moments = { ...MOMENTS, sinceNs: undefined };
    expect(judgeOnMount(subject(onNode('etc/cron.d/job')), moments, NODE)).toEqual([]);
    expect(judgeOnMount(subject({ mode: 0o4755 }), moments, PLAIN)).toHaveLength(1);
  });

  test.each([
    ['a database on a claim', { path: 'var/lib/postgresql/data/base/1/2619', mode: 0o600 }, CLAIM],
    ['a log in an emptyDir', { path: 'var/log/app/app.log', place: forAll }, PLAIN],
    ['a lock in /dev/shm', shm({ path: 'dev/shm/sem.lock', mode: 0o600 }), SHM],
    ['a token', { path: 'var/run/secrets/kubernetes.io/serviceaccount/token' }, KUBELET],
    ['a repository on a claim', { path: 'workspace/.git/hooks/pre-commit', head: SCRIPT, mode: 0o755 }, CLAIM],
    ['a log of the node', onNode('var/log/messages'), NODE],
  ] as const)('are nothing to be told: %s', (_, file, mount) => {
    expect(all(file, mount)).toEqual([]);
  });
});
