import { nftablesType } from './netfilter-request.ts';
import { attributeList, attributes, be, cString, messages, u8 } from './netlink.ts';
import {
  type Expression,
  keyText,
  parseData,
  parseExpression,
  parseExpressions,
  parseFields,
  type Verdict,
} from './nftables-expression.ts';

/** What a ruleset consists of, as `nft -j list ruleset` names it: include/uapi/linux/netfilter/nf_tables.h. */
export type NftablesObject = { readonly family: string; readonly table: string } & (
  | { readonly object: 'table'; readonly handle: number; readonly flags?: string[]; readonly comment?: string }
  | NftablesChain
  | NftablesRule
  | NftablesSet
  | NftablesElement
  | { readonly object: 'flowtable'; readonly name: string; readonly handle: number; readonly hook?: Hook }
  /** `kind`: `counter`, `quota`, …; its values are in `fields`. */
  | {
      readonly object: 'object';
      readonly name: string;
      readonly handle: number;
      readonly kind: string;
      readonly fields: Readonly<Record<string, unknown>>;
      readonly comment?: string;
    }
);

interface Hook {
  /** `input`, …; a number where the family has no name for it. */
  readonly hook: string;
  readonly priority: number;
  readonly devices?: string[];
}

interface NftablesChain extends Partial<Hook> {
  readonly object: 'chain';
  readonly name: string;
  readonly handle: number;
  /** `filter`, `nat`, `route`; of base chains. */
  readonly type?: string;
  readonly policy?: string;
  readonly packets?: number;
  readonly bytes?: number;
  readonly comment?: string;
}

interface NftablesRule {
  readonly object: 'rule';
  readonly chain: string;
  readonly handle: number;
  readonly expressions: Expression[];
  readonly comment?: string;
}

interface NftablesSet {
  readonly object: 'set' | 'map';
  readonly name: string;
  readonly handle: number;
  readonly flags: string[];
  /** As nft(8) numbers types; 6 bits each for a key of several. */
  readonly keyType?: number;
  readonly keyBytes?: number;
  readonly dataType?: number;
  readonly timeoutMs?: number;
  readonly sizeMax?: number;
  readonly comment?: string;
}

interface NftablesElement {
  readonly object: 'element';
  readonly set: string;
  /** An address or a name where the set says so, otherwise hex; absent for the catch-all. */
  readonly key?: string;
  readonly keyEnd?: string;
  readonly data?: string | Verdict;
  readonly flags?: string[];
  readonly timeoutMs?: number;
  readonly expiresMs?: number;
  readonly objectReference?: string;
  readonly expressions?: Expression[];
  readonly comment?: string;
}

/** NFPROTO_*. */
const FAMILIES: Readonly<Record<number, string>> = {
  1: 'inet',
  2: 'ip',
  3: 'arp',
  5: 'netdev',
  7: 'bridge',
  10: 'ip6',
};
const NETFILTER_HOOKS = ['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress'];
const HOOKS: Readonly<Record<string, readonly string[]>> = {
  arp: ['input', 'output', 'forward'],
  netdev: ['ingress', 'egress'],
};
const TABLE_FLAGS = ['dormant', 'owner', 'persist'];
const SET_FLAGS = [
  ...['anonymous', 'constant', 'interval', 'map', 'timeout', 'eval', 'object', 'concat', 'expressions'],
];
const MAP_FLAG = 0x8 | 0x40;
const ELEMENT_FLAGS = ['interval-end', 'catchall'];
const OBJECTS = [
  ...['unspec', 'counter', 'quota', 'ct_helper', 'limit', 'connlimit', 'tunnel', 'ct_timeout', 'secmark'],
  ...['ct_expectation', 'synproxy'],
];
/** struct nfgenmsg. */
const HEADER_BYTES = 4;

interface Entry {
  readonly family: string;
  readonly found: Map<number, Buffer>;
  readonly table: string;
}

function* entries(bytes: Uint8Array | undefined, type: number): Generator<Entry> {
  for (const message of messages(bytes ?? EMPTY)) {
    if (message.type !== type || message.body.length < HEADER_BYTES) continue;
    const number = message.body[0] ?? 0;
    const found = attributes(message.body.subarray(HEADER_BYTES));
    yield { family: FAMILIES[number] ?? String(number), found, table: cString(found.get(1)) ?? '' };
  }
}

const EMPTY = Buffer.alloc(0);

