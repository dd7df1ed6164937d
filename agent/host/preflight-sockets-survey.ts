import type { z } from 'zod';
import type { Obstacle } from '../../evidence/dump.ts';
import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import { scanDump } from './netlink.ts';
import type { InetSocket } from './network-inet.ts';
import { NETLINK_DUMPS, parseUnixSockets, type UnixDiagSocket, unixQueueRequest } from './network-netlink.ts';
import { type Asker, dumpSchema, protocolSchema, type Refusal } from './preflight-ask.ts';
import { linksBelow } from './preflight-links.ts';
import { listDescriptors, type ProcessLook } from './preflight-look.ts';
import type { Survey } from './preflight-obstacle.ts';
import {
  type Holders,
  heldTcp,
  protocolObstacles,
  socketInode,
  tcpObstacles,
  unixObstacles,
} from './preflight-sockets.ts';
import type { End } from './process-descriptor.ts';
import { LIMIT_BYTES, MIB, readBounded } from './procfs.ts';

/** Sockets that are asked for their protocol, 25 µs each. */
const SOCKETS_MAX = 16_384;
/** Some 27,000 connections. The node's own table may be longer; reading it holds locks that its connections need. */
const TABLE_MAX_BYTES = 4 * MIB;
/** More than one is an obstacle of its own. */
const NAMESPACES_MAX = 4;

/** The unix sockets of one network namespace; `why`: they cannot be told. */
type UnixTable = { readonly sockets: UnixDiagSocket[] } | { readonly why: string };

/** Finds the sockets that stop CRIU among those that `dumped` hold. `earlier`: the tables that were asked for before. */
export async function socketsSurvey(
  host: Host,
  asker: Asker,
  dumped: readonly ProcessLook[],
  earlier: Promise<ReadonlyMap<number, UnixTable>>,
): Promise<Survey> {
  const holders = holdersOf(dumped);
  if (holders.size === 0) return { obstacles: [], notes: [] };
  const notes: string[] = [];
  const tcp = membersOf(dumped).flatMap((pid) => readTcp(host, pid, holders, notes));
  const early = await earlier;
  const namespaces = membersOf(dumped, early);
  const unknown = namespaces.filter((pid) => !early.has(pid));
  const asked = unknown.length === 0 ? early : new Map([...early, ...(await askUnix(asker, unknown))]);
  const tables = namespaces.flatMap((pid) => {
    const table = asked.get(pid);
    if (table !== undefined && 'sockets' in table) return [table.sockets];
    notes.push(`the other ends of unix sockets cannot be told (${table?.why ?? 'not asked'})`);
    return [];
  });
  const unix = new Set(tables.flatMap((table) => table.map(({ inode }) => inode)));
  const others = [...holders].filter(([inode]) => !unix.has(inode));
  if (others.length > SOCKETS_MAX) notes.push(`${others.length} sockets: ${SOCKETS_MAX} were asked for their protocol`);
  const protocols = await askProtocols(asker, others.slice(0, SOCKETS_MAX), notes);
  const found = [...tcpObstacles(tcp, holders, protocols), ...protocolObstacles(protocols, holders)];
  const suspects = tables.flatMap((table) => unixObstacles(table, holders, false));
  if (suspects.length === 0) return { obstacles: found, notes };
  return { obstacles: [...found, ...(await judgeUnix(host, asker, dumped, namespaces))], notes };
}

/** One process of each network namespace, of those whose table is known where there is one. */
function membersOf(dumped: readonly ProcessLook[], known: ReadonlyMap<number, UnixTable> = new Map()): number[] {
  const members = new Map<string | undefined, number>();
  for (const { pid, namespaces } of dumped) {
    if (!members.has(namespaces.net) || known.has(pid)) members.set(namespaces.net, pid);
  }
  return [...members.values()].slice(0, NAMESPACES_MAX);
}

function holdersOf(dumped: readonly ProcessLook[]): Map<number, End> {
  const holders = new Map<number, End>();
  for (const { pid, descriptors } of dumped) {
    for (const { fd, target } of descriptors) {
      const inode = socketInode(target);
      if (inode !== undefined && !holders.has(inode)) holders.set(inode, { pid, fd });
    }
  }
  return holders;
}

