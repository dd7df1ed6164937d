/**
 * `npm run bench -- neighbour`: what a capture does to another container of the node, beside gcore and tar.
 *
 *   npm run bench -- neighbour [--size MIB] [--layer MIB] [--seconds S] [--rounds N] [--json FILE]
 *
 * Debian's redis-server in one pod, asked by redis-benchmark in the same pod over a Unix socket by a few clients that each wait for
 * their answer; in another pod a victim with so much memory and so much in its writable layer. While redis-benchmark runs, the
 * victim is captured again and again, so that every request falls into a capture. All ways in turn, several rounds, in one run; the
 * medians are printed with the load of the machine. Latencies are this machine's: compare the ratios.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { connectAgent } from '../cli/client.ts';
import { startAgent } from '../test/lab/agent.ts';
import { run } from '../test/lab/machine.ts';
import { startNode } from '../test/lab/node.ts';
import type { LabPod } from '../test/lab/pod.ts';
import { zooNodeRoot } from '../test/lab/zoo.ts';
import { startLoad } from './load.ts';
import { median } from './median.ts';

const SERVER = 'redis';
const SOCKET = '/tmp/redis.sock';
/** Enough that the server is never idle for long, few enough that a request waits for a processor and not for its neighbours. */
const CLIENTS = 4;
const CALIBRATION_REQUESTS = 20_000;

interface Latency {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}

interface Figure extends Latency {
  readonly way: string;
  readonly captures: number;
  /** Of one capture, the mean. */
  readonly captureMs: number;
  /** CPU time of the agent's process by wall time, over its captures; NaN of others. */
  readonly cores: number;
  readonly load: number;
}

interface Way {
  readonly name: string;
  /** One capture, to its end; undefined: none. */
  readonly go: (() => Promise<unknown>) | undefined;
  readonly agentPid?: number;
}

function readArguments(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: '1024' },
      layer: { type: 'string', default: '256' },
      seconds: { type: 'string', default: '20' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string', default: path.join('out', 'bench-neighbour.json') },
    },
  });
  const number = (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1) throw new Error(`${text} is no number of at least 1`);
    return value;
  };
  return {
    ...{ sizeMib: number(values.size), layerMib: number(values.layer), seconds: number(values.seconds) },
    ...{ rounds: number(values.rounds), json: values.json },
  };
}

/** What redis-benchmark prints of one test: a summary, and the latency at percentiles that halve what is left each time. */
function parseLatency(text: string): Latency {
  const requestsPerSecond = Number(/throughput summary: ([\d.]+) requests per second/.exec(text)?.[1]);
  const [, , p50, , p99] =
    /avg\s+min\s+p50\s+p95\s+p99\s+max\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)/.exec(text)?.slice(1) ??
    [];
  const steps = [...text.matchAll(/([\d.]+)% <= ([\d.]+) milliseconds/g)].map(([, at, ms]) => [Number(at), Number(ms)]);
  const p999Ms = steps.find(([at = 0]) => at >= 99.9)?.[1];
  const latency = { requestsPerSecond, p50Ms: Number(p50), p99Ms: Number(p99), p999Ms: p999Ms ?? Number.NaN };
  if (Object.values(latency).some(Number.isNaN)) throw new Error(`redis-benchmark said something else: ${text}`);
  return latency;
}

async function ask(pod: LabPod, requests: number): Promise<Latency> {
  const argv = ['redis-benchmark', '-s', SOCKET, '-t', 'get', '-c', String(CLIENTS), '-n', String(requests)];
  const { code, stdout, stderr } = await pod.exec(SERVER, [...argv, '-d', '512', '-r', '100000', '--precision', '3']);
  if (code !== 0) throw new Error(`redis-benchmark: ${stderr}`);
  return parseLatency(stdout.toString());
}

/** proc(5) stat: utime and stime, in ticks of 10 ms. */
function cpuMsOf(pid: number): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ');
  const [user, system] = fields.split(' ').slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}

/** Captures again and again until all requests are answered; the last capture is waited for. */
async function measure(pod: LabPod, requests: number, way: Way): Promise<Figure> {
  let isAnswered = false;
  const answered = ask(pod, requests).finally(() => {
    isAnswered = true;
  });
  answered.catch(() => undefined);
  const cpuMs = () => (way.agentPid === undefined ? Number.NaN : cpuMsOf(way.agentPid));
  const [begin, cpuBefore] = [performance.now(), cpuMs()];
  let captures = 0;
  while (way.go !== undefined && !isAnswered) {
    await way.go();
    captures += 1;
  }
  const wallMs = performance.now() - begin;
  const cores = (cpuMs() - cpuBefore) / wallMs;
  const captureMs = captures === 0 ? 0 : wallMs / captures;
  return { way: way.name, ...(await answered), captures, captureMs, cores, load: os.loadavg()[0] ?? 0 };
}

