import { describe, expect, test } from 'vitest';
import type { ContainerdClient } from '../../../agent/runtime/containerd-client.ts';
import { describeContainerd, describeStatus } from '../../../agent/runtime/describe.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const signal = AbortSignal.timeout(10_000);
const condition = (type: string, status: boolean, message = '') => ({ type, status, reason: '', message });
const status = (config: unknown, conditions = [condition('RuntimeReady', true)]) => ({
  status: { conditions },
  info: { config: typeof config === 'string' ? config : JSON.stringify(config) },
});

/** Cut from what containerd 2.1.9 answers. */
const CONFIG = {
  containerd: {
    defaultRuntimeName: 'runc',
    runtimes: {
      runc: {
        runtimeType: 'io.containerd.runc.v2',
        options: { BinaryName: '/usr/local/sbin/runc-bare', SystemdCgroup: false },
      },
      crun: { runtimeType: 'io.containerd.runc.v2', options: { BinaryName: 'crun' } },
      plain: { runtimeType: 'io.containerd.runc.v2', options: null },
    },
  },
  enableUnprivilegedPorts: true,
};

describe('the status of CRI', () => {
  test('names what starts containers, runc where nothing is named', () => {
    expect(describeStatus(status(CONFIG))).toEqual({
      unmet: [],
      programs: ['/usr/local/sbin/runc-bare', 'crun', 'runc'],
    });
  });

  test('tells conditions that are not met, deprecations left out', () => {
    const conditions = [
      condition('RuntimeReady', true),
      condition('NetworkReady', false, 'cni plugin not initialized'),
      condition('ContainerdHasNoDeprecationWarnings', false, '[...]'),
    ];
    expect(describeStatus(status(CONFIG, conditions)).unmet).toEqual(['NetworkReady: cni plugin not initialized']);
  });

  test.each([
    [{ enableCriu: false }, false],
    [{ enable_criu: true }, true],
    [{ enable_criu: 'no' }, undefined],
    [{}, undefined],
  ])('%j: checkpoints %s', (more, expected) => {
    expect(describeStatus(status({ ...CONFIG, ...more })).checkpoints).toBe(expected);
  });

  test.each(['', 'no JSON', '[]', '{"containerd":{"runtimes":{"runc":7}}}', 'null'])(
    '%j as configuration says nothing',
    (config) => {
      expect(describeStatus(status(config))).toEqual({ unmet: [], programs: [] });
    },
  );

  test('may be missing altogether', () => {
    expect(describeStatus({ status: null, info: {} })).toEqual({ unmet: [], programs: [] });
  });
});

describe('the snapshotters of the containers', () => {
  type Mounts = ContainerdClient['mounts'];
  const container = (snapshotter: string, snapshotKey: string, kind = 'container') => ({
    snapshotter,
    snapshotKey,
    labels: { 'io.cri-containerd.kind': kind },
  });
  const overlay = {
    type: 'overlay',
    source: 'overlay',
    target: '',
    options: ['upperdir=/u', 'lowerdir=/l', 'workdir=/w'],
  };
  const block = { type: 'ext4', source: '/dev/mapper/x', target: '', options: [] };
  const find = async (containers: ReturnType<typeof container>[], mounts: Mounts) => {
    const client = { containers: async () => containers, mounts } as unknown as ContainerdClient;
    return (await describeContainerd(client, 'k8s.io', signal)).snapshotters;
  };

  test('are told with how many use each, and what hinders', async () => {
    const containers = [
      container('devmapper', 'd'),
      container('overlayfs', 'a'),
      container('overlayfs', 'b'),
      container('overlayfs', 's', 'sandbox'),
      container('none', ''),
    ];
    expect(await find(containers, async (name) => [name === 'overlayfs' ? overlay : block])).toEqual([
      { name: 'overlayfs', containers: 2 },
      { name: 'devmapper', containers: 1, obstacle: 'the snapshot is a ext4 mount, whose layers cannot be told apart' },
    ]);
  });

  test('are judged by the first containers that can be asked for', async () => {
    const keys: string[] = [];
    const containers = ['gone', 'there', 'more', 'fourth'].map((key) => container('overlayfs', key));
    const found = await find(containers, async (_name, key) => {
      keys.push(key);
      if (key === 'gone') throw new ExhibitError('runtime-failed', 'not found');
      return [overlay];
    });
    expect(found).toEqual([{ name: 'overlayfs', containers: 4 }]);
    expect(keys).toEqual(['gone', 'there']);
  });

  test('of a runtime that falls silent are an error', async () => {
    const silent = async () => {
      throw new ExhibitError('runtime-unreachable', 'no answer');
    };
    await expect(find([container('overlayfs', 'a')], silent)).rejects.toThrow('no answer');
  });
});
