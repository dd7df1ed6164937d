import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { planLadder } from '../../agent/capture/ladder.ts';
import { createCheckpointCollector } from '../../agent/collect/checkpoint.ts';
import type { CollectContext } from '../../agent/collect/collector.ts';
import { preflight } from '../../agent/host/preflight.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import { criuRuns } from '../../agent/runtime/process-tree.ts';
import { asContainerId, asHostPath, asPid, type Runtime, type Target } from '../../agent/runtime/runtime.ts';
import { type CheckpointPlan, RUNGS, type RungName, type RungRecord, rungRecordSchema } from '../../evidence/dump.ts';
import { isExhibitError } from '../../evidence/error.ts';
import type { LabNode } from '../lab/node.ts';
import { startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod } from '../lab/victim.ts';
import { bundleContext } from '../unit/collect/bundle-context.ts';

const RUN_DIR = asHostPath('/run/exhibit');
const TMPFS_BYTES = 256 * 1024 * 1024;

let node: LabNode;
let runtime: Runtime;
let folder: string;
let runs = 0;

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
  readonly rungs?: readonly RungName[];
  readonly tmpfsBytes?: number;
  readonly change?: (plan: CheckpointPlan) => CheckpointPlan;
  /** Before the collector starts. */
  begin?(target: Target): void;
  /** Before each write to the sink, for what comes through the FIFO. */
  write?(): Promise<void>;
}

/** One checkpoint of a container, as the spine would plan and run it. */
async function checkpoint(pod: LabPod, container: string, hooks: Hooks = {}) {
  const { rungs = RUNGS, tmpfsBytes = TMPFS_BYTES, change = (plan) => plan } = hooks;
  const id = pod.containerId(container);
  const target = await runtime.resolve({ kind: 'container', id: asContainerId(id) }, AbortSignal.timeout(10_000));
  runs += 1;
  const bundle = bundleContext(path.join(folder, `${pod.name}-${container}-${runs}`), target);
  const host = { procRoot: node.procRoot, hostRoot: node.hostRoot };
  const planned = planLadder({
    offered: runtime.rungs,
    policy: { rungs, tmpfsBytes, whenRefused: 'try' },
    preflight: await preflight(host, target.record.pids.map(asPid), AbortSignal.timeout(10_000)),
    availableBytes: 4 * TMPFS_BYTES,
  });
  const plan = change(planned);
  hooks.begin?.(target);
  const context: CollectContext = {
    ...bundle.context,
    runtime,
    host,
    checkpoint: plan,
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
  const records = ((bundle.facts.get('rungs') ?? []) as RungRecord[]).map((one) => rungRecordSchema.parse(one));
  return { bundle, failure, records, plan };
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

async function expectRuns(pod: LabPod, container: string): Promise<void> {
  expect(await taskState(pod, container)).toBe('RUNNING');
  expect((await pod.exec(container, ['true'])).code).toBe(0);
}

/** FIFOs and mounts that a checkpoint left. */
const leftBehind = async () =>
  (await readdir(path.join(node.hostRoot, RUN_DIR))).filter((name) => name.startsWith('checkpoint-'));

async function inside(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await node.exec(argv);
  expect(`${code} ${stderr}`, argv.join(' ')).toBe('0 ');
  return stdout.toString();
}

/** The archive, unpacked on the node, where checkpointctl and crit are. */
async function onNode(tar: Buffer): Promise<{ archive: string; images: string; folder: string }> {
  const name = `/tmp/checkpoint-${runs}`;
  await writeFile(path.join(node.hostRoot, `${name}.tar`), tar);
  await inside('sh', '-c', `mkdir ${name} && tar -xf ${name}.tar -C ${name}`);
  return { archive: `${name}.tar`, folder: name, images: `${name}/checkpoint` };
}

describe.each(['tasks', 'cri'] as const)('a checkpoint by the %s rung', (rung) => {
  test('is an archive that checkpointctl and crit read, and the container runs on', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: `${rung}-0`, containers: [{ name: 'web' }] });
    await pod.exec('web', ['sh', '-c', 'echo changed > /srv-file']);
    const { bundle, failure, records } = await checkpoint(pod, 'web', { rungs: [rung] });
    expect(failure).toBeUndefined();
    expect(records).toMatchObject([{ rung, outcome: 'worked', expected: 'works', stallMs: expect.any(Number) }]);
    await expectRuns(pod, 'web');
    expect(await leftBehind()).toEqual([]);

    const { archive, images, folder: unpacked } = await onNode(bundle.content('checkpoint.tar.zst'));
    const show = await inside('checkpointctl', 'show', archive);
    expect(show).toMatch(/web\s+lab\.exhibit\/workload:1/);
    expect(show).toMatch(/io\.containerd\.runc\.v2 .* containerd /);
    const tree = await inside('checkpointctl', 'inspect', '--ps-tree', '--files', archive);
    expect(tree).toMatch(/\[1\]\s+tail/);
    expect(await inside('checkpointctl', 'inspect', '--all', archive)).toContain(`Pod name: ${rung}-0`);
    expect(await inside('crit', 'x', images, 'ps')).toMatch(/1\s+1\s+1\s+tail/);
    expect(await inside('crit', 'x', images, 'fds')).toContain('/dev/null');

    // CRIU's own figures, as CRIU's own reader tells them.
    const { entries } = JSON.parse(await inside('crit', 'show', `${unpacked}/stats-dump`));
    expect(records[0]?.criu?.stats).toMatchObject({
      frozenTimeUs: entries[0].dump.frozen_time,
      freezingTimeUs: entries[0].dump.freezing_time,
      memdumpTimeUs: entries[0].dump.memdump_time,
      pagesScanned: entries[0].dump.pages_scanned,
      pagesWritten: entries[0].dump.pages_written,
    });
    expect(records[0]?.stallMs).toBeGreaterThanOrEqual(entries[0].dump.frozen_time / 1000);
    expect(await inside('tail', '-n', '1', `${unpacked}/dump.log`)).toContain('Dumping finished successfully');
    await pod.stop();
  });
});

