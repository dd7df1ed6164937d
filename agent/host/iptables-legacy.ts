import { asBuffer, latin1, wordsOf } from './decode.ts';
import { cString } from './netlink.ts';
import { formatIpv6 } from './network-address.ts';

/**
 * The tables of iptables-legacy as getsockopt(2) gives them: include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/
 * ip6_tables.h and netfilter/x_tables.h, of a 64-bit kernel. A table is a row of entries with byte offsets that jump among them.
 */

export type LegacyFamily = 'iptables' | 'ip6tables';

/** AF_INET and SOL_IP, AF_INET6 and SOL_IPV6; then where things lie in struct ipt_entry and struct ip6t_entry. */
export const LEGACY = {
  iptables: {
    addressFamily: 2,
    level: 0,
    namesFile: 'ip_tables_names',
    addressBytes: 4,
    counters: 96,
    entryBytes: 112,
  },
  ip6tables: {
    addressFamily: 10,
    level: 41,
    namesFile: 'ip6_tables_names',
    addressBytes: 16,
    counters: 152,
    entryBytes: 168,
  },
} as const;

/** struct ipt_getinfo: name, valid hooks, 5 hook offsets, 5 offsets of the policies, number of entries, size. */
export const INFO_BYTES = 84;
const ENTRIES_HEADER_BYTES = 40;
/** Header of xt_entry_match and xt_entry_target. */
const EXTENSION_BYTES = 32;
const INTERFACE_BYTES = 16;
const HOOKS = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'] as const;

export function entriesBytesOf(info: Buffer): number {
  return info.readUInt32LE(80);
}

export interface LegacyRule {
  readonly object: 'rule' | 'policy';
  readonly family: LegacyFamily;
  readonly table: string;
  readonly chain: string;
  readonly packets: number;
  readonly bytes: number;
  /** `ACCEPT`, `DROP`, `RETURN`, `QUEUE`, a chain, or a target's name; absent for a rule that only counts. */
  readonly target?: string;
  /** `goto`: RETURN in that chain does not come back here. */
  readonly goto?: true;
  readonly source?: string;
  readonly destination?: string;
  readonly inInterface?: string;
  readonly outInterface?: string;
  /** As /etc/protocols numbers them. */
  readonly protocol?: number;
  /** Which of the above are the other way round. */
  readonly inverted?: readonly string[];
  readonly matches?: readonly string[];
  readonly comment?: string;
}

/**
 * Rules and policies in the order of the kernel's table, as `iptables-legacy-save -c` has them. `info` and `entries` as the
 * kernel gave them; entries whose offsets make no sense end the table.
 */
export function parseLegacy(family: LegacyFamily, info: Uint8Array, entries: Uint8Array): LegacyRule[] {
  const [head, table] = [asBuffer(info), asBuffer(entries).subarray(ENTRIES_HEADER_BYTES)];
  if (head.length < INFO_BYTES) return [];
  const name = cString(head.subarray(0, 32)) ?? '';
  const cut = cutEntries(family, table);
  const chains = chainsOf(head, cut);
  const offsets = new Set(cut.map(({ at }) => at));
  let chain: Chain | undefined;
  return cut.flatMap((entry, index) => {
    chain = chains.get(entry.at) ?? chain;
    if (entry.target.name === 'ERROR' || chain === undefined) return [];
    // A chain of the user's ends with a RETURN that nobody wrote.
    const next = cut[index + 1];
    const isLast = next === undefined || next.target.name === 'ERROR' || chains.has(next.at);
    if (isLast && chain.policyAt === undefined) return [];
    const target = verdictOf(entry, offsets, chains);
    return [describe(family, name, chain, entry, target)];
  });
}

interface Extension {
  readonly name: string;
  readonly info: Buffer;
}

interface Entry {
  readonly at: number;
  readonly next: number;
  readonly bytes: Buffer;
  readonly matches: readonly Extension[];
  readonly target: Extension;
}

function cutEntries(family: LegacyFamily, table: Buffer): Entry[] {
  const { counters, entryBytes } = LEGACY[family];
  // nfcache, then both offsets, then comefrom, stand before the counters; IPv6 has four bytes of padding more.
  const targetOffsetAt = counters - (family === 'iptables' ? 8 : 12);
  const found: Entry[] = [];
  for (let at = 0; at + entryBytes <= table.length; ) {
    const target = table.readUInt16LE(at + targetOffsetAt);
    const size = table.readUInt16LE(at + targetOffsetAt + 2);
    if (size < entryBytes + EXTENSION_BYTES || at + size > table.length) break;
    if (target < entryBytes || target + EXTENSION_BYTES > size) break;
    const bytes = table.subarray(at, at + size);
    const [last] = extensions(bytes.subarray(target));
    if (last === undefined) break;
    found.push({
      at,
      next: at + size,
      bytes,
      matches: extensions(bytes.subarray(entryBytes, target)),
      target: last,
    });
    at += size;
  }
  return found;
}

function extensions(bytes: Buffer): Extension[] {
  const found: Extension[] = [];
  for (let at = 0; at + EXTENSION_BYTES <= bytes.length; ) {
    const size = bytes.readUInt16LE(at);
    if (size < EXTENSION_BYTES || at + size > bytes.length) break;
    const name = wordsOf(latin1(bytes.subarray(at + 2, at + 31)).split('\0', 1)[0] ?? '');
    found.push({ name, info: bytes.subarray(at + EXTENSION_BYTES, at + size) });
    at += size;
  }
  return found;
}

