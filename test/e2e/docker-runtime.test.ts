import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, type TestContext, test } from 'vitest';
import { openDocker } from '../../agent/runtime/docker.ts';
import { asHostPath, type Runtime, type Target } from '../../agent/runtime/runtime.ts';
import { parseSelector } from '../../agent/runtime/select.ts';
import { expectRuns, type RuntimeSubject, runtimeContract } from '../contract/runtime.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { WORKLOAD_IMAGE } from '../lab/image.ts';
import { requireDocker } from '../lab/requires.ts';

/** A real Docker 28 through the same suite as containerd, on cgroup v2 and v1, and what is Docker's alone. */

/** Wakes up a hundred times a second, in a shell of its own. */
const BUSY = ['sh', '-c', 'while :; do sleep 0.01; done'];
const soon = () => AbortSignal.timeout(30_000);

const nodes = new Map<string, LabDocker>();
let count = 0;

afterAll(async () => {
  for (const node of nodes.values()) await node[Symbol.asyncDispose]();
});

/** One node a way of starting it, for the whole file. */
async function lab(context: TestContext, how: 'v2' | 'v1' | 'store' | 'plain' | 'restore'): Promise<LabDocker> {
  requireDocker(context);
  const known = nodes.get(how);
  if (known !== undefined) return known;
  const cgroup = how === 'v1' ? 'v1' : 'v2';
  const node = await startDocker({
    cgroup,
    containerdStore: how === 'store',
    experimental: how !== 'plain',
    liveRestore: how === 'restore',
  });
  nodes.set(how, node);
  return node;
}

const open = (node: LabDocker, freeze: 'auto' | 'runtime' = 'auto') =>
  openDocker({ socket: node.socket, host: node, freeze });

interface Started {
  readonly name: string;
  readonly id: string;
  remove(): Promise<void>;
}

async function start(node: LabDocker, options: readonly string[] = [], command = BUSY): Promise<Started> {
  count += 1;
  const name = `shop-web-${count}`;
  const id = await node.docker(
    'run',
    '-d',
    '--name',
    name,
    '--network',
    'none',
    ...options,
    WORKLOAD_IMAGE,
    ...command,
  );
  return { name, id, remove: async () => void (await node.docker('rm', '-f', id)) };
}

async function subject(node: LabDocker): Promise<RuntimeSubject> {
  const project = `com.docker.compose.project=shop-${count + 1}`;
  const { name, id, remove } = await start(node, ['--label', project, '--label', 'com.docker.compose.service=web']);
  const pid = Number(await node.docker('inspect', '-f', '{{.State.Pid}}', id));
  const runtime = open(node);
  return {
    runtime,
    host: node,
    names: [
      `name:${name}`,
      id,
      id.slice(0, 12),
      `docker://${id}`,
      project,
      `${project}:${name}`,
      `pid:${pid}`,
      `cgroup:/${node.cgroupParent}/${id}`,
    ],
    strangers: [
      'name:nobody',
      'name:shop-web',
      'prod/nobody',
      '0000000000',
      'app=nobody',
      'pid:1',
      'pid:4194303',
      'unit:nobody',
      'cgroup:/nowhere',
    ],
    lists: true,
    async addProcess() {
      await node.docker('exec', '-d', id, 'sleep', '300');
      await sleep(100);
    },
    async end() {
      process.kill(node.hostPid(pid), 'SIGKILL');
      const gone = () => !existsSync(path.join(node.procRoot, String(pid)));
      for (let tries = 0; tries < 500 && !gone(); tries += 1) await sleep(10);
      // Docker hears of it from containerd.
      await sleep(500);
    },
    async [Symbol.asyncDispose]() {
      await runtime[Symbol.asyncDispose]();
      await remove();
    },
  };
}

