import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCheckpointCollector } from '../../agent/collect/checkpoint.ts';
import type { CollectContext } from '../../agent/collect/collector.ts';
import { freezerFileOf } from '../../agent/host/freezer-watch.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import { asContainerId, asHostPath, type Runtime, type Target } from '../../agent/runtime/runtime.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { LabNode } from '../lab/node.ts';
import { startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod } from '../lab/victim.ts';
import { bundleContext } from '../unit/collect/bundle-context.ts';

const RUN_DIR = asHostPath('/run/exhibit');

let node: LabNode;
let runtime: Runtime;
let folder: string;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  runtime = openCri({ socket: node.socket, host: { procRoot: node.procRoot, hostRoot: node.hostRoot } });
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-checkpoint-'));
});

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await runtime[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

interface Hooks {
  /** Before the collector starts. */
  begin?(target: Target): void;
  /** Before each write to the sink. */
  write?(): Promise<void>;
}

/** One checkpoint of a container, as the spine would run it. */
async function checkpoint(pod: LabPod, container: string, hooks: Hooks = {}) {
  const id = pod.containerId(container);
  const target = await runtime.resolve({ kind: 'container', id: asContainerId(id) }, AbortSignal.timeout(10_000));
  const bundle = bundleContext(path.join(folder, `${pod.name}-${container}`), target);
  const host = { procRoot: node.procRoot, hostRoot: node.hostRoot };
  hooks.begin?.(target);
  const context: CollectContext = {
    ...bundle.context,
    runtime,
    host,
    async foreignArchive(name) {
      const archive = await bundle.context.foreignArchive(name);
      return {
        write: async (chunk) => {
          await hooks.write?.();
          await archive.write(chunk);
        },
        commit: () => archive.commit(),
        [Symbol.asyncDispose]: () => archive[Symbol.asyncDispose](),
      };
    },
  };
  const failure = await createCheckpointCollector({ runDir: RUN_DIR })
    .collect(context)
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  return { bundle, failure };
}

/** What containerd says of the task: RUNNING, PAUSED. */
async function taskState(pod: LabPod, container: string): Promise<string> {
  const { stdout } = await node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'ls']);
  const line = stdout
    .toString()
    .split('\n')
    .find((row) => row.startsWith(pod.containerId(container)));
  return line?.trim().split(/\s+/).at(-1) ?? 'none';
}

const fifosLeft = async () =>
  (await readdir(path.join(node.hostRoot, RUN_DIR))).filter((name) => name.endsWith('.fifo'));

describe('a checkpoint from a real containerd', () => {
  test('is an archive that checkpointctl reads, and the container runs on', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
    await pod.exec('web', ['sh', '-c', 'echo changed > /srv-file']);
    const { bundle, failure } = await checkpoint(pod, 'web');
    expect(failure).toBeUndefined();
    expect(bundle.facts.get('rungs')).toEqual([{ rung: 'cri', ok: true, wallMs: expect.any(Number) }]);
    expect(await taskState(pod, 'web')).toBe('RUNNING');
    expect(await fifosLeft()).toEqual([]);

    const members = bundle.objects[0]?.members?.map((member) => member.path) ?? [];
    for (const member of ['spec.dump', 'config.dump', 'checkpoint/', 'rootfs-diff.tar'])
      expect(members).toContain(member);

    const tar = bundle.content('checkpoint.tar.zst');
    await writeFile(path.join(node.hostRoot, 'tmp/checkpoint.tar'), tar);
    const show = await node.exec(['checkpointctl', 'show', '/tmp/checkpoint.tar']);
    expect(show.stderr).toBe('');
    expect(show.stdout.toString()).toContain('containerd');
    const inspect = await node.exec(['checkpointctl', 'inspect', '--ps-tree', '--files', '/tmp/checkpoint.tar']);
    expect(inspect.code).toBe(0);
    expect(inspect.stdout.toString()).toContain('tail');
    await pod.stop();
  });

  test('of a container with an established connection fails with what CRIU said, and the container runs on', async (context) => {
    requireLab(context);
    const { pod, container } = await compromisedPod(node, { connection: true });
    const { bundle, failure } = await checkpoint(pod, container);
    expect(isExhibitError(failure, 'runtime-failed')).toBe(true);
    expect(String(failure)).toContain('CRIU says: inet: Connected TCP socket');
    expect(bundle.facts.get('rungs')).toMatchObject([
      { rung: 'cri', ok: false, error: expect.stringContaining('criu failed') },
    ]);
    expect(bundle.objects).toEqual([]);
    expect(await taskState(pod, container)).toBe('RUNNING');
    expect(await fifosLeft()).toEqual([]);
    await pod.stop();
  });

  test('does not stop the container for longer when the sink is slow', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: 'slow-0', containers: [{ name: 'slow' }] });
    const states = new Set<string>();
    let writes = 0;
    const { failure } = await checkpoint(pod, 'slow', {
      async write() {
        writes += 1;
        if (writes > 3) return;
        await sleep(200);
        states.add(await taskState(pod, 'slow'));
      },
    });
    expect(failure).toBeUndefined();
    expect([...states]).toEqual(['RUNNING']);
    await pod.stop();
  });

  test('that containerd’s death ends in the middle fails, and the container runs on', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: 'orphan-0', containers: [{ name: 'orphan' }] });
    let pausedWhenKilled = false;
    let restarted: Promise<void> | undefined;
    const { failure, bundle } = await checkpoint(pod, 'orphan', {
      begin({ freeze }) {
        const cgroup = freeze === undefined ? undefined : freezerFileOf(freeze)?.folder;
        const timer = setInterval(() => {
          pausedWhenKilled = readFileSync(path.join(cgroup ?? '', 'cgroup.freeze'), 'utf8').trim() === '1';
          if (!pausedWhenKilled) return;
          clearInterval(timer);
          restarted = node.killContainerd().then(() => node.startContainerd());
        }, 1);
      },
    });
    await restarted;
    expect(pausedWhenKilled).toBe(true);
    expect(isExhibitError(failure)).toBe(true);
    expect(bundle.objects).toEqual([]);
    expect(await taskState(pod, 'orphan')).toBe('RUNNING');
    expect(await fifosLeft()).toEqual([]);
    await pod.stop();
  });
});