/** Ratios are those to `no capture` of the same round, since the rest of the machine changes from round to round. */
function table(figures: readonly Figure[], ways: readonly Way[]): string {
  const of = (name: string) => figures.filter(({ way }) => way === name);
  const base = of(ways[0]?.name ?? '');
  const cell = (own: readonly Figure[], pick: (one: Figure) => number, digits: number) => {
    const ratios = own.map((one, round) => pick(one) / (base[round] === undefined ? Number.NaN : pick(base[round])));
    return `${median(own.map(pick)).toFixed(digits)} (${median(ratios).toFixed(2)})`;
  };
  return [
    '| | p50, ms (ratio) | p99 | p99.9 | requests/s | one capture, s | cores of the agent |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...ways.map(({ name }) => {
      const own = of(name);
      const latencies = [(one: Figure) => one.p50Ms, (one: Figure) => one.p99Ms, (one: Figure) => one.p999Ms];
      const cells = latencies.map((pick) => cell(own, pick, 3));
      const seconds = (median(own.map((one) => one.captureMs)) / 1000).toFixed(1);
      const cores = median(own.map((one) => one.cores));
      const rest = [cell(own, (one) => one.requestsPerSecond, 0), seconds, Number.isNaN(cores) ? '' : cores.toFixed(2)];
      return `| ${[name, ...cells, ...rest].join(' | ')} |`;
    }),
  ].join('\n');
}

/** The upper directory of a container's root, as this machine reaches it. */
function upperOf(hostRoot: string, procRoot: string, nsPid: number): string {
  const line = readFileSync(path.join(procRoot, String(nsPid), 'mountinfo'), 'latin1').split('\n')[0] ?? '';
  const upper = /upperdir=([^,\s]+)/.exec(line)?.[1];
  if (upper === undefined) throw new Error(`no upper directory in ${line}`);
  return path.join(hostRoot, upper);
}

/** What is heavy: the others take milliseconds. */
const ARTIFACTS = ['memory', 'rootfs'];

export async function neighbour(args: readonly string[]): Promise<void> {
  const { sizeMib, layerMib, seconds, rounds, json } = readArguments(args);
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-'));
  try {
    await using node = await startNode({ root: zooNodeRoot(), disk: true });
    const command = ['redis-server', '--port', '0', '--unixsocket', SOCKET, '--save', '', '--dir', '/tmp'];
    // Redis is in the node's root, not in the image.
    const mounts = [{ hostPath: '/usr', containerPath: '/usr', readonly: true }];
    const server = await node.runPod({
      ...{ namespace: 'shop', name: 'cache' },
      containers: [{ name: SERVER, command, mounts }],
    });
    const victim = await startLoad(node, 'victim', sizeMib, 1);
    await victim.pod.exec('load', ['dd', 'if=/dev/urandom', 'of=/data', 'bs=1048576', `count=${layerMib}`]);
    const { signal } = new AbortController();
    await using agents = new AsyncDisposableStack();
    const exhibit = async (name: string, limits: Record<string, unknown>): Promise<Way> => {
      const config = { memory: { bufferBytes: `${sizeMib * 2}MiB` }, limits };
      const agent = agents.use(await startAgent(node, { config }));
      const client = agents.use(await connectAgent(agent.socket, signal));
      // Without the command line, which would be a program of its own on the node.
      const go = async () => {
        const request = { selector: { containerId: victim.containerId }, artifacts: ARTIFACTS };
        for await (const { ended } of client.capture(request, signal))
          if (ended && ended.state !== 'complete') throw new Error(`${ended.state}: ${ended.error}`);
        await rm(agent.evidence, { recursive: true, force: true });
      };
      return { name, go, agentPid: agent.pid };
    };
    const pid = victim.nsPids[0] ?? 0;
    const upper = upperOf(node.hostRoot, node.procRoot, pid);
    const ways: Way[] = [
      { name: 'no capture', go: undefined },
      await exhibit('exhibit, no limits', { cpuPercent: 0, readBytesPerSecond: 0, ioPriority: 'normal' }),
      await exhibit('exhibit, one core', { cpuPercent: 100 }),
      await exhibit('exhibit, half a core (default)', { cpuPercent: 50, readBytesPerSecond: '64MiB' }),
      {
        name: 'gcore, then tar, to the disk',
        go: async () => {
          await run('gcore', ['-o', path.join(scratch, 'core'), String(node.hostPid(pid))]);
          await run('tar', ['-C', upper, '--xattrs', '-czf', path.join(scratch, 'layer.tar.gz'), '.']);
        },
      },
    ];
    const { requestsPerSecond } = await ask(server, CALIBRATION_REQUESTS);
    const requests = Math.ceil(requestsPerSecond * seconds);
    const figures: Figure[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      for (const way of ways) {
        const figure = await measure(server, requests, way);
        process.stderr.write(`round ${round}/${rounds}: ${JSON.stringify(figure)}\n`);
        figures.push(figure);
      }
    }
    const residentMib = Math.round(victim.residentBytes / 2 ** 20);
    const loads = figures.map(({ load }) => load);
    process.stdout.write(
      `\nA victim with ${residentMib} MiB resident and ${layerMib} MiB written; GET of 512 bytes by ${CLIENTS} clients, ${requests} requests a way and round, ` +
        `${rounds} rounds, medians; ${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}, load average ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}\n\n`,
    );
    process.stdout.write(`${table(figures, ways)}\n`);
    mkdirSync(path.dirname(json), { recursive: true });
    writeFileSync(
      json,
      `${JSON.stringify({ at: new Date().toISOString(), sizeMib, layerMib, residentMib, rounds, requests, kernel: os.release(), cpus: os.cpus().length, figures }, null, 2)}\n`,
    );
    process.stdout.write(`\nAll figures: ${json}\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
