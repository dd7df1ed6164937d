import { attributeList, attributes, be, cString } from './netlink.ts';
import { formatIpv6 } from './network-address.ts';

/**
 * Expressions of nftables rules: include/uapi/linux/netfilter/nf_tables.h. A rule is a little program: values are loaded into
 * registers, compared, and a verdict is given. What an expression is made of is data here; one that is not known, or an attribute
 * that is not, is told by its number in hex.
 */
export type Expression = { readonly name: string } & Readonly<Record<string, unknown>>;

/** How one attribute is read. A list: names of the numbers from 0 on. */
type Kind = 'number' | 'text' | 'data' | 'bytes' | 'expressions' | 'flags' | readonly string[];
type Field = readonly [number, string, Kind];

const COMPARISONS = ['eq', 'neq', 'lt', 'lte', 'gt', 'gte'];
const META_KEYS = [
  ...['len', 'protocol', 'priority', 'mark', 'iif', 'oif', 'iifname', 'oifname', 'iftype', 'oiftype', 'skuid', 'skgid'],
  ...['nftrace', 'rtclassid', 'secmark', 'nfproto', 'l4proto', 'ibrname', 'obrname', 'pkttype', 'cpu', 'iifgroup'],
  ...['oifgroup', 'cgroup', 'random', 'ipsec', 'iifkind', 'oifkind', 'ibrpvid', 'ibrvproto', 'time', 'day', 'hour'],
  ...['sdif', 'sdifname', 'broute'],
];
const CT_KEYS = [
  ...['state', 'direction', 'status', 'mark', 'secmark', 'expiration', 'helper', 'l3proto', 'saddr', 'daddr'],
  ...['protocol', 'proto-src', 'proto-dst', 'label', 'packets', 'bytes', 'avgpkt', 'zone', 'event', 'ip saddr'],
  ...['ip daddr', 'ip6 saddr', 'ip6 daddr', 'id'],
];
const DIRECTIONS = ['original', 'reply'];
const UNITS = ['packets', 'bytes'];