async function askProtocols(
  asker: Asker,
  sockets: readonly (readonly [inode: number, end: End])[],
  notes: string[],
): Promise<Map<number, string>> {
  const items = sockets.map(([, { pid, fd }]) => ({ pid, name: `fd/${fd}` }));
  const answers = await asker.ask({ ask: 'protocols', items }, protocolSchema);
  const protocols = new Map<number, string>();
  let refused: string | undefined;
  for (const [index, answer] of answers.entries()) {
    const inode = sockets[index]?.[0];
    if (inode === undefined) continue;
    if ('protocol' in answer) protocols.set(inode, answer.protocol);
    // ENOENT: closed since; ENODATA and ENOTSUP: the descriptor is another file by now.
    else if (!['ENOENT', 'E2', 'E61', 'E95'].includes(answer.errno)) refused ??= answer.errno;
  }
  if (refused !== undefined)
    notes.push(`MPTCP and vsock cannot be told: protocols of sockets are refused (${refused})`);
  return protocols;
}

/**
 * Whether the namespace has TCP sockets that a table would show. To make one the kernel walks through the hash of all
 * connections of the machine, which takes milliseconds even where there are none.
 */
function hasTcp(host: Host, pid: number, family: InetSocket['family']): boolean {
  const name = family === 'ipv4' ? 'sockstat' : 'sockstat6';
  const reading = readBounded(procPath(host, pid, 'net', name), LIMIT_BYTES.small);
  return reading.kind === 'failed' || !/^TCP6?: inuse 0\b/m.test(latin1(reading.bytes));
}

/** By pid the table of the network namespace that it is in. */
export async function askUnix(asker: Asker, pids: readonly number[]): Promise<Map<number, UnixTable>> {
  const message = unixQueueRequest().toString('base64');
  const { protocol } = NETLINK_DUMPS.unix;
  const items = pids.map((pid) => ({ pid }));
  const answers = await asker.ask({ ask: 'netlink', items, protocol, message }, dumpSchema);
  return new Map(answers.map((answer, index) => [pids[index] ?? 0, tableOf(answer)]));
}

function tableOf(answer: z.infer<typeof dumpSchema> | Refusal): UnixTable {
  if ('errno' in answer) return { why: answer.errno };
  if (answer.truncated) return { why: 'there are too many' };
  const bytes = Buffer.from(answer.dump, 'base64');
  const { errno } = scanDump(bytes);
  return errno === 0 ? { sockets: parseUnixSockets(bytes) } : { why: `E${errno}` };
}

function readTcp(host: Host, pid: number, holders: Holders, notes: string[]): InetSocket[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) => {
    const name = family === 'ipv4' ? 'tcp' : 'tcp6';
    if (!hasTcp(host, pid, family)) return [];
    const reading = readBounded(procPath(host, pid, 'net', name), TABLE_MAX_BYTES);
    if (reading.kind === 'failed') {
      // A kernel without IPv6 has no tcp6.
      if (reading.errno !== 'ENOENT') notes.push(`the table ${name} cannot be read (${reading.errno})`);
      return [];
    }
    if (reading.truncated)
      notes.push(`the table ${name} is longer than ${TABLE_MAX_BYTES / MIB} MiB: the rest was not read`);
    return heldTcp(reading.bytes, family, holders);
  });
}

/**
 * Table and list of descriptors are of different moments: a connection that was made or closed in between looks as if its
 * other end were outside. So before anything is said both are read once more: first the table, then the list, so that what
 * the table has is in the list or closed, and then its holder is not there any more either.
 */
async function judgeUnix(
  host: Host,
  asker: Asker,
  dumped: readonly ProcessLook[],
  namespaces: readonly number[],
): Promise<Obstacle[]> {
  const tables = await askUnix(asker, namespaces);
  const holders = new Map<number, End>();
  let inMessages = false;
  for (const { pid } of dumped) {
    const names = listDescriptors(procPath(host, pid, 'fd'));
    using links = linksBelow(procPath(host, pid, 'fd'));
    for (const fd of typeof names === 'string' ? [] : names) {
      const inode = socketInode(links.read(fd) ?? '');
      if (inode === undefined) continue;
      holders.set(inode, { pid, fd: Number(fd) });
      inMessages ||= hasDescriptorsInQueue(procPath(host, pid, 'fdinfo', fd));
    }
  }
  return [...tables.values()].flatMap((table) =>
    'sockets' in table ? unixObstacles(table.sockets, holders, inMessages) : [],
  );
}

/** `scm_fds` of unix(7)'s fdinfo, since Linux 5.7. */
function hasDescriptorsInQueue(path: string): boolean {
  const info = readBounded(path, LIMIT_BYTES.small, true);
  return info.kind === 'read' && /^scm_fds: [1-9]/m.test(latin1(info.bytes));
}
