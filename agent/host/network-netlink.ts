import { latin1 } from './decode.ts';
import { addressText, attributes, cString, DUMP_FLAGS, encodeRequest, messages, u32 } from './netlink.ts';
import type { Interface, InterfaceAddress, Neighbour } from './network-route.ts';

/** Netlink dumps as bytes: netlink(7), rtnetlink(7), sock_diag(7). Little endian, as both architectures of EKS are. */

export type NetlinkDump = 'link' | 'address' | 'neighbour' | 'route' | 'unix';

const NETLINK_ROUTE = 0;
const NETLINK_SOCK_DIAG = 4;

/** Message types of include/uapi/linux/rtnetlink.h and sock_diag.h, and the size of the request's body. */
export const NETLINK_DUMPS: Readonly<Record<NetlinkDump, { protocol: number; request: number; bodyBytes: number }>> = {
  link: { protocol: NETLINK_ROUTE, request: 18, bodyBytes: 16 },
  address: { protocol: NETLINK_ROUTE, request: 22, bodyBytes: 8 },
  neighbour: { protocol: NETLINK_ROUTE, request: 30, bodyBytes: 12 },
  route: { protocol: NETLINK_ROUTE, request: 26, bodyBytes: 12 },
  unix: { protocol: NETLINK_SOCK_DIAG, request: 20, bodyBytes: 24 },
};

/** The request for all of one kind; a body of zeros asks for every family. */
export function dumpRequest(dump: NetlinkDump): Buffer {
  const { request, bodyBytes } = NETLINK_DUMPS[dump];
  const message = encodeRequest(request, DUMP_FLAGS, Buffer.alloc(bodyBytes));
  if (dump === 'unix') {
    // struct unix_diag_req: family AF_UNIX, all states, UDIAG_SHOW_NAME | VFS | PEER | RQLEN | UID, no cookie.
    message.writeUInt8(1, 16);
    message.writeUInt32LE(0xffffffff, 20);
    message.writeUInt32LE(0x57, 28);
    message.fill(0xff, 32, 40);
  }
  return message;
}

/** As `dumpRequest('unix')`, with the connections that wait at a listening socket: UDIAG_SHOW_ICONS. */
export function unixQueueRequest(): Buffer {
  const message = dumpRequest('unix');
  message.writeUInt32LE(message.readUInt32LE(28) | 0x8, 28);
  return message;
}

const AF_INET = 2;
const AF_INET6 = 10;
function familyOf(number: number): 'ipv4' | 'ipv6' | undefined {
  return number === AF_INET ? 'ipv4' : number === AF_INET6 ? 'ipv6' : undefined;
}

/** IFF_* of netdevice(7). `promisc`: it takes frames that are not for it. */
const LINK_FLAGS: readonly (readonly [number, string])[] = [
  [0x1, 'up'],
  [0x2, 'broadcast'],
  [0x8, 'loopback'],
  [0x10, 'pointopoint'],
  [0x40, 'running'],
  [0x80, 'noarp'],
  [0x100, 'promisc'],
  [0x200, 'allmulti'],
  [0x400, 'master'],
  [0x800, 'slave'],
  [0x1000, 'multicast'],
  [0x10000, 'lower-up'],
];
/** RFC 2863, section 3.1.14, in the kernel's numbers. */
const OPERATIONAL = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'];
/** RT_SCOPE_*; 0 is the whole world. */
const SCOPES: ReadonlyMap<number, string> = new Map([
  [0, 'global'],
  [200, 'site'],
  [253, 'link'],
  [254, 'host'],
]);

export type Link = Omit<Interface, 'addresses' | 'counters'> & {
  readonly index: number;
  /** Of an attached XDP program: it sees packets before everybody else. */
  readonly xdpProgramId?: number;
};