/** Attributes by expression: NFTA_*. Registers are what the kernel calls them; 4 bytes each from 8 on. */
const FIELDS: Readonly<Record<string, readonly Field[]>> = {
  immediate: [
    [1, 'register', 'number'],
    [2, 'data', 'data'],
  ],
  cmp: [
    [1, 'source', 'number'],
    [2, 'op', COMPARISONS],
    [3, 'data', 'data'],
  ],
  payload: [
    [1, 'register', 'number'],
    [2, 'base', ['link', 'network', 'transport', 'inner', 'tunnel']],
    [3, 'offset', 'number'],
    [4, 'length', 'number'],
    [5, 'source', 'number'],
  ],
  meta: [
    [1, 'register', 'number'],
    [2, 'key', META_KEYS],
    [3, 'source', 'number'],
  ],
  ct: [
    [1, 'register', 'number'],
    [2, 'key', CT_KEYS],
    [3, 'direction', DIRECTIONS],
    [4, 'source', 'number'],
  ],
  counter: [
    [1, 'bytes', 'number'],
    [2, 'packets', 'number'],
  ],
  nat: [
    [1, 'type', ['snat', 'dnat']],
    [2, 'family', 'number'],
    [3, 'addressFrom', 'number'],
    [4, 'addressTo', 'number'],
    [5, 'portFrom', 'number'],
    [6, 'portTo', 'number'],
    [7, 'flags', 'flags'],
  ],
  masq: [
    [1, 'flags', 'flags'],
    [2, 'portFrom', 'number'],
    [3, 'portTo', 'number'],
  ],
  redir: [
    [1, 'portFrom', 'number'],
    [2, 'portTo', 'number'],
    [3, 'flags', 'flags'],
  ],
  lookup: [
    [1, 'set', 'text'],
    [2, 'source', 'number'],
    [3, 'register', 'number'],
    [5, 'flags', 'flags'],
  ],
  dynset: [
    [1, 'set', 'text'],
    [3, 'op', ['add', 'update', 'delete']],
    [4, 'source', 'number'],
    [5, 'sourceData', 'number'],
    [6, 'timeoutMs', 'number'],
    [7, 'expression', 'expressions'],
    [10, 'expressions', 'expressions'],
  ],
  bitwise: [
    [1, 'source', 'number'],
    [2, 'register', 'number'],
    [3, 'length', 'number'],
    [4, 'mask', 'data'],
    [5, 'xor', 'data'],
    [6, 'op', ['mask-xor', 'lshift', 'rshift', 'and', 'or', 'xor']],
    [7, 'data', 'data'],
  ],
  byteorder: [
    [1, 'source', 'number'],
    [2, 'register', 'number'],
    [3, 'op', ['ntoh', 'hton']],
    [4, 'length', 'number'],
    [5, 'size', 'number'],
  ],
  range: [
    [1, 'source', 'number'],
    [2, 'op', ['eq', 'neq']],
    [3, 'from', 'data'],
    [4, 'to', 'data'],
  ],
  log: [
    [1, 'group', 'number'],
    [2, 'prefix', 'text'],
    [3, 'snaplen', 'number'],
    [4, 'threshold', 'number'],
    [5, 'level', 'number'],
    [6, 'flags', 'flags'],
  ],
  limit: [
    [1, 'rate', 'number'],
    [2, 'perSeconds', 'number'],
    [3, 'burst', 'number'],
    [4, 'of', UNITS],
    [5, 'flags', 'flags'],
  ],
  reject: [
    [1, 'type', ['icmp', 'tcp-reset', 'icmpx']],
    [2, 'code', 'number'],
  ],
  objref: [
    [1, 'type', 'number'],
    [2, 'object', 'text'],
    [3, 'source', 'number'],
    [4, 'map', 'text'],
  ],
  quota: [
    [1, 'bytes', 'number'],
    [2, 'flags', 'flags'],
    [4, 'consumed', 'number'],
  ],
  connlimit: [
    [1, 'count', 'number'],
    [2, 'flags', 'flags'],
  ],
  fib: [
    [1, 'register', 'number'],
    [2, 'result', ['unspec', 'oif', 'oifname', 'type']],
    [3, 'flags', 'flags'],
  ],
  exthdr: [
    [1, 'register', 'number'],
    [2, 'type', 'number'],
    [3, 'offset', 'number'],
    [4, 'length', 'number'],
    [5, 'flags', 'flags'],
    [6, 'op', ['ipv6', 'tcpopt', 'ipv4', 'sctp', 'dccp']],
    [7, 'source', 'number'],
  ],
  rt: [
    [1, 'register', 'number'],
    [2, 'key', ['classid', 'nexthop4', 'nexthop6', 'mtu', 'ipsec']],
  ],
  numgen: [
    [1, 'register', 'number'],
    [2, 'modulus', 'number'],
    [3, 'type', ['inc', 'random']],
    [4, 'offset', 'number'],
  ],
  socket: [
    [1, 'key', ['transparent', 'mark', 'wildcard', 'cgroupv2']],
    [2, 'register', 'number'],
    [3, 'level', 'number'],
  ],
  tproxy: [
    [1, 'family', 'number'],
    [2, 'address', 'number'],
    [3, 'port', 'number'],
  ],
  queue: [
    [1, 'from', 'number'],
    [2, 'total', 'number'],
    [3, 'flags', 'flags'],
    [4, 'source', 'number'],
  ],
  dup: [
    [1, 'address', 'number'],
    [2, 'device', 'number'],
  ],
  fwd: [
    [1, 'device', 'number'],
    [2, 'address', 'number'],
    [3, 'family', 'number'],
  ],
  flow_offload: [[1, 'flowtable', 'text']],
  // Matches and targets of iptables, as iptables-nft makes them; their `info` is that program's own struct.
  match: [
    [1, 'extension', 'text'],
    [2, 'revision', 'number'],
    [3, 'info', 'bytes'],
  ],
  target: [
    [1, 'extension', 'text'],
    [2, 'revision', 'number'],
    [3, 'info', 'bytes'],
  ],
  // Objects that are named and referred to have attributes of their own: the others share those of their expression.
  ct_helper: [
    [1, 'helper', 'text'],
    [2, 'l3proto', 'number'],
    [3, 'l4proto', 'number'],
  ],
};