describe.each(['tasks', 'cri'] as const)('a container that somebody else had paused, by the %s rung', (rung) => {
  test('stays paused, whatever becomes of the checkpoint', async (context) => {
    requireLab(context);
    const name = `paused-${rung}`;
    const pod = await node.runPod({ namespace: 'prod', name, containers: [{ name: 'app' }] });
    await inside('ctr', '-n', 'k8s.io', 'tasks', 'pause', pod.containerId('app'));
    const { bundle, records } = await checkpoint(pod, 'app', { rungs: [rung] });
    // Seen with CRIU 4.2: it is made all the same. Nobody stood still for it who did not before.
    expect(records).toMatchObject([{ rung, outcome: 'worked' }]);
    expect(records[0]?.stallMs).toBeUndefined();
    expect(bundle.notes.join()).toContain('had been paused by somebody else');
    expect(await taskState(pod, 'app')).toBe('PAUSED');
    await inside('ctr', '-n', 'k8s.io', 'tasks', 'resume', pod.containerId('app'));
    await expectRuns(pod, 'app');
    await pod.stop();
  });
});

describe('a checkpoint by containerd’s Tasks', () => {
  test('holds an established connection, which CRI’s cannot, and the connection goes on', async (context) => {
    requireLab(context);
    const { pod, container } = await compromisedPod(node, { connection: true });
    const { bundle, failure, records, plan } = await checkpoint(pod, container);
    expect(failure).toBeUndefined();
    expect(plan.preflight.obstacles.map(({ kind }) => kind)).toContain('tcp-established');
    expect(records).toMatchObject([
      { rung: 'tasks', outcome: 'worked', options: { openTcp: true } },
      { rung: 'cri', outcome: 'not-tried', expected: 'fails' },
    ]);
    await expectRuns(pod, container);
    const { archive, images } = await onNode(bundle.content('checkpoint.tar.zst'));
    expect(await inside('checkpointctl', 'inspect', '--sockets', archive)).toMatch(/TCP \(ESTABLISHED\)/i);
    expect(await inside('crit', 'show', `${images}/files.img`)).toContain('"state": "ESTABLISHED"');
    await pod.stop();
  });

  test('writes nothing to the disk of the node', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: 'dry-0', containers: [{ name: 'dry' }] });
    const seen = async () => inside('find', '/var/lib/containerd', '-newer', '/tmp/mark', '-type', 'f', '-size', '+0');
    await inside('touch', '/tmp/mark');
    await sleep(20);
    const { records } = await checkpoint(pod, 'dry', { rungs: ['tasks'] });
    expect(records).toMatchObject([{ outcome: 'worked' }]);
    const blobs = (await seen()).split('\n').filter((line) => /content|snapshots/.test(line));
    expect(blobs).toEqual([]);
    await pod.stop();
  });

  test('that does not fit into its memory fails as CRIU says, and CRI’s is made', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: 'tight-0', containers: [{ name: 'tight' }] });
    const { failure, records } = await checkpoint(pod, 'tight', { tmpfsBytes: 4096, rungs: ['tasks', 'cri'] });
    expect(failure).toBeUndefined();
    expect(records.map(({ rung, outcome }) => `${rung} ${outcome}`)).toEqual(['cri worked', 'tasks not-tried']);
    const alone = await checkpoint(pod, 'tight', {
      rungs: ['tasks'],
      // A container that grew after the forecast.
      change: (plan) => ({ ...plan, tmpfsBytes: 16 * 1024 }),
    });
    expect(alone.records).toMatchObject([{ rung: 'tasks', outcome: 'failed', expected: 'works' }]);
    expect(alone.records[0]?.criu?.errors.join()).toMatch(/No space left/);
    expect(alone.bundle.objects.map(({ name }) => name)).toEqual(['checkpoint-logs.tar.zst']);
    await expectRuns(pod, 'tight');
    expect(await leftBehind()).toEqual([]);
    await pod.stop();
  });

  test('that containerd’s death ends in the middle fails, and the container runs on', async (context) => {
    requireLab(context);
    await expectSurvives('tasks');
  });
});

