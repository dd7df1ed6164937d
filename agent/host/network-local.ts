import { columns, hex, hexOf, intOf, linesOf, type Worded, wordedText } from './decode.ts';

/** Sockets that do not leave the machine, and those below the transport: unix, netlink, packet. */

export type UnixSocket = Partial<Worded<'path'>> & {
  readonly protocol: 'unix';
  readonly type: string;
  readonly state: string;
  readonly listening: boolean;
  readonly inode: number;
  readonly references: number;
  /** The path has no file: it begins with `@`, and the kernel prints each NUL of it as `@` (unix(7)). */
  readonly abstract?: true;
  /** Lines that can belong to no socket followed: the name holds newlines, and what follows it may be forged. */
  readonly nameHasNewlines?: true;
};

const UNIX_TYPES: Readonly<Record<number, string>> = { 1: 'stream', 2: 'dgram', 5: 'seqpacket' };
const UNIX_STATES: Readonly<Record<number, string>> = {
  1: 'unconnected',
  2: 'connecting',
  3: 'connected',
  4: 'disconnecting',
};
/** __SO_ACCEPTCON of include/uapi/linux/net.h. */
const ACCEPTS = 1n << 16n;

const UNIX_LINE =
  /^[0-9a-fA-FxK]+: ([0-9A-F]{8}) [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{4}) ([0-9A-F]{2}) +(\d{1,15})(?: (.*))?$/;

/**
 * /proc/net/unix, proc_net(5). Names are printed raw: one may hold newlines and even a whole line that looks like another
 * socket. Lines that fit no socket belong to the name before; a forged line that fits is told only by its inode, which no
 * process holds, or by sock_diag.
 */
export function parseUnix(bytes: Uint8Array): UnixSocket[] {
  const found: { fields: string[]; name: string | undefined; broken: boolean }[] = [];
  for (const line of linesOf(bytes).slice(1)) {
    const [, ...fields] = UNIX_LINE.exec(line) ?? [];
    const last = found.at(-1);
    if (fields.length > 0) {
      found.push({ fields, name: fields[5], broken: false });
    } else if (last) {
      last.name = `${last.name ?? ''}\n${line}`;
      last.broken = true;
    }
  }
  return found.map(({ fields, name, broken }) => {
    const [references, flags, type = '', state = '', inode] = fields;
    return {
      protocol: 'unix',
      type: UNIX_TYPES[Number.parseInt(type, 16)] ?? type,
      state: UNIX_STATES[Number.parseInt(state, 16)] ?? state,
      listening: ((hexOf(flags) ?? 0n) & ACCEPTS) !== 0n,
      inode: intOf(inode) ?? 0,
      references: Number(hexOf(references) ?? 0n),
      ...(name === undefined ? {} : wordedText('path', name)),
      ...(name?.startsWith('@') ? { abstract: true } : {}),
      ...(broken ? { nameHasNewlines: true } : {}),
    };
  });
}

export interface NetlinkSocket {
  readonly protocol: 'netlink';
  /** include/uapi/linux/netlink.h. */
  readonly netlinkFamily: string;
  /** Usually the pid of the process that opened it; 0 is the kernel's own end. */
  readonly portId: number;
  readonly groups: string;
  readonly inode: number;
}

const NETLINK_FAMILIES: readonly string[] = [
  ...['route', 'unused', 'usersock', 'firewall', 'sock_diag', 'nflog', 'xfrm', 'selinux', 'iscsi', 'audit'],
  ...['fib_lookup', 'connector', 'netfilter', 'ip6_fw', 'dnrtmsg', 'kobject_uevent', 'generic', '17', 'scsitransport'],
  ...['ecryptfs', 'rdma', 'crypto', 'smc'],
];

export function parseNetlink(bytes: Uint8Array): NetlinkSocket[] {
  const sockets: NetlinkSocket[] = [];
  for (const line of linesOf(bytes).slice(1)) {
    const [, family, portId, groups, , , , , , inode] = columns(line);
    const number = intOf(family);
    if (number === undefined || inode === undefined) continue;
    sockets.push({
      protocol: 'netlink',
      netlinkFamily: NETLINK_FAMILIES[number] ?? String(number),
      portId: intOf(portId) ?? 0,
      groups: hex(hexOf(groups) ?? 0n),
      inode: intOf(inode) ?? 0,
    });
  }
  return sockets;
}

export interface PacketSocket {
  readonly protocol: 'packet';
  readonly type: string;
  /** EtherType in hex; 0x3 is every frame: a sniffer. */
  readonly etherType: string;
  /** 0 for every interface. */
  readonly interfaceIndex: number;
  readonly running: boolean;
  /** Classic BPF that chooses its frames, as struct sock_filter in hex; only where sock_diag tells. */
  readonly filter?: string;
  readonly uid: number;
  readonly inode: number;
}

const SOCKET_TYPES: Readonly<Record<number, string>> = { 1: 'stream', 2: 'dgram', 3: 'raw', 10: 'packet' };

/** /proc/net/packet: who reads frames from the wire. */
export function parsePacket(bytes: Uint8Array): PacketSocket[] {
  const sockets: PacketSocket[] = [];
  for (const line of linesOf(bytes).slice(1)) {
    const [, , type, etherType, interfaceIndex, running, , uid, inode] = columns(line);
    const number = intOf(type);
    if (number === undefined || inode === undefined) continue;
    sockets.push({
      protocol: 'packet',
      type: SOCKET_TYPES[number] ?? String(number),
      etherType: hex(hexOf(etherType) ?? 0n),
      interfaceIndex: intOf(interfaceIndex) ?? 0,
      running: running === '1',
      uid: intOf(uid) ?? 0,
      inode: intOf(inode) ?? 0,
    });
  }
  return sockets;
}