runtimeContract('docker on cgroup v2', async (context) => subject(await lab(context, 'v2')));
runtimeContract('docker on cgroup v1', async (context) => subject(await lab(context, 'v1')));
runtimeContract('docker with the image store of containerd', async (context) => subject(await lab(context, 'store')));

const resolve = (runtime: Runtime, text: string): Promise<Target> => runtime.resolve(parseSelector(text), soon());
const documentOf = ({ documents }: Target, name: string): unknown => {
  const found = documents.find((one) => one.name === name);
  return found && JSON.parse(Buffer.from(found.bytes).toString('utf8'));
};

describe('a container as Docker tells it', () => {
  test('everything the collectors need is in the target', async (context) => {
    const node = await lab(context, 'v2');
    const labels = ['com.docker.compose.project=shop', 'com.docker.compose.service=web'];
    const given = labels.flatMap((label) => ['--label', label]);
    const { id, name, remove } = await start(node, [...given, '-v', '/tmp:/mnt:ro', '--tmpfs', '/scratch']);
    await using runtime = open(node);
    const { record, rootfs, logPath, mounts, freeze, notes, ...target } = await resolve(runtime, `name:${name}`);
    expect(notes).toEqual([]);
    expect(record).toMatchObject({ runtime: 'docker', kind: 'container', id, name });
    expect(record.pod).toBeUndefined();
    expect(record.labels).toEqual({ 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'web' });
    expect(record.image).toEqual({ name: WORKLOAD_IMAGE, id: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) });
    expect(freeze).toEqual({ kind: 'cgroup-v2', path: expect.stringContaining(id) });
    await using pausing = open(node, 'runtime');
    expect((await resolve(pausing, id)).freeze).toEqual({
      ...{ kind: 'docker', socket: node.socket, containerId: id },
      cgroup: { version: 2, path: expect.stringContaining(id) },
    });
    expect(existsSync(`${node.hostRoot}${rootfs?.upper}`)).toBe(true);
    expect(rootfs?.lowers).toHaveLength(4);
    for (const lower of rootfs?.lowers ?? []) expect(existsSync(`${node.hostRoot}${lower}`)).toBe(true);
    expect(existsSync(`${node.hostRoot}${logPath}`)).toBe(true);
    expect(mounts).toEqual(
      expect.arrayContaining([
        { containerPath: '/mnt', hostPath: '/tmp', type: 'bind', readOnly: true },
        { containerPath: '/scratch', hostPath: '', type: 'tmpfs', readOnly: false },
      ]),
    );
    expect(target.documents.map((one) => one.name)).toEqual([
      'docker-inspect.json',
      'oci-spec.json',
      'image-config.json',
      'docker-top.json',
      'docker-diff.json',
      'docker-image.json',
      'docker-history.json',
      'docker-version.json',
      'docker-info.json',
    ]);
    expect(
      documentOf({ ...target, record, rootfs, logPath, mounts, freeze, notes }, 'docker-inspect.json'),
    ).toMatchObject({ Id: id, Name: `/${name}` });
    await remove();
  });

  test.for(['v2', 'store'] as const)(
    'a change in it appears in the upper folder that was found (%s)',
    async (how, context) => {
      const node = await lab(context, how);
      const { id, remove } = await start(node);
      await node.docker('exec', id, 'sh', '-c', 'echo evil > /dropped');
      await using runtime = open(node);
      const target = await resolve(runtime, id);
      expect(readFileSync(`${node.hostRoot}${target.rootfs?.upper}/dropped`, 'utf8')).toBe('evil\n');
      for (const lower of target.rootfs?.lowers ?? []) expect(existsSync(`${node.hostRoot}${lower}`)).toBe(true);
      expect(documentOf(target, 'docker-diff.json')).toEqual(expect.arrayContaining([{ Path: '/dropped', Kind: 1 }]));
      await remove();
    },
  );

  test('a pod of cri-dockerd is named as a pod, and its sandbox is no target', async (context) => {
    const node = await lab(context, 'v2');
    const pod = {
      'io.kubernetes.pod.namespace': 'prod',
      'io.kubernetes.pod.name': 'web-0',
      'io.kubernetes.pod.uid': 'u1',
    };
    const labels = (more: Record<string, string>) =>
      Object.entries({ ...pod, ...more }).flatMap(([key, value]) => ['--label', `${key}=${value}`]);
    const sandbox = await start(node, labels({ 'io.kubernetes.docker.type': 'podsandbox' }));
    const own = { 'io.kubernetes.docker.type': 'container', 'io.kubernetes.container.name': 'app' };
    const app = await start(node, labels({ ...own, 'io.kubernetes.sandbox.id': sandbox.id }));
    await using runtime = open(node);
    const { record } = await resolve(runtime, 'prod/web-0');
    expect(record).toMatchObject({ id: app.id, name: 'app' });
    expect(record.pod).toEqual({ namespace: 'prod', name: 'web-0', uid: 'u1', sandboxId: sandbox.id });
    await expect(resolve(runtime, sandbox.id)).rejects.toMatchObject({ code: 'target-not-found' });
    await app.remove();
    await sandbox.remove();
  });

  test('two containers of one compose project: the error lists both, as they are typed', async (context) => {
    const node = await lab(context, 'v2');
    const label = ['--label', 'com.docker.compose.project=twins'];
    const [one, two] = [await start(node, label), await start(node, label)];
    await using runtime = open(node);
    await expect(resolve(runtime, 'com.docker.compose.project=twins')).rejects.toMatchObject({
      code: 'target-ambiguous',
      message: expect.stringContaining(`name:${one.name}, name:${two.name}`),
    });
    await one.remove();
    await two.remove();
  });

  test('a container that exited says when, and one that was never started says so', async (context) => {
    const node = await lab(context, 'v2');
    const ended = await start(node, [], ['true']);
    await node.docker('wait', ended.id);
    await node.docker('create', '--name', 'fresh', WORKLOAD_IMAGE);
    await using runtime = open(node);
    await expect(resolve(runtime, `name:${ended.name}`)).rejects.toMatchObject({
      code: 'target-not-running',
      message: expect.stringMatching(/exited at \d{4}-\d\d-\d\dT/),
    });
    await expect(resolve(runtime, 'name:fresh')).rejects.toMatchObject({ code: 'target-not-running' });
    await ended.remove();
    await node.docker('rm', 'fresh');
  });

  test('a paused container is listed as paused, and resumed after a checkpoint that failed', async (context) => {
    const node = await lab(context, 'v2');
    const { id, remove } = await start(node);
    await using runtime = open(node);
    const target = await resolve(runtime, id);
    await node.docker('pause', id);
    const listed = async () => (await runtime.list(soon())).find((one) => one.id === id)?.state;
    expect(await listed()).toBe('paused');
    expect(await runtime.resumeIfPaused(target)).toBe(true);
    expect(await listed()).toBe('running');
    await expectRuns(node, target.record.initPid);
    await remove();
  });
});

