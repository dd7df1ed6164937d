import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startFreezer, thawNow } from '../../agent/capture/freeze.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import { podScoped, wholeOf } from '../../agent/runtime/pod.ts';
import { processStat } from '../../agent/runtime/process-tree.ts';
import type { FreezeSpec, SingleFreezeSpec, Target } from '../../agent/runtime/runtime.ts';
import { parseSelector } from '../../agent/runtime/select.ts';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { expectRuns, expectStands } from '../contract/runtime.ts';
import { type CliResult, type LabAgent, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { json, shell } from './readers.ts';

/** A pod of two containers on a real containerd, stopped and read as one. */

const soon = () => AbortSignal.timeout(60_000);

/**
 * Keeps the time in its memory, over and over, and logs each time it stood still for longer than a busy scheduler explains:
 * `gap END LENGTH`, in ms. perl-base has no Time::HiRes, so clock_gettime(2) is called by its number.
 */
const CLOCK = `
use POSIX ();
my $call = (POSIX::uname())[4] eq 'aarch64' ? 113 : 228;
sub now { my $ts = pack 'q2'; syscall $call, 0, $ts; my ($s, $ns) = unpack 'q2', $ts; $s * 1000 + $ns / 1e6 }
$| = 1;
my ($name) = @ARGV;
print "ready\\n";
my ($last, $mark) = (now, '');
while (1) {
  select undef, undef, undef, 0.001;
  my $now = now;
  $mark = sprintf '%s-knows-%.3f', $name, $now;
  printf "gap %.3f %.3f\\n", $now, $now - $last if $now - $last > 50;
  $last = now;
}`;

let node: LabNode;
const agents: ChildProcess[] = [];
let pods = 0;

beforeAll(async () => {
  if (labObstacle() === undefined) node = await startNode();
});
afterAll(async () => {
  for (const agent of agents) agent.kill('SIGKILL');
  await node?.[Symbol.asyncDispose]();
});
beforeEach((context) => requireLab(context));

interface Subject extends AsyncDisposable {
  readonly name: string;
  readonly pod: LabPod;
  /** In the node's pid namespace, by container. */
  readonly pids: Readonly<Record<'app' | 'side', number>>;
  /** When each stood still, by container. */
  gaps(container: 'app' | 'side'): { start: number; end: number }[];
}

async function twoContainers(): Promise<Subject> {
  pods += 1;
  const name = `web-${pods}`;
  const clock = (container: string) => ({ name: container, command: ['perl', '-e', CLOCK, container] });
  const init = { name: 'init', command: ['true'] };
  const pod = await node.runPod({ namespace: 'prod', name, containers: [init, clock('app'), clock('side')] });
  const log = (container: string) =>
    readFileSync(path.join(node.hostRoot, pod.logFolder, container, '0.log'), 'latin1');
  for (const container of ['app', 'side']) while (!log(container).includes('ready')) await sleep(20);
  return {
    name: `prod/${name}`,
    pod,
    pids: { app: await pod.pid('app'), side: await pod.pid('side') },
    gaps: (container) =>
      [...log(container).matchAll(/gap ([\d.]+) ([\d.]+)/g)].map(([, end, length]) => ({
        start: Number(end) - Number(length),
        end: Number(end),
      })),
    [Symbol.asyncDispose]: () => pod.stop(),
  };
}

async function resolve(subject: Subject): Promise<Target> {
  await using runtime = openCri({ socket: node.socket, host: node });
  return await podScoped(runtime).resolve(parseSelector(subject.name), soon());
}

async function specOf(subject: Subject): Promise<FreezeSpec> {
  const { freeze } = await resolve(subject);
  if (freeze?.kind !== 'group') throw new Error('this pod cannot be stopped together');
  return freeze;
}

/** Reading registers by ptrace(2) takes a frozen thread through a trap, which counts as a switch of its own. */
const REGISTERS_MS = 300;

async function expectStand({ pids }: Subject, containers: ('app' | 'side')[] = ['app', 'side']): Promise<void> {
  await sleep(REGISTERS_MS);
  for (const container of containers) await expectStands(node, pids[container]);
}

/** Both run, and the runtime knows it. */
async function expectHealthy({ pod, pids }: Subject, containers: ('app' | 'side')[] = ['app', 'side']): Promise<void> {
  for (const container of containers) {
    await expectRuns(node, pids[container]);
    expect((await pod.exec(container, ['echo', 'alive'])).stdout.toString()).toBe('alive\n');
  }
}

describe('a freeze of a pod', () => {
  test('stops both containers in one window, and lets both go', async () => {
    await using subject = await twoContainers();
    const spec = await specOf(subject);
    await using freezer = await startFreezer(spec, soon());
    const frozen = await freezer.freeze({ deadlineMs: 20_000, signal: soon() });
    await sleep(400);
    const record = await frozen.thaw();
    await expectHealthy(subject);
    expect(record.notes).toEqual([expect.stringMatching(/^2 stopped together/)]);
    const [app, side] = (['app', 'side'] as const).map((container) =>
      subject.gaps(container).reduce((a, b) => (b.end - b.start > a.end - a.start ? b : a), { start: 0, end: 0 }),
    );
    if (app === undefined || side === undefined) throw new Error('no gaps');
    const togetherMs = Math.min(app.end, side.end) - Math.max(app.start, side.start);
    expect(togetherMs).toBeGreaterThan(390);
    console.log(
      `app stood ${(app.end - app.start).toFixed(1)} ms, side ${(side.end - side.start).toFixed(1)} ms, ` +
        `both ${togetherMs.toFixed(1)} ms; ${record.notes.join()}`,
    );
  });

  test('SIGKILL of the agent in it leaves both running', async () => {
    await using subject = await twoContainers();
    const { agent } = await frozenAgent(await specOf(subject));
    await expectStand(subject);
    agent.kill('SIGKILL');
    await expectHealthy(subject);
  });

  test('SIGKILL of guard and agent: the next agent lets both go, by what the journal names', async () => {
    await using subject = await twoContainers();
    const spec = await specOf(subject);
    const { agent } = await frozenAgent(spec);
    const guard = guardOf(agent.pid ?? 0);
    // The guard first, both before either can act.
    process.kill(agent.pid ?? 0, 'SIGSTOP');
    process.kill(guard, 'SIGKILL');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    await expectStand(subject);
    expect(await thawNow(spec)).toBe('thawed');
    await expectHealthy(subject);
    expect(await thawNow(spec)).toBe('was-thawed');
  });

  test('a container that is killed in it ends, and the other goes on', async () => {
    await using subject = await twoContainers();
    await using freezer = await startFreezer(await specOf(subject), soon());
    const frozen = await freezer.freeze({ deadlineMs: 30_000, signal: soon() });
    process.kill(node.hostPid(subject.pids.side), 'SIGKILL');
    await sleep(300);
    await expectStand(subject, ['app']);
    const record = await frozen.thaw();
    expect(record.thawedBy).toBe('agent');
    await expectHealthy(subject, ['app']);
  });

  test('a container that ended before it is gone on without', async () => {
    await using subject = await twoContainers();
    const spec = await specOf(subject);
    process.kill(node.hostPid(subject.pids.side), 'SIGKILL');
    await sleep(1_000);
    await using freezer = await startFreezer(spec, soon());
    const frozen = await freezer.freeze({ deadlineMs: 20_000, signal: soon() });
    await expectStand(subject, ['app']);
    expect((await frozen.thaw()).notes.join()).toContain('had ended before the freeze');
    await expectHealthy(subject, ['app']);
  });

  test('the time between the first container that stands and the last, by each way', async () => {
    await using subject = await twoContainers();
    const target = await resolve(subject);
    for (const kind of ['containerd', 'cgroup-v2'] as const) {
      const members = wholeOf(target).map((one) => memberOf(kind, one));
      await using freezer = await startFreezer({ kind: 'group', members }, soon());
      const spreads: number[] = [];
      const pauses: number[] = [];
      for (let round = 0; round < 10; round += 1) {
        const record = await (await freezer.freeze({ deadlineMs: 20_000, signal: soon() })).thaw();
        spreads.push(Number(/seen to stand ([\d.]+) ms/.exec(record.notes.join())?.[1]));
        pauses.push(record.pauseMs);
      }
      for (const list of [spreads, pauses]) list.sort((a, b) => a - b);
      console.log(
        `${kind}: between first and last, median of 10 ${spreads[5]} ms, most ${spreads[9]} ms; ` +
          `pause and resume ${pauses[5]?.toFixed(1)} ms`,
      );
      expect(spreads[5]).toBeLessThan(500);
    }
    await expectHealthy(subject);
  });
});

function memberOf(kind: 'containerd' | 'cgroup-v2', { record, freeze }: Target): SingleFreezeSpec {
  const known = freeze?.kind === 'containerd' ? freeze.cgroup : freeze?.kind === 'cgroup-v2' ? freeze : undefined;
  if (known === undefined) throw new Error('the container has no cgroup of its own');
  if (kind === 'cgroup-v2') return { kind, path: known.path };
  const cgroup = { version: 2, path: known.path } as const;
  return { kind, socket: node.socket, namespace: 'k8s.io', containerId: record.id, cgroup };
}

/** The agent's side in a process of its own, its target frozen. */
async function frozenAgent(spec: FreezeSpec): Promise<{ agent: ChildProcess }> {
  const script = path.join(import.meta.dirname, 'freeze-agent.ts');
  const agent = spawn(process.execPath, [script, JSON.stringify(spec), '60000'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  agents.push(agent);
  const [line] = await Promise.race([once(createInterface({ input: agent.stdout }), 'line'), once(agent, 'exit')]);
  expect(line).toBe('frozen');
  return { agent };
}

/** The guard below a process, found in /proc. */
function guardOf(parent: number): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || processStat('/proc', Number(name))?.parent !== parent) continue;
    if (readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('guard.ts')) return Number(name);
  }
  throw new Error('there is no guard');
}

