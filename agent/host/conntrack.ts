import { linesOf } from './decode.ts';
import { addressText, attributes, be, cString, messages } from './netlink.ts';

/**
 * Connections that the kernel follows: include/uapi/linux/netfilter/nfnetlink_conntrack.h, and the text of /proc/net/nf_conntrack
 * where netlink cannot be asked. With address translation the two tuples differ: `original` is what the first packet said, `reply`
 * what the answers say.
 */
export interface Connection {
  readonly family: 'ipv4' | 'ipv6';
  /** `tcp`, `udp`, …, a number for others. */
  readonly protocol: string;
  readonly original: Tuple;
  readonly reply: Tuple;
  /** `ESTABLISHED`, …; of TCP, SCTP. */
  readonly state?: string;
  readonly status?: string[];
  readonly timeoutSeconds?: number;
  readonly mark?: number;
  readonly zone?: number;
  readonly id?: number;
  readonly helper?: string;
  /** RFC 3339; only where net.netfilter.nf_conntrack_timestamp is on. */
  readonly startedAt?: string;
  /** Of the connection that this one belongs to. */
  readonly master?: Tuple;
  readonly labels?: string;
}

export interface Tuple {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly id: number; readonly type: number; readonly code: number };
  /** Where net.netfilter.nf_conntrack_acct is on. */
  readonly packets?: number;
  readonly bytes?: number;
}

const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  33: 'dccp',
  47: 'gre',
  58: 'icmpv6',
  132: 'sctp',
  136: 'udplite',
};
/** enum tcp_conntrack and sctp_conntrack, as conntrack(8) writes them. */
const TCP_STATES = [
  ...['NONE', 'SYN_SENT', 'SYN_RECV', 'ESTABLISHED', 'FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK', 'TIME_WAIT', 'CLOSE'],
  'SYN_SENT2',
];
const SCTP_STATES = [
  ...['NONE', 'CLOSED', 'COOKIE_WAIT', 'COOKIE_ECHOED', 'ESTABLISHED', 'SHUTDOWN_SENT', 'SHUTDOWN_RECD'],
  ...['SHUTDOWN_ACK_SENT', 'HEARTBEAT_SENT'],
];
/** enum ip_conntrack_status, one bit each. */
const STATUS = [
  ...['expected', 'seen-reply', 'assured', 'confirmed', 'src-nat', 'dst-nat', 'seq-adjust', 'src-nat-done'],
  ...['dst-nat-done', 'dying', 'fixed-timeout', 'template', 'untracked', 'helper', 'offload', 'hw-offload'],
];
/** IPCTNL_MSG_CT_NEW of the subsystem 1. */
const NEW_TYPE = 1 << 8;
const HEADER_BYTES = 4;
const AF_INET6 = 10;

/** Source and destination of both directions, as bytes, of one message's body. */
export function conntrackAddresses(body: Buffer): Buffer[] {
  const found = attributes(body.subarray(HEADER_BYTES));
  return [1, 2].flatMap((tuple) => [...attributes(attributes(found.get(tuple)).get(1)).values()]);
}

export function* parseConntrack(bytes: Uint8Array): Generator<Connection> {
  for (const { type, body } of messages(bytes)) {
    if (type !== NEW_TYPE || body.length < HEADER_BYTES) continue;
    const found = attributes(body.subarray(HEADER_BYTES));
    const [original, reply] = [tupleOf(found.get(1), found.get(9)), tupleOf(found.get(2), found.get(10))];
    if (original === undefined || reply === undefined) continue;
    const started = attributes(found.get(20)).get(1);
    const [timeoutSeconds, mark, zone, id] = [7, 8, 18, 12].map((attribute) => be(found.get(attribute)));
    const helper = cString(attributes(found.get(5)).get(1));
    const master = tupleOf(found.get(14), undefined);
    const labels = found.get(22);
    const state = stateOf(found.get(4));
    yield {
      family: body[0] === AF_INET6 ? 'ipv6' : 'ipv4',
      protocol: protocolOf(found.get(1)),
      original,
      reply,
      ...(state === undefined ? {} : { state }),
      status: STATUS.filter((_, bit) => ((be(found.get(3)) ?? 0) & (1 << bit)) !== 0),
      ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
      ...(mark === undefined ? {} : { mark }),
      ...(zone === undefined ? {} : { zone }),
      ...(id === undefined ? {} : { id }),
      ...(helper === undefined ? {} : { helper }),
      ...(started === undefined ? {} : startedAt(started)),
      ...(master === undefined ? {} : { master }),
      ...(labels === undefined || labels.every((byte) => byte === 0) ? {} : { labels: labels.toString('hex') }),
    };
  }
}

/** CTA_TIMESTAMP_START: nanoseconds since the epoch. */
function startedAt(bytes: Buffer): { startedAt?: string } {
  if (bytes.length < 8) return {};
  const ms = Number(bytes.readBigUInt64BE(0) / 1_000_000n);
  // Date ends at 8.64e15.
  return ms > 8.64e15 ? {} : { startedAt: new Date(ms).toISOString() };
}