/** struct ifinfomsg and IFLA_*. */
export function parseLinks(bytes: Uint8Array): Link[] {
  const links: Link[] = [];
  for (const { type, body } of messages(bytes)) {
    if (type !== 16 || body.length < 16) continue;
    const found = attributes(body.subarray(16));
    const [state] = found.get(16) ?? [];
    const kind = cString(attributes(found.get(18) ?? EMPTY).get(1));
    const program = u32(attributes(found.get(43) ?? EMPTY).get(4));
    const mtu = u32(found.get(4));
    const flags = body.readUInt32LE(8);
    links.push({
      name: cString(found.get(3)) ?? '',
      index: body.readInt32LE(4),
      flags: LINK_FLAGS.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name),
      ...(state === undefined ? {} : { state: OPERATIONAL[state] ?? String(state) }),
      linkAddress:
        found
          .get(1)
          ?.toString('hex')
          .replaceAll(/(..)(?!$)/g, '$1:') ?? '',
      ...(mtu === undefined ? {} : { mtu }),
      ...(kind === undefined ? {} : { kind }),
      ...(program === undefined ? {} : { xdpProgramId: program }),
    });
  }
  return links;
}

const EMPTY = Buffer.alloc(0);

/** struct ifaddrmsg and IFA_*. The local address is in IFA_LOCAL where there is one (IPv4), otherwise in IFA_ADDRESS. */
export function parseAddresses(bytes: Uint8Array): (InterfaceAddress & { readonly index: number })[] {
  const addresses: (InterfaceAddress & { readonly index: number })[] = [];
  for (const { type, body } of messages(bytes)) {
    if (type !== 20 || body.length < 8) continue;
    const [family = 0, prefix = 0, , scope = 0] = body;
    const found = attributes(body.subarray(8));
    const address = addressText(found.get(2) ?? found.get(1));
    const name = familyOf(family);
    if (address === undefined || name === undefined) continue;
    const scopeName = SCOPES.get(scope) ?? String(scope);
    addresses.push({ family: name, address, prefix, scope: scopeName, index: body.readUInt32LE(4) });
  }
  return addresses;
}

/** Addresses that others can talk to, as 4 or 16 bytes: scope global or site, not the loopback's. */
export function globalAddresses(bytes: Uint8Array): Buffer[] {
  const found: Buffer[] = [];
  for (const { type, body } of messages(bytes)) {
    if (type !== 20 || body.length < 8 || (body[3] ?? 0) > SITE_SCOPE) continue;
    const attribute = attributes(body.subarray(8));
    const address = attribute.get(2) ?? attribute.get(1);
    if (address?.length === 4 || address?.length === 16) found.push(Buffer.from(address));
  }
  return found;
}

/** RT_SCOPE_SITE; larger ones are of a link or of the machine itself. */
const SITE_SCOPE = 200;

/** NUD_*, a bit each. */
const NEIGHBOUR_STATES: ReadonlyMap<number, string> = new Map([
  [0x01, 'incomplete'],
  [0x02, 'reachable'],
  [0x04, 'stale'],
  [0x08, 'delay'],
  [0x10, 'probe'],
  [0x20, 'failed'],
  [0x40, 'noarp'],
  [0x80, 'permanent'],
]);

/** struct ndmsg and NDA_*. `interface` is a name where `links` has it. */
export function parseNeighbours(bytes: Uint8Array, links: readonly Link[]): Neighbour[] {
  const neighbours: Neighbour[] = [];
  for (const { type, body } of messages(bytes)) {
    if (type !== 28 || body.length < 12) continue;
    const family = familyOf(body.readUInt8(0));
    const found = attributes(body.subarray(12));
    const address = addressText(found.get(1));
    if (family === undefined || address === undefined) continue;
    const state = body.readUInt16LE(8);
    neighbours.push({
      family,
      address,
      linkAddress:
        found
          .get(2)
          ?.toString('hex')
          .replaceAll(/(..)(?!$)/g, '$1:') ?? '',
      interface: nameOf(body.readInt32LE(4), links),
      state: NEIGHBOUR_STATES.get(state) ?? String(state),
    });
  }
  return neighbours;
}

function nameOf(index: number, links: readonly Link[]): string {
  return links.find((link) => link.index === index)?.name ?? String(index);
}

