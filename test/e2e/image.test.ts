import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli } from '../lab/agent.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, nodeObstacle, requireLab } from '../lab/requires.ts';
import { BREAK_IN, capture, exported, must, send, type Taken, treeOf } from './image-case.ts';
import { json, program, shell } from './readers.ts';

/** `exhibit image` on containerd: the captured root is exported, imported again, run read-only and compared with the victim's. */

const NAMESPACE = 'analysis';

let node: LabNode;
let folder = '';
let kept: Taken;
let discarded: Taken;
let victim: ReturnType<typeof treeOf>;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-image-'));
  node = await startNode();
  const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const broken = await pod.exec('web', ['sh', '-c', BREAK_IN]);
  if (broken.code !== 0) throw new Error(broken.stderr);
  victim = treeOf(rootOf('k8s.io', pod.containerId('web')));
  kept = await capture(node, path.join(folder, 'kept'), 'prod/web-0');
  for (const { digest } of kept.image.layers) await must(node, 'ctr', '-n', 'k8s.io', 'content', 'rm', digest ?? '');
  discarded = await capture(node, path.join(folder, 'discarded'), 'prod/web-0');
});

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach((context) => requireLab(context));

/** Where the runtime has a container's root mounted, as seen from outside. */
const rootOf = (namespace: string, id: string): string =>
  `${node.hostRoot}/run/containerd/io.containerd.runtime.v2.task/${namespace}/${id}/rootfs`;

/** Below the node's own cgroup, which goes with it; where the lab's runc has to leave limits out, ctr has to be told so as well. */
const runOptions = (id: string): string[] => {
  const runc = '/usr/local/sbin/runc-bare';
  const bare = existsSync(node.hostRoot + runc) ? ['--runc-binary', runc] : [];
  return ['--cgroup', `/${node.cgroupParent}/${id}`, ...bare];
};

const ctr = (...argv: string[]) => must(node, 'ctr', '-n', NAMESPACE, ...argv);

const members = (bundle: string, object: string): string[] =>
  shell('zstd -dc "$1" | tar -t', path.join(bundle, object)).trimEnd().split('\n');

describe('the spec artifact', () => {
  test('names the image, its layers, their snapshots and directories, and says that they agree', () => {
    const { image } = kept;
    expect(image).toMatchObject({
      reference: WORKLOAD_IMAGE,
      agreement: 'agrees',
      snapshotter: 'overlayfs',
      notes: [],
    });
    expect(image.layers).toHaveLength(3);
    expect(image.layers.map(({ blob }) => blob)).toEqual(['kept', 'kept', 'kept']);
    expect(image.lowers.map(({ layer }) => layer)).toEqual([2, 1, 0]);
    expect(image.lowers.map(({ snapshot }) => snapshot)).toEqual(image.layers.map(({ chainId }) => chainId).reverse());
    for (const { directory, sizeBytes, inodes } of image.lowers) {
      expect(directory).toMatch(/^\/var\/lib\/containerd\/.*\/fs$/);
      expect(sizeBytes).toBeGreaterThan(0);
      expect(inodes).toBeGreaterThan(0);
    }
  });

  test('has digests that containerd itself tells', async () => {
    const listed = await must(node, 'ctr', '-n', 'k8s.io', 'images', 'ls', `name==${WORKLOAD_IMAGE}`);
    expect(listed).toContain(kept.image.manifestDigest ?? 'none');
    const snapshots = await must(node, 'ctr', '-n', 'k8s.io', 'snapshots', 'ls');
    for (const { chainId } of kept.image.layers) expect(snapshots).toContain(chainId);
    const inspected = await must(node, 'ctr', '-n', 'k8s.io', 'images', 'inspect', '--content', WORKLOAD_IMAGE);
    for (const { diffId, digest } of kept.image.layers) {
      expect(inspected).toContain(diffId);
      expect(inspected).toContain(digest);
    }
    expect(inspected).toContain(kept.image.configDigest ?? 'none');
  });

  test('says which blobs the node does not have any more', () => {
    expect(discarded.image.layers.map(({ blob }) => blob)).toEqual(['gone', 'gone', 'gone']);
    expect(discarded.image.layers.map(({ diffId }) => diffId)).toEqual(kept.image.layers.map(({ diffId }) => diffId));
    expect(discarded.image.agreement).toBe('agrees');
  });
});

describe('the image artifact', () => {
  test('is an OCI layout of the very image where the node keeps its blobs', async () => {
    const names = members(kept.bundle, 'image.tar.zst');
    expect(names).toEqual(expect.arrayContaining(['image.json', 'index.json', 'oci-layout']));
    for (const { digest = '' } of kept.image.layers) expect(names).toContain(`blobs/${digest.replace(':', '/')}`);
    shell('zstd -dc "$1" > "$2"', path.join(kept.bundle, 'image.tar.zst'), path.join(node.hostRoot, 'tmp/base.tar'));
    await must(node, 'ctr', '-n', 'base', 'images', 'import', '--local', '/tmp/base.tar');
    expect(await must(node, 'ctr', '-n', 'base', 'images', 'ls')).toContain(kept.image.manifestDigest);
  });

  test('has the lower layers merged where it does not', () => {
    expect(members(discarded.bundle, 'image.tar.zst')).not.toContain('index.json');
    const merged = members(discarded.bundle, 'image-base.tar.zst');
    expect(merged).toEqual(expect.arrayContaining(['app/readme.txt', 'app/static/index.html', 'bin/busybox']));
  });

  test.each(['kept', 'discarded'] as const)('is part of a bundle that verifies (blobs %s)', async (which) => {
    expect(await runCli(['verify', { kept, discarded }[which].bundle])).toMatchObject({ code: 0 });
  });
});

