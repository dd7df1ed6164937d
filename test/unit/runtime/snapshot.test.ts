import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jsonOf, nextImageStep, rootfsOf, specMounts } from '../../../agent/runtime/snapshot.ts';

const S = '/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots';

describe('the layers behind a snapshot', () => {
  test('an overlay as containerd 2.1 gives it', () => {
    const options = [`workdir=${S}/5/work`, `upperdir=${S}/5/fs`, `lowerdir=${S}/3/fs:${S}/1/fs`, 'index=off'];
    expect(rootfsOf([{ type: 'overlay', source: 'overlay', options }])).toEqual({
      rootfs: { kind: 'overlay', upper: `${S}/5/fs`, lowers: [`${S}/3/fs`, `${S}/1/fs`], userXattr: false },
    });
  });

  test('volatile and userxattr among the options', () => {
    const options = ['volatile', 'userxattr', 'upperdir=/u', 'lowerdir=/l'];
    expect(rootfsOf([{ type: 'overlay', source: 'overlay', options }])).toMatchObject({ rootfs: { userXattr: true } });
  });

  test('a protected colon belongs to the name', () => {
    const options = ['upperdir=/u', 'lowerdir=/a\\:b:/c'];
    expect(rootfsOf([{ type: 'overlay', source: 'overlay', options }])).toMatchObject({
      rootfs: { lowers: ['/a:b', '/c'] },
    });
  });

  test('a bind of a single writable layer', () => {
    expect(rootfsOf([{ type: 'bind', source: `${S}/1/fs`, options: ['rw', 'rbind'] }])).toEqual({
      rootfs: { kind: 'overlay', upper: `${S}/1/fs`, lowers: [], userXattr: false },
    });
  });

  test.each([
    ['a read-only bind', [{ type: 'bind', source: '/x', options: ['ro', 'rbind'] }], 'read-only'],
    ['a read-only overlay', [{ type: 'overlay', source: 'overlay', options: ['lowerdir=/a:/b'] }], 'no upperdir'],
    ['a block device', [{ type: 'ext4', source: '/dev/dm-1', options: [] }], 'ext4'],
    ['no mount', [], '0 mounts'],
  ])('%s has no writable layer, and why is said', (_, mounts, why) => {
    expect(rootfsOf(mounts)).toEqual({ note: expect.stringContaining(why) });
  });

  test('any list of lower folders comes back whole', () => {
    const folder = fc.stringMatching(/^\/[a-z:\\]{1,12}$/);
    const protect = (text: string) => text.replaceAll(/[\\:]/g, '\\$&');
    fc.assert(
      fc.property(fc.array(folder, { minLength: 1, maxLength: 5 }), (lowers) => {
        const options = ['upperdir=/u', `lowerdir=${lowers.map(protect).join(':')}`];
        expect(rootfsOf([{ type: 'overlay', source: 'overlay', options }])).toMatchObject({ rootfs: { lowers } });
      }),
    );
  });
});

describe('the mounts of an OCI spec', () => {
  test('binds have a path of the node, others have not', () => {
    const mounts = [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/data', type: 'bind', source: '/srv', options: ['rbind', 'ro'] },
      { destination: '/d2', source: '/srv2', options: ['bind'] },
    ];
    expect(specMounts({ mounts })).toEqual([
      { containerPath: '/proc', hostPath: '', type: 'proc', readOnly: false },
      { containerPath: '/data', hostPath: '/srv', type: 'bind', readOnly: true },
      { containerPath: '/d2', hostPath: '/srv2', type: 'bind', readOnly: false },
    ]);
  });

  test('no spec has no mounts, and one without mounts has none', () => {
    expect(specMounts(undefined)).toBeUndefined();
    expect(specMounts({ mounts: 'x' })).toBeUndefined();
    expect(specMounts({})).toEqual([]);
    expect(specMounts({ mounts: null })).toEqual([]);
  });
});

describe('the way to an image config', () => {
  const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));

  test('an index leads to the manifest of this machine', () => {
    const manifests = [
      { digest: 'sha256:a', platform: { os: 'linux', architecture: 'arm64' } },
      { digest: 'sha256:b', platform: { os: 'linux', architecture: 'amd64' } },
    ];
    expect(nextImageStep(bytes({ manifests }), 'amd64')).toEqual({ kind: 'manifest', digest: 'sha256:b' });
  });

  test('a manifest leads to its config, and a config leads nowhere', () => {
    expect(nextImageStep(bytes({ config: { digest: 'sha256:c' }, layers: [] }), 'amd64')).toEqual({
      kind: 'config',
      digest: 'sha256:c',
    });
    expect(nextImageStep(bytes({ architecture: 'amd64', config: { Env: [] }, rootfs: {} }), 'amd64')).toBeUndefined();
    expect(nextImageStep(Buffer.from('not json'), 'amd64')).toBeUndefined();
  });

  test('what is no JSON is undefined', () => {
    expect(jsonOf('{')).toBeUndefined();
    expect(jsonOf(Buffer.from([0xff, 0xfe]))).toBeUndefined();
  });
});
