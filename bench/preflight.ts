/**
 * How long it takes to tell what CRIU will refuse of a container with 200 processes, each with ten descriptors. The bound is
 * 50 ms; part of it is the start of a process, so a busy machine shows more.
 */
import os from 'node:os';
import { preflight } from '../agent/host/preflight.ts';
import { asPid } from '../agent/runtime/runtime.ts';
import { startNode } from '../test/lab/node.ts';
import { holdObstacle, installObstacles } from '../test/lab/obstacles.ts';

const ROUNDS = 20;
const BOUND_MS = 50;
const PROCESSES = 200;

export interface PreflightFigures {
  readonly processes: number;
  readonly rounds: number;
  readonly minMs: number;
  readonly medianMs: number;
  readonly maxMs: number;
}

/** Starts a node and a container of its own. Throws when the figures are not of what was meant. */
export async function measurePreflight(rounds = ROUNDS): Promise<PreflightFigures> {
  await using node = await startNode();
  const noCompiler = installObstacles(node);
  if (noCompiler !== undefined) throw new Error(noCompiler);
  await using held = await holdObstacle(node, { name: 'crowd' });
  // As the agent has it on a node, with hostPID: the lab's own /proc is reached by a longer way.
  const host = { procRoot: '/proc', hostRoot: '' };
  const pids = held.pids().map((pid) => asPid(node.hostPid(pid)));
  const times: number[] = [];
  // The first round compiles the program, and is left out.
  for (let round = 0; round <= rounds; round += 1) {
    const { wallMs, processes, notes } = await preflight(host, pids, AbortSignal.timeout(30_000));
    if (processes !== PROCESSES || notes.length > 0) throw new Error(`${processes} processes: ${notes.join('; ')}`);
    if (round > 0) times.push(wallMs);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? Number.NaN;
  return { processes: PROCESSES, rounds, minMs: at(0), medianMs: at(0.5), maxMs: at(1) };
}

/** Prints the figures as lines of a table. */
export async function preflightBench(): Promise<void> {
  const { processes, rounds, minMs, medianMs, maxMs } = await measurePreflight();
  const verdict = medianMs < BOUND_MS ? 'within' : 'OVER';
  process.stdout.write(
    `preflight of ${processes} processes, ${rounds} rounds: median ${medianMs.toFixed(1)} ms (${minMs.toFixed(1)}-${maxMs.toFixed(1)}), ` +
      `${verdict} the bound of ${BOUND_MS} ms; load ${os.loadavg()[0]?.toFixed(1)} on ${os.cpus().length} processors\n`,
  );
}
