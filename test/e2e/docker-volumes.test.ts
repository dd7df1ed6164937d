import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Finding, findingSchema } from '../../evidence/file-finding.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { type VolumeRecord, volumeSchema } from '../../evidence/volumes.ts';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { dockerObstacle, requireDocker } from '../lab/requires.ts';
import { json, shell } from './readers.ts';

/** The volumes, tmpfs mounts and binds of a container that Docker runs. */

let node: LabDocker;
let folder: string;
let bundle: string;
let captured: CliResult;

beforeAll(async () => {
  if (dockerObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-docker-volumes-'));
  node = await startDocker();
  await node.exec(['mkdir', '-p', '/srv/shared']);
  const mounts = [
    '--mount',
    'type=volume,source=shop-data,target=/data',
    '--tmpfs',
    '/scratch:size=8m',
    '-v',
    '/srv/shared:/shared',
  ];
  const how = ['run', '-d', '--name', 'shop', '--network', 'none', '--cap-add', 'SYS_ADMIN', ...mounts];
  const id = await node.docker(...how, WORKLOAD_IMAGE, 'tail', '-f', '/dev/null');
  await node.docker(
    'exec',
    id,
    'sh',
    '-c',
    `echo row > /data/table; echo loot > /scratch/loot; echo implant > /dev/shm/.x; echo note > /shared/note
     echo x > /data/rootsh && chmod 4755 /data/rootsh; mkdir -p /shared/.ssh && echo key > /shared/.ssh/authorized_keys
     until [ $(date +%s) -gt $(($(stat -c %Y /dev/null) + 3)) ]; do sleep 0.2; done; mknod /dev/shm/null c 1 3; mknod /dev/sda b 8 0
     mkdir -p /hidden /data/sub && echo beneath > /data/sub/beneath && mount -t tmpfs none /data/sub && echo above > /data/sub/above`,
  );
  // A process in a mount namespace of its own, with files that nobody else in the container sees.
  await node.docker(
    'exec',
    '-d',
    id,
    'unshare',
    '-m',
    'sh',
    '-c',
    'mount -t tmpfs none /hidden && echo secretive > /hidden/payload && exec tail -f /dev/null',
  );
  const payload = ['sh', '-c', 'cat /proc/[0-9]*/root/hidden/payload 2>/dev/null'];
  await vi.waitFor(async () => expect((await node.exec(payload)).stdout.toString()).toContain('secretive'), 20_000);
  await using agent = await startAgent(node, {
    config: { runtime: { kind: 'docker' }, sink: { url: `file://${folder}/evidence` } },
  });
  captured = await agent.exhibit('capture', 'name:shop', '--artifacts', 'volumes');
  const base = path.join(folder, 'evidence', 'lab', 'lab-docker');
  bundle = path.join(base, readdirSync(base)[0] ?? 'none');
}, 120_000);

afterAll(async () => {
  if (dockerObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => requireDocker(context));

const volumes = (): VolumeRecord[] =>
  shell('zstd -dc "$1"', path.join(bundle, 'volumes.jsonl.zst'))
    .trimEnd()
    .split('\n')
    .map((line) => volumeSchema.parse(JSON.parse(Buffer.from(line, 'latin1').toString())));
const at = (place: string): VolumeRecord => {
  const found = volumes().find(({ containerPath }) => containerPath === place);
  if (found === undefined) throw new Error(`no mount at ${place}`);
  return found;
};
const found = (of: string): Finding[] =>
  shell('zstd -dc "$1"', path.join(of, 'volumes.findings.jsonl.zst'))
    .trimEnd()
    .split('\n')
    .map((line) => findingSchema.parse(JSON.parse(Buffer.from(line, 'latin1').toString())));
const findings = (): string[] =>
  found(bundle).map(({ kind, severity, path: file, volume, nodePath = '' }) => {
    const where = volumes().find((one) => one.volume === volume)?.class;
    return `${kind} ${severity} ${where} ${file} ${nodePath}`.trimEnd();
  });
const content = (of: VolumeRecord, name: string): string =>
  shell('zstd -dc "$1" | tar -xO -f - "$2"', path.join(bundle, 'volumes.tar.zst'), `${of.volume}/${name}`);

describe('of a container that Docker runs', () => {
  test('volumes are taken, and the bundle verifies', async () => {
    expect(captured.code, captured.stderr).toBe(0);
    expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
    const { artifacts } = json<Manifest>(bundle, 'manifest.json');
    expect(artifacts.map(({ name, status, gaps }) => ({ name, status, gaps }))).toEqual([
      { name: 'volumes', status: 'captured', gaps: [] },
    ]);
  });

  test('a volume, a tmpfs, /dev/shm and a bind are told apart and have their content', () => {
    expect(at('/data')).toMatchObject({ class: 'docker-volume', name: 'shop-data' });
    expect(at('/scratch')).toMatchObject({ class: 'tmpfs', memoryBacked: true });
    expect(at('/dev/shm')).toMatchObject({ class: 'shm', memoryBacked: true });
    expect(at('/shared')).toMatchObject({ class: 'host-path', hostPath: '/srv/shared' });
    for (const own of ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf']) expect(at(own).class).toBe('pod-file');
    expect(content(at('/data'), 'table')).toBe('row\n');
    expect(content(at('/scratch'), 'loot')).toBe('loot\n');
    expect(content(at('/dev/shm'), '.x')).toBe('implant\n');
    expect(content(at('/shared'), 'note')).toBe('note\n');
  });

  test('files have findings, and the devices that Docker makes have none', () => {
    expect(findings().sort()).toEqual([
      'device-node high tmpfs dev/sda',
      'hidden-name medium shm dev/shm/.x',
      'persistence high host-path shared/.ssh/authorized_keys srv/shared/.ssh/authorized_keys',
      'set-id high docker-volume data/rootsh',
    ]);
  });

  test('what lies beneath a mount inside of a volume is seen, and the mount itself is taken beside it', () => {
    expect(content(at('/data'), 'sub/beneath')).toBe('beneath\n');
    expect(content(at('/data/sub'), 'above')).toBe('above\n');
  });

  test('what a process mounted for itself alone is taken, and marked', () => {
    const hidden = at('/hidden');
    expect(hidden).toMatchObject({ class: 'tmpfs', ofContainer: false });
    expect(content(hidden, 'payload')).toBe('secretive\n');
  });
});

test('a privileged container has every device of the node, and only the disk that it made itself is told of', async () => {
  const how = ['run', '-d', '--name', 'agent', '--network', 'none', '--privileged'];
  const id = await node.docker(...how, WORKLOAD_IMAGE, 'tail', '-f', '/dev/null');
  const make = `until [ $(date +%s) -gt $(($(stat -c %Y /dev/null) + 3)) ]; do sleep 0.2; done
    mkdir /dev/dm; mknod /dev/dm/0 b 8 0`;
  await node.docker('exec', id, 'sh', '-c', make);
  expect((await node.docker('exec', id, 'sh', '-c', 'ls /dev')).split('\n').length).toBeGreaterThan(20);
  await using agent = await startAgent(node, {
    config: { runtime: { kind: 'docker' }, sink: { url: `file://${folder}/privileged` } },
  });
  const { code, stderr } = await agent.exhibit('capture', 'name:agent', '--artifacts', 'volumes');
  expect(code, stderr).toBe(0);
  const base = path.join(folder, 'privileged', 'lab', 'lab-docker');
  const told = found(path.join(base, readdirSync(base)[0] ?? 'none'));
  expect(told.map(({ kind, path: file }) => `${kind} ${file}`)).toEqual(['device-node dev/dm/0']);
});
