import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { criuRuns } from '../../agent/runtime/process-tree.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { expectRuns } from '../contract/runtime.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { dockerObstacle, requireDocker } from '../lab/requires.ts';
import { json, shell } from './readers.ts';

/** The whole capture of a container that Docker runs, by the agent as a process, read back by programs that know nothing of us. */

/** The needle is in the script in reverse order only, the right order in memory alone. */
const NEEDLE = `EXHIBIT-NEEDLE-${randomBytes(12).toString('hex')}`;
const reversed = [...NEEDLE].reverse().join('');
const HOLD = `$| = 1; my $s = reverse "${reversed}"; my $x = "x" x (96 << 20); print "line $_\\n" for 1..400; print STDERR "a warning\\n";
  select undef, undef, undef, 0.01 while length $s`;
/** Rotates after 4 KB: Docker keeps the log, one rotation as it is and, with compression, older ones packed. */
const LOG = ['--log-opt', 'max-size=8k', '--log-opt', 'max-file=5', '--log-opt', 'compress=true'];
const LABELS = ['--label', 'com.docker.compose.project=shop', '--label', 'com.docker.compose.service=web'];

let node: LabDocker;
let folder: string;
let id: string;
let initPid: number;
let bundle: string;
let manifest: Manifest;
let listed: { code: number; stdout: string; stderr: string };
let captured: { code: number; stdout: string; stderr: string };
let agentLog: string;

type Captured = { bundle: string; manifest: Manifest };

function newest(evidence: string): Captured {
  const base = path.join(evidence, 'lab', 'lab-docker');
  const where = path.join(base, readdirSync(base).sort().at(-1) ?? 'none');
  return { bundle: where, manifest: json<Manifest>(where, 'manifest.json') };
}

