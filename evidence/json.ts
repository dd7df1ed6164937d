import { ExhibitError } from './error.ts';

/**
 * JSON as evidence: one value has exactly one spelling, so that a flipped byte can never be read as the same value.
 * UTF-8, keys sorted by UTF-16 code unit at every depth, two spaces of indentation, a newline at the end; strings and
 * numbers as ECMAScript's JSON.stringify writes them.
 */

/** Deeper than any shape of the format; bounds recursion on hostile input. */
export const MAX_JSON_DEPTH = 64;

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
 * Throws ExhibitError `bundle-corrupt`: too long, not UTF-8, not JSON.
 */
export function parseJson(bytes: Uint8Array, limitBytes: number, what: string): unknown {
  if (bytes.length > limitBytes) {
    throw new ExhibitError('bundle-corrupt', `${what} is larger than the ${limitBytes} bytes that are read of it`);
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new ExhibitError('bundle-corrupt', `${what} is not JSON in UTF-8`, { cause });
  }
}

/** True when `bytes` are exactly what `canonicalJson` would write for the value they hold; never throws. */
export function isCanonical(bytes: Uint8Array): boolean {
  try {
    return Buffer.compare(canonicalJson(parseJson(bytes, bytes.length, 'text')), bytes) === 0;
  } catch {
    return false;
  }
}
