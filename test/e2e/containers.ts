/** Containers on a real containerd, and what holds for them on every release and either version of cgroups. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, type TestContext, test } from 'vitest';
import { openContainerd } from '../../agent/runtime/containerd.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import type { Runtime } from '../../agent/runtime/runtime.ts';
import { parseSelector } from '../../agent/runtime/select.ts';
import { isSleeper, type RuntimeSubject, runtimeContract } from '../contract/runtime.ts';
import type { LabNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';

/** Wakes up a hundred times a second, in a shell of its own, and ends when it is asked to, so that no test waits for that. */
export const BUSY = ['sh', '-c', 'trap exit TERM; while :; do sleep 0.01; done'];
export const soon = () => AbortSignal.timeout(30_000);

let pods = 0;

export const hostOf = ({ procRoot, hostRoot }: LabNode) => ({ procRoot, hostRoot });

export function podOf(node: LabNode, containers = ['app'], command = BUSY): Promise<LabPod> {
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

/** The contract of both runtimes that talk to containerd; `lab` gives the node, or skips. */
export function containerContracts(lab: (context: TestContext) => LabNode): void {
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
}

/** What the collectors ask of a target; `version`: of the cgroups that the node has. */
export function everyTarget(lab: (context: TestContext) => LabNode, version: 1 | 2): void {
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
    const cgroup = { version, path: expect.stringContaining(record.id) };
    const byRuntime = { kind: 'containerd', namespace: 'k8s.io', containerId: record.id, cgroup };
    // The version 1 freezer is never chosen by itself.
    if (version === 2) expect(freeze).toEqual({ kind: 'cgroup-v2', path: cgroup.path });
    else expect(freeze).toMatchObject(byRuntime);
    await using pausing = openCri({ socket: node.socket, host: hostOf(node), freeze: 'runtime' });
    expect((await pausing.resolve(parseSelector(`prod/${pod.name}`), soon())).freeze).toMatchObject(byRuntime);
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
      'image-manifest.json',
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
    const folder = `${node.hostRoot}/sys/fs/cgroup${version === 1 ? '/freezer' : ''}${target.record.cgroup}/nested`;
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
}
