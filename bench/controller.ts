/**
 * `npm run bench -- controller`: what one controller process takes with a whole fleet connected, beside the floors of what it is made of.
 *
 *   npm run bench -- controller [--agents N] [--only idle,storm,dispatch,kills,floor,freeze] [--json FILE] [--profile FOLDER]
 *
 * The controller is `controller/main.ts` as a process of its own: SQLite on the disk with its default durability, audit log, TLS.
 * The agents are pretended in processes of 1,500 each (controller-agents.ts): the agent's own trigger and registry, a certificate and a
 * connection each. They share the machine with the controller, so wall times are of both together; CPU is given apart.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { labObstacle } from '../test/lab/requires.ts';
import { type DispatchFigure, dispatchAtOnce, dispatchSteadily } from './controller-dispatch.ts';
import { type Fleet, issueNodes, startFleet } from './controller-fleet.ts';
import { floorOf } from './controller-floor.ts';
import { triggerToFreeze } from './controller-freeze.ts';
import { killTest } from './controller-kills.ts';
import { type BenchController, cpuOver, memoryMibOf, startBenchController } from './controller-process.ts';
import { type ControllerFigures, report } from './controller-report.ts';

/** How long a pretended capture takes; with 30 a second, 300 are in flight. */
const CAPTURE_MS = 10_000;
const PER_SECOND = 30;
const COUNT = 600;
const FLOOR_COUNT = 300;
const KILLS = 10;
const PATIENCE_MS = 300_000;
const IDLE_MS = 20_000;
const PARTS = ['idle', 'storm', 'dispatch', 'kills', 'floor', 'freeze'];

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      agents: { type: 'string', default: '3000' },
      only: { type: 'string', default: PARTS.join() },
      json: { type: 'string', default: path.join('out', 'bench-controller.json') },
      profile: { type: 'string' },
    },
  });
  const agents = Number(values.agents);
  if (!Number.isInteger(agents) || agents < 1) throw new Error(`--agents is a number of agents, not ${values.agents}`);
  const only = values.only.split(',');
  const unknown = only.find((part) => !PARTS.includes(part));
  if (unknown !== undefined) throw new Error(`--only takes ${PARTS.join(', ')}, not ${unknown}`);
  return { agents, only, json: values.json, profile: values.profile };
}

const say = (line: string) => process.stderr.write(`${line}\n`);

async function profiled<Result>(
  controller: BenchController,
  folder: string | undefined,
  name: string,
  work: () => Promise<Result>,
): Promise<Result> {
  if (folder === undefined) return work();
  mkdirSync(folder, { recursive: true });
  await controller.profile();
  const result = await work();
  await controller.profile(path.resolve(folder, `${name}.cpuprofile`));
  return result;
}

export async function controller(args: readonly string[]): Promise<void> {
  const { agents, only, json, profile } = readArguments(args);
  const figures: ControllerFigures = {};
  if (only.some((part) => part !== 'freeze')) await ofFleet({ agents, only, profile, figures });
  if (only.includes('freeze')) {
    const obstacle = labObstacle();
    if (obstacle === undefined) figures.freeze = await triggerToFreeze();
    else say(`trigger to freeze is not measured: ${obstacle}`);
    say(JSON.stringify(figures.freeze));
  }
  process.stdout.write(`\n${report(agents, figures)}\n`);
  mkdirSync(path.dirname(json), { recursive: true });
  const machine = { cpus: os.cpus().length, kernel: os.release(), node: process.version, load: os.loadavg() };
  writeFileSync(json, `${JSON.stringify({ at: new Date().toISOString(), agents, machine, ...figures }, null, 2)}\n`);
  process.stdout.write(`\nAll figures: ${json}\n`);
}

async function ofFleet({
  agents,
  only,
  profile,
  figures,
}: {
  agents: number;
  only: readonly string[];
  profile: string | undefined;
  figures: ControllerFigures;
}): Promise<void> {
  await using running = await startBenchController();
  const { pki } = running.lab;
  const empty = await running.read('gc');
  say(`controller without agents: ${empty.rssMib.toFixed(0)} MiB`);
  const nodes = await issueNodes(pki, agents);
  say(`${agents} certificates are made`);
  const caFile = pki.caFile('controller');
  const job = { address: running.lab.agents, caFile, nodes, captureMs: CAPTURE_MS };
  await using fleet = startFleet(job);
  const cpu = cpuOver(running, fleet);
  await fleet.allUp(PATIENCE_MS, say);
  const connected = await cpu();
  figures.connectCpuMs = connected.controllerCpuMs;
  say(`${agents} agents are connected: ${JSON.stringify(connected)}`);
  using client = await running.lab.client('ada');
  const parts = { controller: running, client, fleet, nodes };
  if (only.includes('idle')) {
    const used = cpuOver(running, fleet);
    const at = await running.read();
    await profiled(running, profile, 'idle', () => sleep(IDLE_MS));
    const cpu = await used();
    const collected = await running.read('gc');
    figures.idle = { empty, at, collected, cpu };
    say(JSON.stringify(figures.idle));
  }
  if (only.includes('dispatch')) {
    const all: DispatchFigure[] = [];
    figures.dispatch = all;
    for (const way of ['node', 'name'] as const) {
      const figure = await profiled(running, profile, `dispatch-${way}`, () =>
        dispatchSteadily(parts, { way, perSecond: PER_SECOND, count: COUNT, skip: 300, captureMs: CAPTURE_MS }),
      );
      say(JSON.stringify(figure));
      all.push(figure);
      await sleep(CAPTURE_MS);
    }
    for (const batch of [1, 2, 3]) {
      const figure = await dispatchAtOnce(parts, batch, CAPTURE_MS);
      say(JSON.stringify(figure));
      all.push(figure);
    }
  }
  if (only.includes('storm')) {
    figures.storm = await storm(running, fleet, profile);
    say(JSON.stringify(figures.storm));
  }
  if (only.includes('kills')) {
    figures.kills = await killTest(parts, { kills: KILLS, captureMs: CAPTURE_MS, log: say });
    say(JSON.stringify(figures.kills));
  }
  if (only.includes('floor')) {
    await fleet[Symbol.asyncDispose]();
    figures.floor = await floorOf(pki, nodes, { perSecond: PER_SECOND, count: FLOOR_COUNT, captureMs: CAPTURE_MS });
    say(JSON.stringify(figures.floor));
  }
}

/** The controller is killed and started again: every agent comes back, by its own clock. */
async function storm(
  running: BenchController,
  fleet: Fleet,
  profile: string | undefined,
): Promise<NonNullable<ControllerFigures['storm']>> {
  const before = performance.now();
  await running.killAndStart();
  const readyMs = performance.now() - before;
  const cpu = cpuOver(running, fleet);
  await profiled(running, profile, 'storm', () => fleet.allUp(PATIENCE_MS));
  const allBackMs = performance.now() - before;
  const reading = await running.read();
  const used = await cpu();
  // It is a new process, so its peak is the storm's.
  const peakMib = memoryMibOf(running.lab.pid).peak;
  return { readyMs, allBackMs, peakMib, reading, collected: await running.read('gc'), ...used };
}
