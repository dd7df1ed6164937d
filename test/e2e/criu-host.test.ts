import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { type LabAgent, startAgent } from '../lab/agent.ts';
import { criuImage } from '../lab/cache.mjs';
import { argumentOf, criuImageObstacle, unpackCriuImage } from '../lab/criu-image.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { type Ended, runInitContainer } from '../lab/init-container.ts';
import { run } from '../lab/machine.ts';
import { nameOf, render, renderObstacle } from '../lab/manifests.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { compromisedPod } from '../lab/victim.ts';

/** The containers that put criu on a node and take it away, as `kubectl kustomize` renders them, on a containerd node that has none. */

const PROGRAM = 'opt/exhibit-criu/criu';
const LINK = 'usr/local/sbin/criu';
const TARGET = 'shop/web-0';

let obstacle: string | undefined;
let folder: string;
/** What is in the image. */
let image: string;
let node: LabNode;
let agent: LabAgent;

beforeAll(async () => {
  obstacle = criuImageObstacle() ?? renderObstacle();
  if (obstacle !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-criu-host-'));
  image = await unpackCriuImage(folder);
  node = await startNode();
  await node.importImage(criuImage());
  agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
});
afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await node?.[Symbol.asyncDispose]();
  if (folder !== undefined) rmSync(folder, { recursive: true });
});
beforeEach((context) => {
  if (obstacle !== undefined) context.skip(obstacle);
  for (const gone of ['usr/sbin/criu', LINK, path.dirname(PROGRAM)])
    rmSync(onNode(gone), { recursive: true, force: true });
});

const onNode = (name: string): string => path.join(node.hostRoot, name);
const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

function daemonSet(overlay: string, name: string) {
  const found = render(overlay).find((one) => nameOf(one) === `DaemonSet ${name}`);
  if (found === undefined) throw new Error(`${overlay} has no DaemonSet ${name}`);
  return found;
}

const install = (): Promise<Ended> => runInitContainer(node, daemonSet('overlays/criu-host', 'exhibit-agent'), 'criu');
const remove = (): Promise<Ended> =>
  runInitContainer(node, daemonSet('overlays/criu-host-remove', 'exhibit-criu-remove'), 'criu');

const saidWhen = async (ended: Promise<Ended>): Promise<string> => {
  const { code, lines } = await ended;
  expect([code, lines.length], lines.join('\n')).toEqual([0, 1]);
  return lines[0] ?? '';
};

/** A program that is the node's own. */
function ownCriu(name: string): void {
  writeFileSync(onNode(name), '#!/bin/sh\necho "Version: 3.19"\n', { mode: 0o755 });
}

async function checkpointOf(target: string): Promise<{ bundle: string; artifact: Manifest['artifacts'][number] }> {
  const { stdout, stderr } = await agent.exhibit('capture', target, '--json', '--artifacts', 'checkpoint');
  const line = stdout.split('\n')[0] ?? '';
  if (!line.startsWith('{')) throw new Error(`exhibit capture says nothing: ${stderr}`);
  const { sinkUrl } = JSON.parse(line) as { sinkUrl: string };
  const bundle = fileURLToPath(sinkUrl);
  const { artifacts } = JSON.parse(readFileSync(path.join(bundle, 'manifest.json'), 'utf8')) as Manifest;
  const [artifact] = artifacts;
  if (artifact === undefined) throw new Error('the capture has no artifact');
  return { bundle, artifact };
}

