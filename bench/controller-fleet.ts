/** The simulated nodes of the controller's bench: processes of some thousand each, and what they say of themselves. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentUri } from '../controller/identity/certificates.ts';
import type { LabPki } from '../test/lab/pki.ts';
import { CLUSTER, nodeName } from './controller-names.ts';

export interface SimulatedNode {
  readonly node: string;
  readonly batch: number;
  readonly certFile: string;
  readonly keyFile: string;
}

export interface FleetJob {
  readonly address: string;
  readonly caFile: string;
  readonly nodes: readonly SimulatedNode[];
  /** How long one capture takes. */
  readonly captureMs: number;
}

export type FleetOrder = { kind: 'start'; job: FleetJob } | { kind: 'journal' } | { kind: 'stop' };

export interface Begun {
  readonly captureId: string;
  readonly node: string;
  readonly times: number;
  /** Of the node's journal. */
  readonly state: string;
}

export type FleetReport =
  /** `received`: capture ids, and when their agent got them, in ms of CLOCK_MONOTONIC. */
  | { kind: 'state'; up: number; received: readonly [string, number][]; cpuMs: number }
  | { kind: 'journal'; captures: readonly Begun[] };

export interface Fleet extends AsyncDisposable {
  /** Nodes that the controller has welcomed, as of some 20 ms ago. */
  up(): number;
  /** When the agent got this capture; undefined: not yet. */
  receivedAtMs(captureId: string): number | undefined;
  cpuMs(): number;
  journal(): Promise<readonly Begun[]>;
  /** Resolves with the ms that it took. */
  allUp(timeoutMs: number, log?: (line: string) => void): Promise<number>;
}

const PROGRAM = path.join(import.meta.dirname, 'controller-agents.ts');
/** In one process; its own event loop must not be what is measured. */
const NODES_A_PROCESS = 1_500;
const SAY_EVERY_MS = 5_000;
const HOUR_MS = 3_600_000;
/** Keys and signatures are made on the thread pool. */
const ISSUED_AT_ONCE = 16;

/** A certificate a node, by `exhibit pki`'s own code. */
export async function issueNodes(pki: LabPki, count: number): Promise<SimulatedNode[]> {
  const issuer = await pki.pair('agents');
  const nodes: SimulatedNode[] = [];
  const notAfter = new Date(Date.now() + 24 * HOUR_MS);
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < count; at = next++) {
      const node = nodeName(at);
      const names = [{ uri: agentUri(pki.trustDomain, { cluster: CLUSTER, node }) }];
      const { certFile, keyFile } = await pki.issue({ commonName: `node ${at}`, names, notAfter }, issuer);
      nodes[at] = { node, batch: at, certFile, keyFile };
    }
  };
  await Promise.all(Array.from({ length: ISSUED_AT_ONCE }, worker));
  return nodes;
}

export function startFleet(job: FleetJob): Fleet {
  const states = new Map<ChildProcess, { up: number; cpuMs: number }>();
  const received = new Map<string, number>();
  const children: ChildProcess[] = [];
  for (let at = 0; at < job.nodes.length; at += NODES_A_PROCESS) {
    const child = fork(PROGRAM, [], { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    child.on('message', (report: FleetReport) => {
      if (report.kind !== 'state') return;
      states.set(child, report);
      for (const [captureId, atMs] of report.received) received.set(captureId, atMs);
    });
    child.send({
      kind: 'start',
      job: { ...job, nodes: job.nodes.slice(at, at + NODES_A_PROCESS) },
    } satisfies FleetOrder);
    children.push(child);
  }
  const sum = (pick: (state: { up: number; cpuMs: number }) => number) =>
    [...states.values()].reduce((total, state) => total + pick(state), 0);
  const up = () => sum((state) => state.up);
  return {
    up,
    receivedAtMs: (captureId) => received.get(captureId),
    cpuMs: () => sum(({ cpuMs }) => cpuMs),
    journal: async () => (await Promise.all(children.map(journalOf))).flat(),
    async allUp(timeoutMs, log) {
      const begin = performance.now();
      let saidMs = begin;
      while (up() < job.nodes.length) {
        if (performance.now() - begin > timeoutMs)
          throw new Error(`${up()} of ${job.nodes.length} agents are connected after ${timeoutMs} ms`);
        if (log !== undefined && performance.now() - saidMs > SAY_EVERY_MS) {
          log(`${up()} of ${job.nodes.length} agents are connected`);
          saidMs = performance.now();
        }
        await sleep(10);
      }
      return performance.now() - begin;
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const gone = once(child, 'exit');
        child.kill('SIGKILL');
        await gone;
      }
    },
  };
}

async function journalOf(child: ChildProcess): Promise<readonly Begun[]> {
  const answer = Promise.withResolvers<readonly Begun[]>();
  const listen = (report: FleetReport) => {
    if (report.kind === 'journal') answer.resolve(report.captures);
  };
  child.on('message', listen);
  child.send({ kind: 'journal' } satisfies FleetOrder);
  const captures = await answer.promise;
  child.off('message', listen);
  return captures;
}
