/**
 * `npm run bench -- rootfs`: how fast the writable layer is taken, beside `tar --xattrs -c | zstd -1 -T0` and a sha256sum pass
 * over the same files, which is what exhibit does in one pass.
 *
 *   npm run bench -- rootfs [--files 200000] [--large MIB] [--million] [--rounds 3] [--json FILE]
 *
 * A real container of the lab's containerd each, real captures of the artifact `rootfs` by an agent of its own. The files are
 * made in the upper directory itself. All ways are taken in turn, several rounds, with the files in the page cache (each
 * round's first reader is not the same), and write into a folder in memory. `0` leaves a tree out.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type LabAgent, startAgent } from '../test/lab/agent.ts';
import { type LabNode, startNode } from '../test/lab/node.ts';
import { median } from './median.ts';
import { makeLargeFiles, makeSmallFiles, type Tree } from './rootfs-tree.ts';

const MIB = 2 ** 20;
const MILLION = 1_000_000;
const OWN_MEMORY_MIB = 200;
const EVIDENCE = `/dev/shm/exhibit-bench-rootfs-${process.pid}`;

interface Figure {
  readonly wallMs: number;
  /** User and system time of all processes and threads. */
  readonly cpuMs: number;
  readonly storedBytes?: number;
  /** From the command to its end, with the command line's own start, the plan and the seal; `wallMs` is the artifact's. */
  readonly commandMs?: number;
  /** Peak resident memory of the agent's process. */
  readonly peakBytes?: number;
}

type WayName = 'tar | zstd' | 'sha256sum' | 'exhibit';
type Way = { readonly name: WayName; readonly go: () => Promise<Figure> | Figure };

interface Row extends Tree {
  readonly name: string;
  readonly figures: Record<WayName, Figure[]>;
}

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      files: { type: 'string', default: '200000' },
      large: { type: 'string', default: '4096' },
      million: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string', default: path.join('out', 'bench-rootfs.json') },
    },
  });
  const number = (text: string, least: number): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least) throw new Error(`${text} is no number of at least ${least}`);
    return value;
  };
  return {
    files: number(values.files, 0),
    largeMib: number(values.large, 0),
    million: values.million,
    rounds: number(values.rounds, 1),
    json: values.json,
  };
}

/** bash's `time`, because Node does not tell what a child has used. */
function timed(script: string, ...args: readonly string[]): Figure {
  const timing = `TIMEFORMAT="%R %U %S"; set -o pipefail; time { ${script}; }`;
  const { stderr, status } = spawnSync('bash', ['-c', timing, 'bash', ...args], { encoding: 'utf8' });
  const [wall, user, system] = stderr.trim().split('\n').at(-1)?.split(' ').map(Number) ?? [];
  if (status !== 0 || wall === undefined || user === undefined || system === undefined) throw new Error(stderr);
  return { wallMs: wall * 1000, cpuMs: (user + system) * 1000 };
}

function tarAndZstd(upper: string): Figure {
  const stored = path.join(EVIDENCE, 'tar.zst');
  const figure = timed('tar --xattrs -c -C "$1" . | zstd -1 -T0 -q -o "$2"', upper, stored);
  const storedBytes = statSync(stored).size;
  rmSync(stored);
  return { ...figure, storedBytes };
}

function sha256sum(upper: string): Figure {
  const sums = path.join(EVIDENCE, 'sums');
  const figure = timed('cd "$1" && find . -type f -print0 | xargs -0 -r sha256sum > "$2"', upper, sums);
  rmSync(sums);
  return figure;
}

async function capture(agent: LabAgent & { evidence: string }, containerId: string): Promise<Figure> {
  // proc(5): forgets the peak so far.
  writeFileSync(`/proc/${agent.pid}/clear_refs`, '5');
  const begin = performance.now();
  const { code, stderr } = await agent.exhibit('capture', containerId, '--artifacts', 'rootfs');
  const commandMs = performance.now() - begin;
  if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
  const status = readFileSync(`/proc/${agent.pid}/status`, 'latin1');
  const found = readdirSync(agent.evidence, { recursive: true, encoding: 'utf8' });
  const name = found.find((file) => file.endsWith('manifest.json')) ?? '';
  const { artifacts } = JSON.parse(readFileSync(path.join(agent.evidence, name), 'utf8'));
  const { footprint, gapCount } = artifacts[0];
  if (gapCount > 0) throw new Error(`the capture has gaps: ${JSON.stringify(artifacts[0].gaps[0])}`);
  rmSync(agent.evidence, { recursive: true });
  const { wallMs, cpuMs, bytesStored: storedBytes } = footprint;
  return { wallMs, cpuMs, storedBytes, commandMs, peakBytes: Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) * 1024 };
}

