import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { openContainerd } from '../../agent/runtime/containerd.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import { openHostRuntime } from '../../agent/runtime/host.ts';
import type { Runtime } from '../../agent/runtime/runtime.ts';
import { parseSelector, resolveTarget } from '../../agent/runtime/select.ts';
import { isSleeper, type RuntimeSubject, runtimeContract } from '../contract/runtime.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/** Wakes up a hundred times a second, in a shell of its own. */
const BUSY = ['sh', '-c', 'while :; do sleep 0.01; done'];
const soon = () => AbortSignal.timeout(30_000);

let started: LabNode | undefined;
let pods = 0;

beforeAll(async () => {
  if (labObstacle() === undefined) started = await startNode();
});
afterAll(async () => {
  await started?.[Symbol.asyncDispose]();
});

function lab(context: TestContext): LabNode {
  requireLab(context);
  if (started === undefined) throw new Error('the node did not start');
  return started;
}

const hostOf = ({ procRoot, hostRoot }: LabNode) => ({ procRoot, hostRoot });

function podOf(node: LabNode, containers = ['app'], command = BUSY): Promise<LabPod> {
  pods += 1;
  const labels = { app: `web-${pods}` };
  return node.runPod({
    namespace: 'prod',
    name: `web-${pods}`,
    labels,
    containers: containers.map((name) => ({ name, command })),
  });
}

async function containerSubject(node: LabNode, runtime: Runtime, withLabels: boolean): Promise<RuntimeSubject> {
  const pod = await podOf(node);
  const id = pod.containerId('app');
  const pid = await pod.pid('app');
  const whole = `prod/${pod.name}`;
  const label = withLabels ? `app=${pod.name}` : `io.kubernetes.pod.uid=${pod.uid}`;
  return {
    runtime,
    host: hostOf(node),
    names: [whole, `${whole}/app`, id, id.slice(0, 16), `containerd://${id}`, label, `${label}:app`, `pid:${pid}`],
    strangers: [
      'prod/nobody',
      `${whole}/nobody`,
      '0000000000',
      'app=nobody',
      'pid:1',
      'pid:4194303',
      'unit:nobody',
      pod.sandboxId,
    ],
    lists: true,
    async addProcess() {
      await pod.exec('app', ['sh', '-c', 'sleep 300 >/dev/null 2>&1 </dev/null &']);
    },
    async end() {
      process.kill(node.hostPid(pid), 'SIGKILL');
      await untilGone(path.join(node.procRoot, String(pid)));
      // containerd hears of it from the shim.
      await sleep(500);
    },
    async [Symbol.asyncDispose]() {
      await runtime[Symbol.asyncDispose]();
      await pod.stop();
    },
  };
}

async function untilGone(file: string): Promise<void> {
  for (let tries = 0; tries < 500 && existsSync(file); tries += 1) await sleep(10);
}

runtimeContract('cri', async (context) => {
  const node = lab(context);
  return containerSubject(node, openCri({ socket: node.socket, host: hostOf(node) }), true);
});

runtimeContract('containerd', async (context) => {
  const node = lab(context);
  return containerSubject(
    node,
    openContainerd({ socket: node.socket, namespace: 'k8s.io', host: hostOf(node) }),
    false,
  );
});

runtimeContract('host', async () => {
  const child = spawn('sh', ['-c', `trap "sleep 300 &" USR1; ${BUSY[2]}`], { stdio: 'ignore', detached: true });
  await sleep(100);
  const pid = child.pid ?? 0;
  return {
    runtime: openHostRuntime({ host: { procRoot: '/proc', hostRoot: '' } }),
    host: { procRoot: '/proc', hostRoot: '' },
    names: [`pid:${pid}`],
    strangers: ['prod/web', 'pid:4194303', 'unit:exhibit-nobody', 'cgroup:/exhibit-nobody', 'abcdef', 'app=web'],
    lists: false,
    async addProcess() {
      process.kill(pid, 'SIGUSR1');
      await sleep(200);
    },
    async end() {
      process.kill(-pid, 'SIGKILL');
      await once(child, 'exit');
    },
    async [Symbol.asyncDispose]() {
      if (child.signalCode === null) process.kill(-pid, 'SIGKILL');
    },
  };
});

