/**
 * `npm run bench -- checkpoint`: what a CRIU checkpoint costs a container by each rung of the ladder, beside the calls that others
 * make by hand, in one run on one container; and how long the preflight takes.
 *
 *   npm run bench -- checkpoint [--size MIB] [--processes N] [--rounds N] [--json FILE]
 *
 * Stall is seen inside the container, by its first process, every millisecond. Bytes written to the node's disk are those that
 * any process of the node caused (write_bytes of proc(5) io, sampled), in rounds of their own, because looking costs time.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { RungName, RungRecord } from '../evidence/dump.ts';
import type { Manifest } from '../evidence/manifest.ts';
import { type LabAgent, startAgent } from '../test/lab/agent.ts';
import { type LabNode, startNode } from '../test/lab/node.ts';
import { type Load, startLoad } from './load.ts';
import { median } from './median.ts';
import { measurePreflight } from './preflight.ts';

/** The gap is logged only after the container runs again, and the log reader is containerd. */
const SETTLE_MS = 300;
const MIB = 2 ** 20;
/** Where the calls by hand leave their files: the disk, as CRI's do, or memory. */
const ON_DISK = '/var/lib/containerd/bench';
const IN_MEMORY = '/run/bench';
/** containerd's own house-keeping writes a page now and then. */
const DISK_ROUNDS = 3;
/** Few programs of a dump live for less. */
const SAMPLE_MS = 5;

interface Figure {
  readonly wallMs: number;
  readonly stallMs: number;
  /** CRIU's own frozen_time, where it is known. */
  readonly frozenMs?: number | undefined;
}

interface Way {
  readonly name: string;
  readonly go: () => Promise<number | undefined>;
}

interface Row {
  readonly name: string;
  readonly figures: Figure[];
  diskBytes: number;
}

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: '1024' },
      processes: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '5' },
      json: { type: 'string', default: path.join('out', 'bench-checkpoint.json') },
    },
  });
  const number = (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1) throw new Error(`${text} is no number above 0`);
    return value;
  };
  const { size, processes, rounds, json } = values;
  return { sizeMib: number(size), processes: number(processes), rounds: number(rounds), json };
}

/** One capture of the checkpoint alone, by one rung; CRIU's frozen_time. */
async function byRung(agent: LabAgent & { evidence: string }, load: Load): Promise<number | undefined> {
  const { code, stderr } = await agent.exhibit('capture', load.containerId, '--artifacts', 'checkpoint');
  if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
  const name = readdirSync(agent.evidence, { recursive: true, encoding: 'utf8' }).find((file) =>
    file.endsWith('manifest.json'),
  );
  const manifest = JSON.parse(readFileSync(path.join(agent.evidence, name ?? ''), 'utf8')) as Manifest;
  const records = (manifest.artifacts[0]?.facts.rungs ?? []) as RungRecord[];
  rmSync(agent.evidence, { recursive: true, force: true });
  const worked = records.find(({ outcome }) => outcome === 'worked');
  if (worked === undefined) throw new Error('no rung worked');
  return worked.criu?.stats === undefined ? undefined : worked.criu.stats.frozenTimeUs / 1000;
}

