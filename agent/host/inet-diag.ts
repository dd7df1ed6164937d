import { attributes, cString, DUMP_FLAGS, encodeRequest, messages, u8, u32 } from './netlink.ts';
import { formatIpv6 } from './network-address.ts';

/**
 * What sock_diag(7) tells of internet sockets beyond /proc/net: include/uapi/linux/inet_diag.h, struct tcp_info of linux/tcp.h. Also
 * sockets of AF_VSOCK, linux/vm_sockets_diag.h.
 */
export const DIAG_PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;
export type DiagProtocol = (typeof DIAG_PROTOCOLS)[number];

/** netlink(7). */
export const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const IP_PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const satisfies Record<DiagProtocol, number>;
export const DIAG_FAMILIES = [2, 10] as const;
const AF_INET = 2;
const AF_PACKET = 17;
const AF_VSOCK = 40;
/** One bit for each of INET_DIAG_INFO, _CONG, _SKMEMINFO and _SHUTDOWN. */
const EXTENSIONS = 0xca;
const EVERY_STATE = 0xffffffff;

/** struct inet_diag_req_v2: 8 bytes, and a socket's identity of 48, which is not looked at in a dump. */
export function inetDiagRequest(protocol: DiagProtocol, family: number): Buffer {
  const body = Buffer.alloc(56);
  body.writeUInt8(family, 0);
  body.writeUInt8(IP_PROTOCOLS[protocol], 1);
  body.writeUInt8(EXTENSIONS, 2);
  body.writeUInt32LE(EVERY_STATE, 4);
  return encodeRequest(SOCK_DIAG_BY_FAMILY, DUMP_FLAGS, body);
}

/** struct vsock_diag_req. */
export function vsockDiagRequest(): Buffer {
  const body = Buffer.alloc(24);
  body.writeUInt8(AF_VSOCK, 0);
  body.writeUInt32LE(EVERY_STATE, 4);
  return encodeRequest(SOCK_DIAG_BY_FAMILY, DUMP_FLAGS, body);
}

/** struct packet_diag_req: PACKET_SHOW_INFO, _MEMINFO and _FILTER. */
export function packetDiagRequest(): Buffer {
  const body = Buffer.alloc(20);
  body.writeUInt8(AF_PACKET, 0);
  body.writeUInt32LE(0x31, 8);
  return encodeRequest(SOCK_DIAG_BY_FAMILY, DUMP_FLAGS, body);
}

/**
 * By inode, the classic BPF programs that packet sockets look at frames with (SO_ATTACH_FILTER), as struct sock_filter in hex: what
 * back doors that wait for a magic packet have. struct packet_diag_msg and PACKET_DIAG_FILTER.
 */
export function parsePacketFilters(bytes: Uint8Array): Map<number, string> {
  const filters = new Map<number, string>();
  for (const { type, body } of messages(bytes)) {
    if (type !== SOCK_DIAG_BY_FAMILY || body.length < 16 || body[0] !== AF_PACKET) continue;
    const filter = attributes(body.subarray(16)).get(7);
    if (filter !== undefined && filter.length > 0) filters.set(body.readUInt32LE(4), filter.toString('hex'));
  }
  return filters;
}

/** Added to a socket's line. Times are as of the dump. */
export interface SocketDetails {
  /** Inode number of its control group in cgroup2. */
  readonly cgroupId?: number;
  readonly congestion?: string;
  /** SO_MARK; not told when it is 0. */
  readonly mark?: number;
  /** Directions that were shut with shutdown(2). */
  readonly shutdown?: string[];
  /** Receive and send buffers in use and their limits, in bytes. */
  readonly memory?: {
    readonly receiveBytes: number;
    readonly receiveMaxBytes: number;
    readonly sendBytes: number;
    readonly sendMaxBytes: number;
  };
  readonly tcp?: TcpDetails;
}

export interface TcpDetails {
  readonly rttUs: number;
  readonly rttVariationUs: number;
  readonly rtoUs: number;
  readonly sendWindowSegments: number;
  readonly sendMssBytes: number;
  readonly unackedSegments: number;
  readonly lostSegments: number;
  /** Since the connection began. */
  readonly retransmittedSegments: number;
  /** Age of the last event, in milliseconds. */
  readonly lastDataSentMs: number;
  readonly lastDataReceivedMs: number;
  readonly bytesAcked?: number;
  readonly bytesReceived?: number;
  readonly bytesSent?: number;
  readonly segmentsSent?: number;
  readonly segmentsReceived?: number;
}

export interface DiagSocket {
  readonly family: 'ipv4' | 'ipv6';
  /** Number of include/net/tcp_states.h. */
  readonly state: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly uid: number;
  readonly inode: number;
  readonly receiveQueueBytes: number;
  readonly sendQueueBytes: number;
  readonly details: SocketDetails;
}

/** struct inet_diag_msg. */
const MESSAGE_BYTES = 72;