describe('on a node without criu', () => {
  test('its container puts it there, and the containerd that runs makes checkpoints with it', async () => {
    const pod = await node.runPod({ namespace: 'shop', name: 'web-0', containers: [{ name: 'web' }] });
    const location = '/tmp/by-cri.tar';
    const byCri = () => node.cri.call('CheckpointContainer', { container_id: pod.containerId('web'), location });
    await expect(byCri()).rejects.toThrow(/CRIU binary not found/i);
    const before = await checkpointOf(TARGET);
    expect(before.artifact).toMatchObject({
      status: 'skipped',
      reason: expect.stringContaining('no criu in the PATH'),
    });

    expect(await saidWhen(install())).toBe('criu is at /opt/exhibit-criu/criu, by the link /usr/local/sbin/criu');
    expect(readdirSync(onNode(path.dirname(PROGRAM)))).toEqual(['criu']);
    expect(sha256(onNode(PROGRAM))).toBe(sha256(path.join(image, 'criu')));
    expect(statSync(onNode(PROGRAM))).toMatchObject({ mode: 0o100755, uid: 0, gid: 0 });
    expect(readlinkSync(onNode(LINK))).toBe('/opt/exhibit-criu/criu');
    const check = await node.exec(['criu', 'check']);
    expect(check.stdout.toString() + check.stderr).toContain('Looks good');
    const doctor = await agent.exhibit('doctor', '--json');
    const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; status: string; found: string }[] };
    expect(checks.find(({ name }) => name === 'criu')).toMatchObject({
      status: 'ok',
      found: expect.stringContaining(argumentOf('CRIU')),
    });

    const { bundle, artifact } = await checkpointOf(TARGET);
    expect(artifact).toMatchObject({ status: 'captured', facts: { checkpointBy: 'tasks' } });
    await readsAsCheckpoint(bundle, /web\s+lab\.exhibit\/workload:1/);
    await byCri();
    expect((await node.exec(['checkpointctl', 'show', location])).stdout.toString()).toContain(
      'lab.exhibit/workload:1',
    );
    await pod.stop();
  });

  test('that criu takes an established connection too, which wants iptables of the node', async () => {
    await install();
    const { pod, container } = await compromisedPod(node, { connection: true });
    const { bundle, artifact } = await checkpointOf(`${pod.namespace}/${pod.name}/${container}`);
    expect(artifact).toMatchObject({ status: 'captured', facts: { checkpointBy: 'tasks' } });
    await readsAsCheckpoint(bundle, new RegExp(container));
    const sockets = await node.exec(['checkpointctl', 'inspect', '--sockets', '/tmp/checkpoint.tar']);
    expect(sockets.stdout.toString()).toMatch(/TCP \(ESTABLISHED\)/i);
    await pod.stop();
  });

  test('a container that ended after a checkpoint runs again from it, with its memory', async () => {
    await install();
    const ctr = async (...argv: string[]): Promise<string> => {
      const { code, stdout, stderr } = await node.exec(['ctr', '-n', 'k8s.io', ...argv]);
      expect(code, `${argv.join(' ')}: ${stderr}`).toBe(0);
      return stdout.toString();
    };
    const bare = '/usr/local/sbin/runc-bare';
    const runc = existsSync(onNode(bare)) ? bare : '/usr/sbin/runc';
    const remember = 'read -r it < /proc/sys/kernel/random/uuid; echo $it > /before';
    const script = `trap 'echo $it > /after' USR1; ${remember}; while :; do sleep 1; done`;
    await ctr('run', '--detach', '--runc-binary', runc, WORKLOAD_IMAGE, 'phoenix', 'sh', '-c', script);
    const inside = async (file: string): Promise<string> => {
      const pid = /^phoenix +(\d+) +RUNNING/m.exec(await ctr('tasks', 'ls'))?.[1];
      return vi.waitFor(() => readFileSync(onNode(`proc/${pid}/root/${file}`), 'utf8'), { timeout: 10_000 });
    };
    const before = await inside('before');
    expect(before).toMatch(/^[0-9a-f-]{36}\n$/);
    await ctr('containers', 'checkpoint', '--rw', '--image', '--task', 'phoenix', 'lab.exhibit/ashes:1');
    await ctr('tasks', 'rm', '--force', 'phoenix');
    await ctr('containers', 'rm', 'phoenix');
    await ctr('containers', 'restore', '--rw', '--live', 'phoenix', 'lab.exhibit/ashes:1');
    await ctr('tasks', 'kill', '--signal', 'SIGUSR1', 'phoenix');
    expect(await inside('after')).toBe(before);
    await ctr('tasks', 'rm', '--force', 'phoenix');
  });

  /** Leaves it at /tmp/checkpoint.tar of the node. */
  async function readsAsCheckpoint(bundle: string, shown: RegExp): Promise<void> {
    copyFileSync(path.join(bundle, 'checkpoint.tar.zst'), onNode('tmp/checkpoint.tar.zst'));
    await run('zstd', ['-q', '-f', '-d', onNode('tmp/checkpoint.tar.zst'), '-o', onNode('tmp/checkpoint.tar')]);
    const { code, stdout, stderr } = await node.exec(['checkpointctl', 'show', '/tmp/checkpoint.tar']);
    expect(code, stderr).toBe(0);
    expect(stdout.toString()).toMatch(shown);
  }

  test('a second install changes nothing, and one over an older criu leaves what runs of it alone', async () => {
    await install();
    const { ino } = statSync(onNode(PROGRAM));
    expect(await saidWhen(install())).toMatch(/^criu is there already/);
    expect(statSync(onNode(PROGRAM)).ino).toBe(ino);

    // One of another version that is at work, and what a crash in the middle of a write would leave.
    copyFileSync(onNode('usr/bin/tail'), onNode(`${PROGRAM}.old`));
    await node.exec(['mv', `/${PROGRAM}.old`, `/${PROGRAM}`]);
    chmodSync(onNode(PROGRAM), 0o755);
    const started = await node.exec(['sh', '-c', `/${PROGRAM} -f /dev/null >/dev/null 2>&1 </dev/null & echo $!`]);
    const pid = Number(started.stdout.toString());
    writeFileSync(onNode(`${PROGRAM}.new`), readFileSync(path.join(image, 'criu')).subarray(0, 1000));
    expect(await saidWhen(install())).toMatch(/^criu is at/);
    expect(readlinkSync(onNode(`proc/${pid}/exe`))).toBe(`/${PROGRAM} (deleted)`);
    expect(readdirSync(onNode(path.dirname(PROGRAM)))).toEqual(['criu']);
    expect(sha256(onNode(PROGRAM))).toBe(sha256(path.join(image, 'criu')));
    process.kill(node.hostPid(pid), 'SIGKILL');
  });

  test('a full disk leaves nothing half-written, and does not keep the agent from starting', async () => {
    const home = path.dirname(PROGRAM);
    mkdirSync(onNode(home));
    await node.exec(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'full', `/${home}`]);
    try {
      const { code, lines } = await install();
      expect([code, lines.at(-1)]).toEqual([0, 'criu could not be put on the node, whose agent starts without it']);
      expect(lines[0]).toContain('No space left on device');
      expect([readdirSync(onNode(home)), existsSync(onNode(LINK))]).toEqual([[], false]);
    } finally {
      await node.exec(['umount', `/${home}`]);
    }
  });

  test('the other overlay takes away what was put there, and nothing beside it', async () => {
    await install();
    writeFileSync(onNode('opt/exhibit-criu/notes'), 'of somebody else');
    const beside = readdirSync(onNode('usr/local/sbin')).filter((name) => name !== 'criu');
    expect(await saidWhen(remove())).toMatch(/^criu is gone/);
    expect(readdirSync(onNode('opt/exhibit-criu'))).toEqual(['notes']);
    expect(readdirSync(onNode('usr/local/sbin'))).toEqual(beside);
    expect(await saidWhen(remove())).toMatch(/^there was no criu of exhibit/);
  });
});

