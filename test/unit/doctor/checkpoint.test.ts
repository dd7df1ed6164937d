import { describe, expect, test } from 'vitest';
import {
  checkCheckpoint,
  checkCheckpointKernel,
  checkCheckpointRoom,
  checkCriu,
  checkCriuOptions,
  checkGraphics,
  remembersCriu,
} from '../../../agent/doctor/checkpoint.ts';

const containerd = (version: string) => ({ name: 'containerd', version });

describe('who can be asked for a checkpoint', () => {
  test.each([
    ['1.6.20~ds1', ['cri'], undefined, 'warning', 'no CheckpointContainer before 2.0'],
    ['v1.7.27', ['cri'], undefined, 'warning', 'no CheckpointContainer before 2.0'],
    ['1.7.27', ['cri', 'tasks'], undefined, 'ok', 'no CheckpointContainer before 2.0'],
    ['2.0.5', ['cri'], undefined, 'warning', 'minimal archive'],
    ['2.1.9+unknown', ['cri'], undefined, 'ok', 'containerd 2.1.9+unknown by cri'],
    ['2.2.4', ['cri'], true, 'ok', 'containerd 2.2.4 by cri'],
    ['2.2.7', ['cri'], false, 'warning', 'enable_criu'],
    ['1.6.20', ['tasks'], undefined, 'ok', 'containerd 1.6.20 by tasks'],
    ['no version', ['cri'], undefined, 'ok', 'no version'],
  ] as const)('containerd %s by %s, allowed %s: %s', (version, rungs, allowed, status, found) => {
    const check = checkCheckpoint({ kind: 'cri', identity: containerd(version), rungs, switch: allowed });
    expect(check.status).toBe(status);
    expect(check.found).toContain(found);
  });

  test('another way than CRI is named where CRI has none', () => {
    const facts = { kind: 'cri', identity: containerd('1.6.20'), rungs: ['cri', 'tasks'], switch: undefined } as const;
    expect(checkCheckpoint(facts).meaning).toContain('checkpoints are asked for by tasks');
    expect(checkCheckpoint({ ...facts, rungs: ['cri'] }).meaning).toContain('the checkpoint artifact will fail');
  });

  test('nobody, for plain processes', () => {
    expect(checkCheckpoint({ kind: 'host', identity: undefined, rungs: [], switch: undefined }).status).toBe('ok');
  });

  test('a runtime that does not answer is no proof', () => {
    expect(checkCheckpoint({ kind: 'cri', identity: undefined, rungs: ['cri'], switch: undefined }).status).toBe(
      'warning',
    );
  });

  test.each([
    [undefined, 'ok'],
    [true, 'ok'],
    [false, 'warning'],
  ] as const)('Docker with experimental features %s: %s', (allowed, status) => {
    const identity = { name: 'docker', version: '28.5.2' };
    expect(checkCheckpoint({ kind: 'docker', identity, rungs: ['docker'], switch: allowed }).status).toBe(status);
  });
});

describe('criu', () => {
  const facts = {
    folders: ['/usr/local/bin', '/usr/sbin'],
    whose: 'the PATH of containerd (pid 812)',
    program: { name: '/usr/sbin/criu', version: '4.2.1' },
    remembered: false,
    kernel: '6.12.40-63.114.amzn2023.x86_64',
  };

  test('is named with its version and whose PATH has it', () => {
    const check = checkCriu(facts);
    expect(check.status).toBe('ok');
    expect(check.found).toBe('/usr/sbin/criu 4.2.1, found in the PATH of containerd (pid 812)');
  });

  test('that is missing is a warning that shows where it was looked for', () => {
    const check = checkCriu({ ...facts, program: undefined });
    expect(check.status).toBe('warning');
    expect(check.found).toContain('/usr/local/bin:/usr/sbin');
    expect(check.mend).not.toContain('restart');
  });

  test('that is missing for a containerd which remembers asks for a restart', () => {
    expect(checkCriu({ ...facts, program: undefined, remembered: true }).mend).toContain('restart containerd');
  });

  test.each([
    ['3.15', '6.1.0', 'warning'],
    ['3.16', '6.1.0', 'ok'],
    ['3.17.1', '6.1.0', 'ok'],
    ['3.17.1', '6.18.44', 'warning'],
    ['4.2', '6.18.44', 'ok'],
    [undefined, '6.18.44', 'ok'],
  ] as const)('%s on kernel %s: %s', (version, kernel, status) => {
    expect(checkCriu({ ...facts, kernel, program: { name: '/usr/sbin/criu', version } }).status).toBe(status);
  });

  test.each([
    ['1.7.27', false],
    ['2.1.9', false],
    ['2.2.6', false],
    ['2.2.7', true],
    ['2.3.3', false],
    ['2.3.4', true],
    ['2.4.0', true],
    ['3.0.0', true],
  ])('containerd %s remembers what it found: %s', (version, expected) => {
    expect(remembersCriu(containerd(version))).toBe(expected);
  });

  test('of other runtimes is not remembered', () => {
    expect(remembersCriu({ name: 'docker', version: '28.5.2' })).toBe(false);
    expect(remembersCriu(undefined)).toBe(false);
  });

  test('options on the node are shown, and an empty file is none', () => {
    expect(checkCriuOptions({ configurations: [{ file: '/etc/criu/default.conf', options: [] }] }).status).toBe('ok');
    const check = checkCriuOptions({ configurations: [{ file: '/etc/criu/runc.conf', options: ['tcp-established'] }] });
    expect(check).toMatchObject({ status: 'warning', found: '/etc/criu/runc.conf: tcp-established' });
  });

  test.each([
    [[], [], undefined],
    [['/dev/nvidia0'], [], 'warning'],
    [['/dev/nvidia0'], ['cuda_plugin.so'], 'ok'],
    [['/dev/kfd'], ['amdgpu_plugin.so'], 'ok'],
    [['/dev/kfd'], ['inventfs_plugin.so'], 'warning'],
  ])('with %s and the plugins %s: %s', (graphics, plugins, status) => {
    expect(checkGraphics({ graphics, plugins })?.status).toBe(status);
  });

  test('needs the kernel for it', () => {
    expect([checkCheckpointKernel(true).status, checkCheckpointKernel(false).status]).toEqual(['ok', 'warning']);
  });
});

describe('memory for CRIU’s files', () => {
  const offered = [
    { name: 'tasks', delivers: 'images' },
    { name: 'cri', delivers: 'archive' },
  ] as const;
  const GIB = 2 ** 30;
  test.each([
    ['enough', ['tasks', 'cri'], 4 * GIB, 'ok', 'by tasks'],
    ['less than twice as much on the node', ['tasks', 'cri'], GIB, 'warning', 'only 512 MiB'],
    ['a policy that needs none', ['cri'], 0, 'ok', 'its own folders first'],
    ['a policy that allows what is not offered', ['docker'], 4 * GIB, 'warning', 'no checkpoint is taken'],
    ['a policy that allows nothing', [], 4 * GIB, 'warning', 'no checkpoint is taken'],
  ] as const)('%s', (_what, rungs, availableBytes, status, meaning) => {
    const check = checkCheckpointRoom({ offered, policy: { rungs, tmpfsBytes: GIB }, availableBytes });
    expect(check?.status).toBe(status);
    expect(check?.meaning).toContain(meaning);
  });

  test('is no matter where there are no checkpoints', () => {
    const policy = { rungs: ['tasks'], tmpfsBytes: GIB } as const;
    expect(checkCheckpointRoom({ offered: [], policy, availableBytes: 0 })).toBeUndefined();
  });
});
