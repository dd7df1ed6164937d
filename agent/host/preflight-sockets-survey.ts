import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import type { InetSocket } from './network-inet.ts';
import { NETLINK_DUMPS, parseUnixSockets, scanDump, type UnixDiagSocket, unixQueueRequest } from './network-netlink.ts';
import { type Asker, dumpSchema, protocolSchema } from './preflight-ask.ts';
import { listDescriptors, type ProcessLook, readText } from './preflight-look.ts';
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

/** Sockets that are looked at, 3 µs each. */
const SOCKETS_MAX = 16_384;
/** Some 27,000 connections. The node's own table may be longer; reading it holds locks that its connections need. */
const TABLE_MAX_BYTES = 4 * MIB;
/** More than one is an obstacle of its own. */
const NAMESPACES_MAX = 4;

/** Finds the sockets that stop CRIU among those that `dumped` hold. */
export async function socketsSurvey(
  host: Host,
  asker: Asker,
  dumped: readonly ProcessLook[],
  signal: AbortSignal,
): Promise<Survey> {
  const holders = holdersOf(dumped);
  if (holders.size === 0) return { obstacles: [], notes: [] };
  const notes: string[] = [];
  const members = [...new Map(dumped.toReversed().map((look) => [look.namespaces.net, look.pid])).values()];
  const namespaces = members.slice(0, NAMESPACES_MAX);
  const tables = await askUnix(asker, namespaces, notes);
  const unix = new Set(tables.flatMap((table) => table.map(({ inode }) => inode)));
  const others = [...holders].filter(([inode]) => !unix.has(inode));
  if (others.length > SOCKETS_MAX) notes.push(`${others.length} sockets: ${SOCKETS_MAX} were asked for their protocol`);
  const protocols = await askProtocols(asker, others.slice(0, SOCKETS_MAX), notes);
  signal.throwIfAborted();
  const tcp = namespaces.flatMap((pid) => readTcp(host, pid, holders, notes));
  const found = [...tcpObstacles(tcp, holders, protocols), ...protocolObstacles(protocols, holders)];
  return { obstacles: [...found, ...judgeUnix(host, dumped, tables, holders)], notes };
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

/** One table a network namespace. */
async function askUnix(asker: Asker, pids: readonly number[], notes: string[]): Promise<UnixDiagSocket[][]> {
  const message = unixQueueRequest().toString('base64');
  const { protocol } = NETLINK_DUMPS.unix;
  const items = pids.map((pid) => ({ pid }));
  const answers = await asker.ask({ ask: 'netlink', items, protocol, message }, dumpSchema);
  return answers.map((answer) => {
    const why = 'errno' in answer ? answer.errno : answer.truncated ? 'there are too many' : undefined;
    const bytes = 'dump' in answer ? Buffer.from(answer.dump, 'base64') : Buffer.alloc(0);
    const { errno } = scanDump(bytes.subarray(-20));
    if (why !== undefined) notes.push(`the other ends of unix sockets cannot be told (${why})`);
    else if (errno !== 0) notes.push(`the other ends of unix sockets cannot be told (E${errno})`);
    return why === undefined ? parseUnixSockets(bytes) : [];
  });
}

function readTcp(host: Host, pid: number, holders: Holders, notes: string[]): InetSocket[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) => {
    const name = family === 'ipv4' ? 'tcp' : 'tcp6';
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
 * The table is younger than the list of descriptors: a connection that was made in between looks as if its other end were
 * outside. So descriptors are listed once more before anything is said.
 */
function judgeUnix(host: Host, dumped: readonly ProcessLook[], tables: readonly UnixDiagSocket[][], holders: Holders) {
  const suspects = tables.flatMap((table) => unixObstacles(table, holders, false));
  if (suspects.length === 0) return [];
  const now = new Map<number, End>();
  let inMessages = false;
  for (const { pid } of dumped) {
    const names = listDescriptors(procPath(host, pid, 'fd'));
    for (const fd of typeof names === 'string' ? [] : names) {
      const inode = socketInode(readText(procPath(host, pid, 'fd', fd)) ?? '');
      if (inode === undefined) continue;
      now.set(inode, { pid, fd: Number(fd) });
      inMessages ||= hasDescriptorsInQueue(procPath(host, pid, 'fdinfo', fd));
    }
  }
  return tables.flatMap((table) => unixObstacles(table, now, inMessages));
}

/** `scm_fds` of unix(7)'s fdinfo, since Linux 5.7. */
function hasDescriptorsInQueue(path: string): boolean {
  const info = readBounded(path, LIMIT_BYTES.small, true);
  return info.kind === 'read' && /^scm_fds: [1-9]/m.test(latin1(info.bytes));
}
