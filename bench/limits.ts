/**
 * Whether the share of a core holds for all that a capture does: the CPU time of the agent and of every process that it starts, by
 * the kernel's account of a control group, against what the limit allows in that time.
 *
 *   npm run bench -- limits [--size MIB] [--layer MIB] [--percent P] [--rounds N] [--json FILE]
 *
 * One victim; each heavy artifact by itself, all of them, and everything. The CPU time is that of the cgroup (v1 cpuacct, v2 cpu.stat), so of
 * helpers that have ended as well; who they were is seen in /proc, every few milliseconds. While the victim stands still nothing is
 * held back, by design: those milliseconds are a column. Then reading, by what the agent and its children have read (proc(5) io), and a helper that
 * never rests, counted and not counted.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { createPacer } from '../agent/capture/pacer.ts';
import { childLines } from '../agent/host/bounded-child.ts';
import { openTreeCpu } from '../agent/host/tree-cpu.ts';
import { connectAgent } from '../cli/client.ts';
import type { Manifest } from '../evidence/manifest.ts';
import { startAgent } from '../test/lab/agent.ts';
import { cgroupMounts, ownedName, removeCgroups } from '../test/lab/leftovers.ts';
import { startNode } from '../test/lab/node.ts';
import { type Load, startLoad } from './load.ts';

/** What `cpuacct` (v1) or `cpu.stat` (v2) counts, so that nothing that came and went is missed. */
interface CpuAccount extends AsyncDisposable {
  within<T>(work: () => Promise<T>): Promise<T>;
  cpuMs(): number;
}

function openAccount(): CpuAccount {
  const name = ownedName();
  const v1 = cgroupMounts().find((mount) => existsSync(path.join(mount, 'cpuacct.usage')));
  const mount = v1 ?? cgroupMounts().find((one) => existsSync(path.join(one, 'cgroup.controllers')));
  if (mount === undefined) throw new Error('needs a control group that counts CPU time');
  const folder = path.join(mount, name);
  mkdirSync(folder);
  const enter = (where: string) => writeFileSync(path.join(mount, where, 'cgroup.procs'), String(process.pid));
  const own = v1 === undefined ? /^0::(.*)$/m : /^\d+:(?:[^:]*,)?cpuacct(?:,[^:]*)?:(.*)$/m;
  return {
    async within(work) {
      const before = own.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
      enter(name);
      try {
        return await work();
      } finally {
        enter(before);
      }
    },
    cpuMs() {
      if (v1 !== undefined) return Number(readFileSync(path.join(folder, 'cpuacct.usage'), 'latin1')) / 1e6;
      return Number(/^usage_usec (\d+)/m.exec(readFileSync(path.join(folder, 'cpu.stat'), 'latin1'))?.[1]) / 1e3;
    },
    [Symbol.asyncDispose]: () => removeCgroups(name),
  };
}

/** proc(5) stat: utime and stime, in ticks of 10 ms; undefined when it has gone. */
function cpuMsOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [user, system] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13);
    return (Number(user) + Number(system)) * 10;
  } catch {
    return undefined;
  }
}

/** The program of a child that runs a file of ours, else its name. */
function programOf(pid: number): string {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
    return path.basename(words.find((word) => /\.[cm]?[jt]s$/.test(word)) ?? words[0] ?? '?');
  } catch {
    return '?';
  }
}

const LOOK_EVERY_MS = 5;

