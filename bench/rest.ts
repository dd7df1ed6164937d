/**
 * `npm run bench -- rest`: what an agent takes while nobody asks it for anything, with no containers beside it and with thirty, probed and
 * scraped as in a cluster; and what the controller's store keeps of an agent and of a capture.
 *
 *   npm run bench -- rest [--seconds S] [--containers N] [--captures N] [--json FILE]
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startAgent } from '../test/lab/agent.ts';
import { startController } from '../test/lab/controller.ts';
import { type LabNode, startNode } from '../test/lab/node.ts';
import { issueNodes, startFleet } from './controller-fleet.ts';
import { memoryMibOf } from './controller-process.ts';
import { cpuMsOf } from './sink-cpu.ts';

/** The rehearsal and the first looks of readiness are over. */
const SETTLE_MS = 20_000;
/** What kubelet asks by daemonset.yaml, and Prometheus by podmonitor.yaml, in ms. */
const ASKED_EVERY_MS = { '/healthz': 20_000, '/readyz': 10_000, '/metrics': 30_000 };
const FLEET = 200;
const PATIENCE_MS = 60_000;

interface Rest {
  readonly containers: number;
  readonly seconds: number;
  /** Of one core, in thousandths: what `requests.cpu` is given in. */
  readonly milliCpu: number;
  readonly residentMib: number;
  readonly peakMib: number;
  /** Pss of the agent and of all its children, which counts what they share once. */
  readonly togetherMib: number;
  readonly processes: number;
}

const children = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
const family = (pid: number): number[] => [pid, ...children(pid).flatMap(family)];
const pssMib = (pid: number): number =>
  Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1]) / 1024;
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
/** Of those that live, and of those that they waited for. */
const familyCpuMs = (pid: number): number => sum(family(pid).map(cpuMsOf));

/** From the line of the log that says where metrics and probes are; it comes after the one that the lab waits for. */
async function machinePort(log: () => string): Promise<number> {
  for (;;) {
    const line = log()
      .split('\n')
      .find((one) => one.includes('"metrics and probes ready"'));
    if (line !== undefined) return (JSON.parse(line) as { port: number }).port;
    await sleep(50);
  }
}

async function askAgain(url: string, everyMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await (await fetch(url, { signal })).text();
    await sleep(everyMs, undefined, { signal });
  }
}

async function atRest(node: LabNode, containers: number, seconds: number): Promise<Rest> {
  // With the manifests' buffer; the lab's own agent has a smaller one.
  const config = { metrics: { listen: '127.0.0.1:0' }, memory: { bufferBytes: '1GiB' } };
  await using agent = await startAgent(node, { config });
  const base = `http://127.0.0.1:${await machinePort(agent.log)}`;
  const end = new AbortController();
  const asked = Object.entries(ASKED_EVERY_MS).map(([name, everyMs]) =>
    askAgain(`${base}${name}`, everyMs, end.signal).catch((error: unknown) => {
      if (!end.signal.aborted) throw error;
    }),
  );
  await sleep(SETTLE_MS);
  const begin = performance.now();
  const before = familyCpuMs(agent.pid);
  await sleep(seconds * 1_000);
  const usedMs = familyCpuMs(agent.pid) - before;
  const milliCpu = (usedMs / (performance.now() - begin)) * 1_000;
  const { resident, peak } = memoryMibOf(agent.pid);
  const all = family(agent.pid);
  const togetherMib = sum(all.map(pssMib));
  end.abort();
  await Promise.all(asked);
  return {
    ...{ containers, seconds, milliCpu, togetherMib },
    residentMib: resident,
    peakMib: peak,
    processes: all.length,
  };
}

/** Bytes of the store's pages that hold something. */
function storeBytes(file: string): number {
  using database = new DatabaseSync(file, { readOnly: true });
  const of = (name: string) => Number(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
  return (of('page_count') - of('freelist_count')) * of('page_size');
}

/** Real captures of one container, with all stages and audit entries that a capture by the controller has. */
async function growth(node: LabNode, captures: number) {
  await using controller = await startController();
  const file = path.join(controller.folder, 'controller.db');
  const empty = storeBytes(file);
  const nodes = await issueNodes(controller.pki, FLEET);
  const job = { address: controller.agents, caFile: controller.pki.caFile('controller'), nodes, captureMs: 100 };
  await using fleet = startFleet(job);
  await fleet.allUp(PATIENCE_MS);
  // They have told what runs on them.
  await sleep(SETTLE_MS);
  const connected = storeBytes(file);
  const section = await controller.agentSection('lab', node.hostname);
  await using _agent = await startAgent(node, { config: { cluster: 'lab', controller: section } });
  using client = await controller.client('ada');
  const known = async () => (await client.call('ListNodes', { cluster: 'lab', connectedOnly: true })).nodes;
  while (!(await known()).some((one) => one.node === node.hostname)) await sleep(50);
  const before = storeBytes(file);
  for (let at = 0; at < captures; at += 1) {
    const { captures: begun } = await client.call('CreateCapture', {
      selector: { pod: { namespace: 'prod', pod: 'web-0', container: '' }, by: 'pod' },
      reason: 'GuardDuty finding',
      clusters: ['lab'],
    });
    const captureId = begun[0]?.captureId ?? '';
    while (Number((await client.call('GetCapture', { captureId })).endedAtMs) === 0) await sleep(50);
  }
  await sleep(1_000);
  const after = storeBytes(file);
  return {
    ...{ captures, empty, agents: FLEET },
    bytesAnAgent: (connected - empty) / FLEET,
    bytesACapture: (after - before) / captures,
  };
}

export async function rest(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '180' },
      containers: { type: 'string', default: '30' },
      captures: { type: 'string', default: '50' },
      json: { type: 'string', default: path.join('out', 'bench-rest.json') },
    },
  });
  const [seconds, containers, captures] = [values.seconds, values.containers, values.captures].map(Number);
  if (![seconds, containers, captures].every((one) => Number.isInteger(one) && Number(one) > 0))
    throw new Error('--seconds, --containers and --captures are numbers');
  await using node = await startNode();
  const figures: Rest[] = [await atRest(node, 0, Number(seconds))];
  for (let at = 0; at < Number(containers); at += 1)
    await node.runPod({ namespace: 'prod', name: `web-${at}`, labels: { app: 'web' }, containers: [{ name: 'app' }] });
  figures.push(await atRest(node, Number(containers), Number(seconds)));
  const store = await growth(node, Number(captures));
  for (const one of figures)
    process.stdout.write(
      `${one.containers} containers, ${one.seconds} s: ${one.milliCpu.toFixed(1)} m of a core, ${one.residentMib.toFixed(0)} MiB resident (peak ${one.peakMib.toFixed(0)}), ${one.togetherMib.toFixed(0)} MiB with its ${one.processes - 1} children\n`,
    );
  process.stdout.write(
    `store: ${store.empty} bytes empty, ${store.bytesAnAgent.toFixed(0)} an agent, ${store.bytesACapture.toFixed(0)} a capture\n`,
  );
  mkdirSync(path.dirname(values.json), { recursive: true });
  const machine = { cpus: os.cpus().length, kernel: os.release(), node: process.version, load: os.loadavg() };
  writeFileSync(values.json, `${JSON.stringify({ at: new Date().toISOString(), machine, figures, store }, null, 2)}\n`);
  process.stdout.write(`\nAll figures: ${values.json}\n`);
}