describe('a checkpoint by CRI', () => {
  test('of a container with an established connection fails with what CRIU said, and the container runs on', async (context) => {
    requireLab(context);
    const { pod, container } = await compromisedPod(node, { connection: true });
    const { bundle, failure, records } = await checkpoint(pod, container, { rungs: ['cri'] });
    expect(isExhibitError(failure, 'runtime-failed')).toBe(true);
    expect(String(failure)).toContain('CRIU says: inet: Connected TCP socket');
    expect(records).toMatchObject([
      { rung: 'cri', outcome: 'failed', expected: 'fails', error: expect.stringContaining('criu failed') },
    ]);
    expect(bundle.objects.map(({ name, members }) => [name, members?.map((one) => one.path)])).toEqual([
      ['checkpoint-logs.tar.zst', ['cri/dump.log']],
    ]);
    await expectRuns(pod, container);
    expect(await leftBehind()).toEqual([]);
    await pod.stop();
  });

  test('does not stop the container for longer when the sink is slow', async (context) => {
    requireLab(context);
    const pod = await node.runPod({ namespace: 'prod', name: 'slow-0', containers: [{ name: 'slow' }] });
    const states = new Set<string>();
    let writes = 0;
    const { failure } = await checkpoint(pod, 'slow', {
      rungs: ['cri'],
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
    await expectSurvives('cri');
  });
});

/** containerd is killed while CRIU is at work, and started again. */
async function expectSurvives(rung: RungName): Promise<void> {
  const pod = await node.runPod({ namespace: 'prod', name: `orphan-${rung}`, containers: [{ name: 'orphan' }] });
  let dumpingWhenKilled = false;
  let restarted: Promise<void> | undefined;
  const { failure, bundle } = await checkpoint(pod, 'orphan', {
    rungs: [rung],
    begin() {
      const timer = setInterval(() => {
        dumpingWhenKilled = criuRuns(node.procRoot);
        if (!dumpingWhenKilled) return;
        clearInterval(timer);
        restarted = node.killContainerd().then(() => node.startContainerd());
      }, 1);
    },
  });
  await restarted;
  expect(dumpingWhenKilled).toBe(true);
  expect(isExhibitError(failure)).toBe(true);
  expect(bundle.objects.map(({ name }) => name)).not.toContain('checkpoint.tar.zst');
  await expectRuns(pod, 'orphan');
  expect(await leftBehind()).toEqual([]);
  await pod.stop();
}
