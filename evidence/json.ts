import { ExhibitError } from './error.ts';

/**
 * JSON as evidence: one value has exactly one spelling, so that a flipped byte can never be read as the same value.
 * UTF-8, keys sorted by UTF-16 code unit at every depth, two spaces of indentation, a newline at the end; strings and
 * numbers as ECMAScript's JSON.stringify writes them.
 */

/** Deeper than any shape of the format; bounds recursion on hostile input. */
export const MAX_JSON_DEPTH = 64;

/** Twice what a full manifest holds (eight archives of 10,000 members, gaps); a parsed value takes some 60 bytes of memory. */
export const MAX_JSON_VALUES = 4_000_000;

/** Throws ExhibitError `internal` for what JSON cannot hold (undefined in arrays, NaN, functions, bigint) and for depth. */
export function canonicalJson(value: unknown): Uint8Array {
  return Buffer.from(`${canonicalText(value, '', 0)}\n`);
}

function canonicalText(value: unknown, indent: string, depth: number): string {
  if (depth > MAX_JSON_DEPTH) throw new ExhibitError('internal', `JSON nests deeper than ${MAX_JSON_DEPTH} levels`);
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (typeof value !== 'object')
    throw new ExhibitError('internal', `JSON cannot hold the ${typeof value} ${String(value)}`);
  const deeper = `${indent}  `;
  if (Array.isArray(value)) {
    // Array.from: a hole is undefined, and thus refused like any other undefined.
    const items = Array.from(value, (item: unknown) => deeper + canonicalText(item, deeper, depth + 1));
    return items.length === 0 ? '[]' : `[\n${items.join(',\n')}\n${indent}]`;
  }
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${deeper}${JSON.stringify(key)}: ${canonicalText(field, deeper, depth + 1)}`);
  return fields.length === 0 ? '{}' : `{\n${fields.join(',\n')}\n${indent}}`;
}

/**
 * Parses at most `limitBytes` of strict UTF-8 JSON. `what` names the text in errors.
 * Throws ExhibitError `bundle-corrupt`: too long, too deep, too many values, not UTF-8, not JSON.
 */
export function parseJson(bytes: Uint8Array, limitBytes: number, what: string): unknown {
  if (bytes.length > limitBytes) {
    throw new ExhibitError('bundle-corrupt', `${what} is larger than the ${limitBytes} bytes that are read of it`);
  }
  const excess = excessOf(bytes);
  if (excess !== undefined) throw new ExhibitError('bundle-corrupt', `${what} ${excess}`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new ExhibitError('bundle-corrupt', `${what} is not JSON in UTF-8`, { cause });
  }
}

/** More keys than any object of the format has, or any label list that Kubernetes takes; each wrong one would be an issue. */
export const MAX_JSON_KEYS = 100_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;

/** What makes a text too much to parse, before anything is made of it; it need not be JSON. */
function excessOf(bytes: Uint8Array): string | undefined {
  let depth = 0;
  let values = 1;
  /** Commas of each open object; of lists there may be any number. */
  const keys = new Float64Array(MAX_JSON_DEPTH + 2);
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === QUOTE) at = endOfString(bytes, at);
    else if (byte === COMMA) {
      values += 1;
      keys[depth] = (keys[depth] ?? 0) + 1;
      if ((keys[depth] ?? 0) >= MAX_JSON_KEYS)
        return `has an object with more than the ${MAX_JSON_KEYS} keys that are read`;
    } else if (byte === 0x5b || byte === 0x7b) {
      depth += 1;
      values += 1;
      keys[depth] = byte === 0x7b ? 0 : Number.NEGATIVE_INFINITY;
    } else if (byte === 0x5d || byte === 0x7d) depth = Math.max(0, depth - 1);
    if (depth > MAX_JSON_DEPTH) return `nests deeper than the ${MAX_JSON_DEPTH} levels that are read`;
    if (values > MAX_JSON_VALUES) return `holds more than the ${MAX_JSON_VALUES} values that are read`;
  }
  return undefined;
}

/** Where the string that begins at `start` has its closing quote, or where the text ends. */
function endOfString(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  for (; at < bytes.length && bytes[at] !== QUOTE; at += 1) if (bytes[at] === BACKSLASH) at += 1;
  return at;
}

/**
 * The first key that an object of `bytes`, which are JSON, has twice: one reader takes the first value, another the last.
 * Keys are compared as they are read, so `"a"` and `"\u0061"` are one.
 */
export function duplicateKey(bytes: Uint8Array): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === 0x7b) open.push(new Set());
    else if (byte === 0x5b) open.push(undefined);
    else if (byte === 0x5d || byte === 0x7d) open.pop();
    if (byte !== QUOTE) continue;
    const end = endOfString(bytes, at);
    const keys = open.at(-1);
    if (keys !== undefined && isKey(bytes, end + 1)) {
      const key = String(JSON.parse(Buffer.from(bytes.subarray(at, end + 1)).toString()));
      if (keys.has(key)) return key;
      keys.add(key);
    }
    at = end;
  }
  return undefined;
}

/** Whether a colon follows, after white space. */
function isKey(bytes: Uint8Array, from: number): boolean {
  let at = from;
  while (bytes[at] === 0x20 || bytes[at] === 0x0a || bytes[at] === 0x0d || bytes[at] === 0x09) at += 1;
  return bytes[at] === 0x3a;
}

/** Why `bytes`, which are JSON and not canonical, are not: a sentence without its subject. */
export function whyNotCanonical(bytes: Uint8Array): string {
  const key = duplicateKey(bytes);
  if (key === undefined) return 'is not written the canonical way: it was edited';
  return `has the key ${JSON.stringify(key)} twice in one object: two readers would read it differently`;
}

/** True when `bytes` are exactly what `canonicalJson` would write for the value they hold; never throws. */
export function isCanonical(bytes: Uint8Array): boolean {
  try {
    return Buffer.compare(canonicalJson(parseJson(bytes, bytes.length, 'text')), bytes) === 0;
  } catch {
    return false;
  }
}