/** NFTA_LIST_ELEM. */
const LIST_ELEMENT = 1;
/** A rule has at most 128 expressions (NFT_RULE_MAXEXPRS), and dynset nests once. */
const DEPTH_MAX = 3;

/** A list of expressions in their order. */
export function parseExpressions(bytes: Buffer | undefined, depth = 0): Expression[] {
  if (bytes === undefined || depth >= DEPTH_MAX) return [];
  return [...attributeList(bytes)].flatMap(([type, value]) =>
    type === LIST_ELEMENT ? [parseExpression(value, depth)] : [],
  );
}

/** NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
export function parseExpression(bytes: Buffer, depth = 0): Expression {
  const found = attributes(bytes);
  const name = cString(found.get(1)) ?? '';
  return { name, ...parseFields(name, found.get(2), depth) };
}

/** The attributes of an expression, or of an object that shares them. */
export function parseFields(name: string, data: Buffer | undefined, depth = 0): Record<string, unknown> {
  const known = new Map((FIELDS[name] ?? []).map(([type, field, kind]) => [type, { field, kind }]));
  const fields: Record<string, unknown> = {};
  for (const [type, value] of attributes(data)) {
    const found = known.get(type);
    if (found) fields[found.field] = read(found.kind, value, depth);
    else if (value.length > 0) fields[`attribute${type}`] = value.toString('hex');
  }
  if (name === 'match' && fields.extension === 'comment') {
    const info = attributes(data).get(3);
    fields.comment = cString(info) ?? '';
    delete fields.info;
  }
  return fields;
}

function read(kind: Kind, value: Buffer, depth: number): unknown {
  switch (kind) {
    case 'number':
      return be(value);
    case 'flags':
      return `0x${(be(value) ?? 0).toString(16)}`;
    case 'text':
      return cString(value);
    case 'bytes':
      return value.toString('hex');
    case 'data':
      return parseData(value);
    case 'expressions':
      return depth + 1 < DEPTH_MAX ? oneOrMore(value, depth) : [];
    default: {
      const number = be(value);
      return number === undefined ? undefined : (kind[number] ?? String(number));
    }
  }
}

/** One expression, or a list of them. */
function oneOrMore(value: Buffer, depth: number): Expression[] {
  const named = attributes(value);
  return named.has(2) || !named.has(LIST_ELEMENT)
    ? [parseExpression(value, depth + 1)]
    : parseExpressions(value, depth + 1);
}

export interface Verdict {
  readonly verdict: string;
  readonly chain?: string;
}

/** NF_DROP and on; NFT_CONTINUE and on are negative. */
const VERDICTS: Readonly<Record<number, string>> = {
  0: 'drop',
  1: 'accept',
  2: 'stolen',
  3: 'queue',
  4: 'repeat',
  5: 'stop',
  [-1]: 'continue',
  [-2]: 'break',
  [-3]: 'jump',
  [-4]: 'goto',
  [-5]: 'return',
};

/** NFTA_DATA_VALUE as hex, or NFTA_DATA_VERDICT. */
export function parseData(bytes: Buffer | undefined): string | Verdict | undefined {
  const found = attributes(bytes);
  const value = found.get(1);
  if (value !== undefined) return value.toString('hex');
  const verdict = found.get(2);
  if (verdict === undefined) return undefined;
  const fields = attributes(verdict);
  const code = (be(fields.get(1)) ?? 0) | 0;
  const chain = cString(fields.get(2));
  return { verdict: VERDICTS[code] ?? String(code), ...(chain === undefined ? {} : { chain }) };
}

/** nftables' own numbers of what a key means (`nft describe`), for the ones that people look for. */
const ADDRESSES: Readonly<Record<number, number>> = { 7: 4, 8: 16 };
const INTERFACE_NAME = 41;

/** The value of an element in words where its set says what it is: an address, an interface; otherwise hex. */
export function keyText(value: string, keyType: number | undefined): string {
  const bytes = Buffer.from(value, 'hex');
  const length = keyType === undefined ? undefined : ADDRESSES[keyType];
  if (length === 4 && bytes.length === 4) return bytes.join('.');
  if (length === 16 && bytes.length === 16) return formatIpv6(bytes);
  if (keyType === INTERFACE_NAME) return cString(bytes) ?? value;
  return value;
}