/** A container whose upper directory `make` fills, captured and read by the others in turn. */
async function measure(node: LabNode, name: string, rounds: number, make: (upper: string) => Tree): Promise<Row> {
  const pod = await node.runPod({
    namespace: 'bench',
    name,
    containers: [{ name: 'load', command: ['sleep', '1000000'] }],
  });
  const upper = path.join(node.hostRoot, upperOf(node, await pod.pid('load')));
  const tree = make(upper);
  await using agent = await startAgent(node, { config: { sink: { url: `file://${EVIDENCE}/bundles` } } });
  const own = { ...agent, evidence: path.join(EVIDENCE, 'bundles') };
  const ways: readonly Way[] = [
    { name: 'tar | zstd', go: () => tarAndZstd(upper) },
    { name: 'sha256sum', go: () => sha256sum(upper) },
    { name: 'exhibit', go: () => capture(own, pod.containerId('load')) },
  ];
  const figures: Row['figures'] = { 'tar | zstd': [], sha256sum: [], exhibit: [] };
  sha256sum(upper);
  for (let round = 1; round <= rounds; round += 1) {
    for (const way of ways) {
      const figure = await way.go();
      figures[way.name].push(figure);
      const { wallMs, cpuMs } = figure;
      process.stderr.write(
        `${name} ${round}/${rounds}: ${way.name}: ${wallMs.toFixed(0)} ms, ${cpuMs.toFixed(0)} ms CPU\n`,
      );
    }
  }
  await pod.stop();
  return { name, ...tree, figures };
}

function upperOf(node: LabNode, pid: number): string {
  const mounts = readFileSync(path.join(node.procRoot, String(pid), 'mountinfo'), 'latin1');
  const upper = /upperdir=([^, ]+)/.exec(mounts)?.[1];
  if (upper === undefined) throw new Error('the container has no upper directory');
  return upper;
}

function print({ name, files, contentBytes, figures }: Row): void {
  process.stdout.write(`\n${name}: ${files} files, ${(contentBytes / MIB).toFixed(0)} MiB\n`);
  const of = (way: WayName, key: keyof Figure) => median(figures[way].map((one) => one[key] ?? Number.NaN));
  for (const key of ['wallMs', 'cpuMs'] as const) {
    const sum = of('tar | zstd', key) + of('sha256sum', key);
    const own = of('exhibit', key);
    const verdict = key === 'cpuMs' ? '' : own <= sum ? ', reached' : ', MISSED';
    process.stdout.write(
      `  ${key}: tar | zstd ${of('tar | zstd', key).toFixed(0)} + sha256sum ${of('sha256sum', key).toFixed(0)} = ${sum.toFixed(0)}; ` +
        `exhibit ${own.toFixed(0)} (${(own / sum).toFixed(2)} of it${verdict}), ${((own / files) * 1000).toFixed(1)} us a file, ` +
        `${(contentBytes / MIB / (own / 1000)).toFixed(0)} MiB/s\n`,
    );
  }
  const peakMib = Math.max(...figures.exhibit.map((one) => (one.peakBytes ?? 0) / MIB));
  process.stdout.write(
    `  whole command ${of('exhibit', 'commandMs').toFixed(0)} ms; stored ${(of('exhibit', 'storedBytes') / MIB).toFixed(0)} MiB beside ` +
      `${(of('tar | zstd', 'storedBytes') / MIB).toFixed(0)}; agent's peak ${peakMib.toFixed(0)} MiB ` +
      `(bound ${OWN_MEMORY_MIB}: ${peakMib < OWN_MEMORY_MIB ? 'reached' : 'MISSED'})\n`,
  );
}

export async function rootfs(args: readonly string[]): Promise<void> {
  const { files, largeMib, million, rounds, json } = readArguments(args);
  mkdirSync(EVIDENCE, { recursive: true });
  try {
    await using node = await startNode({ disk: true });
    const rows: Row[] = [];
    const take = async (name: string, make: (upper: string) => Tree) =>
      rows.push(await measure(node, name, rounds, make));
    if (files > 0) await take('small', (upper) => makeSmallFiles(upper, files));
    if (largeMib > 0) await take('large', (upper) => makeLargeFiles(upper, largeMib * MIB));
    if (million) await take('million', (upper) => makeSmallFiles(upper, MILLION));
    const cpu = `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}`;
    process.stdout.write(`\nWritable layers, ${rounds} rounds, medians; ${cpu}\n`);
    for (const row of rows) print(row);
    mkdirSync(path.dirname(json), { recursive: true });
    writeFileSync(json, `${JSON.stringify({ at: new Date().toISOString(), cpu, rounds, rows }, null, 2)}\n`);
    process.stdout.write(`\nAll figures: ${json}\n`);
  } finally {
    rmSync(EVIDENCE, { recursive: true, force: true });
  }
}
