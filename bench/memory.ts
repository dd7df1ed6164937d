/**
 * `npm run bench -- memory`: what taking a container's memory costs it, and how fast it is stored, beside what people use today
 * and beside what the machine itself can do, in one run on real containers.
 *
 *   npm run bench -- memory [--sizes 64,1024,4096] [--processes 1,40] [--rounds 3] [--json FILE]
 *
 * For each size and number of processes: memcpy of as many bytes by as many threads as give the best time; exhibit with
 * zstd level 1 and without compression; gcore of every process; CRI CheckpointContainer; `zstd -1 -T0` of the very cores.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type LabAgent, startAgent } from '../test/lab/agent.ts';
import { run } from '../test/lab/machine.ts';
import { type LabNode, startNode } from '../test/lab/node.ts';
import { type Load, startLoad } from './load.ts';
import { median } from './median.ts';

interface Row {
  readonly sizeMib: number;
  readonly processes: number;
  readonly residentBytes: number;
  readonly memcpyMs: number[];
  readonly exhibit: Capture[];
  readonly uncompressed: Capture[];
  readonly gcore: { stallMs: number; sumMs: number }[];
  readonly checkpoint: { stallMs: number; wallMs: number }[];
  readonly zstdMs: number[];
  readonly zstdBytes: number;
}

interface Capture {
  readonly stallMs: number;
  readonly pauseMs: number;
  readonly capturedBytes: number;
  readonly storeMs: number;
  readonly storedBytes: number;
  /** Peak resident memory of the agent's process, less the buffer that it had touched. */
  readonly ownBytes: number;
  readonly nodeBytesWritten: number;
}

/** The gap is logged only after the container runs again, and the log reader is containerd. */
const SETTLE_MS = 300;
const MIB = 2 ** 20;

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sizes: { type: 'string', default: '64,1024,4096' },
      processes: { type: 'string', default: '1,40' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string', default: path.join('out', 'bench-memory.json') },
    },
  });
  const numbers = (text: string): number[] => {
    const list = text.split(',').map(Number);
    if (list.some((value) => !Number.isInteger(value) || value < 1)) throw new Error(`${text} is no list of numbers`);
    return list;
  };
  const [rounds = 1] = numbers(values.rounds);
  return { sizes: numbers(values.sizes), processes: numbers(values.processes), rounds, json: values.json };
}

/** Peak resident size since it was last reset (proc(5) VmHWM; clear_refs 5 resets it). */
function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}
const peakBytes = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024;

interface Manifest {
  readonly artifacts: readonly {
    readonly name: string;
    readonly facts: Record<string, number>;
    readonly footprint: { readonly pauseMs: number; readonly bytesStored: number };
  }[];
  readonly nodeBytesWritten: number;
}

function onlyBundle(folder: string): string {
  const [cluster = ''] = readdirSync(folder);
  const [node = ''] = readdirSync(path.join(folder, cluster));
  const [id = ''] = readdirSync(path.join(folder, cluster, node));
  return path.join(folder, cluster, node, id);
}

async function capture(agent: LabAgent & { evidence: string }, load: Load, keep?: string): Promise<Capture> {
  await sleep(SETTLE_MS);
  resetPeak(agent.pid);
  const since = Date.now();
  const { code, stderr } = await agent.exhibit('capture', load.containerId, '--artifacts', 'memory');
  if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
  await sleep(SETTLE_MS);
  const bundle = onlyBundle(agent.evidence);
  const manifest = JSON.parse(readFileSync(path.join(bundle, 'manifest.json'), 'utf8')) as Manifest;
  const [memory] = manifest.artifacts;
  if (memory === undefined) throw new Error('no memory artifact');
  const { facts, footprint } = memory;
  if (keep !== undefined) await extractCores(agent, bundle, load, keep);
  rmSync(agent.evidence, { recursive: true, force: true });
  return {
    stallMs: load.longestSince(since),
    pauseMs: footprint.pauseMs,
    capturedBytes: facts.capturedBytes ?? 0,
    storeMs: facts.storeMs ?? 0,
    storedBytes: footprint.bytesStored,
    ownBytes: peakBytes(agent.pid) - (facts.roomBytes ?? 0),
    nodeBytesWritten: manifest.nodeBytesWritten,
  };
}

