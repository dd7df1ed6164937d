/**
 * A container with programs of many kinds, each of which holds needles: see planted.ts. redis and nginx get theirs as their
 * clients would send them.
 */
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { labRoot, zooRoot, zooSource } from './cache.mjs';
import type { LabNode } from './node.ts';
import {
  compileC,
  type Needle,
  newNeedle,
  type Planted,
  type Planter,
  runPlanted,
  START_TIMEOUT_MS,
} from './planted.ts';

export interface Zoo extends Disposable {
  readonly target: string;
  readonly needles: ReadonlyMap<string, Needle>;
  /** Why there is no needle in a place. */
  readonly absent: ReadonlyMap<string, string>;
}

/** A program, and the file below the node's root that shows that the set-up could get it. */
interface Animal extends Planter {
  readonly needs: string;
}

const C_PLACES = [
  'c-heap',
  'c-stack',
  'c-mmap',
  'c-sysv',
  'c-posix-shm',
  'c-memfd',
  'c-huge',
  'c-prot-none',
  'c-swapped',
  'c-file-private',
  'c-file-shared',
  'c-thread-stack',
  'c-child-shared',
  'c-nested',
];

/** What the child wrote, as its parent maps it. */
const SEEN_BY_OTHERS = { 'c-parent-shared': 'c-child-shared' };

const ANIMALS: readonly Animal[] = [
  { name: 'c', needs: 'run/zoo-0/zoo-c', command: '/zoo/zoo-c', places: C_PLACES },
  { name: 'go', needs: 'opt/zoo/zoo-go', command: '/opt/zoo/zoo-go', places: ['go-string', 'go-stack'] },
  {
    name: 'java',
    needs: 'opt/zoo/Zoo.class',
    command: '/usr/lib/jvm/java-25-*/bin/java -XX:+UseSerialGC -Xmx32m -cp /opt/zoo Zoo',
    places: ['java-string', 'java-direct'],
  },
  {
    name: 'python',
    needs: 'usr/bin/python3',
    command: 'python3 /zoo/zoo.py',
    places: ['python-str', 'python-bytearray', 'python-mmap'],
  },
  {
    name: 'node',
    needs: 'opt/zoo/node',
    command: '/opt/zoo/node /zoo/zoo.js',
    places: ['node-string', 'node-buffer', 'node-shared'],
  },
];

/** A program that gets its needle from a client. */
interface Server extends Animal {
  readonly places: readonly [string];
  /** How the command line of the process begins that has it. */
  readonly process: string;
  give(folder: string, text: string): Promise<Socket>;
}

const SERVERS: readonly Server[] = [
  {
    name: 'redis',
    needs: 'usr/bin/redis-server',
    command: 'redis-server --port 0 --unixsocket /zoo/redis.sock --save "" --dir /tmp',
    places: ['redis-value'],
    process: 'redis-server',
    give: giveRedis,
  },
  {
    name: 'nginx',
    needs: 'usr/sbin/nginx',
    command: '/usr/sbin/nginx -e stderr -c /zoo/nginx.conf',
    places: ['nginx-request'],
    process: 'nginx: worker',
    give: giveNginx,
  },
];

/** Every place, whether or not this machine has it. */
export const PLACES: readonly string[] = [
  ...[...ANIMALS, ...SERVERS].flatMap(({ places }) => places),
  ...Object.keys(SEEN_BY_OTHERS),
];

const NGINX = `daemon off; worker_processes 1; user root; pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((each) => `${each}_temp_path /tmp/${each};`).join(' ')}
  server { listen unix:/zoo/nginx.sock; }
}
`;

/** Root for a node that is to have a zoo: without the set-up's, only C programs can be captured. */
export const zooNodeRoot = (): string => (existsSync(zooRoot()) ? zooRoot() : labRoot());