describe('one capture of a pod', () => {
  let folder: string;
  let bundle: string;
  let subject: Subject;
  let agent: LabAgent;
  let captured: CliResult;
  let manifest: Manifest;

  beforeAll(async () => {
    if (labObstacle() !== undefined) return;
    folder = mkdtempSync(path.join(tmpdir(), 'exhibit-pod-'));
    subject = await twoContainers();
    agent = await startAgent(node, { config: { sink: { url: `file://${folder}` } } });
    const artifacts = ['--artifacts', 'processes,network,memory,spec'];
    captured = await agent.exhibit('capture', subject.name, '--scope', 'pod', ...artifacts);
    const base = path.join(folder, 'lab', 'lab-node');
    bundle = path.join(base, readdirSync(base)[0] ?? 'none');
    manifest = json<Manifest>(bundle, 'manifest.json');
  }, 120_000);
  afterAll(async () => {
    await agent?.[Symbol.asyncDispose]();
    await subject?.[Symbol.asyncDispose]();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  test('needs no container named, and leaves both running', async () => {
    expect(captured.code, captured.stderr).toBe(0);
    expect(captured.stdout).toContain(`target   ${subject.name} (app, side)`);
    await expectHealthy(subject);
  });

  test('says what was taken together, and which process is whose', () => {
    expect(json<RequestRecord>(bundle, 'request.json').plan.scope).toBe('pod');
    const { target } = manifest;
    expect(target.name).toBe('app');
    expect(target.pids).toContain(subject.pids.app);
    expect(target.companions).toHaveLength(1);
    expect(target.companions?.[0]).toMatchObject({ name: 'side', id: subject.pod.containerId('side') });
    expect(target.companions?.[0]?.pids).toContain(subject.pids.side);
    const notes = target.notes?.join('\n') ?? '';
    expect(notes).toContain(`exhibit capture ${subject.name}/side --scope container --artifacts`);
    expect(notes).toContain('do not run: init (exited)');
  });

  test('stopped both for the memory', () => {
    expect(manifest.freeze.method).toMatch(/^group: (containerd|cgroup-v2) x2$/);
    expect(manifest.freeze).toMatchObject({ consistency: 'frozen', thawedBy: 'agent' });
    expect(manifest.freeze.notes.join()).toContain('2 stopped together');
  });

  const members = (object: string) =>
    manifest.objects.find(({ name }) => name === object)?.members?.map((member) => member.path) ?? [];

  test('has the processes of both', () => {
    const names = members('processes.tar.zst');
    for (const pid of Object.values(subject.pids)) {
      expect(
        names.some((name) => name.split('/').includes(String(pid))),
        `pid ${pid}`,
      ).toBe(true);
    }
    const lines = shell('zstd -dc "$1" | tar -xO processes.jsonl', path.join(bundle, 'processes.tar.zst'));
    const anomalies = lines
      .trim()
      .split('\n')
      .flatMap((line) => (JSON.parse(line) as { anomalies: { kind: string }[] }).anomalies.map(({ kind }) => kind));
    // Another container's namespaces are its own, and nothing to look at twice.
    expect(anomalies).not.toContain('otherNamespaces');
  });

  test('has the memory of both as of one moment: neither knows a time at which the other was being read', () => {
    const { frozenAt = '', notes } = manifest.freeze;
    const standMs = Number(/and ([\d.]+) ms after the first was told/.exec(notes.join())?.[1]);
    for (const [container, pid] of Object.entries(subject.pids)) {
      expect(members('memory.tar.zst')).toContain(`${pid}/core`);
      const found = shell(
        'zstd -dc "$1" | tar -xO "$2" | grep -aoE "$3-knows-[0-9]+\\.[0-9]+"',
        path.join(bundle, 'memory.tar.zst'),
        `${pid}/core`,
        container,
      );
      const times = found
        .trim()
        .split('\n')
        .map((line) => Number(line.split('-').at(-1)));
      const latest = Math.max(...times);
      // frozenAt is the millisecond in which the first was told.
      expect(latest - Date.parse(frozenAt), container).toBeLessThan(standMs + 2);
      expect(Date.parse(frozenAt) - latest, container).toBeLessThan(5_000);
    }
  });

  test('is told apart by show, and verifies', async () => {
    const shown = await agent.exhibit('show', manifest.captureId);
    expect(shown.stdout).toMatch(/^scope +pod$/m);
    const verified = await agent.exhibit('verify', bundle);
    expect(verified.stdout).toMatch(/^INTACT/);
  });

  test('is another request than that of one container, under one id', async () => {
    const argv = ['capture', `${subject.name}/app`, '--artifacts', 'spec', '--id', manifest.captureId];
    expect((await agent.exhibit(...argv)).stderr).toContain('asked for something else');
  });

  test('without it, several containers stay ambiguous', async () => {
    const { code, stderr } = await agent.exhibit('capture', subject.name, '--artifacts', 'spec');
    expect(code).toBe(1);
    expect(stderr).toContain('fits 2 containers');
  });

  test('is refused for what is in no pod', async () => {
    const { stderr } = await agent.exhibit('capture', 'pid:1', '--scope', 'pod', '--artifacts', 'spec');
    expect(stderr).toContain('needs a pod, and pid:1 is in none: say --scope container');
  });
});
