import { spawn } from 'node:child_process';
import { createReadStream, existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { extract } from 'tar-stream';
import { expect, test } from 'vitest';
import { cgroupMounts } from '../lab/leftovers.ts';
import { run } from '../lab/machine.ts';
import { startNode } from '../lab/node.ts';
import { requireLab, requireS3 } from '../lab/requires.ts';
import { startMoto, startS3 } from '../lab/s3.ts';
import { compromisedPod } from '../lab/victim.ts';

/** What lab machines of the process `owner` leave traces in: mounts, cgroups, folders, processes. */
function traces(owner: number): string[] {
  const mine = `exhibit-lab-${owner}-`;
  const named = (folder: string): string[] => readdirSync(folder).filter((name) => name.startsWith(mine));
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(mine));
  return [...mounts, ...named(tmpdir()), ...cgroupMounts().flatMap(named), ...machineProcesses(owner)];
}

/** Every process of a lab machine has the machine's name in its environment, or process 1 of it as an ancestor. */
function machineProcesses(owner: number): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) &&
        readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`LAB_MACHINE=exhibit-lab-${owner}-`)
      );
    } catch {
      return false;
    }
  });
}

const processCount = (): number => readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length;

async function tarNames(path: string): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of createReadStream(path).pipe(extract())) {
    names.push(entry.header.name);
    entry.resume();
  }
  return names;
}

test('two pods run, a checkpoint goes into a FIFO, and the container lives on', async (context) => {
  requireLab(context);
  await using node = await startNode();
  const web = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const api = await node.runPod({ namespace: 'prod', name: 'api-0', containers: [{ name: 'api' }, { name: 'side' }] });
  expect((await api.exec('side', ['cat', '/etc/os-release'])).stdout.toString()).toContain('ID=exhibit-lab');

  const pid = await web.pid('web');
  const status = readFileSync(`/proc/${node.hostPid(pid)}/status`, 'utf8');
  expect(status).toMatch(new RegExp(`^NSpid:\\s+${node.hostPid(pid)}\\s+${pid}\\s+1$`, 'm'));
  expect(readFileSync(join(node.procRoot, `${pid}/cgroup`), 'utf8')).toContain(`/pod${web.uid}/`);

  await node.exec(['mkfifo', '/run/checkpoint.fifo']);
  const names = tarNames(join(node.hostRoot, 'run/checkpoint.fifo'));
  await node.cri.call('CheckpointContainer', {
    container_id: web.containerId('web'),
    location: '/run/checkpoint.fifo',
  });
  expect(await names).toEqual(expect.arrayContaining(['checkpoint/', 'config.dump', 'spec.dump', 'rootfs-diff.tar']));
  expect((await web.exec('web', ['echo', 'alive'])).stdout.toString()).toBe('alive\n');
  await web.stop();
});

test('containers live on while containerd is killed and started again', async (context) => {
  requireLab(context);
  await using node = await startNode();
  const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const pid = await pod.pid('web');
  const before = node.containerdPid;
  await node.killContainerd();
  expect(existsSync(`/proc/${before}`)).toBe(false);
  expect(existsSync(join(node.procRoot, String(pid)))).toBe(true);
  await node.startContainerd();
  expect(node.containerdPid).not.toBe(before);
  expect(await pod.pid('web')).toBe(pid);
  expect((await pod.exec('web', ['true'])).code).toBe(0);
});

test('a compromised pod has what it says, and CRIU refuses it only for its connection', async (context) => {
  requireLab(context);
  await using node = await startNode();
  const victim = await compromisedPod(node, { connection: true });
  const { pod, container, files, dropped } = victim;
  expect(readFileSync(join(node.procRoot, `${dropped.nsPid}/cmdline`), 'utf8')).toContain(dropped.argv0);
  const exe = await run('sha256sum', [join(node.procRoot, `${dropped.nsPid}/exe`)]);
  expect(exe.stdout.toString()).toContain(dropped.sha256);
  expect((await pod.exec(container, ['test', '-u', files.setuid])).code).toBe(0);
  expect((await pod.exec(container, ['test', '-e', files.deleted])).code).toBe(1);
  const mtime = await pod.exec(container, ['stat', '-c', '%Y', files.backdated]);
  expect(Number(mtime.stdout)).toBe(victim.backdatedMtimeSec);
  const log = readFileSync(join(node.hostRoot, pod.logFolder, container, '0.log'), 'utf8');
  for (const line of victim.logLines) expect(log).toContain(line);
  const request = { container_id: pod.containerId(container), location: '/run/refused.tar' };
  await expect(node.cri.call('CheckpointContainer', request)).rejects.toThrow('criu failed');
  expect((await pod.exec(container, ['true'])).code).toBe(0);
});

test('a frozen container of either cgroup version does not outlive its node', async (context) => {
  requireLab(context);
  for (const cgroup of ['v2', 'v1'] as const) {
    if (cgroup === 'v1' && !existsSync('/sys/fs/cgroup/freezer')) continue;
    await using node = await startNode({ cgroup });
    const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
    const paused = await node.exec(['ctr', '-n', 'k8s.io', 'task', 'pause', pod.containerId('web')]);
    expect(paused.code, paused.stderr).toBe(0);
  }
  expect(traces(process.pid)).toEqual([]);
});

test('after dispose no process, mount, cgroup or folder is left', async (context) => {
  requireLab(context);
  const before = processCount();
  {
    await using node = await startNode({ disk: true });
    await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
    expect(traces(process.pid)).not.toEqual([]);
  }
  expect(traces(process.pid)).toEqual([]);
  // The rest of the machine lives its own life: a few more or less are not ours.
  expect(processCount()).toBeLessThan(before + 5);
});

test('a starter that is killed takes every process with it, and the next start sweeps the rest', async (context) => {
  requireLab(context);
  const lab = fileURLToPath(new URL('../lab/main.ts', import.meta.url));
  const starter = spawn(process.execPath, [lab, '--json', '--no-s3'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const owner = starter.pid ?? 0;
  const line = await new Promise<string>((resolve) => starter.stdout.once('data', (data) => resolve(String(data))));
  const initPid: unknown = JSON.parse(line).EXHIBIT_LAB_INIT_PID;
  expect(machineProcesses(owner).length).toBeGreaterThan(3);
  starter.kill('SIGKILL');
  for (let i = 0; i < 100 && (existsSync(`/proc/${initPid}`) || machineProcesses(owner).length > 0); i++)
    await sleep(50);
  expect(machineProcesses(owner)).toEqual([]);
  expect(existsSync(`/proc/${initPid}`)).toBe(false);
  await using next = await startNode();
  expect(next.initPid).toBeGreaterThan(0);
  expect(traces(owner)).toEqual([]);
});

for (const [name, start] of [
  ['radosgw', startS3],
  ['moto', startMoto],
] as const) {
  test(`${name} keeps an object, and comes back on the same port after a kill`, async (context) => {
    requireS3(context);
    await using s3 = await start();
    const client = s3.client();
    const object = { Bucket: s3.bucket, Key: 'a/b' };
    await client.send(new PutObjectCommand({ ...object, Body: 'evidence', ChecksumAlgorithm: 'SHA256' }));
    const answer = await client.send(new GetObjectCommand(object));
    expect(await answer.Body?.transformToString()).toBe('evidence');
    await s3.kill();
    await expect(client.send(new GetObjectCommand(object))).rejects.toThrow();
    await s3.restart();
    const again = client.send(new GetObjectCommand(object));
    if (name === 'radosgw') expect(await (await again).Body?.transformToString()).toBe('evidence');
    else await expect(again).rejects.toThrow();
    client.destroy();
  });
}
