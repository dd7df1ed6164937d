import { attributeList, attributes, be, cString } from './netlink.ts';
import { formatIpv6 } from './network-address.ts';
import { FIELDS, type FieldKind } from './nftables-fields.ts';

/**
 * Expressions of nftables rules: include/uapi/linux/netfilter/nf_tables.h. A rule is a little program: values are loaded into
 * registers, compared, and a verdict is given. What an expression is made of is data here; one that is not known, or an attribute
 * that is not, is told by its number in hex.
 */
export type Expression = { readonly name: string } & Readonly<Record<string, unknown>>;

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

function read(kind: FieldKind, value: Buffer, depth: number): unknown {
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