/** Children of a process while it is watched, with their CPU time as far as it was seen. */
function watchChildren(parent: number) {
  const seen = new Map<number, { program: string; firstMs: number; lastMs: number }>();
  const look = (isFirst: boolean) => {
    const pids = readdirSync(`/proc/${parent}/task`).flatMap((tid) => {
      try {
        return readFileSync(`/proc/${parent}/task/${tid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
      } catch {
        return [];
      }
    });
    for (const pid of pids) {
      const cpuMs = cpuMsOf(pid) ?? 0;
      const before = seen.get(pid);
      if (before === undefined) seen.set(pid, { program: programOf(pid), firstMs: isFirst ? cpuMs : 0, lastMs: cpuMs });
      else {
        before.lastMs = cpuMs;
        // Between fork(2) and execve(2) it still has the words of the agent.
        if (['main.ts', ''].includes(before.program)) before.program = programOf(pid);
      }
    }
  };
  look(true);
  const timer = setInterval(() => look(false), LOOK_EVERY_MS);
  return {
    end(): Record<string, number> {
      clearInterval(timer);
      const byProgram: Record<string, number> = {};
      for (const { program, firstMs, lastMs } of seen.values())
        byProgram[program] = (byProgram[program] ?? 0) + lastMs - firstMs;
      return byProgram;
    },
  };
}

/** proc(5) io: bytes that read(2) brought, of a process and of its children that have ended; from pipes and /proc as well. */
const readBytesOf = (pid: number): number =>
  Number(/^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1] ?? 0);

const READ_LIMIT_BYTES = 8 * 2 ** 20;
const FROM_DISK = ['volumes', 'rootfs', 'logs', 'image'];

/** A line of the size of an inventory's, and a millisecond of the processor for it. */
const RESTLESS = `
const used = () => { const { user, system } = process.cpuUsage(); return user + system; };
for (let line = 0; line < 2000; line += 1) { const until = used() + 1000; while (used() < until); console.log('x'.repeat(500)); }`;

/** CPU time of a helper whose lines are paid for, by wall time and limit. `cpuMs`: what the pacer goes by. */
async function restless(percent: number, cpuMs?: () => number): Promise<number> {
  const file = path.join(mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-')), 'restless.mjs');
  writeFileSync(file, RESTLESS);
  const judge = openTreeCpu({ procRoot: '/proc' });
  const pacer = createPacer({ cpuPercent: percent, readBytesPerSecond: 0, ...(cpuMs && { cpuMs }) });
  const { signal } = new AbortController();
  const [beginMs, before] = [performance.now(), judge()];
  try {
    for await (const _ of childLines(pathToFileURL(file), [], { patienceMs: 5000, totalMs: 60_000, signal }))
      await pacer.pay(0, signal);
    // The last look may be of before its end.
    await new Promise((resolve) => setTimeout(resolve, 30));
    return (100 * (judge() - before)) / (performance.now() - beginMs) / percent;
  } finally {
    rmSync(path.dirname(file), { recursive: true });
  }
}

interface Figure {
  readonly way: string;
  readonly wallMs: number;
  readonly ownMs: number;
  /** The agent and all that it started. */
  readonly treeMs: number;
  readonly pauseMs: number;
  readonly pacedMs: number;
  readonly children: Readonly<Record<string, number>>;
}

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: '256' },
      layer: { type: 'string', default: '64' },
      percent: { type: 'string', default: '50' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string', default: path.join('out', 'bench-limits.json') },
    },
  });
  const number = (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1) throw new Error(`${text} is no number of at least 1`);
    return value;
  };
  return {
    ...{ sizeMib: number(values.size), layerMib: number(values.layer), percent: number(values.percent) },
    ...{ rounds: number(values.rounds), json: values.json },
  };
}

const LIGHT = ['processes', 'network', 'node', 'spec'];
const HEAVY = ['memory', 'volumes', 'rootfs', 'logs', 'image'];
const WAYS: readonly (readonly [name: string, artifacts: readonly string[]])[] = [
  ['light (not limited)', LIGHT],
  ...HEAVY.map((one) => [one, [one]] as const),
  ['checkpoint', ['checkpoint']],
  ['all that is heavy', HEAVY],
  ['everything', [...LIGHT, ...HEAVY, 'checkpoint']],
];

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

function table(figures: readonly Figure[], percent: number): string {
  const lines = WAYS.map(([way]) => {
    const own = figures.filter((one) => one.way === way);
    const of = (pick: (one: Figure) => number, digits = 0) => median(own.map(pick)).toFixed(digits);
    const share = (pick: (one: Figure) => number) => of((one) => (100 * pick(one)) / one.wallMs / percent, 2);
    const programs = [...new Set(own.flatMap(({ children }) => Object.keys(children)))];
    const children = programs
      .map((name) => [name, median(own.map((one) => one.children[name] ?? 0))] as const)
      .filter(([, ms]) => ms > 0)
      .map(([name, ms]) => `${name} ${ms}`)
      .join(', ');
    const cells = [of((one) => one.wallMs), of((one) => one.ownMs), of((one) => one.treeMs - one.ownMs)];
    const held = [of((one) => one.pauseMs), of((one) => one.pacedMs)];
    return `| ${[way, ...cells, ...held, share((one) => one.ownMs), share((one) => one.treeMs), children].join(' | ')} |`;
  });
  return [
    '| | wall, ms | CPU of the agent | of its children | pause | held back | agent / limit | all / limit | children by name (10 ms ticks) |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

/** A layer with a large file and many small ones, as package managers leave them. */
async function fill({ pod }: Load, layerMib: number): Promise<void> {
  const script = `dd if=/dev/urandom of=/data bs=1048576 count=${layerMib} 2>/dev/null; mkdir /many; i=0; while [ $i -lt 4000 ]; do echo "file $i" > /many/$i; i=$((i+1)); done`;
  const { code, stderr } = await pod.exec('load', ['sh', '-c', script]);
  if (code !== 0) throw new Error(stderr);
}

export async function limits(args: readonly string[]): Promise<void> {
  const { sizeMib, layerMib, percent, rounds, json } = readArguments(args);
  await using account = openAccount();
  await using node = await startNode({ disk: true });
  const victim = await startLoad(node, 'victim', sizeMib, 1);
  await fill(victim, layerMib);
  const config = {
    memory: { bufferBytes: `${sizeMib * 2}MiB` },
    limits: { cpuPercent: percent, readBytesPerSecond: 0 },
    metrics: { listen: '127.0.0.1:0' },
  };
  await using agent = await account.within(() => startAgent(node, { config }));
  const { signal } = new AbortController();
  await using client = await connectAgent(agent.socket, signal);
  const capture = async (artifacts: readonly string[]): Promise<Manifest> => {
    const request = { selector: { containerId: victim.containerId }, artifacts: [...artifacts] };
    let captureId = '';
    for await (const event of client.capture(request, signal)) {
      captureId = event.captureId;
      if (event.ended && !['complete', 'partial'].includes(event.ended.state)) throw new Error(event.ended.error);
    }
    const folder = path.join(agent.evidence, 'lab', node.hostname, captureId);
    const manifest = JSON.parse(readFileSync(path.join(folder, 'manifest.json'), 'utf8')) as Manifest;
    await rm(agent.evidence, { recursive: true, force: true });
    return manifest;
  };
  const measure = async (way: string, artifacts: readonly string[]): Promise<Figure> => {
    // What the capture before it left to do: guard and threads for the next.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const children = watchChildren(agent.pid);
    const [beginMs, own, tree] = [performance.now(), cpuMsOf(agent.pid) ?? 0, account.cpuMs()];
    const manifest = await capture(artifacts);
    const wallMs = performance.now() - beginMs;
    const figures = { ownMs: (cpuMsOf(agent.pid) ?? 0) - own, treeMs: account.cpuMs() - tree };
    const sum = (pick: (one: Manifest['artifacts'][number]) => number) =>
      manifest.artifacts.reduce((total, one) => total + pick(one), 0);
    const held = {
      pauseMs: sum((one) => one.footprint.pauseMs),
      pacedMs: sum((one) => Number(one.facts.pacedMs ?? 0)),
    };
    return { way, wallMs, ...figures, ...held, children: children.end() };
  };
  await capture(['memory']);
  const figures: Figure[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const [way, artifacts] of WAYS) {
      const figure = await measure(way, artifacts);
      process.stderr.write(`round ${round}/${rounds}: ${JSON.stringify(figure)}\n`);
      figures.push(figure);
    }
  }
  const reading = { cpuPercent: 0, readBytesPerSecond: `${READ_LIMIT_BYTES / 2 ** 20}MiB` };
  await using reader = await startAgent(node, { config: { limits: reading } });
  await using readerClient = await connectAgent(reader.socket, signal);
  const readShares: number[] = [];
  const restlessShares: (readonly [before: number, now: number])[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const [beginMs, before] = [performance.now(), readBytesOf(reader.pid)];
    const request = { selector: { containerId: victim.containerId }, artifacts: FROM_DISK };
    for await (const { ended } of readerClient.capture(request, signal))
      if (ended && ended.state !== 'complete' && ended.state !== 'partial') throw new Error(ended.error);
    const seconds = (performance.now() - beginMs) / 1000;
    readShares.push((readBytesOf(reader.pid) - before) / seconds / READ_LIMIT_BYTES);
    restlessShares.push([await restless(percent), await restless(percent, openTreeCpu({ procRoot: '/proc' }))]);
  }
  const residentMib = Math.round(victim.residentBytes / 2 ** 20);
  process.stdout.write(
    `\nA victim with ${residentMib} MiB resident, ${layerMib} MiB and 4,000 small files written; limits.cpuPercent ${percent}; ${rounds} rounds, medians; ` +
      `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}, load average ${os.loadavg()[0]?.toFixed(1)}\n\n${table(figures, percent)}\n\n` +
      `Read by the agent, of ${FROM_DISK.join(', ')} at ${READ_LIMIT_BYTES / 2 ** 20} MiB/s, by limit: ${readShares.map((one) => one.toFixed(2)).join(', ')}\n` +
      `A helper that never rests, by limit: ${restlessShares.map(([before, now]) => `${before.toFixed(2)} not counted, ${now.toFixed(2)} counted`).join('; ')}\n`,
  );
  mkdirSync(path.dirname(json), { recursive: true });
  writeFileSync(
    json,
    `${JSON.stringify({ at: new Date().toISOString(), sizeMib, layerMib, percent, residentMib, rounds, kernel: os.release(), cpus: os.cpus().length, figures, readShares, restlessShares }, null, 2)}\n`,
  );
  process.stdout.write(`\nAll figures: ${json}\n`);
}