/** The cores, one after the other, in one file. */
async function extractCores(agent: LabAgent, bundle: string, load: Load, into: string): Promise<void> {
  void agent;
  execFileSync('sh', ['-c', `zstd -dcq '${bundle}/memory.tar.zst' | tar -xOf - --wildcards '*/core' > '${into}'`]);
  if (statSync(into).size < load.residentBytes / 2) throw new Error('the cores are too small');
}

async function gcore(node: LabNode, load: Load, scratch: string): Promise<{ stallMs: number; sumMs: number }> {
  await sleep(SETTLE_MS);
  const since = Date.now();
  let sumMs = 0;
  for (const nsPid of load.nsPids) {
    const pid = node.hostPid(nsPid);
    const begin = performance.now();
    await run('gcore', ['-o', path.join(scratch, 'core'), String(pid)]);
    sumMs += performance.now() - begin;
    rmSync(path.join(scratch, `core.${pid}`));
  }
  await sleep(SETTLE_MS);
  return { stallMs: load.longestSince(since), sumMs };
}

async function checkpoint(node: LabNode, load: Load): Promise<{ stallMs: number; wallMs: number }> {
  await sleep(SETTLE_MS);
  const since = Date.now();
  const begin = performance.now();
  const location = '/var/lib/containerd/bench.tar';
  await node.cri.call('CheckpointContainer', { container_id: load.containerId, location });
  const wallMs = performance.now() - begin;
  await node.exec(['rm', location]);
  await sleep(SETTLE_MS);
  return { stallMs: load.longestSince(since), wallMs };
}

function zstd(cores: string, scratch: string): { ms: number; bytes: number } {
  const out = path.join(scratch, 'cores.zst');
  const begin = performance.now();
  execFileSync('zstd', ['-1', '-T0', '-q', '-f', cores, '-o', out]);
  const ms = performance.now() - begin;
  const bytes = statSync(out).size;
  rmSync(out);
  return { ms, bytes };
}

async function measure(sizeMib: number, processes: number, rounds: number, memcpy: string): Promise<Row> {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-'));
  // In memory: what is measured is the agent and zstd, not this machine's disk, and what the agent writes to it is seen.
  const shm = mkdtempSync('/dev/shm/exhibit-bench-');
  const cores = path.join(shm, 'cores');
  try {
    await using node = await startNode({ disk: true });
    const load = await startLoad(node, 'load', sizeMib, processes);
    const bufferBytes = `${Math.ceil(load.residentBytes / MIB) * 2 + 64}MiB`;
    const memory = { bufferBytes };
    const inShm = (name: string) => ({ folder: path.join(shm, name) });
    await using agent = await startAgent(node, { config: { memory }, ...inShm('agent') });
    await using raw = await startAgent(node, { config: { memory, compression: { level: 0 } }, ...inShm('raw') });
    const row: Row = {
      ...{ sizeMib, processes, residentBytes: load.residentBytes, zstdBytes: 0 },
      ...{ memcpyMs: [], exhibit: [], uncompressed: [], gcore: [], checkpoint: [], zstdMs: [] },
    };
    let zstdBytes = 0;
    for (let round = 1; round <= rounds; round += 1) {
      process.stderr.write(`${sizeMib} MiB, ${processes} processes, round ${round}/${rounds}\n`);
      const threads = String(os.availableParallelism() + 1);
      row.memcpyMs.push(Number(execFileSync(memcpy, [String(Math.ceil(load.residentBytes / MIB)), threads])));
      row.exhibit.push(await capture(agent, load, cores));
      const { ms, bytes } = zstd(cores, shm);
      row.zstdMs.push(ms);
      zstdBytes = bytes;
      rmSync(cores, { force: true });
      row.uncompressed.push(await capture(raw, load));
      row.gcore.push(await gcore(node, load, scratch));
      row.checkpoint.push(await checkpoint(node, load));
    }
    return { ...row, zstdBytes };
  } finally {
    rmSync(shm, { recursive: true, force: true });
    rmSync(scratch, { recursive: true, force: true });
  }
}

const ms = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
const gb = (bytes: number, milliseconds: number): number => bytes / milliseconds / 1e6;