describe('what the container wrote', () => {
  const SAYING = ['sh', '-c', 'echo to stdout; echo to stderr >&2; exec tail -f /dev/null'];

  test.for([
    ['local', [], 'local-logs/container.log', /records of protobuf/],
    ['syslog', ['--log-opt', 'syslog-address=udp://127.0.0.1:514'], 'container-cached.log', /sent elsewhere/],
  ] as const)(
    'with the driver %s is in its files and in docker-logs.json',
    async ([driver, options, file, note], context) => {
      const node = await lab(context, 'v2');
      const { id, remove } = await start(node, ['--log-driver', driver, ...options], SAYING);
      await sleep(300);
      await using runtime = open(node);
      const target = await resolve(runtime, id);
      expect(target.logPath).toBe(`/var/lib/docker/containers/${id}/${file}`);
      expect(readFileSync(`${node.hostRoot}${target.logPath}`, 'latin1')).toContain('to stdout');
      expect(target.notes).toEqual([expect.stringMatching(note)]);
      const lines = documentOf(target, 'docker-logs.json') as { stream: string; log: string; time: string }[];
      expect(lines.map(({ stream, log }) => `${stream}: ${log}`).sort()).toEqual([
        'stderr: to stderr\n',
        'stdout: to stdout\n',
      ]);
      for (const { time } of lines) expect(time).toMatch(/^\d{4}-\d\d-\d\dT/);
      await remove();
    },
  );

  test('on a terminal, and with a driver that keeps nothing', async (context) => {
    const node = await lab(context, 'v2');
    const [terminal, none] = [
      await start(node, ['-t', '--log-driver', 'local'], SAYING),
      await start(node, ['--log-driver', 'none'], SAYING),
    ];
    await sleep(300);
    await using runtime = open(node);
    const lines = documentOf(await resolve(runtime, terminal.id), 'docker-logs.json') as { log: string }[];
    expect(lines.map(({ log }) => log)).toEqual(['to stdout\r\n', 'to stderr\r\n']);
    const target = await resolve(runtime, none.id);
    expect(target.logPath).toBeUndefined();
    expect(target.notes).toEqual([expect.stringContaining('Docker keeps nothing')]);
    await terminal.remove();
    await none.remove();
  });
});

