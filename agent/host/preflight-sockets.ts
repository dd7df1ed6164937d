import type { Obstacle } from '../../evidence/dump.ts';
import { columns, latin1 } from './decode.ts';
import { type InetSocket, parseInet } from './network-inet.ts';
import type { UnixDiagSocket } from './network-netlink.ts';
import { shown } from './preflight-obstacle.ts';
import type { End } from './process-descriptor.ts';

/** Which sockets of the target stop CRIU. Holders are those processes that CRIU takes, by the socket's inode. */
export type Holders = ReadonlyMap<number, End>;

export function socketInode(target: string): number | undefined {
  const inode = /^socket:\[(\d{1,15})\]$/.exec(target)?.[1];
  return inode === undefined ? undefined : Number(inode);
}

/** The sockets of /proc/net/tcp or tcp6 that somebody holds. A node's table has thousands that are nobody's here. */
export function heldTcp(table: Uint8Array, family: InetSocket['family'], holders: Holders): InetSocket[] {
  const lines = latin1(table)
    .split('\n')
    .filter((line) => holders.has(Number(columns(line)[9] ?? 0)));
  return [...parseInet(Buffer.from(lines.join('\n'), 'latin1'), 'tcp', family)];
}

/** What CRIU calls connected. A closed one is taken as it is; time-wait and requests belong to no process. */
const CONNECTED: ReadonlySet<string> = new Set([
  'established',
  'syn-sent',
  'fin-wait-1',
  'fin-wait-2',
  'close-wait',
  'last-ack',
  'closing',
]);

/** `protocols`: by inode. The connections beneath an MPTCP socket are TCP ones with its inode: they are left out. */
export function tcpObstacles(
  sockets: readonly InetSocket[],
  holders: Holders,
  protocols: ReadonlyMap<number, string>,
): Obstacle[] {
  const obstacles: Obstacle[] = [];
  for (const socket of sockets) {
    const pid = holders.get(socket.inode)?.pid;
    if (pid === undefined || protocols.get(socket.inode)?.startsWith('MPTCP')) continue;
    const local = endpoint(socket.localAddress, socket.localPort);
    if (CONNECTED.has(socket.state)) {
      const what = `TCP ${local} to ${endpoint(socket.remoteAddress, socket.remotePort)}, ${socket.state}`;
      obstacles.push({ kind: 'tcp-established', pid, what, liftedBy: 'openTcp', certainty: 'certain' });
    } else if (socket.state === 'listen' && socket.receiveQueueBytes > 0) {
      const what = `TCP ${local} listens, and ${socket.receiveQueueBytes} connections wait to be accepted`;
      obstacles.push({ kind: 'tcp-backlog', pid, what, certainty: 'certain' });
    }
  }
  return obstacles;
}

function endpoint(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** As sockfs names them (`struct proto`): what CRIU 4.2 collects. */
const TAKEN = /^(?:TCP|UDP|UDP-Lite|RAW|PING|UNIX|UNIX-STREAM|NETLINK|PACKET)(?:v6)?$|^(?:UDPLITEv6|UNIX-.*)$/;

export function protocolObstacles(protocols: ReadonlyMap<number, string>, holders: Holders): Obstacle[] {
  const obstacles: Obstacle[] = [];
  for (const [inode, protocol] of protocols) {
    const pid = holders.get(inode)?.pid;
    if (pid === undefined || TAKEN.test(protocol)) continue;
    const what = `descriptor ${holders.get(inode)?.fd} is a socket of ${shown(protocol)}`;
    if (protocol.startsWith('MPTCP')) obstacles.push({ kind: 'mptcp', pid, what, certainty: 'certain' });
    else if (protocol === 'AF_VSOCK') obstacles.push({ kind: 'vsock', pid, what, certainty: 'certain' });
    else obstacles.push({ kind: 'unsupported-descriptor', pid, what, certainty: 'likely' });
  }
  return obstacles;
}

const DATAGRAM = 2;

/**
 * Unix sockets whose other end no process of the container holds. CRIU 4.2, tried: it takes one whose other end is closed, or in a
 * message on its way, or that waits to be accepted in the same network namespace; it takes half a stream never; it takes a datagram socket that is
 * connected to one outside with --ext-unix-sk, if that one is of the same network namespace.
 *
 * `table`: the sockets of one network namespace. `inMessages`: some descriptor is on its way between processes, and might
 * be the other end.
 */
export function unixObstacles(table: readonly UnixDiagSocket[], holders: Holders, inMessages: boolean): Obstacle[] {
  const byInode = new Map(table.map((socket) => [socket.inode, socket]));
  const queued = new Set(table.flatMap(({ waiting }) => waiting));
  const obstacles: Obstacle[] = [];
  for (const { inode, type, peer, name, isShut } of table) {
    const holder = holders.get(inode);
    if (holder === undefined || peer === undefined || holders.has(peer)) continue;
    const { pid, fd } = holder;
    if (peer === 0) {
      if (type === DATAGRAM || isShut || queued.has(inode)) continue;
      const what = `the unix socket at descriptor ${fd} waits to be accepted in another network namespace`;
      obstacles.push({ kind: 'unix-half-pair', pid, what, certainty: 'certain' });
      continue;
    }
    const other = byInode.get(peer);
    const names = shown(other?.name || name);
    const of = names === '' ? '' : ` (${names})`;
    const certainty = inMessages ? 'likely' : 'certain';
    if (type !== DATAGRAM) {
      const what = `the other end of the unix socket at descriptor ${fd}${of} is held outside of the container`;
      obstacles.push({ kind: 'unix-half-pair', pid, what, certainty });
    } else {
      const what = `the unix datagram socket at descriptor ${fd} is connected to one outside of the container${of}`;
      const lift = other === undefined ? {} : { liftedBy: 'externalUnixSockets' as const };
      obstacles.push({ kind: 'unix-external', pid, what, ...lift, certainty });
    }
  }
  return obstacles;
}
