/**
 * `npm run bench -- nice`: what CAP_SYS_NICE is worth to a target, which stands still while the agent's threads wait for a processor.
 *
 *   npm run bench -- nice [--size MIB] [--busy 0,4] [--rounds N] [--json FILE]
 *
 * One victim and beside it so many processes that never rest; its memory is taken by an agent with the capability and by one without it, in
 * turn, on the same node, both in one control group. Printed are the pauses that the manifests tell, from the freeze to the thaw: median, the highest, and the median of
 * the rounds' ratios.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Manifest } from '../evidence/manifest.ts';
import { startAgent } from '../test/lab/agent.ts';
import { cgroupMounts, ownedName, removeCgroups } from '../test/lab/leftovers.ts';
import { type LabNode, startNode } from '../test/lab/node.ts';
import { type Load, startLoad } from './load.ts';
import { median } from './median.ts';

/** setpriv(1): the agent and all that it starts have it no more. */
const WITHOUT = ['setpriv', '--bounding-set=-sys_nice', '--inh-caps=-sys_nice', '--'];
const CGROUP_FILES = ['cpu.shares', 'cgroup.controllers'];
/** proc(5) status CapEff, the bit of capability.h. */
const SYS_NICE = 1n << 23n;
/** The rehearsal of an agent is over. */
const SETTLE_MS = 3_000;
const BETWEEN_MS = 300;

type Agent = Awaited<ReturnType<typeof startAgent>>;

interface Round {
  readonly withMs: number;
  readonly withoutMs: number;
}

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: '256' },
      busy: { type: 'string', default: '0,4' },
      rounds: { type: 'string', default: '15' },
      json: { type: 'string', default: path.join('out', 'bench-nice.json') },
    },
  });
  const number = (text: string, least: number): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least) throw new Error(`${text} is no number of at least ${least}`);
    return value;
  };
  const busy = values.busy.split(',').map((one) => number(one, 0));
  return { sizeMib: number(values.size, 1), busy, rounds: number(values.rounds, 1), json: values.json };
}

function hasNice({ pid }: Agent): boolean {
  const held = /^CapEff:\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
  return (BigInt(`0x${held}`) & SYS_NICE) !== 0n;
}

function manifestIn(evidence: string): Manifest {
  const found = readdirSync(evidence, { recursive: true, encoding: 'utf8' }).filter(
    (name) => path.basename(name) === 'manifest.json',
  );
  if (found.length !== 1) throw new Error(`${found.length} manifests in ${evidence}`);
  return JSON.parse(readFileSync(path.join(evidence, found[0] ?? ''), 'utf8')) as Manifest;
}

/** How long the target stood still, by its manifest. */
async function pauseMs(agent: Agent, { containerId }: Load): Promise<number> {
  await sleep(BETWEEN_MS);
  const { code, stderr } = await agent.exhibit('capture', containerId, '--artifacts', 'memory');
  if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
  const memory = manifestIn(agent.evidence).artifacts.find(({ name }) => name === 'memory');
  rmSync(agent.evidence, { recursive: true, force: true });
  if (memory === undefined) throw new Error('no memory artifact');
  return memory.footprint.pauseMs;
}

async function startBusy(node: LabNode, processes: number): Promise<AsyncDisposable> {
  const spin = `for (2 .. ${processes}) { last unless fork } 1 while 1`;
  const pod = await node.runPod({
    ...{ namespace: 'bench', name: `busy-${processes}` },
    containers: [{ name: 'busy', command: ['perl', '-e', spin] }],
  });
  return { [Symbol.asyncDispose]: async () => void (await pod.stop()) };
}

/** A control group of its own, as a pod's agent has: a nice value counts only among those of one group (sched(7)). */
function openGroup(): { readonly enter: readonly string[] } & AsyncDisposable {
  const [mount] = CGROUP_FILES.flatMap((file) => cgroupMounts().filter((one) => existsSync(path.join(one, file))));
  if (mount === undefined) throw new Error('needs a control group of processors');
  const name = ownedName();
  const folder = path.join(mount, name);
  mkdirSync(folder);
  const enter = ['sh', '-c', `echo $$ > '${folder}/cgroup.procs' && exec "$@"`, 'sh'];
  return { enter, [Symbol.asyncDispose]: () => removeCgroups(name) };
}

async function measure(node: LabNode, load: Load, busy: number, rounds: number): Promise<Round[]> {
  const config = { memory: { bufferBytes: `${Math.ceil(load.residentBytes / 2 ** 20) * 2 + 64}MiB` } };
  await using group = openGroup();
  await using granted = await startAgent(node, { config, host: group });
  await using denied = await startAgent(node, { config, host: { enter: [...group.enter, ...WITHOUT] } });
  if (!hasNice(granted) || hasNice(denied))
    throw new Error('the agents have not the capabilities that they should have');
  await using stack = new AsyncDisposableStack();
  if (busy > 0) stack.use(await startBusy(node, busy));
  await sleep(SETTLE_MS);
  const figures: Round[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    // Who comes first changes, since the machine does.
    const order = round % 2 === 0 ? [granted, denied] : [denied, granted];
    const told = new Map<Agent, number>();
    for (const agent of order) told.set(agent, await pauseMs(agent, load));
    const figure = { withMs: told.get(granted) ?? Number.NaN, withoutMs: told.get(denied) ?? Number.NaN };
    process.stderr.write(
      `busy ${busy}, round ${round}/${rounds}: ${figure.withMs} ms with, ${figure.withoutMs} without\n`,
    );
    figures.push(figure);
  }
  return figures;
}

function line(busy: number, rounds: readonly Round[]): string {
  const of = (values: readonly number[]) => `${median(values).toFixed(1)} (${Math.max(...values).toFixed(1)})`;
  const ratio = median(rounds.map(({ withMs, withoutMs }) => withoutMs / withMs)).toFixed(2);
  const [having, lacking] = [rounds.map(({ withMs }) => withMs), rounds.map(({ withoutMs }) => withoutMs)];
  return `| ${busy} | ${of(having)} | ${of(lacking)} | ${ratio} |`;
}

export async function nice(args: readonly string[]): Promise<void> {
  const { sizeMib, busy, rounds, json } = readArguments(args);
  await using node = await startNode();
  const load = await startLoad(node, 'victim', sizeMib, 1);
  const rows: { readonly busy: number; readonly rounds: readonly Round[] }[] = [];
  for (const one of busy) rows.push({ busy: one, rounds: await measure(node, load, one, rounds) });
  const machine = { kernel: os.release(), cpus: os.cpus().length, model: os.cpus()[0]?.model ?? 'cpu' };
  process.stdout.write(
    `\n${Math.round(load.residentBytes / 2 ** 20)} MiB resident, ${rounds} rounds, ms; ${machine.cpus} x ${machine.model}, Linux ${machine.kernel}\n\n`,
  );
  process.stdout.write('| busy processes | with it: median (highest) | without | median of the ratios |\n');
  process.stdout.write(`| --- | --- | --- | --- |\n${rows.map((row) => line(row.busy, row.rounds)).join('\n')}\n`);
  mkdirSync(path.dirname(json), { recursive: true });
  writeFileSync(json, `${JSON.stringify({ at: new Date().toISOString(), sizeMib, ...machine, rows }, null, 2)}\n`);
  process.stdout.write(`\nAll figures: ${json}\n`);
}