/** Found by the offset of its first rule. */
interface Chain {
  readonly name: string;
  /** Of a built-in chain: offset of its policy. */
  readonly policyAt?: number;
}

/** Built-in chains begin where the hooks enter; a chain of the user's begins behind an ERROR target that holds its name. */
function chainsOf(info: Buffer, entries: readonly Entry[]): Map<number, Chain> {
  const hooks = info.readUInt32LE(32);
  const chains = new Map<number, Chain>();
  HOOKS.forEach((name, hook) => {
    if ((hooks & (1 << hook)) === 0) return;
    chains.set(info.readUInt32LE(36 + hook * 4), { name, policyAt: info.readUInt32LE(56 + hook * 4) });
  });
  for (const { target, next } of entries)
    if (target.name === 'ERROR') chains.set(next, { name: cString(target.info) ?? '' });
  return chains;
}

/** NF_DROP, NF_ACCEPT and NF_QUEUE of linux/netfilter.h, as minus the verdict minus one; XT_RETURN is minus NF_REPEAT minus one. */
const VERDICTS: Readonly<Record<number, string>> = { [-1]: 'DROP', [-2]: 'ACCEPT', [-4]: 'QUEUE', [-5]: 'RETURN' };
/** IPT_F_GOTO is 2 and IP6T_F_GOTO is 4. */
const GOTO_FLAG = { iptables: 0x2, ip6tables: 0x4 } as const;

function verdictOf(
  { target, next }: Entry,
  offsets: ReadonlySet<number>,
  chains: ReadonlyMap<number, Chain>,
): string | undefined {
  if (target.name !== '') return target.name;
  const verdict = target.info.length >= 4 ? target.info.readInt32LE(0) : 0;
  if (verdict < 0) return VERDICTS[verdict] ?? String(verdict);
  if (verdict === next) return undefined;
  return chains.get(verdict)?.name ?? (offsets.has(verdict) ? `offset ${verdict}` : `invalid offset ${verdict}`);
}

/** IPT_INV_*, alike for IPv6. */
const INVERSIONS: readonly (readonly [number, string])[] = [
  [0x01, 'inInterface'],
  [0x02, 'outInterface'],
  [0x08, 'source'],
  [0x10, 'destination'],
  [0x20, 'fragment'],
  [0x40, 'protocol'],
];

function describe(
  family: LegacyFamily,
  table: string,
  chain: Chain,
  entry: Entry,
  target: string | undefined,
): LegacyRule {
  const { bytes, matches } = entry;
  const { addressBytes, counters } = LEGACY[family];
  const field = (index: number) => bytes.subarray(index * addressBytes, (index + 1) * addressBytes);
  const names = addressBytes * 4;
  const name = (index: number) =>
    bytes.subarray(names + index * INTERFACE_BYTES, names + (index + 1) * INTERFACE_BYTES);
  const protocol = bytes.readUInt16LE(names + 4 * INTERFACE_BYTES);
  // struct ip6t_ip6 has the type of service before its flags.
  const flagsAt = names + 4 * INTERFACE_BYTES + (family === 'iptables' ? 2 : 3);
  const inverted = INVERSIONS.filter(([bit]) => ((bytes[flagsAt + 1] ?? 0) & bit) !== 0).map(([, word]) => word);
  const comment = matches.find((match) => match.name === 'comment');
  const [source, destination] = [networkOf(field(0), field(2)), networkOf(field(1), field(3))];
  const [inInterface, outInterface] = [interfaceOf(name(0), name(2)), interfaceOf(name(1), name(3))];
  return {
    object: chain.policyAt === entry.at ? 'policy' : 'rule',
    family,
    table,
    chain: chain.name,
    packets: Number(bytes.readBigUInt64LE(counters)),
    bytes: Number(bytes.readBigUInt64LE(counters + 8)),
    ...(target === undefined ? {} : { target }),
    ...(((bytes[flagsAt] ?? 0) & GOTO_FLAG[family]) === 0 ? {} : { goto: true as const }),
    ...(source === undefined ? {} : { source }),
    ...(destination === undefined ? {} : { destination }),
    ...(inInterface === undefined ? {} : { inInterface }),
    ...(outInterface === undefined ? {} : { outInterface }),
    ...(protocol === 0 ? {} : { protocol }),
    ...(inverted.length === 0 ? {} : { inverted }),
    ...(matches.length === 0 ? {} : { matches: matches.map((match) => match.name) }),
    ...(comment === undefined ? {} : { comment: cString(comment.info) ?? '' }),
  };
}

/** `10.0.0.0/8`; a mask with holes is written out; undefined for every address. */
function networkOf(address: Buffer, mask: Buffer): string | undefined {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  if (!bits.includes('1')) return undefined;
  const text = (bytes: Buffer) => (bytes.length === 4 ? bytes.join('.') : formatIpv6(bytes));
  const prefix = bits.lastIndexOf('1') + 1;
  return bits.slice(0, prefix).includes('0') ? `${text(address)}/${text(mask)}` : `${text(address)}/${prefix}`;
}

/** A mask that ends before the name's NUL stands for all that begin so: `veth+`. */
function interfaceOf(name: Buffer, mask: Buffer): string | undefined {
  const masked = mask.indexOf(0);
  const length = masked < 0 ? mask.length : masked;
  if (length === 0) return undefined;
  const words = cString(name) ?? '';
  return length > words.length ? words : `${words.slice(0, length)}+`;
}
