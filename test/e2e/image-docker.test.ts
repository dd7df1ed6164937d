import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from '../lab/agent.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { startNode } from '../lab/node.ts';
import { dockerObstacle, requireDocker } from '../lab/requires.ts';
import { BREAK_IN, capture, exported, must, send, type Taken, treeOf } from './image-case.ts';

/** `exhibit image` with Docker: as the victim's runtime, by both of its stores, and as the analysis host's. */

/** What Docker lays into every container's root, anew: files to mount its own over. */
const DOCKERS = ['.dockerenv', 'etc/hostname', 'etc/hosts', 'etc/mtab', 'etc/resolv.conf'];

function withoutDockers({ entries, links }: ReturnType<typeof treeOf>) {
  const own = Object.entries(entries).filter(([name]) => !DOCKERS.includes(name));
  return { names: Object.keys(entries), entries: Object.fromEntries(own), links };
}

const STORES = [
  { store: 'overlay2', containerdStore: false },
  { store: 'containerd', containerdStore: true },
] as const;

describe.each(STORES)('a container of Docker with the image store $store', ({ store, containerdStore }) => {
  let node: LabDocker;
  let folder = '';
  let taken: Taken;
  let victim: ReturnType<typeof treeOf>;
  let file = '';

  beforeAll(async () => {
    if (dockerObstacle() !== undefined) return;
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-image-docker-'));
    node = await startDocker({ containerdStore });
    await node.docker('run', '-d', '--name', 'web', '--network', 'none', WORKLOAD_IMAGE, 'tail', '-f', '/dev/null');
    await node.docker('exec', 'web', 'sh', '-c', BREAK_IN);
    victim = treeOf(await rootOf('web'));
    taken = await capture(node, path.join(folder, 'evidence'), 'name:web', { kind: 'docker' });
    file = await exported(taken.bundle, path.join(folder, 'web.tar'));
    await node.docker('load', '--input', await send(node, file));
  });

  afterAll(async () => {
    if (dockerObstacle() !== undefined) return;
    await node[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  beforeEach((context) => requireDocker(context));

  /** Where Docker has a container's root mounted, as seen from outside. */
  async function rootOf(name: string): Promise<string> {
    const id = await node.docker('inspect', '-f', '{{.Id}}', name);
    if (containerdStore) return `${node.hostRoot}/var/lib/docker/rootfs/overlayfs/${id}`;
    return node.hostRoot + (await node.docker('inspect', '-f', '{{.GraphDriver.Data.MergedDir}}', name));
  }

  const reference = (): string => `exhibit.local/capture:${path.basename(taken.bundle)}`;

  test('is captured with the identity of its layers', async () => {
    const { image } = taken;
    expect(image).toMatchObject({ reference: WORKLOAD_IMAGE, agreement: 'agrees' });
    const told = JSON.parse(await node.docker('image', 'inspect', '-f', '{{json .RootFS.Layers}}', WORKLOAD_IMAGE));
    expect(image.layers.map(({ diffId }) => diffId)).toEqual(told);
    expect(image.lowers.map(({ layer }) => layer)).toEqual([undefined, 2, 1, 0]);
    expect(image.lowers[0]?.snapshot).toMatch(/-init$/);
    expect(image.layers.map(({ blob }) => blob)).toEqual(Array(3).fill(containerdStore ? 'kept' : 'gone'));
  });

  test('is exported, loaded and run read-only without a network, with the same tree inside', async () => {
    const options = ['--name', 'forensic', '--read-only', '--network', 'none'];
    await node.docker('run', '-d', ...options, reference(), 'tail', '-f', '/dev/null');
    expect(withoutDockers(treeOf(await rootOf('forensic')))).toEqual(withoutDockers(victim));
    expect(await node.docker('exec', 'forensic', 'cat', '/tmp/dropped')).toBe('evil');
    await expect(node.docker('exec', 'forensic', 'touch', '/tmp/more')).rejects.toThrow(/Read-only file system/);
  });

  test('is looked at by a program that the analyst brings, without rights, and by none at all', async () => {
    const options = ['--rm', '--read-only', '--network', 'none', '--cap-drop', 'ALL'];
    const own = ['-v', '/usr/bin/busybox:/busybox:ro', '--entrypoint', '/busybox'];
    expect(await node.docker('run', ...options, ...own, reference(), 'cat', '/app/static/new.html')).toBe('again');
    await node.docker('create', '--name', 'look', reference(), 'x');
    const listed = await must(node, 'sh', '-c', 'docker export look | tar -t');
    expect(listed).toContain('tmp/dropped');
    expect(listed).not.toContain('app/readme.txt');
  });

  test('does not start anything by itself', async () => {
    await expect(node.docker('run', '--rm', '--network', 'none', reference())).rejects.toThrow(/no command/i);
  });

  test('says in its labels and its history what it is', async () => {
    const { Labels } = JSON.parse(await node.docker('image', 'inspect', '-f', '{{json .Config}}', reference()));
    expect(Labels).toMatchObject({
      'dev.exhibit.capture-id': path.basename(taken.bundle),
      'dev.exhibit.node': 'lab-docker',
      'dev.exhibit.base': 'merged',
      'dev.exhibit.original-image': WORKLOAD_IMAGE,
    });
    expect(JSON.parse(Labels['dev.exhibit.original-config'])).toMatchObject({ Cmd: ['sh', '/app/server.sh'] });
    const history = await node.docker('history', '--no-trunc', '--format', '{{.CreatedBy}}', reference());
    expect(history.split('\n')[0]).toContain(`exhibit capture ${path.basename(taken.bundle)}: writable layer of web`);
  });

  test('runs in containerd’s ctr as well', async () => {
    await using other = await startNode();
    await must(other, 'ctr', '-n', 'analysis', 'images', 'import', await send(other, file));
    await must(other, 'ctr', '-n', 'analysis', 'images', 'mount', reference(), '/mnt');
    expect(treeOf(path.join(other.hostRoot, 'mnt'))).toEqual(victim);
  });

  test('is put on the image that docker save wrote, when the bundle has only the changes', async () => {
    const changes = await capture(node, path.join(folder, 'small'), 'name:web', { kind: 'docker' }, 'rootfs,spec');
    const out = path.join(folder, 'on-saved.tar');
    const without = await runCli(['image', changes.bundle, out]);
    expect(without.code).toBe(1);
    expect(without.stderr).toMatch(/not the image below it: save lab\.exhibit\/workload:1.* --base FILE/);
    await node.docker('save', '--output', '/tmp/saved.tar', WORKLOAD_IMAGE);
    const saved = path.join(node.hostRoot, 'tmp/saved.tar');
    const name = `exhibit.local/on-saved:${store}`;
    const { code, stderr } = await runCli(['image', changes.bundle, out, '--base', saved, '--name', name]);
    expect(code, stderr).toBe(0);
    await node.docker('load', '--input', await send(node, out));
    await node.docker('create', '--name', 'on-saved', name, 'true');
    const inside = await node.docker('export', 'on-saved', '--output', '/tmp/export.tar');
    expect(inside).toBe('');
    const listed = await must(node, 'tar', '-tf', '/tmp/export.tar');
    expect(listed).toContain('tmp/dropped');
    expect(listed).toContain('bin/busybox');
    expect(listed).not.toContain('app/readme.txt');
  });
});