/** CTA_TUPLE_IP and CTA_TUPLE_PROTO, CTA_COUNTERS_*. */
function tupleOf(bytes: Buffer | undefined, counterBytes: Buffer | undefined): Tuple | undefined {
  const found = attributes(bytes);
  const ip = attributes(found.get(1));
  const [source, destination] = [addressText(ip.get(1) ?? ip.get(3)), addressText(ip.get(2) ?? ip.get(4))];
  if (source === undefined || destination === undefined) return undefined;
  const protocol = attributes(found.get(2));
  const [sourcePort, destinationPort] = [be(protocol.get(2)), be(protocol.get(3))];
  // CTA_PROTO_ICMP_ID, _TYPE, _CODE; those of ICMPv6 are three further.
  const icmpAt = [4, 7].find((at) => protocol.has(at));
  const [id, type, code] = [0, 1, 2].map((index) => be(protocol.get((icmpAt ?? 0) + index)) ?? 0);
  const counters = attributes(counterBytes);
  const [packets, octets] = [be(counters.get(1) ?? counters.get(3)), be(counters.get(2) ?? counters.get(4))];
  return {
    source,
    destination,
    ...(sourcePort === undefined ? {} : { sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(icmpAt === undefined ? {} : { icmp: { id: id ?? 0, type: type ?? 0, code: code ?? 0 } }),
    ...(packets === undefined ? {} : { packets }),
    ...(octets === undefined ? {} : { bytes: octets }),
  };
}

function protocolOf(tuple: Buffer | undefined): string {
  const number = attributes(attributes(tuple).get(2)).get(1)?.[0] ?? 0;
  return PROTOCOLS[number] ?? String(number);
}

/** CTA_PROTOINFO_TCP is 1, _SCTP is 3; the state is the first attribute of each. */
function stateOf(bytes: Buffer | undefined): string | undefined {
  const found = attributes(bytes);
  for (const [at, names] of [
    [1, TCP_STATES],
    [3, SCTP_STATES],
  ] as const) {
    const state = attributes(found.get(at)).get(1)?.[0];
    if (state !== undefined) return names[state] ?? String(state);
  }
  return undefined;
}

/**
 * /proc/net/nf_conntrack, a line a connection: `ipv4 2 tcp 6 431999 ESTABLISHED src=… dst=… sport=… dport=… [UNREPLIED] src=… [ASSURED]
 * mark=0 zone=0 use=2`.
 */
export function* parseConntrackText(bytes: Uint8Array): Generator<Connection> {
  for (const line of linesOf(bytes)) {
    const words = line.split(/ +/);
    const [family, , protocol = '', number] = words;
    const pairs = [...line.matchAll(/(\w+)=(\S+)/g)].map(([, key = '', value = '']) => ({ key, value }));
    const second = pairs.findLastIndex(({ key }) => key === 'src');
    if ((family !== 'ipv4' && family !== 'ipv6') || second <= 0) continue;
    const original = textTuple(pairs.slice(0, second));
    const reply = textTuple(pairs.slice(second));
    if (original === undefined || reply === undefined) continue;
    const value = (name: string) => {
      const text = pairs.find(({ key }) => key === name)?.value;
      return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
    };
    const [mark, zone] = [value('mark'), value('zone')];
    const state = words.slice(4).find((word) => /^[A-Z_0-9]+$/.test(word) && /[A-Z]/.test(word));
    const timeout = words[4] ?? '';
    yield {
      family,
      protocol: protocol === 'unknown' ? (number ?? '') : protocol,
      original,
      reply,
      ...(state === undefined ? {} : { state }),
      status: [
        ...(line.includes('[UNREPLIED]') ? [] : ['seen-reply']),
        ...(line.includes('[ASSURED]') ? ['assured'] : []),
      ],
      ...(/^\d+$/.test(timeout) ? { timeoutSeconds: Number(timeout) } : {}),
      ...(mark === undefined ? {} : { mark }),
      ...(zone === undefined ? {} : { zone }),
    };
  }
}

function textTuple(pairs: readonly { key: string; value: string }[]): Tuple | undefined {
  const of = (name: string) => pairs.find(({ key }) => key === name)?.value;
  const number = (name: string) => {
    const text = of(name);
    return text === undefined || !/^\d{1,20}$/.test(text) ? undefined : Number(text);
  };
  const [source, destination] = [of('src'), of('dst')];
  if (source === undefined || destination === undefined) return undefined;
  const [sourcePort, destinationPort] = [number('sport'), number('dport')];
  const [id, packets, octets] = [number('id'), number('packets'), number('bytes')];
  return {
    source: shortAddress(source),
    destination: shortAddress(destination),
    ...(sourcePort === undefined ? {} : { sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(id === undefined ? {} : { icmp: { id, type: number('type') ?? 0, code: number('code') ?? 0 } }),
    ...(packets === undefined ? {} : { packets }),
    ...(octets === undefined ? {} : { bytes: octets }),
  };
}

/** The kernel's text has IPv6 addresses in full: eight groups of four digits. */
function shortAddress(text: string): string {
  const digits = text.replaceAll(':', '');
  return /^[0-9a-f]{32}$/.test(digits) ? (addressText(Buffer.from(digits, 'hex')) ?? text) : text;
}