describe('on a node with a criu of its own', () => {
  test.each(['usr/sbin/criu', 'usr/local/bin/criu', LINK])('%s stays, and nothing is written', async (own) => {
    ownCriu(own);
    const digest = sha256(onNode(own));
    expect(await saidWhen(install())).toBe(`the node has a criu of its own, /${own}: nothing is written`);
    await saidWhen(remove());
    expect(sha256(onNode(own))).toBe(digest);
    expect(existsSync(onNode(PROGRAM))).toBe(false);
    rmSync(onNode(own));
  });

  test('a link of somebody else’s stays as well, wherever it leads', async () => {
    symlinkSync('/opt/other/criu', onNode(LINK));
    expect(await saidWhen(install())).toContain('nothing is written');
    await saidWhen(remove());
    expect(readlinkSync(onNode(LINK))).toBe('/opt/other/criu');
  });

  test('one that came after exhibit’s is the one that is left', async () => {
    await install();
    ownCriu('usr/sbin/criu');
    expect(await saidWhen(install())).toBe(
      'the node has a criu of its own, /usr/sbin/criu: that of exhibit is taken away',
    );
    const { stdout } = await node.exec(['criu', '--version']);
    expect(stdout.toString()).toBe('Version: 3.19\n');
    expect(readdirSync(onNode(path.dirname(PROGRAM)))).toEqual([]);
  });
});
