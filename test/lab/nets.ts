/**
 * Networks of the lab: hosts, each in a network namespace of its own with an address, and a router between them in another one.
 * This machine's own network is not touched and sees nothing of it. Each namespace is held by a process that ends when its
 * starter does, and the kernel takes back links, routes and rules with it.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { run } from './machine.ts';

/** Of the hosts: 10.77.N.2 behind the router's 10.77.N.1. The lab node's pods have 10.88.0.0/24. */
export const NETWORK = '10.77.0.0/16';

/** The third number of an address. */
const MAX_HOSTS = 250;

/**
 * How a network goes away. `down`: the host's own interface has no link, which both its programs and the peer's notice or not.
 * `blackhole`: the router drops what comes from the host and what goes to it, and tells nobody: connections just hang.
 */
export type Cut = 'down' | 'blackhole';

export interface NetHost {
  readonly name: string;
  readonly address: string;
  /** The words before a command that runs it here; the process keeps its pid. */
  readonly enter: readonly string[];
  /** Until `heal`. Several kinds add up. */
  cut(how: Cut): Promise<void>;
  heal(): Promise<void>;
  /** Each packet in both directions takes so much longer, until disposed of; see `slowObstacle`. */
  slow(delayMs: number): Promise<AsyncDisposable>;
}

export interface LabNetwork extends AsyncDisposable {
  /** A new one, or the namespace in which the process `pid` is: that of a lab node. */
  host(name: string, pid?: number): Promise<NetHost>;
}

const FOLDERS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin', ...(process.env.PATH ?? '').split(delimiter)];

/** Why no network namespaces can be made here, in words for a skipped test; undefined when they can. */
export function netsObstacle(): string | undefined {
  if (process.platform !== 'linux') return `needs Linux: this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root: makes network namespaces';
  const packages = { ip: 'iproute2', unshare: 'util-linux', nsenter: 'util-linux', setpriv: 'util-linux' };
  for (const [program, debian] of Object.entries(packages))
    if (!FOLDERS.some((folder) => existsSync(join(folder, program)))) return `needs ${program} (Debian's ${debian})`;
  if (!existsSync('/proc/self/ns/net')) return 'needs network namespaces in the kernel';
  return undefined;
}

/** Why `slow` cannot work here: netem is a module that not every kernel has, and its configuration says so where it is shown. */
export function slowObstacle(): string | undefined {
  const obstacle = netsObstacle();
  if (obstacle !== undefined || !existsSync('/proc/config.gz')) return obstacle;
  const config = gunzipSync(readFileSync('/proc/config.gz')).toString('latin1');
  return /^CONFIG_NET_SCH_NETEM=[ym]$/m.test(config) ? undefined : 'needs netem in the kernel (CONFIG_NET_SCH_NETEM)';
}

interface Namespace extends AsyncDisposable {
  readonly enter: readonly string[];
}

/** cat(1) answers once it runs inside, and ends at the end of its input: when told, and when this process dies. */
async function newNamespace(): Promise<Namespace> {
  const holder: ChildProcessWithoutNullStreams = spawn('unshare', ['--net', '--', 'cat'], { stdio: 'pipe' });
  const gone = once(holder, 'close');
  let refused = '';
  holder.stderr.on('data', (chunk: Buffer) => {
    refused += chunk.toString();
  });
  holder.stdin.on('error', () => {}); // EPIPE: it has ended, and `gone` tells.
  holder.stdin.write('here\n');
  const isHere = await Promise.race([once(holder.stdout, 'data').then(() => true), gone.then(() => false)]);
  if (!isHere) throw new Error(`no network namespace: ${refused.trim()}`);
  return {
    enter: entering(holder.pid ?? 0),
    async [Symbol.asyncDispose]() {
      holder.stdin.end();
      await gone;
    },
  };
}

/** What runs in a namespace of the lab ends with the test, also where the test is killed. */
const DYING_WITH_US = ['setpriv', '--pdeathsig', 'KILL', '--'];

const entering = (pid: number): readonly string[] => [...DYING_WITH_US, 'nsenter', namespaceOf(pid), '--'];

const namespaceOf = (pid: number): string => `--net=/proc/${pid}/ns/net`;

async function must(inside: readonly string[], ...argv: readonly string[]): Promise<void> {
  const [program = '', ...rest] = [...inside, ...argv];
  const { code, stderr } = await run(program, rest);
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr.trim()}`);
}

/**
 * The router, to which hosts are added.
 * @throws Error with the words of ip(8) where the kernel refuses
 */
export async function startNetwork(): Promise<LabNetwork> {
  await using stack = new AsyncDisposableStack();
  const router = stack.use(await newNamespace());
  await must(router.enter, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  const kept = stack.move();
  let count = 0;
  return {
    async host(name, pid) {
      if (count === MAX_HOSTS) throw new Error(`a network of the lab has ${MAX_HOSTS} hosts at most`);
      count += 1;
      const number = count;
      const own = pid === undefined ? kept.use(await newNamespace()) : { enter: entering(pid) };
      return await connect(router.enter, own.enter, { name, number });
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** A cable between the router's `portN` and the host's `eth0`. */
async function connect(
  router: readonly string[],
  enter: readonly string[],
  { name, number }: { name: string; number: number },
): Promise<NetHost> {
  const [port, gateway, address] = [`port${number}`, `10.77.${number}.1`, `10.77.${number}.2`];
  const namespace = enter.find((word) => word.startsWith('--net='))?.replace('--net=', '') ?? '';
  await must(router, 'ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
  await must(router, 'ip', 'address', 'add', `${gateway}/24`, 'dev', port);
  await must(router, 'ip', 'link', 'set', port, 'up');
  await must(enter, 'ip', 'link', 'set', 'lo', 'up');
  await must(enter, 'ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
  const up = async () => {
    await must(enter, 'ip', 'link', 'set', 'eth0', 'up');
    // A link that went down took its routes with it.
    await must(enter, 'ip', 'route', 'replace', 'default', 'via', gateway);
  };
  await up();
  const rules = async (what: 'add' | 'delete') => {
    for (const side of ['from', 'to'])
      await must(router, 'ip', 'rule', what, side, address, 'priority', '10', 'blackhole');
  };
  const cuts = new Set<Cut>();
  return {
    ...{ name, address, enter },
    async cut(how) {
      if (cuts.has(how)) return;
      cuts.add(how);
      if (how === 'down') await must(enter, 'ip', 'link', 'set', 'eth0', 'down');
      else await rules('add');
    },
    async heal() {
      if (cuts.delete('down')) await up();
      if (cuts.delete('blackhole')) await rules('delete');
    },
    async slow(delayMs) {
      const ends = [
        [router, port],
        [enter, 'eth0'],
      ] as const;
      for (const [inside, device] of ends)
        await must(inside, 'tc', 'qdisc', 'replace', 'dev', device, 'root', 'netem', 'delay', `${delayMs}ms`);
      return {
        async [Symbol.asyncDispose]() {
          for (const [inside, device] of ends) await must(inside, 'tc', 'qdisc', 'delete', 'dev', device, 'root');
        },
      };
    },
  };
}