export function* parseInetDiag(bytes: Uint8Array): Generator<DiagSocket> {
  for (const { type, body } of messages(bytes)) {
    if (type !== SOCK_DIAG_BY_FAMILY || body.length < MESSAGE_BYTES) continue;
    const four = body[0] === AF_INET;
    const address = (at: number) =>
      four ? body.subarray(at, at + 4).join('.') : formatIpv6(body.subarray(at, at + 16));
    yield {
      family: four ? 'ipv4' : 'ipv6',
      state: body[1] ?? 0,
      localPort: body.readUInt16BE(4),
      remotePort: body.readUInt16BE(6),
      localAddress: address(8),
      remoteAddress: address(24),
      receiveQueueBytes: body.readUInt32LE(56),
      sendQueueBytes: body.readUInt32LE(60),
      uid: body.readUInt32LE(64),
      inode: body.readUInt32LE(68),
      details: detailsOf(attributes(body.subarray(MESSAGE_BYTES))),
    };
  }
}

/** INET_DIAG_*. */
function detailsOf(found: Map<number, Buffer>): SocketDetails {
  const cgroup = found.get(21);
  const [congestion, mark, shut] = [cString(found.get(4)), u32(found.get(15)), u8(found.get(8)) ?? 0];
  const [memory, info] = [found.get(7), found.get(2)];
  return {
    ...(cgroup === undefined || cgroup.length < 8 ? {} : { cgroupId: Number(cgroup.readBigUInt64LE(0)) }),
    ...(congestion === undefined ? {} : { congestion }),
    ...(mark === undefined || mark === 0 ? {} : { mark }),
    ...(shut === 0 ? {} : { shutdown: ['receive', 'send'].filter((_, bit) => (shut & (1 << bit)) !== 0) }),
    ...(memory === undefined || memory.length < 16 ? {} : { memory: memoryOf(memory) }),
    ...(info === undefined || info.length < 104 ? {} : { tcp: tcpOf(info) }),
  };
}

/** SK_MEMINFO_*: 32 bits each. */
function memoryOf(memory: Buffer): NonNullable<SocketDetails['memory']> {
  const [receiveBytes = 0, receiveMaxBytes = 0, sendBytes = 0, sendMaxBytes = 0] = [0, 4, 8, 12].map((at) =>
    memory.readUInt32LE(at),
  );
  return { receiveBytes, receiveMaxBytes, sendBytes, sendMaxBytes };
}

/** struct tcp_info; it has grown with the years, so its end is looked at before each later field. */
function tcpOf(info: Buffer): TcpDetails {
  const word = (at: number) => info.readUInt32LE(at);
  const later = <Name extends string>(name: Name, at: number, size: 4 | 8): { [K in Name]?: number } => {
    if (info.length < at + size) return {};
    const value = size === 4 ? word(at) : Number(info.readBigUInt64LE(at));
    return { [name]: value } as { [K in Name]?: number };
  };
  return {
    rtoUs: word(8),
    sendMssBytes: word(16),
    unackedSegments: word(24),
    lostSegments: word(32),
    lastDataSentMs: word(44),
    lastDataReceivedMs: word(52),
    rttUs: word(68),
    rttVariationUs: word(72),
    sendWindowSegments: word(80),
    retransmittedSegments: word(100),
    ...later('bytesAcked', 120, 8),
    ...later('bytesReceived', 128, 8),
    ...later('segmentsSent', 136, 4),
    ...later('segmentsReceived', 140, 4),
    ...later('bytesSent', 200, 8),
  };
}

/** Finds what a dump says of a socket that /proc/net lists. */
export function detailsByKey(dumps: readonly Uint8Array[]): Map<string, SocketDetails> {
  const found = new Map<string, SocketDetails>();
  for (const dump of dumps) {
    for (const socket of parseInetDiag(dump)) {
      if (found.size >= DETAILS_MAX) return found;
      found.set(detailsKey(socket), socket.details);
    }
  }
  return found;
}

/** Sockets remembered to be joined: some 1 kB each. */
const DETAILS_MAX = 200_000;

/** By inode; a socket that nobody holds any more has none, and is known by its addresses. */
export function detailsKey(
  socket: Pick<DiagSocket, 'inode' | 'localAddress' | 'localPort' | 'remoteAddress' | 'remotePort'>,
): string {
  if (socket.inode !== 0) return String(socket.inode);
  return `${socket.localAddress} ${socket.localPort} ${socket.remoteAddress} ${socket.remotePort}`;
}

export interface VsockSocket {
  readonly protocol: 'vsock';
  readonly type: string;
  readonly state: string;
  /** 2 is the host, 0xffffffff any; vsock(7). */
  readonly localCid: number;
  readonly localPort: number;
  readonly remoteCid: number;
  readonly remotePort: number;
  readonly inode: number;
}

/** struct vsock_diag_msg; states are TCP's. */
const VSOCK_STATES: Readonly<Record<number, string>> = {
  1: 'established',
  2: 'syn-sent',
  7: 'close',
  10: 'listen',
  11: 'closing',
};

export function* parseVsockDiag(bytes: Uint8Array): Generator<VsockSocket> {
  for (const { type, body } of messages(bytes)) {
    if (type !== SOCK_DIAG_BY_FAMILY || body.length < 24 || body[0] !== AF_VSOCK) continue;
    const [, kind = 0, state = 0] = body;
    yield {
      protocol: 'vsock',
      type: { 1: 'stream', 2: 'dgram', 5: 'seqpacket' }[kind] ?? String(kind),
      state: VSOCK_STATES[state] ?? String(state),
      localCid: body.readUInt32LE(4),
      localPort: body.readUInt32LE(8),
      remoteCid: body.readUInt32LE(12),
      remotePort: body.readUInt32LE(16),
      inode: body.readUInt32LE(20),
    };
  }
}
