/** What expressions of nftables are made of, as data: include/uapi/linux/netfilter/nf_tables.h. */

/** How one attribute is read. A list: names of the numbers from 0 on. */
export type FieldKind = 'number' | 'text' | 'data' | 'bytes' | 'expressions' | 'flags' | readonly string[];
type Field = readonly [number, string, FieldKind];

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
export const FIELDS: Readonly<Record<string, readonly Field[]>> = {
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
