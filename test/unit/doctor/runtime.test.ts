import { describe, expect, test } from 'vitest';
import { checkRuntime, checkSnapshotter, type RuntimeFacts } from '../../../agent/doctor/runtime.ts';

const SOCKET = '/run/containerd/containerd.sock';
const facts: RuntimeFacts = {
  kind: 'cri',
  socket: SOCKET,
  answer: { identity: { name: 'containerd', version: '2.2.4' }, containers: 31 },
  description: { apiVersion: 'v1', namespace: 'k8s.io', unmet: [], snapshotters: [], programs: ['runc'] },
  programs: [{ name: '/usr/sbin/runc', version: undefined }],
};

describe('the runtime', () => {
  test('is named with its API, namespace, containers and what starts them', () => {
    expect(checkRuntime(facts)).toMatchObject({
      status: 'ok',
      found: 'containerd 2.2.4, CRI v1, namespace k8s.io; 31 containers; /usr/sbin/runc (version not known)',
    });
  });

  test('that tells nothing of itself is named all the same', () => {
    const docker = { name: 'docker', version: '28.5.2' };
    const plain = {
      ...facts,
      kind: 'docker',
      description: undefined,
      programs: [],
      answer: { identity: docker, containers: 1 },
    } as const;
    expect(checkRuntime(plain)).toMatchObject({ status: 'ok', found: 'docker 28.5.2; 1 container' });
  });

  test('that does not answer is a failure that names the socket', () => {
    const check = checkRuntime({ ...facts, answer: { why: 'nothing listens' } });
    expect(check).toMatchObject({ status: 'failure', found: 'nothing listens' });
    expect(check.mend).toContain(SOCKET);
  });

  const grants = /the mount of \/run\/containerd is granted by manifests\/base\/agent\/daemonset.yaml:\d+/;
  test.each([
    ['nothing', 'cri', [], /start the runtime/],
    ['the socket, which is not mounted', 'cri', [{ kind: 'cri', path: SOCKET }], grants],
    ['another containerd', 'cri', [{ kind: 'cri', path: '/run/k3s/c.sock' }], /set runtime.socket to it/],
    [
      'Docker alone',
      'cri',
      [{ kind: 'docker', path: '/run/docker.sock' }],
      /set runtime.kind: docker, as manifests\/overlays\/docker/,
    ],
    [
      'containerd alone, and Docker is wanted',
      'docker',
      [{ kind: 'cri', path: SOCKET }],
      /set runtime.kind: cri, as manifests\/base does/,
    ],
  ] as const)('that does not answer on a node with %s', (_what, kind, sockets, mend) => {
    const socket = kind === 'docker' ? '/var/run/docker.sock' : SOCKET;
    const check = checkRuntime({ ...facts, kind, socket, sockets, answer: { why: 'there is no socket' } });
    expect(check).toMatchObject({ status: 'failure', mend: expect.stringMatching(mend) });
  });

  test('that says itself that it is not ready is a warning', () => {
    const description = { unmet: ['NetworkReady: cni plugin not initialized'], snapshotters: [], programs: [] };
    const check = checkRuntime({ ...facts, description });
    expect(check.status).toBe('warning');
    expect(check.found).toContain('NetworkReady: cni plugin not initialized');
  });

  test('is not missed where none is configured', () => {
    expect(checkRuntime({ ...facts, kind: 'host' }).status).toBe('ok');
  });
});

describe('the snapshotter', () => {
  test.each([
    ['no containers yet', [], 'ok', 'no container'],
    ['overlayfs', [{ name: 'overlayfs', containers: 3 }], 'ok', 'overlayfs (3 containers)'],
    ['SOCI', [{ name: 'soci', containers: 1 }], 'ok', 'soci (1 container)'],
    [
      'devmapper beside it',
      [
        { name: 'overlayfs', containers: 3 },
        {
          name: 'devmapper',
          containers: 1,
          obstacle: 'the snapshot is a ext4 mount, whose layers cannot be told apart',
        },
      ],
      'warning',
      'overlayfs (3 containers); devmapper (1 container): the snapshot is a ext4 mount',
    ],
  ])('%s', (_what, snapshotters, status, found) => {
    const check = checkSnapshotter(snapshotters);
    expect(check.status).toBe(status);
    expect(check.found).toContain(found);
  });

  test('that cannot be read is named alone in what it means', () => {
    const obstacle = 'why';
    const both = [
      { name: 'overlayfs', containers: 3 },
      { name: 'devmapper', containers: 1, obstacle },
    ];
    expect(checkSnapshotter(both).meaning).toContain('a container of devmapper wrote');
  });

  test('that fetches lazily says so', () => {
    expect(checkSnapshotter([{ name: 'stargz', containers: 1 }]).meaning).toContain('fetched');
    expect(checkSnapshotter([{ name: 'overlayfs', containers: 1 }]).meaning).not.toContain('fetched');
  });
});