/** NFT_MSG_NEWGEN and NFTA_GEN_ID. */
export function generationOf(bytes: Uint8Array): number | undefined {
  for (const { type, body } of messages(bytes)) {
    if (type === ((10 << 8) | 15)) return be(attributes(body.subarray(HEADER_BYTES)).get(1));
  }
  return undefined;
}

/** Which sets there are, as bytes to ask for their elements with. */
export function* setNames(sets: Uint8Array): Generator<{ family: number; table: Buffer; set: Buffer }> {
  const withoutEnd = (bytes: Buffer | undefined) => (bytes ?? EMPTY).subarray(0, (bytes ?? EMPTY).indexOf(0));
  for (const { type, body } of messages(sets)) {
    if (type !== nftablesType('sets') || body.length < HEADER_BYTES) continue;
    const found = attributes(body.subarray(HEADER_BYTES));
    yield { family: body[0] ?? 0, table: withoutEnd(found.get(1)), set: withoutEnd(found.get(2)) };
  }
}

/** Dumps as the kernel gave them, by `tables`, `chains`, `rules`, `sets`, `elements`, `objects`, `flowtables`. */
export function* describeNftables(dumps: ReadonlyMap<string, Uint8Array>): Generator<NftablesObject> {
  for (const { family, found, table } of entries(dumps.get('tables'), nftablesType('tables'))) {
    const flags = flagNames(be(found.get(2)), TABLE_FLAGS);
    yield {
      object: 'table',
      family,
      table,
      handle: be(found.get(4)) ?? 0,
      ...(flags.length === 0 ? {} : { flags }),
      ...commentOf(found.get(6)),
    };
  }
  for (const entry of entries(dumps.get('chains'), nftablesType('chains'))) yield chainOf(entry);
  for (const { family, found, table } of entries(dumps.get('rules'), nftablesType('rules'))) {
    const expressions = parseExpressions(found.get(4));
    const extension = expressions.find(({ comment }) => typeof comment === 'string')?.comment;
    yield {
      object: 'rule',
      family,
      table,
      chain: cString(found.get(2)) ?? '',
      handle: be(found.get(3)) ?? 0,
      expressions,
      ...(typeof extension === 'string' ? { comment: extension } : commentOf(found.get(7))),
    };
  }
  const keyTypes = new Map<string, { key: number | undefined; data: number | undefined }>();
  for (const entry of entries(dumps.get('sets'), nftablesType('sets'))) {
    const set = setOf(entry);
    keyTypes.set(`${set.family} ${set.table} ${set.name}`, { key: set.keyType, data: set.dataType });
    yield set;
  }
  for (const { family, found, table } of entries(dumps.get('elements'), nftablesType('elements'))) {
    const set = cString(found.get(2)) ?? '';
    const types = keyTypes.get(`${family} ${table} ${set}`);
    for (const [, element] of attributeList(found.get(3) ?? EMPTY)) {
      yield { object: 'element', family, table, set, ...elementOf(attributes(element), types) };
    }
  }
  yield* describeOthers(dumps);
}

function chainOf({ family, found, table }: Entry): NftablesObject {
  const hook = found.get(4);
  const counters = attributes(found.get(8));
  const policy = be(found.get(5));
  const type = cString(found.get(7));
  const [bytes, packets] = [be(counters.get(1)), be(counters.get(2))];
  return {
    object: 'chain',
    family,
    table,
    name: cString(found.get(3)) ?? '',
    handle: be(found.get(2)) ?? 0,
    ...(hook === undefined ? {} : hookOf(family, hook)),
    ...(type === undefined ? {} : { type }),
    ...(policy === undefined ? {} : { policy: ['drop', 'accept'][policy] ?? String(policy) }),
    ...(packets === undefined ? {} : { packets }),
    ...(bytes === undefined ? {} : { bytes }),
    ...commentOf(found.get(12)),
  };
}

/** NFTA_HOOK_HOOKNUM, _PRIORITY, _DEV, _DEVS; those of a flowtable have no _DEV, and its devices are number 3. */
function hookOf(family: string, bytes: Buffer, devicesAt = 4): Hook {
  const found = attributes(bytes);
  const number = be(found.get(1)) ?? 0;
  const single = devicesAt === 4 ? cString(found.get(3)) : undefined;
  const several = [...attributeList(found.get(devicesAt) ?? EMPTY)].map(([, name]) => cString(name) ?? '');
  const devices = several.length > 0 ? several : single === undefined ? [] : [single];
  return {
    hook: (HOOKS[family] ?? NETFILTER_HOOKS)[number] ?? String(number),
    priority: (be(found.get(2)) ?? 0) | 0,
    ...(devices.length === 0 ? {} : { devices }),
  };
}