describe.each(['kept', 'discarded'] as const)('the image that is exported, with blobs %s', (which) => {
  const reference = `exhibit.local/${which}:1`;
  let file = '';
  let forensic = '';

  beforeAll(async () => {
    if (labObstacle() !== undefined) return;
    const { bundle } = { kept, discarded }[which];
    file = await exported(bundle, path.join(folder, `${which}.tar`), '--name', reference);
    await ctr('images', 'import', await send(node, file));
    forensic = `forensic-${which}`;
    await ctr(
      'run',
      '--detach',
      '--read-only',
      ...runOptions(forensic),
      reference,
      forensic,
      'tail',
      '-f',
      '/dev/null',
    );
  });

  test('has the same tree inside a read-only container as the victim', () => {
    const inside = treeOf(rootOf(NAMESPACE, forensic));
    expect(inside).toEqual(victim);
    expect(inside.entries['app/readme.txt']).toBeUndefined();
    expect(inside.entries['app/static/index.html']).toBeUndefined();
    expect(inside.entries['tmp/dropped']).toMatchObject({ mode: '0o4711', owner: [12345, 6789] });
  });

  test('reads and cannot be written', async () => {
    const inside = (line: string) =>
      node.exec(['ctr', '-n', NAMESPACE, 'task', 'exec', '--exec-id', 'look', forensic, 'sh', '-c', line]);
    expect((await inside('cat /tmp/dropped')).stdout.toString()).toBe('evil\n');
    const refused = await inside('echo x > /tmp/more');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr + refused.stdout.toString()).toMatch(/Read-only file system/);
  });

  test('can be looked at without running anything of it', async () => {
    await ctr('images', 'mount', reference, `/mnt`);
    try {
      expect(treeOf(path.join(node.hostRoot, 'mnt'))).toEqual(victim);
      expect((await node.exec(['touch', '/mnt/x'])).stderr).toMatch(/Read-only file system/);
    } finally {
      await ctr('images', 'unmount', '/mnt');
    }
  });

  test('starts nothing by itself', async () => {
    const { code, stderr } = await node.exec([
      'ctr',
      '-n',
      NAMESPACE,
      'run',
      '--rm',
      '--read-only',
      ...runOptions('mistake'),
      reference,
      'mistake',
    ]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/no argument|args/i);
  });

  test('is the same bytes when it is made again', async () => {
    const { bundle } = { kept, discarded }[which];
    const again = await exported(bundle, path.join(folder, `${which}-again.tar`), '--name', reference);
    expect(shell('cmp "$1" "$2" && echo same', file, again)).toBe('same\n');
  });
});

test('a blob that somebody changed in the content store is a gap, and the lower layers are merged instead', async () => {
  await using own = await startNode();
  await own.runPod({ namespace: 'prod', name: 'api-0', containers: [{ name: 'api' }] });
  const { image } = await capture(own, path.join(folder, 'before'), 'prod/api-0', {}, 'spec');
  const hex = image.layers[1]?.digest?.split(':')[1] ?? '';
  const blob = `${own.hostRoot}/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/${hex}`;
  const bytes = readFileSync(blob);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  writeFileSync(blob, bytes);
  const { bundle } = await capture(own, path.join(folder, 'after'), 'prod/api-0');
  const { artifacts } = json<Manifest>(bundle, 'manifest.json');
  const artifact = artifacts.find(({ name }) => name === 'image');
  expect(artifact).toMatchObject({ status: 'partial', facts: { base: 'merged' } });
  expect(artifact?.gaps).toMatchObject([
    { what: `blob sha256:${hex}`, why: expect.stringContaining('it was changed') },
  ]);
  expect(artifact?.objects).toEqual(['image.tar.zst', 'image-base.tar.zst']);
  expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
});

test('a full disk ends it with a sentence and leaves nothing', async () => {
  const script =
    'mount -t tmpfs -o size=256k tmpfs "$1" && { "$2" "$3" image "$4" "$1/full.tar"; echo "$?"; ls "$1"; }';
  const main = path.resolve(import.meta.dirname, '../../cli/main.ts');
  const small = path.join(folder, 'small');
  mkdirSync(small);
  const argv = ['--mount', 'sh', '-c', script, 'sh', small, process.execPath, main, discarded.bundle];
  const { stdout, stderr } = program('unshare', argv);
  expect(stdout).toBe('2\n');
  expect(stderr).toMatch(/full\.tar cannot be written \(ENOSPC\), and what was written is removed/);
});

describe('with containerd 1.6, and without CRI', () => {
  test('the layers are known and the image is exported', async (context) => {
    const why = nodeObstacle('1.6');
    if (why !== undefined) context.skip(why);
    await using old = await startNode({ release: '1.6' });
    const pod = await old.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
    await pod.exec('web', ['sh', '-c', BREAK_IN]);
    const id = pod.containerId('web');
    const tree = treeOf(`${old.hostRoot}/run/containerd/io.containerd.runtime.v2.task/k8s.io/${id}/rootfs`);
    const taken = await capture(old, path.join(folder, 'old'), id, { kind: 'containerd', namespace: 'k8s.io' });
    expect(taken.image).toMatchObject({ reference: WORKLOAD_IMAGE, agreement: 'agrees', notes: [] });
    expect(taken.image.layers).toEqual(kept.image.layers);
    const file = await exported(taken.bundle, path.join(folder, 'old.tar'), '--name', 'exhibit.local/old:1');
    await must(old, 'ctr', '-n', NAMESPACE, 'images', 'import', await send(old, file));
    await must(old, 'ctr', '-n', NAMESPACE, 'images', 'mount', 'exhibit.local/old:1', '/mnt');
    expect(treeOf(path.join(old.hostRoot, 'mnt'))).toEqual(tree);
  });
});