beforeAll(async () => {
  if (dockerObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-docker-e2e-'));
  node = await startDocker({ liveRestore: true });
  const how = ['run', '-d', '--name', 'shop-web-1', '--network', 'none', ...LABELS, ...LOG];
  id = await node.docker(...how, WORKLOAD_IMAGE, 'perl', '-e', HOLD);
  initPid = Number(await node.docker('inspect', '-f', '{{.State.Pid}}', id));
  await node.docker('exec', id, 'sh', '-c', 'echo evil > /tmp/dropped; rm /app/readme.txt; echo x >> /app/config.ini');
  await sleep(500);
  await using agent = await startAgent(node, {
    config: { runtime: { kind: 'docker' }, sink: { url: `file://${folder}/evidence` } },
  });
  listed = await agent.exhibit('containers');
  captured = await agent.exhibit('capture', 'name:shop-web-1', '--case', 'CASE-7');
  ({ bundle, manifest } = newest(path.join(folder, 'evidence')));
  agentLog = agent.log();
}, 120_000);

afterAll(async () => {
  if (dockerObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => requireDocker(context));

const member = (archive: string, name: string): string =>
  shell('zstd -dc "$1" | tar -xO -f - "$2"', path.join(bundle, archive), name);
const members = (archive: string): string[] =>
  shell('zstd -dc "$1" | tar -t', path.join(bundle, archive)).trimEnd().split('\n');

describe('one command captures a container of Docker', () => {
  test('by the name that `exhibit containers` shows, with its compose project', () => {
    expect(listed.stdout.split('\n')[1]).toMatch(
      /^name:shop-web-1 +running +[0-9a-f]{13} +lab\.exhibit\/workload:1 +shop\/web/,
    );
    expect(captured.stderr).not.toMatch(/\bat .*\.ts:\d+/);
    expect(captured.code, captured.stderr + agentLog).toBe(0);
  });

  test('and takes every artifact', () => {
    const states = manifest.artifacts.map(({ name, status, reason }) => ({ name, status, reason }));
    expect(states.map(({ name }) => name)).toEqual([
      'processes',
      'network',
      'node',
      'memory',
      'checkpoint',
      'volumes',
      'rootfs',
      'logs',
      'spec',
    ]);
    for (const { status } of states) expect(['captured', 'partial'], JSON.stringify(states)).toContain(status);
    expect(manifest.target).toMatchObject({ runtime: 'docker', id, name: 'shop-web-1' });
    expect(manifest.target.labels).toMatchObject({
      'com.docker.compose.project': 'shop',
      'com.docker.compose.service': 'web',
    });
    expect(manifest.freeze).toMatchObject({ consistency: 'frozen', method: 'cgroup-v2', thawedBy: 'agent' });
  });

  test('and leaves it running', async () => {
    await expectRuns(node, initPid);
    expect(await node.docker('exec', id, 'echo', 'alive')).toBe('alive');
  });

  test('and exhibit verify finds the bundle intact', async () => {
    expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
  });
});

describe('in the bundle are', () => {
  test('the files that were dropped, changed and deleted', () => {
    const names = members('rootfs.tar.zst');
    expect(names).toEqual(expect.arrayContaining(['tmp/dropped', 'app/config.ini', 'app/.wh.readme.txt']));
    expect(member('rootfs.tar.zst', 'tmp/dropped')).toBe('evil\n');
  });

  test('all lines of the log in its timeline, those of packed rotations too', async () => {
    const { code, stdout, stderr } = await runCli(['timeline', bundle, '--kind', 'log', '--artifact', 'logs']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const messages = stdout
      .trimEnd()
      .split('\n')
      .map((line): string => JSON.parse(line).message);
    const lines = messages.filter((message) => message.startsWith('stdout: line '));
    expect(lines).toEqual(Array.from({ length: 400 }, (_, index) => `stdout: line ${index + 1}`));
    expect(messages).toContain('stderr: a warning');
  });

  test('all lines of the log, from its rotations as well', () => {
    const names = members('logs.tar.zst');
    expect(names).toContain(`${id}-json.log`);
    expect(names.filter((name) => /-json\.log\.\d+\.gz$/.test(name)).length).toBeGreaterThan(0);
    const text = names
      .map((name) =>
        shell(
          'zstd -dc "$1" | tar -xO -f - "$2" | (gzip -dcf 2>/dev/null || true)',
          path.join(bundle, 'logs.tar.zst'),
          name,
        ),
      )
      .join('');
    for (let line = 1; line <= 400; line += 1) expect(text).toContain(`"log":"line ${line}\\n","stream":"stdout"`);
    expect(text).toContain('"log":"a warning\\n","stream":"stderr"');
  });

  test('the needle in the core of its process', () => {
    const core = shell('zstd -dc "$1" | tar -xO -f - "$2"', path.join(bundle, 'memory.tar.zst'), `${initPid}/core`);
    expect(core.includes(NEEDLE)).toBe(true);
    const status = readFileSync(path.join(node.procRoot, String(initPid), 'cmdline'), 'latin1');
    expect(status).not.toContain(NEEDLE);
  });

  test('Docker’s own words: inspect, top, diff, image and history, version and info, and the OCI spec', () => {
    const told = (name: string): unknown => JSON.parse(member('spec.tar.zst', name));
    expect(told('docker-inspect.json')).toMatchObject({ Id: id, Name: '/shop-web-1', State: { Running: true } });
    expect(JSON.stringify(told('docker-top.json'))).toContain(String(initPid));
    expect(told('docker-diff.json')).toEqual(expect.arrayContaining([{ Path: '/tmp/dropped', Kind: 1 }]));
    expect(told('docker-image.json')).toMatchObject({ RepoTags: [WORKLOAD_IMAGE] });
    expect(told('docker-history.json')).toHaveLength(3);
    expect(told('docker-version.json')).toMatchObject({ Version: expect.stringMatching(/^28\./) });
    expect(told('docker-info.json')).toMatchObject({ Driver: 'overlay2' });
    expect(told('image-config.json')).toMatchObject({ rootfs: { type: 'layers' } });
    expect(told('oci-spec.json')).toHaveProperty('linux');
  });

  test('a checkpoint in which checkpointctl finds the process', async () => {
    const checkpoint = manifest.artifacts.find(({ name }) => name === 'checkpoint');
    expect(checkpoint?.facts).toMatchObject({ checkpointBy: 'tasks' });
    expect(await readCheckpoint(bundle)).toContain('perl');
  });
});

/** What checkpointctl says of the processes in a bundle's checkpoint. */
async function readCheckpoint(of: string): Promise<string> {
  shell('zstd -dc "$1" > "$2"', path.join(of, 'checkpoint.tar.zst'), `${node.hostRoot}/tmp/checkpoint.tar`);
  const { code, stdout, stderr } = await node.exec(['checkpointctl', 'inspect', '--ps-tree', '/tmp/checkpoint.tar']);
  expect(code, stderr).toBe(0);
  return stdout.toString();
}

describe('with Docker’s own ways', () => {
  test('the checkpoint comes by Docker where policy says so, and nothing is left of it on the node', async () => {
    const config = { runtime: { kind: 'docker' }, checkpoint: { rungs: ['docker'] } };
    await using agent = await startAgent(node, { config });
    const { code, stderr } = await agent.exhibit('capture', id.slice(0, 12), '--artifacts', 'checkpoint');
    expect(code, stderr + agent.log()).toBe(0);
    const own = newest(agent.evidence);
    expect(own.manifest.artifacts[0]?.facts).toMatchObject({ checkpointBy: 'docker' });
    expect(await readCheckpoint(own.bundle)).toContain('perl');
    expect(readdirSync(`${node.hostRoot}/var/lib/docker/containers/${id}/checkpoints`)).toEqual([]);
    expect(await runCli(['verify', own.bundle])).toMatchObject({ code: 0 });
    await expectRuns(node, initPid);
  });

  const pausing = { runtime: { kind: 'docker' }, freeze: { method: 'runtime', deadlineMs: 30_000 } };
  const isPaused = async () => (await node.docker('inspect', '-f', '{{.State.Paused}}', id)) === 'true';
  async function untilPaused(): Promise<void> {
    const events = `${node.hostRoot}/sys/fs/cgroup/${node.cgroupParent}/${id}/cgroup.events`;
    const until = performance.now() + 30_000;
    while (!/^frozen 1$/m.test(readFileSync(events, 'utf8'))) {
      if (performance.now() > until) throw new Error('the container was never paused');
      await sleep(1);
    }
  }

  test.each(['tasks', 'docker'] as const)(
    'the agent killed in a checkpoint by the %s rung leaves it running, and no memory behind',
    async (rung) => {
      const agent = await startAgent(node, {
        config: { runtime: { kind: 'docker' }, checkpoint: { rungs: [rung] } },
      });
      void agent.exhibit('capture', 'name:shop-web-1', '--artifacts', 'checkpoint');
      await expect.poll(() => criuRuns(node.procRoot), { timeout: 30_000, interval: 5 }).toBe(true);
      await agent.kill();
      const mounts = () =>
        readFileSync(`/proc/${node.initPid}/mountinfo`, 'utf8')
          .split('\n')
          .filter((line) => line.includes(path.basename(agent.folder)));
      await expect.poll(mounts, { timeout: 60_000 }).toEqual([]);
      await expectRuns(node, initPid);
      expect(await node.docker('inspect', '-f', '{{.State.Status}} {{.State.Paused}}', id)).toBe('running false');
      expect(await node.docker('exec', id, 'echo', 'alive')).toBe('alive');
      rmSync(agent.folder, { recursive: true, force: true });
    },
  );

  test('freeze.method runtime is Docker’s pause', async () => {
    await using agent = await startAgent(node, { config: pausing });
    const { code, stderr } = await agent.exhibit('capture', `docker://${id}`, '--artifacts', 'memory');
    expect(code, stderr).toBe(0);
    expect(newest(agent.evidence).manifest.freeze).toMatchObject({ method: 'docker', thawedBy: 'agent' });
    expect(await isPaused()).toBe(false);
    await expectRuns(node, initPid);
  });

  test('the agent killed in the pause leaves it running, and the next agent says what became of the capture', async () => {
    const agent = await startAgent(node, { config: pausing });
    const capturing = agent.exhibit('capture', id, '--artifacts', 'memory');
    await untilPaused();
    await agent.kill();
    await capturing;
    await expectRuns(node, initPid);
    await expect.poll(isPaused, { timeout: 10_000 }).toBe(false);
    await using next = await startAgent(node, { config: pausing, folder: agent.folder });
    expect((await next.exhibit('captures', '--json')).stdout).toContain('truncated');
  });

  test('dockerd killed in the pause: the capture ends with what it has, and the container runs', async () => {
    await using agent = await startAgent(node, { config: pausing });
    const capturing = agent.exhibit('capture', id, '--artifacts', 'memory,logs');
    await untilPaused();
    await node.killDockerd();
    await expectRuns(node, initPid);
    const { stderr } = await capturing;
    expect(stderr).not.toMatch(/\bat .*\.ts:\d+/);
    await node.startDockerd();
    expect(await isPaused()).toBe(false);
    expect(await node.docker('exec', id, 'echo', 'alive')).toBe('alive');
  });

  test('a name that Docker does not know and a socket that is not there are sentences', async () => {
    await using agent = await startAgent(node, { config: { runtime: { kind: 'docker' } } });
    const unknown = await agent.exhibit('capture', 'name:nobody');
    expect(unknown).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('No container on this node is named nobody'),
    });
    expect((await agent.exhibit('capture', 'shop-web-1')).stderr).toContain('name:shop-web-1');
    const doctor = await agent.exhibit('doctor');
    expect(doctor.stdout).toMatch(/docker 28\./);
    await using lonely = await startAgent(node, {
      config: { runtime: { kind: 'docker', socket: '/run/nobody/docker.sock' } },
    });
    const { code, stderr } = await lonely.exhibit('capture', id);
    expect(code).toBe(1);
    expect(stderr).toContain('no Docker socket at /run/nobody/docker.sock');
  });
});
