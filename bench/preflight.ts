/**
 * How long it takes to tell what CRIU will refuse of a container with 200 processes, each with ten descriptors. The bound is
 * 50 ms. The process that it asks is started beforehand, as a capture does while it looks its target up.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { preflight } from '../agent/host/preflight.ts';
import { openAsker } from '../agent/host/preflight-ask.ts';
import { asPid } from '../agent/runtime/runtime.ts';
import { startNode } from '../test/lab/node.ts';
import { holdObstacle, installObstacles } from '../test/lab/obstacles.ts';

const ROUNDS = 20;
const PROCESSES = 200;
/** As long as looking a target up takes, at least. */
const RESOLVE_MS = 60;

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
    const signal = AbortSignal.timeout(30_000);
    const asker = openAsker(host, signal);
    await sleep(RESOLVE_MS);
    const { wallMs, processes, notes } = await preflight(host, pids, signal, { openAsker: () => asker });
    if (processes !== PROCESSES || notes.length > 0) throw new Error(`${processes} processes: ${notes.join('; ')}`);
    if (round > 0) times.push(wallMs);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? Number.NaN;
  return { processes: PROCESSES, rounds, minMs: at(0), medianMs: at(0.5), maxMs: at(1) };
}
