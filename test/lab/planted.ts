/**
 * Programs in a container that hold needles: texts made for this run that are in no file, argument or variable. A program
 * reads lines `PLACE CODED` from its standard input (a FIFO), writes the text that CODED stands for (hex of each byte xor
 * 0x5a) into the kind of memory that PLACE names, answers a line `PLACE PID [ADDRESS]`, or `PLACE none WHY`, and at the end
 * `ready`.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LabNode } from './node.ts';
import type { ContainerSpec, LabPod } from './pod.ts';

export interface Needle {
  readonly text: string;
  /** In the lab node's pid namespace. */
  readonly pid: number;
  /** Where the program says that it put it. */
  readonly address?: bigint;
}

export interface Planter {
  readonly name: string;
  /** For the container's shell. */
  readonly command: string;
  readonly places: readonly string[];
}

export interface Planted {
  readonly pod: LabPod;
  readonly container: string;
  /** Folder of the lab node, as seen from outside, that is /zoo in the container. */
  readonly folder: string;
  readonly needles: Map<string, Needle>;
  /** Why there is no needle in a place, in the kernel's words. */
  readonly refused: Map<string, string>;
  /** The container's processes now: pids in the lab node's pid namespace, by those in the container's. */
  pids(): Map<number, number>;
}

export interface PlantedSpec {
  /** Of the pod and of its container. The node's folder /run/NAME is /zoo in the container; programs may be put there before. */
  readonly name: string;
  readonly planters: readonly Planter[];
  /** Lines of shell that start what needs no needle, or gets it otherwise. */
  readonly beside?: readonly string[];
  readonly container?: Partial<ContainerSpec>;
}

/** Java takes two seconds on a busy machine; a loaded one gets the benefit of the doubt. */
export const START_TIMEOUT_MS = 60_000;

export const newNeedle = (place: string): string => `NEEDLE-${place}-${randomBytes(12).toString('hex')}`;

const coded = (text: string): string => Buffer.from(Buffer.from(text).map((byte) => byte ^ 0x5a)).toString('hex');

/** Compiles a C program for the lab, statically: containers have no libraries to speak of. Answers why it could not. */
export function compileC(source: URL, target: string): string | undefined {
  const flags = ['-O0', '-Wall', '-Werror', '-static', '-pthread'];
  const { status, stderr, error } = spawnSync('gcc', [...flags, '-o', target, fileURLToPath(source)]);
  if (error !== undefined) return `needs gcc: ${error.message}`;
  return status === 0 ? undefined : `needs gcc with libc6-dev: ${stderr.toString().trim().slice(0, 300)}`;
}

/** Pids of a container's processes, nested namespaces included: first two numbers of NSpid in proc(5) status. */
export function pidsOf(node: LabNode, initPid: number): Map<number, number> {
  const text = (pid: number | string, name: string) => readFileSync(join(node.procRoot, String(pid), name), 'latin1');
  const cgroup = text(initPid, 'cgroup');
  const found = new Map<number, number>();
  for (const entry of readdirSync(node.procRoot)) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const [outer, inner] = (/^NSpid:\s+(.*)$/m.exec(text(entry, 'status'))?.[1] ?? '').split('\t').map(Number);
      if (inner !== undefined && outer !== undefined && text(entry, 'cgroup') === cgroup) found.set(inner, outer);
    } catch {
      // Ended while we looked.
    }
  }
  return found;
}

async function untilReady(folder: string, name: string): Promise<string> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const text = readFileSync(join(folder, `${name}.out`), { encoding: 'utf8', flag: 'a+' });
    if (/^ready$/m.test(text)) return text;
    if (Date.now() > deadline) throw new Error(`${name} was not ready in ${START_TIMEOUT_MS} ms and said: ${text}`);
    await sleep(20);
  }
}

/** What the programs answered, line by line. */
function readAnswers(lines: readonly string[], texts: ReadonlyMap<string, string>, pids: ReadonlyMap<number, number>) {
  const needles = new Map<string, Needle>();
  const refused = new Map<string, string>();
  for (const line of lines) {
    const [place = '', pid = '', ...rest] = line.split(' ');
    if (pid === 'none') refused.set(place, rest.join(' '));
    const outer = pids.get(Number(pid));
    const text = texts.get(place);
    if (outer === undefined || text === undefined) continue;
    needles.set(place, { text, pid: outer, ...(rest[0] === undefined ? {} : { address: BigInt(rest[0]) }) });
  }
  return { needles, refused };
}

/**
 * Starts pod prod/NAME with one container of the same name, whose process 1 starts every planter; waits until every needle
 * is in its place. `sharedWith` names places that show the text of another place.
 */
export async function runPlanted(
  node: LabNode,
  spec: PlantedSpec,
  sharedWith: Readonly<Record<string, string>> = {},
): Promise<Planted> {
  const { name, planters, beside = [], container } = spec;
  const inside = `/run/${name}`;
  const folder = join(node.hostRoot, inside);
  mkdirSync(folder, { recursive: true });
  for (const planter of planters) await node.exec(['mkfifo', '-m', '600', `${inside}/${planter.name}.in`]);
  const starts = planters.map((each) => `${each.command} < /zoo/${each.name}.in > /zoo/${each.name}.out 2>&1 &`);
  const command = ['sh', '-c', [...starts, ...beside, 'exec tail -f /dev/null'].join('\n')];
  const mounts = [{ hostPath: inside, containerPath: '/zoo' }, ...(container?.mounts ?? [])];
  const pod = await node.runPod({ namespace: 'prod', name, containers: [{ ...container, name, command, mounts }] });
  const initPid = await pod.pid(name);

  const texts = new Map(planters.flatMap(({ places }) => places).map((place) => [place, newNeedle(place)]));
  for (const [place, origin] of Object.entries(sharedWith)) texts.set(place, texts.get(origin) ?? '');
  const answers = await Promise.all(
    planters.map(async ({ name: planter, places }) => {
      const lines = places.map((place) => `${place} ${coded(texts.get(place) ?? '')}\n`);
      await writeFile(join(folder, `${planter}.in`), lines.join(''));
      return untilReady(folder, planter);
    }),
  );
  const pids = () => pidsOf(node, initPid);
  return { pod, container: name, folder, pids, ...readAnswers(answers.join('').split('\n'), texts, pids()) };
}