function comm(node: LabDocker, pid: string): string {
  try {
    return readFileSync(path.join(node.procRoot, pid, 'comm'), 'latin1').trim();
  } catch {
    return '';
  }
}

describe('a checkpoint by Docker', () => {
  const rungOf = (runtime: Runtime) => {
    const rung = runtime.rungs.find(({ name }) => name === 'docker');
    if (rung?.delivers !== 'images') throw new Error('there is no such rung');
    return rung;
  };
  const OPTIONS = { openTcp: false, fileLocks: false, externalUnixSockets: false };
  /** On the node's tmpfs. */
  function folders(node: LabDocker) {
    count += 1;
    const base = `/run/exhibit/dump-${count}`;
    mkdirSync(`${node.hostRoot}${base}/work`, { recursive: true });
    return { images: asHostPath(`${base}/images`), work: asHostPath(`${base}/work`) };
  }

  test('leaves CRIU’s files in the folder, nothing in Docker’s own, and the container running', async (context) => {
    const node = await lab(context, 'v2');
    // Not one that forks without end: of one CRIU failed after ten seconds, once, on a busy machine.
    const { id, remove } = await start(node, [], ['perl', '-e', 'select undef, undef, undef, 0.01 while 1']);
    await using runtime = open(node);
    const target = await resolve(runtime, id);
    const where = folders(node);
    expect(await runtime.describe?.(soon())).toMatchObject({ checkpoints: true, snapshotters: [{ name: 'overlay2' }] });
    await rungOf(runtime).checkpoint(target, where, OPTIONS);
    const names = readdirSync(`${node.hostRoot}${where.images}`);
    expect(names).toEqual(expect.arrayContaining(['inventory.img', 'pstree.img', 'core-1.img', 'descriptors.json']));
    expect(readdirSync(`${node.hostRoot}/var/lib/docker/containers/${id}/checkpoints`)).toEqual([]);
    await expectRuns(node, target.record.initPid);
    expect(await runtime.resumeIfPaused(target)).toBe(false);
    await remove();
  });

  test('that CRIU refuses says where its log is, leaves no folder, and the container runs on', async (context) => {
    const node = await lab(context, 'v2');
    const connected = `use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5);
      my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $s->sockport); my $a = $s->accept;
      select undef, undef, undef, 0.01 while 1;`;
    count += 1;
    const name = `connected-${count}`;
    const id = await node.docker(
      'run',
      '-d',
      '--name',
      name,
      '--network',
      'host',
      WORKLOAD_IMAGE,
      'perl',
      '-e',
      connected,
    );
    await sleep(300);
    await using runtime = open(node);
    const target = await resolve(runtime, id);
    const where = folders(node);
    const failed = await rungOf(runtime)
      .checkpoint(target, where, OPTIONS)
      .catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 'runtime-failed', message: expect.stringContaining('criu-dump.log') });
    expect(existsSync(`${node.hostRoot}${where.images}`)).toBe(false);
    expect(await runtime.resumeIfPaused(target)).toBe(false);
    await expectRuns(node, target.record.initPid);
    await node.docker('rm', '-f', id);
  });

  test.for(['docker', 'tasks'] as const)(
    'by %s with dockerd killed in the middle leaves a running container',
    async (by, context) => {
      const node = await lab(context, 'restore');
      const heavy = 'my $x = "x" x (300 << 20); select undef, undef, undef, 0.01 while 1';
      const { id, remove } = await start(node, [], ['perl', '-e', heavy]);
      await sleep(1_000);
      await using runtime = open(node);
      const target = await resolve(runtime, id);
      const rung = runtime.rungs.find(({ name }) => name === by);
      if (rung?.delivers !== 'images') throw new Error(`there is no rung ${by}`);
      const left = () => readdirSync(`${node.hostRoot}/tmp`).filter((name) => name.startsWith('ctrd-checkpoint'));
      await expect.poll(left).toEqual([]);
      const startedAtMs = Date.now();
      const failed = rung.checkpoint(target, folders(node), OPTIONS).catch((error: unknown) => error);
      const criu = () => readdirSync(node.procRoot).some((pid) => /^\d+$/.test(pid) && comm(node, pid) === 'criu');
      // A criu that is asked for its version has no folder yet.
      const dumps = () => criu() && (by === 'tasks' || left().length > 0);
      let seen = dumps();
      for (let tries = 0; tries < 5_000 && !seen; tries += 1) {
        await sleep(1);
        seen = dumps();
      }
      await node.killDockerd();
      expect(await failed).toMatchObject({ code: 'runtime-unreachable' });
      await runtime.resumeIfPaused(target);
      await expectRuns(node, target.record.initPid);
      expect(criu()).toBe(false);
      await node.startDockerd();
      expect(await node.docker('inspect', '-f', '{{.State.Status}}', id)).toBe('running');
      expect(await node.docker('exec', id, 'echo', 'alive')).toBe('alive');
      expect(left()).toHaveLength(by === 'docker' ? 1 : 0);
      expect((await rung.clean?.(id, startedAtMs)) ?? []).toHaveLength(by === 'docker' ? 1 : 0);
      expect(left()).toEqual([]);
      await remove();
    },
  );

  test('is not to be had of a Docker that is not experimental, in words, and by its containerd all the same', async (context) => {
    const node = await lab(context, 'plain');
    const { id, remove } = await start(node, [], ['perl', '-e', 'select undef, undef, undef, 0.01 while 1']);
    await using runtime = open(node);
    const target = await resolve(runtime, id);
    await expect(rungOf(runtime).checkpoint(target, folders(node), OPTIONS)).rejects.toMatchObject({
      code: 'runtime-unsupported',
      message: expect.stringMatching(/experimental mode/),
    });
    expect(await runtime.describe?.(soon())).toMatchObject({ checkpoints: false });
    const tasks = runtime.rungs.find(({ name }) => name === 'tasks');
    if (tasks?.delivers !== 'images') throw new Error('there is no rung tasks');
    const where = folders(node);
    await tasks.checkpoint(target, where, OPTIONS);
    expect(readdirSync(`${node.hostRoot}${where.images}`)).toContain('inventory.img');
    expect(readdirSync(`${node.hostRoot}${where.work}`)).toContain('dump.log');
    await expectRuns(node, target.record.initPid);
    await remove();
  });
});