describe('a container as CRI and containerd tell it', () => {
  test('everything the collectors need is in the target', async (context) => {
    const node = lab(context);
    const pod = await podOf(node);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    const { record, rootfs, logPath, documents, mounts, freeze, notes } = await cri.resolve(
      parseSelector(`prod/${pod.name}`),
      soon(),
    );
    expect(notes).toEqual([]);
    expect(record).toMatchObject({ runtime: 'cri', kind: 'container', name: 'app' });
    expect(record.pod).toEqual({ namespace: 'prod', name: pod.name, uid: pod.uid, sandboxId: pod.sandboxId });
    expect(record.labels).toMatchObject({ app: pod.name, 'io.kubernetes.container.name': 'app' });
    expect(record.image?.id).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(record.cgroup).toContain(record.id);
    expect(freeze).toEqual({ kind: 'cgroup-v2', path: expect.stringContaining(record.id) });
    await using pausing = openCri({ socket: node.socket, host: hostOf(node), freeze: 'runtime' });
    expect((await pausing.resolve(parseSelector(`prod/${pod.name}`), soon())).freeze).toMatchObject({
      ...{ kind: 'containerd', namespace: 'k8s.io', containerId: record.id },
      cgroup: { version: 2, path: expect.stringContaining(record.id) },
    });
    expect(existsSync(`${node.hostRoot}${rootfs?.upper}`)).toBe(true);
    expect(rootfs?.lowers.length).toBeGreaterThan(0);
    for (const lower of rootfs?.lowers ?? []) expect(existsSync(`${node.hostRoot}${lower}`)).toBe(true);
    expect(logPath).toBe(`${pod.logFolder}/app/0.log`);
    expect(existsSync(`${node.hostRoot}${logPath}`)).toBe(true);
    expect(mounts.find(({ containerPath }) => containerPath === '/etc/hosts')).toMatchObject({ type: 'bind' });
    expect(documents.map(({ name }) => name).sort()).toEqual([
      'containerd-container.json',
      'cri-container-status.json',
      'cri-pod-status.json',
      'image-config.json',
      'oci-spec.json',
      'snapshot.json',
    ]);
  });

  test('a change in the container appears in the upper folder that was found', async (context) => {
    const node = lab(context);
    const pod = await podOf(node);
    await pod.exec('app', ['sh', '-c', 'echo evil > /dropped']);
    await using runtime = openContainerd({ socket: node.socket, namespace: 'k8s.io', host: hostOf(node) });
    const { rootfs } = await runtime.resolve(parseSelector(pod.containerId('app')), soon());
    expect(existsSync(`${node.hostRoot}${rootfs?.upper}/dropped`)).toBe(true);
  });

  test('processes in cgroups that the container made below its own are of the container', async (context) => {
    const node = lab(context);
    const pod = await podOf(node);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    const target = await cri.resolve(parseSelector(`prod/${pod.name}`), soon());
    const folder = `${node.hostRoot}/sys/fs/cgroup${target.record.cgroup}/nested`;
    mkdirSync(folder);
    const child = await pod.exec('app', ['sh', '-c', 'sleep 300 >/dev/null 2>&1 </dev/null & echo $!']);
    expect(child.code).toBe(0);
    const sleeper = async () => (await cri.pids(target, soon())).find((pid) => isSleeper(hostOf(node), pid));
    const moved = (await sleeper()) ?? 0;
    writeFileSync(path.join(folder, 'cgroup.procs'), String(node.hostPid(moved)));
    expect(await sleeper()).toBe(moved);
    const again = await cri.resolve(parseSelector(`pid:${moved}`), soon());
    expect(again.record.id).toBe(target.record.id);
  });

  test('two containers and none named: the error lists both, as they are typed', async (context) => {
    const node = lab(context);
    const pod = await podOf(node, ['app', 'side']);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    const asked = cri.resolve(parseSelector(`prod/${pod.name}`), soon());
    await expect(asked).rejects.toMatchObject({
      code: 'target-ambiguous',
      message: expect.stringContaining(`prod/${pod.name}/app, prod/${pod.name}/side`),
    });
  });

  test('a container that exited says when', async (context) => {
    const node = lab(context);
    const pod = await podOf(node, ['app'], ['true']);
    await sleep(500);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    const asked = cri.resolve(parseSelector(`prod/${pod.name}`), soon());
    await expect(asked).rejects.toMatchObject({
      code: 'target-not-running',
      message: expect.stringMatching(/exited at \d{4}-\d\d-\d\dT/),
    });
  });

  test('a process of the container is found as the container, one outside as a tree', async (context) => {
    const node = lab(context);
    const pod = await podOf(node);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    await using host = openHostRuntime({ host: hostOf(node) });
    const inside = await resolveTarget(parseSelector(`pid:${await pod.pid('app')}`), [cri, host], soon());
    expect(inside.runtime.kind).toBe('cri');
    const outside = await resolveTarget(parseSelector('pid:1'), [cri, host], soon());
    expect(outside.runtime.kind).toBe('host');
    expect(outside.target.record).toMatchObject({ kind: 'process-tree', name: 'lab-init' });
    // The node's pids are not ours: a signal would hit somebody else.
    expect(outside.target.freeze).toBeUndefined();
    expect(outside.target.notes.join()).toContain('another pid namespace');
  });

  test('a pod cgroup is frozen as a whole by the host runtime', async (context) => {
    const node = lab(context);
    const pod = await podOf(node, ['app', 'side']);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    await using host = openHostRuntime({ host: hostOf(node) });
    const { record } = await cri.resolve(parseSelector(`prod/${pod.name}/app`), soon());
    const above = path.posix.dirname(record.cgroup ?? '');
    const { runtime, target } = await resolveTarget(parseSelector(`cgroup:${above}`), [cri, host], soon());
    expect(runtime.kind).toBe('host');
    expect(target.record.pids).toEqual(expect.arrayContaining([await pod.pid('app'), await pod.pid('side')]));
    expect(target.freeze).toMatchObject({ kind: 'cgroup-v2' });
  });

  test('containerd that is stopped: an error at once, and answers again when it is back', async (context) => {
    const node = lab(context);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    await cri.list(soon());
    await node.killContainerd();
    const began = performance.now();
    await expect(cri.list(soon())).rejects.toMatchObject({ code: 'runtime-unreachable' });
    expect(performance.now() - began).toBeLessThan(2_000);
    await node.startContainerd();
    await sleep(600);
    expect((await cri.list(soon())).length).toBeGreaterThan(0);
  });

  test('a container that is no Kubernetes container is found in its own namespace', async (context) => {
    const node = lab(context);
    const run = async (...argv: string[]) => {
      const { code, stderr } = await node.exec(argv);
      if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`);
    };
    await run('ctr', '-n', 'k8s.io', 'images', 'export', '/tmp/one.tar', 'lab.exhibit/workload:1');
    await run('ctr', '-n', 'other', 'images', 'import', '--local', '/tmp/one.tar');
    const bare = existsSync(`${node.hostRoot}/usr/local/sbin/runc-bare`)
      ? ['--runc-binary', '/usr/local/sbin/runc-bare']
      : [];
    const cgroup = `/${node.cgroupParent}/redis-1`;
    await run(
      'ctr',
      '-n',
      'other',
      'run',
      '-d',
      '--cgroup',
      cgroup,
      ...bare,
      'lab.exhibit/workload:1',
      'redis-1',
      ...BUSY,
    );
    await using runtime = openContainerd({ socket: node.socket, namespace: 'other', host: hostOf(node) });
    expect(await runtime.list(soon())).toMatchObject([
      { id: 'redis-1', state: 'running', image: 'lab.exhibit/workload:1' },
    ]);
    const target = await runtime.resolve(parseSelector('containerd://redis-1'), soon());
    expect(target.notes).toEqual([]);
    expect(target.record.cgroup).toBe(cgroup);
    await run('ctr', '-n', 'other', 'tasks', 'pause', 'redis-1');
    expect(await runtime.list(soon())).toMatchObject([{ state: 'paused' }]);
    expect(await runtime.resumeIfPaused(target)).toBe(true);
    expect(await runtime.list(soon())).toMatchObject([{ state: 'running' }]);
    await run('ctr', '-n', 'other', 'tasks', 'rm', '-f', 'redis-1');
  });
});

describe('a cgroup of this machine', () => {
  test('is found, frozen as a whole where it has a freezer, and refused where the agent is in it', async (context) => {
    if (process.getuid?.() !== 0 || !existsSync('/sys/fs/cgroup')) context.skip('needs root and cgroups');
    await using runtime = openHostRuntime({ host: { procRoot: '/proc', hostRoot: '' } });
    const child = spawn('sh', ['-c', BUSY[2] ?? ''], { stdio: 'ignore', detached: true });
    const top = ['/sys/fs/cgroup/freezer', '/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((folder) =>
      existsSync(`${folder}/cgroup.procs`),
    );
    const name = `exhibit-runtime-test-${process.pid}.service`;
    const folder = `${top}/${name}`;
    mkdirSync(folder);
    try {
      writeFileSync(`${folder}/cgroup.procs`, String(child.pid));
      const target = await runtime.resolve(parseSelector(`cgroup:/${name}`), soon());
      expect(target.record).toMatchObject({ kind: 'cgroup', id: `/${name}`, initPid: child.pid });
      expect(target.freeze).toMatchObject({ path: folder });
      const unit = await runtime.resolve(parseSelector(`unit:${name}`), soon());
      expect(unit.record.id).toBe(`/${name}`);
      await expect(runtime.resolve(parseSelector(`pid:${process.pid}`), soon())).rejects.toMatchObject({
        code: 'usage',
      });
      await expect(runtime.resolve(parseSelector('pid:1'), soon())).rejects.toMatchObject({ code: 'usage' });
      await expect(runtime.resolve(parseSelector('pid:2'), soon())).rejects.toMatchObject({ code: 'usage' });
    } finally {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
      for (let tries = 0; tries < 200 && existsSync(folder); tries += 1) {
        try {
          rmdirSync(folder);
        } catch {
          await sleep(10);
        }
      }
    }
  });
});
