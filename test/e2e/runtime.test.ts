import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { openContainerd } from '../../agent/runtime/containerd.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import { openHostRuntime } from '../../agent/runtime/host.ts';
import { parseSelector, resolveTarget } from '../../agent/runtime/select.ts';
import { runtimeContract } from '../contract/runtime.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { BUSY, containerContracts, everyTarget, hostOf, podOf, soon } from './containers.ts';

let started: LabNode | undefined;

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

containerContracts(lab);

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
  everyTarget(lab, 2);

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

  test('a container was made after its pod, and both say when', async (context) => {
    const node = lab(context);
    const beganMs = Date.now();
    const pod = await podOf(node);
    await using cri = openCri({ socket: node.socket, host: hostOf(node) });
    const { createdAt = '', podCreatedAt = '' } = await cri.resolve(parseSelector(`prod/${pod.name}`), soon());
    expect(Date.parse(podCreatedAt)).toBeGreaterThanOrEqual(beganMs);
    expect(Date.parse(createdAt)).toBeGreaterThanOrEqual(Date.parse(podCreatedAt));
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
    // Without --local ctr can end before the last bytes are in the file (seen with 2.1.9).
    await run('ctr', '-n', 'k8s.io', 'images', 'export', '--local', '/tmp/one.tar', 'lab.exhibit/workload:1');
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
