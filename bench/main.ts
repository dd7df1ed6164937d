/**
 * `npm run bench`: what a capture costs its target, beside what people use today, in one run on one real container.
 *
 *   npm run bench -- [--size MIB] [--rounds N] [--json FILE]
 *   npm run bench -- footprint
 *   npm run bench -- memory [...]            see memory.ts
 *   npm run bench -- checkpoint [...]        see checkpoint.ts
 *   npm run bench -- processes [...]         see processes.ts
 *   npm run bench -- rootfs [...]            see rootfs.ts
 *   npm run bench -- sink [...]              see sink.ts
 *   npm run bench -- controller [...]        see controller.ts
 *   npm run bench -- neighbour [...]         see neighbour.ts
 *   npm run bench -- rest [...]              see rest.ts
 *   npm run bench -- limits [...]            see limits.ts
 *   npm run bench -- nice [...]              see nice.ts
 *
 * Every way is taken in turn, several rounds, on the same container; the medians are printed as a table and all figures
 * are kept as JSON. Absolute times are this machine's: compare the ratios.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startAgent } from '../test/lab/agent.ts';
import { run } from '../test/lab/machine.ts';
import { startNode } from '../test/lab/node.ts';
import { labObstacle } from '../test/lab/requires.ts';
import { checkpoint } from './checkpoint.ts';
import { controller } from './controller.ts';
import { footprint } from './footprint.ts';
import { limits } from './limits.ts';
import { type Load, startLoad } from './load.ts';
import { median } from './median.ts';
import { memory } from './memory.ts';
import { neighbour } from './neighbour.ts';
import { nice } from './nice.ts';
import { processes } from './processes.ts';
import { rest } from './rest.ts';
import { rootfs } from './rootfs.ts';
import { sink } from './sink.ts';

interface Figure {
  readonly way: string;
  readonly wallMs: number;
  readonly stallMs: number;
}

interface Way {
  readonly name: string;
  go(): Promise<void>;
}

/** The gap is logged only after the container runs again, and the log reader is containerd. */
const SETTLE_MS = 300;

function readArguments() {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '256' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string', default: path.join('out', 'bench-capture.json') },
    },
  });
  const sizeMib = Number(values.size);
  const rounds = Number(values.rounds);
  if (!Number.isInteger(sizeMib) || sizeMib < 1) throw new Error(`--size is a number of MiB, not ${values.size}`);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds is a number of rounds, not ${values.rounds}`);
  return { sizeMib, rounds, json: values.json };
}

async function measure(probe: Load, way: Way): Promise<Figure> {
  await sleep(SETTLE_MS);
  const since = Date.now();
  const begin = performance.now();
  await way.go();
  const wallMs = performance.now() - begin;
  await sleep(SETTLE_MS);
  return { way: way.name, wallMs, stallMs: probe.longestSince(since) };
}

function table(figures: readonly Figure[], ways: readonly Way[]): string {
  const rows = ways.map(({ name }) => {
    const own = figures.filter((figure) => figure.way === name);
    return { name, wallMs: median(own.map((one) => one.wallMs)), stallMs: median(own.map((one) => one.stallMs)) };
  });
  const base = rows[0]?.stallMs ?? Number.NaN;
  const line = (cells: readonly string[]) =>
    `${(cells[0] ?? '').padEnd(44)}${cells
      .slice(1)
      .map((cell) => cell.padStart(14))
      .join('')}`;
  return [
    line(['', 'whole ms', 'stall ms', 'stall ratio']),
    ...rows.map((row) =>
      line([row.name, row.wallMs.toFixed(0), row.stallMs.toFixed(1), (row.stallMs / base).toFixed(2)]),
    ),
  ].join('\n');
}

async function main(): Promise<void> {
  if (process.argv[2] === 'processes') return processes(process.argv.slice(3));
  if (process.argv[2] === 'controller') return controller(process.argv.slice(3));
  const obstacle = labObstacle();
  if (obstacle !== undefined) throw new Error(`the bench needs the lab's containerd: ${obstacle}`);
  if (process.argv[2] === 'footprint') return footprint();
  if (process.argv[2] === 'memory') return memory(process.argv.slice(3));
  if (process.argv[2] === 'checkpoint') return checkpoint(process.argv.slice(3));
  if (process.argv[2] === 'rootfs') return rootfs(process.argv.slice(3));
  if (process.argv[2] === 'neighbour') return neighbour(process.argv.slice(3));
  if (process.argv[2] === 'rest') return rest(process.argv.slice(3));
  if (process.argv[2] === 'limits') return limits(process.argv.slice(3));
  if (process.argv[2] === 'nice') return nice(process.argv.slice(3));
  if (process.argv[2] === 'sink') return sink(process.argv.slice(3));
  return capture();
}

async function capture(): Promise<void> {
  const { sizeMib, rounds, json } = readArguments();
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-'));
  try {
    await using node = await startNode({ disk: true });
    const probe = await startLoad(node, 'probe', sizeMib, 1);
    await using agent = await startAgent(node, { config: { memory: { bufferBytes: `${sizeMib * 2 + 64}MiB` } } });
    const exhibit = async (...artifacts: string[]) => {
      const { code, stderr } = await agent.exhibit('capture', probe.containerId, '--artifacts', artifacts.join(','));
      if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
      rmSync(agent.evidence, { recursive: true, force: true });
    };
    const light = ['processes', 'network', 'node', 'memory', 'volumes', 'rootfs', 'logs', 'spec'];
    const pid = node.hostPid(probe.nsPids[0] ?? 0);
    const ways: Way[] = [
      { name: 'exhibit, all but the checkpoint', go: () => exhibit(...light) },
      { name: 'exhibit, memory alone', go: () => exhibit('memory') },
      { name: 'exhibit, all with the checkpoint', go: () => exhibit(...light, 'checkpoint') },
      {
        name: 'gcore',
        go: async () => {
          await run('gcore', ['-o', path.join(scratch, 'core'), String(pid)]);
          const size = statSync(path.join(scratch, `core.${pid}`)).size;
          if (size < probe.residentBytes / 2) throw new Error(`gcore wrote only ${size} bytes`);
        },
      },
      {
        name: 'CRI CheckpointContainer',
        go: async () => {
          await node.cri.call('CheckpointContainer', {
            container_id: probe.containerId,
            location: '/var/lib/containerd/bench.tar',
          });
          await node.exec(['rm', '/var/lib/containerd/bench.tar']);
        },
      },
    ];
    const figures: Figure[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      for (const way of ways) {
        const figure = await measure(probe, way);
        process.stderr.write(
          `round ${round}/${rounds}: ${way.name}: ${figure.wallMs.toFixed(0)} ms, stall ${figure.stallMs.toFixed(1)} ms\n`,
        );
        figures.push(figure);
      }
    }
    const residentMib = Math.round(probe.residentBytes / 2 ** 20);
    process.stdout.write(
      `\nA container with ${residentMib} MiB resident, ${rounds} rounds, medians; ${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}\n\n`,
    );
    process.stdout.write(`${table(figures, ways)}\n`);
    mkdirSync(path.dirname(json), { recursive: true });
    writeFileSync(
      json,
      `${JSON.stringify({ at: new Date().toISOString(), sizeMib, residentMib, rounds, kernel: os.release(), cpus: os.cpus().length, figures }, null, 2)}\n`,
    );
    process.stdout.write(`\nAll figures: ${json}\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