export interface TableRoute {
  readonly family: 'ipv4' | 'ipv6';
  readonly destination: string;
  readonly gateway?: string;
  readonly interface?: string;
  readonly metric: number;
  /** 254 is main, 255 local; see /etc/iproute2/rt_tables. */
  readonly table: number;
  readonly type: string;
  readonly source?: string;
}

/** RTN_*. */
const ROUTE_TYPES = ['unspec', 'unicast', 'local', 'broadcast', 'anycast', 'multicast', 'blackhole', 'unreachable'];

/** struct rtmsg and RTA_*, of all tables. */
export function parseTableRoutes(bytes: Uint8Array, links: readonly Link[]): TableRoute[] {
  const routes: TableRoute[] = [];
  for (const { type, body } of messages(bytes)) {
    if (type !== 24 || body.length < 12) continue;
    const [number = 0, length = 0, , , table = 0, , , routeType = 0] = body;
    const family = familyOf(number);
    if (family === undefined) continue;
    const found = attributes(body.subarray(12));
    const gateway = addressText(found.get(5));
    const source = addressText(found.get(7));
    const out = u32(found.get(4));
    const destination = addressText(found.get(1)) ?? (family === 'ipv4' ? '0.0.0.0' : '::');
    routes.push({
      family,
      destination: `${destination}/${length}`,
      ...(gateway === undefined ? {} : { gateway }),
      ...(out === undefined ? {} : { interface: nameOf(out, links) }),
      metric: u32(found.get(6)) ?? 0,
      table: u32(found.get(15)) ?? table,
      type: ROUTE_TYPES[routeType] ?? String(routeType),
      ...(source === undefined ? {} : { source }),
    });
  }
  return routes;
}

/** struct unix_diag_msg and UNIX_DIAG_PEER: by inode the inode of the other end. */
export function parseUnixPeers(bytes: Uint8Array): Map<number, number> {
  const peers = new Map<number, number>();
  for (const { type, body } of messages(bytes)) {
    if (type !== 20 || body.length < 16) continue;
    const peer = u32(attributes(body.subarray(16)).get(2));
    if (peer !== undefined && peer !== 0) peers.set(body.readUInt32LE(4), peer);
  }
  return peers;
}

/** A unix socket as sock_diag tells it. */
export interface UnixDiagSocket {
  readonly inode: number;
  /** SOCK_STREAM 1, SOCK_DGRAM 2, SOCK_SEQPACKET 5. */
  readonly type: number;
  /** Inode of the other end: 0 when that is closed or not accepted yet, undefined when there never was one. */
  readonly peer: number | undefined;
  /** Latin-1; an abstract name begins with `@`. */
  readonly name: string;
  /** Closed in both directions: its other end is gone, or shutdown(2) was called. */
  readonly isShut: boolean;
  /** Of a listening socket: inodes of the sockets that wait to be accepted. */
  readonly waiting: readonly number[];
}

/** RCV_SHUTDOWN | SEND_SHUTDOWN. */
const SHUT_BOTH = 3;

/** struct unix_diag_msg and UNIX_DIAG_*, of every unix socket in the namespace that was asked. */
export function parseUnixSockets(bytes: Uint8Array): UnixDiagSocket[] {
  const sockets: UnixDiagSocket[] = [];
  for (const { type, body } of messages(bytes)) {
    if (type !== 20 || body.length < 16) continue;
    const found = attributes(body.subarray(16));
    const name = latin1(found.get(0) ?? EMPTY);
    sockets.push({
      inode: body.readUInt32LE(4),
      type: body.readUInt8(1),
      peer: u32(found.get(2)),
      isShut: found.get(6)?.[0] === SHUT_BOTH,
      waiting: words(found.get(3) ?? EMPTY),
      name: name.startsWith('\0') ? `@${name.slice(1)}` : name.replace(/\0.*$/s, ''),
    });
  }
  return sockets;
}

function words(bytes: Buffer): number[] {
  return Array.from({ length: Math.floor(bytes.length / 4) }, (_, index) => bytes.readUInt32LE(index * 4));
}
