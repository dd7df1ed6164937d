/** What breaks in a lab of cuts: a schedule that a seed decides, each fault undone before the next of its lane begins. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentPart, CutsLab } from './cuts-lab.ts';
import { between, pick, type Random, shuffled } from './seeded.ts';

type Killed = Pick<CutsLab['replicas'][number], 'name' | 'kill' | 'start'>;

/** Done, for a while, and undone. */
export interface Fault {
  readonly words: string;
  run(): Promise<void>;
}

/** Two heartbeats and a second (docs/controller-link.md): either side has let go of the stream by then. */
const BEYOND_HEARTBEATS_MS = 33_000;

/** What happens to networks: a blackhole at every host, a link down at every other one, and a blackhole that outlasts the heartbeats. */
export function networkFaults({ hosts, agents }: CutsLab, random: Random): Fault[] {
  const cut = (host: CutsLab['hosts'][number], how: 'down' | 'blackhole', lengthMs: number): Fault => ({
    words: `${how} at ${host.name} for ${Math.round(lengthMs)} ms`,
    async run() {
      await host.cut(how);
      await sleep(lengthMs);
      await host.heal();
    },
  });
  const short = () => between(random, 300, 4_000);
  const holes = hosts.map((host) => cut(host, 'blackhole', short()));
  const links = shuffled(random, hosts).slice(0, Math.ceil(hosts.length / 2));
  const long = cut(pick(random, agents).host, 'blackhole', BEYOND_HEARTBEATS_MS);
  return [long, ...shuffled(random, [...holes, ...links.map((host) => cut(host, 'down', short()))])];
}

/** A kill in the middle of nothing shows little; a node that is cut off has nothing to do for as long. */
const WAIT_FOR_CAPTURE_MS = 6_000;

/** One of them has a bundle that is not sealed yet. */
function isCapturing(agents: readonly AgentPart[]): boolean {
  return agents.some(({ name, process }) => {
    const base = join(process.evidence, 'lab', name);
    return existsSync(base) && readdirSync(base).some((id) => !existsSync(join(base, id, 'manifest.json')));
  });
}

async function untilCapturing(agents: readonly AgentPart[]): Promise<void> {
  const deadline = Date.now() + WAIT_FOR_CAPTURE_MS;
  while (!isCapturing(agents) && Date.now() < deadline) await sleep(5);
}

/** What happens to processes: every part is killed, the controllers are stopped as well, and PostgreSQL is restarted. */
export function processFaults({ replicas, agents, postgres }: CutsLab, random: Random): Fault[] {
  const pause = () => between(random, 100, 2_000);
  const kill = (part: Killed, busy: readonly AgentPart[]): Fault => {
    const lengthMs = pause();
    return {
      words: `SIGKILL of ${part.name}, back after ${Math.round(lengthMs)} ms`,
      async run() {
        await untilCapturing(busy);
        await part.kill();
        await sleep(lengthMs);
        await part.start();
      },
    };
  };
  const kills = [...replicas.map((part) => kill(part, agents)), ...agents.map((part) => kill(part, [part]))];
  const stops = replicas.map((part): Fault => {
    const lengthMs = 2 * pause();
    return {
      words: `SIGSTOP of ${part.name} for ${Math.round(lengthMs)} ms`,
      async run() {
        const { pid } = part.process;
        process.kill(pid, 'SIGSTOP');
        await sleep(lengthMs);
        process.kill(pid, 'SIGCONT');
      },
    };
  });
  const restarts = (['fast', 'immediate'] as const).flatMap((how): Fault[] => {
    if (postgres === undefined) return [];
    const lengthMs = pause();
    return [
      {
        words: `PostgreSQL stopped (${how}) for ${Math.round(lengthMs)} ms`,
        async run() {
          await postgres.stop(how);
          await sleep(lengthMs);
          await postgres.start();
        },
      },
    ];
  });
  const again = agents.map((part) => kill(part, [part]));
  return [...shuffled(random, [...kills, ...stops, ...restarts]), ...shuffled(random, again)];
}

/** What would begin later is left out: a busy machine takes a minute for what takes seconds elsewhere. */
const LANE_MS = 75_000;

/** One after the other, with pauses between them. */
export async function runLane(faults: readonly Fault[], random: Random, told: (words: string) => void): Promise<void> {
  const beginMs = Date.now();
  for (const fault of faults) {
    if (Date.now() - beginMs > LANE_MS) {
      told(`left out, since there was no time: ${fault.words}`);
      continue;
    }
    await sleep(between(random, 100, 1_500));
    told(fault.words);
    await fault.run();
  }
}