function describe(row: Row): string[][] {
  const stall = median(row.exhibit.map((one) => one.stallMs));
  const copy = median(row.memcpyMs);
  const criStall = median(row.checkpoint.map((one) => one.stallMs));
  const rate = median(row.exhibit.map((one) => gb(one.capturedBytes, one.storeMs)));
  const zstdRate = gb(row.exhibit[0]?.capturedBytes ?? 0, median(row.zstdMs));
  const rawRate = median(row.uncompressed.map((one) => gb(one.capturedBytes, one.storeMs)));
  const own = Math.max(...[...row.exhibit, ...row.uncompressed].map((one) => one.ownBytes));
  const written = Math.max(...[...row.exhibit, ...row.uncompressed].map((one) => one.nodeBytesWritten));
  const mib = (bytes: number): string => (bytes / MIB).toFixed(0);
  return [
    [`${mib(row.residentBytes)} MiB, ${row.processes} processes`, 'measured', 'bound', ''],
    ['memcpy, ms', ms(copy), '', ''],
    ['stall, ms', ms(stall), ms(1.5 * copy + 30), verdict(stall <= 1.5 * copy + 30)],
    ...againstGcore(row, stall),
    ['stall of CRI checkpoint, ms', ms(criStall), '', ''],
    ['stall / tenth of CRI', (stall / (criStall / 10)).toFixed(2), '1', verdict(stall <= criStall / 10)],
    ['stored, GB/s', rate.toFixed(3), (0.85 * zstdRate).toFixed(3), verdict(rate >= 0.85 * zstdRate)],
    ['  of zstd -1 -T0', (rate / zstdRate).toFixed(2), '0.85', ''],
    ['  size / zstd size', ((row.exhibit[0]?.storedBytes ?? 0) / row.zstdBytes).toFixed(2), '', ''],
    ['stored without compression, GB/s', rawRate.toFixed(3), '1', verdict(rawRate >= 1)],
    ['own memory beyond the buffer, MiB', mib(own), '200', verdict(own < 200 * MIB)],
    ["written to the node's disk, bytes", String(written), '0', verdict(written === 0)],
  ];
}

/** gcore stops one process after the other: of many, each stands for its own part only, and never all of them. */
function againstGcore(row: Row, stall: number): string[][] {
  const ratio = (name: string, of: number): string[] => {
    return [name, (stall / (of / 2)).toFixed(2), '1', verdict(stall <= of / 2)];
  };
  const longest = median(row.gcore.map((one) => one.stallMs));
  const sum = median(row.gcore.map((one) => one.sumMs));
  const rows = [['stall of gcore, ms', ms(longest), '', ''], ratio('stall / half of gcore', longest)];
  if (row.processes === 1) return rows;
  const some = ['gcore, some process stands, ms', ms(sum), '', ''];
  return [...rows, some, ratio('stall / half of that', sum)];
}

const verdict = (isReached: boolean): string => (isReached ? 'reached' : 'MISSED');

function print(rows: readonly string[][]): void {
  for (const [name = '', ...cells] of rows) {
    process.stdout.write(`${name.padEnd(44)}${cells.map((cell) => cell.padStart(12)).join('')}\n`);
  }
  process.stdout.write('\n');
}

export async function memory(args: readonly string[]): Promise<void> {
  const { sizes, processes, rounds, json } = readArguments(args);
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-'));
  try {
    const memcpy = path.join(scratch, 'memcpy');
    execFileSync('gcc', ['-O2', '-pthread', '-o', memcpy, path.join(import.meta.dirname, 'memcpy.c')]);
    const cpu = `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}`;
    process.stdout.write(`${rounds} rounds, medians; ${cpu}\n\n`);
    const rows: Row[] = [];
    for (const count of processes) {
      for (const size of sizes) {
        const row = await measure(size, count, rounds, memcpy);
        rows.push(row);
        print(describe(row));
        mkdirSync(path.dirname(json), { recursive: true });
        writeFileSync(json, `${JSON.stringify({ at: new Date().toISOString(), cpu, rounds, rows }, null, 2)}\n`);
      }
    }
    process.stdout.write(`All figures: ${json}\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
