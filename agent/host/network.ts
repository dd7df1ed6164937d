import { detailsKey, parsePacketFilters, parseVsockDiag, type SocketDetails, type VsockSocket } from './inet-diag.ts';
import { type InetProtocol, type InetSocket, parseInet, parseLocalAddresses } from './network-inet.ts';
import {
  type NetlinkSocket,
  type PacketSocket,
  parseNetlink,
  parsePacket,
  parseUnix,
  type UnixSocket,
} from './network-local.ts';
import * as netlink from './network-netlink.ts';
import * as route from './network-route.ts';
import { parseSctpAssociations, parseSctpEndpoints, type SctpSocket } from './network-sctp.ts';
import type { End } from './process-descriptor.ts';

/** The tables of one network namespace, as /proc/PID/net has them. Order: what is gone first comes first. */
export const NETWORK_FILES = [
  ...['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'icmp', 'icmp6', 'udplite', 'udplite6', 'unix', 'packet', 'netlink'],
  ...['nf_conntrack', 'nf_conntrack_expect', 'arp', 'route', 'ipv6_route', 'rt_cache', 'fib_trie', 'if_inet6', 'dev'],
  ...['dev_mcast', 'igmp', 'igmp6', 'mcfilter', 'mcfilter6', 'anycast6', 'sockstat', 'sockstat6', 'snmp', 'snmp6'],
  ...['netstat', 'protocols', 'ptype', 'xfrm_stat', 'wireless', 'ip_tables_names', 'ip_tables_matches'],
  ...['ip_tables_targets', 'ip6_tables_names', 'arp_tables_names', 'softnet_stat', 'sctp/assocs', 'sctp/eps', 'vsock'],
] as const;

/** Those that hold sockets, with how to read them. */
const INET: readonly (readonly [string, InetProtocol, InetSocket['family']])[] = [
  ['tcp', 'tcp', 'ipv4'],
  ['tcp6', 'tcp', 'ipv6'],
  ['udp', 'udp', 'ipv4'],
  ['udp6', 'udp', 'ipv6'],
  ['udplite', 'udplite', 'ipv4'],
  ['udplite6', 'udplite', 'ipv6'],
  ['raw', 'raw', 'ipv4'],
  ['raw6', 'raw', 'ipv6'],
  ['icmp', 'icmp', 'ipv4'],
  ['icmp6', 'icmp', 'ipv6'],
];

/** Tables by name below /proc/PID/net; those that the kernel has not are missing. */
export type NetworkTables = ReadonlyMap<string, Uint8Array>;

export type SocketRecord = (
  | (InetSocket & SocketDetails)
  | UnixSocket
  | NetlinkSocket
  | PacketSocket
  | SctpSocket
  | VsockSocket
) & {
  /** Inode of the network namespace. */
  readonly namespace: number;
  /** The target's processes that hold it; empty for sockets of others in a shared namespace, and for time-wait. */
  readonly owners: End[];
  /** The other end of a connection within this namespace. */
  readonly peer?: { readonly inode: number; readonly owners: End[] };
};

/** Owners listed for one socket; a listening socket may be in a thousand workers. */
const OWNERS_MAX = 64;

/** What sock_diag told, as far as the kernel has it. */
export interface SocketDiagnostics {
  /** See `detailsByKey`. */
  readonly details?: ReadonlyMap<string, SocketDetails>;
  readonly vsock?: Uint8Array;
  readonly packet?: Uint8Array;
}

/** All sockets of one namespace, one after the other. */
export function* describeSockets(
  tables: NetworkTables,
  namespace: number,
  ownersByInode: ReadonlyMap<number, readonly End[]>,
  unixPeers: ReadonlyMap<number, number> = new Map(),
  diagnostics: SocketDiagnostics = {},
): Generator<SocketRecord> {
  const ownersOf = (inode: number): End[] => [...(ownersByInode.get(inode) ?? [])].slice(0, OWNERS_MAX);
  const peerOf = (inode: number | undefined) =>
    inode === undefined || inode === 0 ? {} : { peer: { inode, owners: ownersOf(inode) } };
  const connected = connections(tables);
  for (const [name, protocol, family] of INET) {
    const table = tables.get(name);
    if (table === undefined) continue;
    for (const socket of parseInet(table, protocol, family)) {
      const peer = protocol === 'tcp' ? connected.get(keyOf(socket, true)) : undefined;
      const details = diagnostics.details?.get(detailsKey(socket));
      yield { ...socket, ...details, namespace, owners: ownersOf(socket.inode), ...peerOf(peer) };
    }
  }
  for (const socket of [
    ...parseSctpAssociations(tables.get('sctp/assocs') ?? EMPTY),
    ...parseSctpEndpoints(tables.get('sctp/eps') ?? EMPTY),
    ...parseVsockDiag(diagnostics.vsock ?? EMPTY),
  ]) {
    yield { ...socket, namespace, owners: ownersOf(socket.inode) };
  }
  for (const socket of parseUnix(tables.get('unix') ?? EMPTY)) {
    yield { ...socket, namespace, owners: ownersOf(socket.inode), ...peerOf(unixPeers.get(socket.inode)) };
  }
  const filters = parsePacketFilters(diagnostics.packet ?? EMPTY);
  for (const socket of parsePacket(tables.get('packet') ?? EMPTY)) {
    const filter = filters.get(socket.inode);
    yield { ...socket, ...(filter === undefined ? {} : { filter }), namespace, owners: ownersOf(socket.inode) };
  }
  for (const socket of parseNetlink(tables.get('netlink') ?? EMPTY)) {
    yield { ...socket, namespace, owners: ownersOf(socket.inode) };
  }
}

const EMPTY = new Uint8Array();
/** Connections remembered to be joined: some 100 bytes each. */
const CONNECTIONS_MAX = 200_000;

/** Inodes of TCP connections by their addresses. A connection with both ends in the namespace has two entries. */
function connections(tables: NetworkTables): Map<string, number> {
  const found = new Map<string, number>();
  for (const [name, protocol, family] of INET) {
    const table = tables.get(name);
    if (table === undefined || protocol !== 'tcp') continue;
    for (const socket of parseInet(table, protocol, family)) {
      if (socket.remotePort === 0 || socket.inode === 0) continue;
      if (found.size >= CONNECTIONS_MAX) return found;
      found.set(keyOf(socket, false), socket.inode);
    }
  }
  return found;
}

/** An IPv6 socket may talk to an IPv4 one through a mapped address, so both are written alike. */
function keyOf(socket: InetSocket, reversed: boolean): string {
  const local = `${socket.localAddress.replace('::ffff:', '')} ${socket.localPort}`;
  const remote = `${socket.remoteAddress.replace('::ffff:', '')} ${socket.remotePort}`;
  return reversed ? `${remote} ${local}` : `${local} ${remote}`;
}

/** What netlink said, as bytes; undefined where it could not be asked. */
export type NetlinkTables = Partial<Readonly<Record<netlink.NetlinkDump, Uint8Array>>>;

/** All tables by netlink; otherwise what /proc/net shows of the main ones. */
export function describeRoutes(tables: NetworkTables, dumps: NetlinkTables): (route.Route | netlink.TableRoute)[] {
  if (dumps.route) return netlink.parseTableRoutes(dumps.route, netlink.parseLinks(dumps.link ?? EMPTY));
  return [...route.parseRoutes(tables.get('route') ?? EMPTY), ...route.parseRoutes6(tables.get('ipv6_route') ?? EMPTY)];
}

/** IPv6 neighbours are known to netlink only. */
export function describeNeighbours(tables: NetworkTables, dumps: NetlinkTables): route.Neighbour[] {
  if (dumps.neighbour) return netlink.parseNeighbours(dumps.neighbour, netlink.parseLinks(dumps.link ?? EMPTY));
  return route.parseArp(tables.get('arp') ?? EMPTY);
}

export function describeInterfaces(tables: NetworkTables, dumps: NetlinkTables): route.Interface[] {
  const devices = route.parseDevices(tables.get('dev') ?? EMPTY);
  if (dumps.link && dumps.address) {
    const addresses = netlink.parseAddresses(dumps.address);
    return netlink.parseLinks(dumps.link).map((link) => ({
      ...link,
      addresses: addresses.filter(({ index }) => index === link.index).map(({ index: _, ...address }) => address),
      counters: devices.find(({ name }) => name === link.name)?.counters ?? {},
    }));
  }
  return route.deriveInterfaces(
    devices,
    route.parseAddresses6(tables.get('if_inet6') ?? EMPTY),
    parseLocalAddresses(tables.get('fib_trie') ?? EMPTY),
    route.parseRoutes(tables.get('route') ?? EMPTY),
  );
}