async function byHand(node: LabNode, argv: readonly string[], folder: string): Promise<undefined> {
  await node.exec(['mkdir', '-p', `${folder}/work`]);
  const { code, stderr } = await node.exec(argv, { timeoutMs: 300_000 });
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`);
  await node.exec(['rm', '-rf', folder]);
  return undefined;
}

function waysOf(node: LabNode, agents: ReadonlyMap<RungName, LabAgent & { evidence: string }>, load: Load): Way[] {
  const runc = (folder: string) => {
    const root = '/run/containerd/runc/k8s.io';
    const paths = ['--image-path', `${folder}/images`, '--work-path', `${folder}/work`];
    return ['runc', '--root', root, 'checkpoint', ...paths, '--leave-running', load.containerId];
  };
  const rungs = [...agents].map(([name, agent]) => ({
    name: `exhibit, ${name} rung`,
    go: () => byRung(agent, load),
  }));
  return [
    ...rungs,
    {
      name: 'CRI CheckpointContainer into a file',
      go: async () => {
        await node.exec(['mkdir', '-p', ON_DISK]);
        const location = `${ON_DISK}/checkpoint.tar`;
        await node.cri.call('CheckpointContainer', { container_id: load.containerId, location });
        await node.exec(['rm', '-rf', ON_DISK]);
        return undefined;
      },
    },
    { name: 'runc checkpoint onto the disk', go: () => byHand(node, runc(ON_DISK), ON_DISK) },
    { name: 'runc checkpoint into memory', go: () => byHand(node, runc(IN_MEMORY), IN_MEMORY) },
  ];
}

async function measure(load: Load, way: Way): Promise<Figure> {
  await sleep(SETTLE_MS);
  const since = Date.now();
  const begin = performance.now();
  const frozenMs = await way.go();
  const wallMs = performance.now() - begin;
  await sleep(SETTLE_MS);
  return { wallMs, stallMs: load.longestSince(since), frozenMs };
}

/** Bytes that processes of the node caused to be written to block devices while `work` ran. */
async function diskBytesOf(node: LabNode, work: () => Promise<unknown>): Promise<number> {
  const first = new Map<string, number>();
  const last = new Map<string, number>();
  const look = (isStart: boolean) => {
    for (const pid of readdirSync(node.procRoot).filter((name) => /^\d+$/.test(name))) {
      try {
        const bytes = Number(/^write_bytes: (\d+)/m.exec(readFileSync(`${node.procRoot}/${pid}/io`, 'latin1'))?.[1]);
        if (!first.has(pid)) first.set(pid, isStart ? bytes : 0);
        last.set(pid, bytes);
      } catch {
        // It has ended.
      }
    }
  };
  look(true);
  const timer = setInterval(() => look(false), SAMPLE_MS);
  await work();
  clearInterval(timer);
  look(false);
  return [...last].reduce((sum, [pid, bytes]) => sum + Math.max(0, bytes - (first.get(pid) ?? 0)), 0);
}

function print(rows: readonly Row[]): void {
  const line = (cells: readonly string[]) =>
    `${(cells[0] ?? '').padEnd(38)}${cells
      .slice(1)
      .map((cell) => cell.padStart(14))
      .join('')}\n`;
  process.stdout.write(line(['', 'stall ms', 'least', 'most', "CRIU's ms", 'whole ms', 'disk MiB']));
  for (const { name, figures, diskBytes } of rows) {
    const stalls = figures.map((one) => one.stallMs);
    const frozen = figures.map((one) => one.frozenMs).filter((one) => one !== undefined);
    process.stdout.write(
      line([
        name,
        median(stalls).toFixed(0),
        Math.min(...stalls).toFixed(0),
        Math.max(...stalls).toFixed(0),
        frozen.length === 0 ? '' : median(frozen).toFixed(0),
        median(figures.map((one) => one.wallMs)).toFixed(0),
        (diskBytes / MIB).toFixed(1),
      ]),
    );
  }
}

function judge(rows: readonly Row[]): void {
  const [tasks, cri] = ['tasks', 'cri'].map((name) => rows.find((row) => row.name === `exhibit, ${name} rung`));
  if (tasks === undefined || cri === undefined) return;
  const [one, other] = [tasks, cri].map((row) => median(row.figures.map(({ stallMs }) => stallMs))) as [number, number];
  const ratio = one / other;
  process.stdout.write(
    `\nstall of tasks / cri: ${ratio.toFixed(3)} (bound 0.25: ${ratio <= 0.25 ? 'reached' : 'MISSED'}); ` +
      `bytes on the disk by tasks: ${tasks.diskBytes} (bound 0: ${tasks.diskBytes === 0 ? 'reached' : 'MISSED'})\n`,
  );
}

export async function checkpoint(args: readonly string[]): Promise<void> {
  const { sizeMib, processes, rounds, json } = readArguments(args);
  await using node = await startNode({ disk: true });
  const load = await startLoad(node, 'load', sizeMib, processes);
  const config = (rung: RungName) => ({
    checkpoint: { rungs: [rung], tmpfsBytes: `${sizeMib * 2 + 64}MiB` },
    // In memory: what is counted is what the node writes.
    sink: { url: `file:///dev/shm/exhibit-bench-${process.pid}-${rung}` },
  });
  await using tasks = await startAgent(node, { config: config('tasks') });
  await using cri = await startAgent(node, { config: config('cri') });
  const folderOf = (rung: RungName) => `/dev/shm/exhibit-bench-${process.pid}-${rung}`;
  try {
    const agents = new Map<RungName, LabAgent & { evidence: string }>([
      ['tasks', { ...tasks, evidence: folderOf('tasks') }],
      ['cri', { ...cri, evidence: folderOf('cri') }],
    ]);
    const ways = waysOf(node, agents, load);
    const rows: Row[] = ways.map(({ name }) => ({ name, figures: [], diskBytes: 0 }));
    for (let round = 1; round <= rounds; round += 1) {
      for (const [index, way] of ways.entries()) {
        const figure = await measure(load, way);
        rows[index]?.figures.push(figure);
        process.stderr.write(
          `round ${round}/${rounds}: ${way.name}: stall ${figure.stallMs.toFixed(0)} ms, ${figure.wallMs.toFixed(0)} ms\n`,
        );
      }
    }
    for (const [index, way] of ways.entries()) {
      const row = rows[index];
      const looked: number[] = [];
      for (let round = 0; round < DISK_ROUNDS; round += 1) looked.push(await diskBytesOf(node, way.go));
      if (row !== undefined) row.diskBytes = median(looked);
    }
    const cpu = `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}`;
    const residentMib = Math.round(load.residentBytes / MIB);
    process.stdout.write(
      `\n${residentMib} MiB resident, ${processes} processes, ${rounds} rounds, medians; ${cpu}\n\n`,
    );
    print(rows);
    judge(rows);
    const preflight = await measurePreflight();
    process.stdout.write(
      `preflight of ${preflight.processes} processes, ${preflight.rounds} rounds: median ${preflight.medianMs.toFixed(1)} ms ` +
        `(${preflight.minMs.toFixed(1)} to ${preflight.maxMs.toFixed(1)}; bound 50: ${preflight.medianMs < 50 ? 'reached' : 'MISSED'})\n`,
    );
    mkdirSync(path.dirname(json), { recursive: true });
    const all = { at: new Date().toISOString(), cpu, sizeMib, residentMib, processes, rounds, rows, preflight };
    writeFileSync(json, `${JSON.stringify(all, null, 2)}\n`);
    process.stdout.write(`\nAll figures: ${json}\n`);
  } finally {
    for (const rung of ['tasks', 'cri'] as const) rmSync(folderOf(rung), { recursive: true, force: true });
  }
}