function setOf({ family, found, table }: Entry): NftablesObject & NftablesSet {
  const flags = be(found.get(3)) ?? 0;
  const [keyType, keyBytes, dataType] = [be(found.get(4)), be(found.get(5)), be(found.get(6))];
  const [timeoutMs, sizeMax] = [be(found.get(11)), be(attributes(found.get(9)).get(1))];
  return {
    object: (flags & MAP_FLAG) === 0 ? 'set' : 'map',
    family,
    table,
    name: cString(found.get(2)) ?? '',
    handle: be(found.get(16)) ?? 0,
    flags: flagNames(flags, SET_FLAGS),
    ...(keyType === undefined ? {} : { keyType }),
    ...(keyBytes === undefined ? {} : { keyBytes }),
    ...(dataType === undefined ? {} : { dataType }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(sizeMax === undefined ? {} : { sizeMax }),
    ...commentOf(found.get(13), SET_COMMENT),
  };
}

function elementOf(
  found: Map<number, Buffer>,
  types: { key: number | undefined; data: number | undefined } | undefined,
): Omit<NftablesElement, 'object' | 'set'> {
  const [key, keyEnd, data] = [parseData(found.get(1)), parseData(found.get(10)), parseData(found.get(2))];
  const [timeoutMs, expiresMs] = [be(found.get(4)), be(found.get(5))];
  const flags = flagNames(be(found.get(3)), ELEMENT_FLAGS);
  const reference = cString(found.get(9));
  const single = found.get(7);
  const expressions = single === undefined ? parseExpressions(found.get(11)) : [parseExpression(single)];
  return {
    ...(typeof key === 'string' ? { key: keyText(key, types?.key) } : {}),
    ...(typeof keyEnd === 'string' ? { keyEnd: keyText(keyEnd, types?.key) } : {}),
    ...(data === undefined ? {} : { data: typeof data === 'string' ? keyText(data, types?.data) : data }),
    ...(flags.length === 0 ? {} : { flags }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(expiresMs === undefined ? {} : { expiresMs }),
    ...(reference === undefined ? {} : { objectReference: reference }),
    ...(expressions.length === 0 ? {} : { expressions }),
    ...commentOf(found.get(6)),
  };
}

function* describeOthers(dumps: ReadonlyMap<string, Uint8Array>): Generator<NftablesObject> {
  for (const { family, found, table } of entries(dumps.get('objects'), nftablesType('objects'))) {
    const number = be(found.get(3)) ?? 0;
    const kind = OBJECTS[number] ?? String(number);
    yield {
      object: 'object',
      family,
      table,
      name: cString(found.get(2)) ?? '',
      handle: be(found.get(6)) ?? 0,
      kind,
      fields: parseFields(kind, found.get(4)),
      ...commentOf(found.get(8)),
    };
  }
  for (const { family, found, table } of entries(dumps.get('flowtables'), nftablesType('flowtables'))) {
    const hook = found.get(3);
    yield {
      object: 'flowtable',
      family,
      table,
      name: cString(found.get(2)) ?? '',
      handle: be(found.get(5)) ?? 0,
      ...(hook === undefined ? {} : { hook: hookOf('netdev', hook, 3) }),
    };
  }
}

function flagNames(bits: number | undefined, names: readonly string[]): string[] {
  return names.filter((_, bit) => ((bits ?? 0) & (1 << bit)) !== 0);
}

/** libnftnl's udata.h: NFTNL_UDATA_*_COMMENT is 0 for all but sets. */
const SET_COMMENT = 7;

/** User data are for the program that made the rule: type, length, value. nft(8) keeps comments there. */
function commentOf(bytes: Buffer | undefined, wanted = 0): { comment?: string } {
  for (let at = 0; bytes !== undefined && at + 2 <= bytes.length; ) {
    const [type, length] = [u8(bytes.subarray(at)), u8(bytes.subarray(at + 1)) ?? 0];
    if (at + 2 + length > bytes.length) break;
    if (type === wanted) return { comment: cString(bytes.subarray(at + 2, at + 2 + length)) ?? '' };
    at += 2 + length;
  }
  return {};
}
