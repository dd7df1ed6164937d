/**
 * Simulated nodes in one process: `node bench/controller-agents.ts`, told what to do over IPC. Each has its own certificate, its
 * own TLS connection, and the agent's own trigger (`agent/trigger/controller.ts`) and registry of captures
 * (`agent/capture/captures.ts`) with a journal in memory; only the runtime and the capture itself are pretended.
 */
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { type Captures, createCaptures, type Execute } from '../agent/capture/captures.ts';
import type { Journal, JournalEntry } from '../agent/capture/journal.ts';
import type { ContainerSummary, Runtime } from '../agent/runtime/runtime.ts';
import { type ControllerTrigger, openControllerTrigger } from '../agent/trigger/controller.ts';
import { ExhibitError } from '../evidence/error.ts';
import type { FleetJob, FleetOrder, FleetReport, SimulatedNode } from './controller-fleet.ts';
import { BATCHES, CLUSTER, podOf } from './controller-names.ts';

/** Of a node; the first is the target of captures. */
const CONTAINERS = 20;
/** What the controller makes of the stages of one capture is part of its load. */
const STAGES = ['processes', 'network', 'memory'] as const;
const PROGRESS = 3;
const REPORT_EVERY_MS = 20;
const DIALLING = 32;

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** By capture id: when the agent got it first, and how often it was begun. */
const received = new Map<string, number>();
const begun = new Map<string, { node: string; times: number }>();
const fresh: [string, number][] = [];
const up = new Set<string>();
const journals = new Map<string, Map<string, JournalEntry>>();

function memoryJournal(node: string): Journal {
  const known = new Map<string, JournalEntry>();
  journals.set(node, known);
  return {
    entries: () => [...known.values()].reverse(),
    get: (captureId) => known.get(captureId),
    put: async (entry) => void known.set(entry.captureId, entry),
  };
}

/** `received` is noted before the registry does anything. */
function timed(captures: Captures): Captures {
  return {
    ...captures,
    start: (request) => {
      if (!received.has(request.captureId)) {
        const at = nowMs();
        received.set(request.captureId, at);
        fresh.push([request.captureId, at]);
      }
      return captures.start(request);
    },
  };
}

const executeOn =
  (node: string, captureMs: number): Execute =>
  async (captureId, _request, { emit }) => {
    const before = begun.get(captureId);
    begun.set(captureId, { node, times: (before?.times ?? 0) + 1 });
    const target = `shop/${podOf(node)}/web`;
    emit({ kind: 'accepted', target, bundleUrl: `file:///evidence/${captureId}`, stages: STAGES, namespace: 'shop' });
    for (const stage of STAGES) {
      emit({ kind: 'stage-started', stage });
      for (let step = 1; step <= PROGRESS; step += 1) {
        await sleep(captureMs / STAGES.length / PROGRESS);
        emit({ kind: 'stage-progress', stage, doneBytes: step, totalBytes: PROGRESS });
      }
      const figures = { storedBytes: 5, wallMs: captureMs / 3, pauseMs: 1, gapCount: 0 };
      emit({ kind: 'stage-ended', result: { stage, status: 'captured', reason: '', ...figures } });
    }
    return { state: 'complete' };
  };

function containersOf({ node, batch }: SimulatedNode): ContainerSummary[] {
  return Array.from({ length: CONTAINERS }, (_, at) => {
    const pod = at === 0 ? podOf(node) : `filler-${at}-${node}`;
    const labels = new Map([
      ['app', at === 0 ? 'web' : `filler-${at}`],
      ['batch', at === 0 ? String(batch % BATCHES) : 'none'],
      ['pod-template-hash', '5d4f8b7c9d'],
    ]);
    const place = { namespace: 'shop', name: pod, uid: `${node}-${at}`, sandboxId: `s-${node}-${at}` };
    const id = Buffer.from(`${node}/${at}`).toString('hex').padEnd(64, '0').slice(0, 64) as ContainerSummary['id'];
    const image = 'registry.example/shop/web:1.27.4';
    return { id, name: 'web', pod: place, labels, image, state: 'running', createdAt: '2026-01-01T00:00:00Z' };
  });
}

function runtimeOf(node: SimulatedNode): Runtime {
  const listed = containersOf(node);
  return {
    kind: 'cri',
    identify: async () => ({ name: 'containerd', version: '2.1.9' }),
    list: async () => listed,
    resolve: async () => {
      throw new ExhibitError('target-not-found', 'there is none');
    },
    pids: async () => [],
    rungs: [],
    pauseOf: () => undefined,
    resumeIfPaused: async () => false,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The trigger says in its log when its stream is up; nothing else does. */
function logOf(node: string): Logger {
  const heard = new Writable({
    write: (line: Buffer, _encoding, done) => {
      if (line.includes('stream to the controller is up')) up.add(node);
      else if (line.includes('no stream to the controller')) up.delete(node);
      done();
    },
  });
  return pino({ level: 'debug', base: null, timestamp: false }, heard);
}

function startAgent(node: SimulatedNode, { address, caFile, captureMs }: FleetJob): ControllerTrigger {
  const log = logOf(node.node);
  const journal = memoryJournal(node.node);
  const captures = createCaptures({ journal, execute: executeOn(node.node, captureMs), now: Date.now, log });
  return openControllerTrigger({
    config: {
      ...{ address, caFile, certFile: node.certFile, keyFile: node.keyFile, serverName: 'localhost' },
      // The agent's own (agent/trigger/controller-config.ts).
      reconnect: { firstMs: 2_000, maxMs: 15_000 },
    },
    captures: timed(captures),
    runtimes: [runtimeOf(node)],
    defaults: { artifacts: ['processes'], consistency: 'frozen', scope: 'container' },
    self: {
      ...{ cluster: CLUSTER, node: node.node, agentVersion: '0.1.0', bootId: '0198c0de-3c4f-7a10-8000-5f2c0a7e9b11' },
      ...{ artifacts: ['processes', 'network', 'memory', 'rootfs', 'logs'], sinks: ['default'], pod: 'exhibit/agent' },
    },
    sinks: ['default'],
    problemOf: () => undefined,
    now: Date.now,
    random: Math.random,
    log,
  });
}

function tell(report: FleetReport): void {
  process.send?.(report);
}

function accountFor(): FleetReport {
  const captures = [...begun].map(([captureId, { node, times }]) => ({
    ...{ captureId, node, times },
    state: journals.get(node)?.get(captureId)?.state ?? 'none',
  }));
  return { kind: 'journal', captures };
}

const triggers: ControllerTrigger[] = [];

process.on('message', (order: FleetOrder) => {
  if (order.kind === 'journal') tell(accountFor());
  else if (order.kind === 'stop') process.exit(0);
  else void start(order.job);
});

/** Few at a time: a storm comes later, and by itself. */
async function start(job: FleetJob): Promise<void> {
  setInterval(() => {
    const { user, system } = process.cpuUsage();
    tell({ kind: 'state', up: up.size, received: fresh.splice(0), cpuMs: (user + system) / 1_000 });
  }, REPORT_EVERY_MS);
  for (const node of job.nodes) {
    while (triggers.length - up.size >= DIALLING) await sleep(REPORT_EVERY_MS);
    triggers.push(startAgent(node, job));
  }
}