/** Folders of the node that make its programs run in the container, which has an image of its own. */
function mounts(node: LabNode) {
  const java = globSync('etc/java-*', { cwd: node.hostRoot });
  const programs = existsSync(join(node.hostRoot, 'opt/zoo')) ? ['usr', 'opt/zoo', ...java] : [];
  return programs.map((path) => ({ hostPath: `/${path}`, containerPath: `/${path}`, readonly: true }));
}

async function connected(path: string): Promise<Socket> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const socket = connect(path);
    const error = await new Promise<Error | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined));
      socket.once('error', resolve);
    });
    if (error === undefined) return socket;
    if (Date.now() > deadline) throw error;
    await sleep(20);
  }
}

/** redis answers once the value is in its memory. */
async function giveRedis(folder: string, text: string): Promise<Socket> {
  const socket = await connected(join(folder, 'redis.sock'));
  const answer = new Promise((resolve) => socket.once('data', resolve));
  socket.write(`SET zoo ${text}\r\n`);
  await answer;
  return socket;
}

/** A header of a request that does not end: nginx keeps it in the connection's buffer. */
async function giveNginx(folder: string, text: string): Promise<Socket> {
  const socket = await connected(join(folder, 'nginx.sock'));
  // One whole request before tells that the worker, and not only the kernel, has the connection.
  const answer = new Promise((resolve) => socket.once('data', resolve));
  socket.write('GET / HTTP/1.1\r\nHost: zoo\r\n\r\n');
  await answer;
  socket.write(`GET / HTTP/1.1\r\nHost: zoo\r\nX-Token: ${text}\r\n`);
  // The worker reads what is there within milliseconds, and nothing tells that it has.
  await sleep(200);
  return socket;
}

async function serve(node: LabNode, planted: Planted, { places, process, give }: Server): Promise<Socket> {
  const text = newNeedle(places[0]);
  const socket = await give(planted.folder, text);
  const commandOf = (pid: number) => readFileSync(join(node.procRoot, String(pid), 'cmdline'), 'latin1');
  const pid = [...planted.pids().values()].find((each) => commandOf(each).startsWith(process));
  if (pid === undefined) throw new Error(`no process of the zoo is ${process}`);
  planted.needles.set(places[0], { text, pid });
  return socket;
}

/** Answers why there is no C program. */
function stock(node: LabNode): string | undefined {
  const folder = join(node.hostRoot, 'run/zoo-0');
  mkdirSync(folder, { recursive: true });
  for (const name of ['zoo.py', 'zoo.js']) writeFileSync(join(folder, name), readFileSync(zooSource(name)));
  writeFileSync(join(folder, 'nginx.conf'), NGINX);
  return compileC(zooSource('zoo.c'), join(folder, 'zoo-c'));
}

/** Starts the zoo on a node whose root is `zooNodeRoot()`, and waits until every needle is in its place. */
export async function startZoo(node: LabNode): Promise<Zoo> {
  const absent = new Map<string, string>();
  const noCompiler = stock(node);
  const isThere = ({ name, places, needs }: Animal): boolean => {
    if (existsSync(join(node.hostRoot, needs))) return true;
    const why = name === 'c' ? noCompiler : undefined;
    for (const place of places) absent.set(place, why ?? `needs ${name}, which the set-up could not get for the lab`);
    return false;
  };
  const servers = SERVERS.filter(isThere);
  const planted = await runPlanted(
    node,
    {
      name: 'zoo-0',
      planters: ANIMALS.filter(isThere),
      beside: servers.map(({ name, command }) => `${command} > /zoo/${name}.out 2>&1 < /dev/null &`),
      container: { mounts: mounts(node), capabilities: ['SYS_ADMIN'] },
    },
    SEEN_BY_OTHERS,
  );
  for (const [place, why] of planted.refused) absent.set(place, `needs what this machine refuses: ${why}`);
  const sockets: Socket[] = [];
  for (const server of servers) sockets.push(await serve(node, planted, server));
  const dispose = () => {
    for (const socket of sockets) socket.destroy();
  };
  return { target: 'prod/zoo-0', needles: planted.needles, absent, [Symbol.dispose]: dispose };
}
