import { createHash } from 'node:crypto';

/**
 * Names in the request folder. `NAME.json` and `NAME.yaml` are requests; `NAME.json.answer.json` is the answer to the first.
 * Whatever begins with a dot or ends otherwise is left alone, so that a request can be written there before it is renamed.
 */

export const REJECTED = 'rejected';
export const ANSWER_SUFFIX = '.answer.json';
export const REASON_SUFFIX = '.reason.json';
/** Of what is written here before it gets its name. */
export const UNFINISHED = /^\.exhibit-[0-9a-f]{16}\.tmp$/;

/** Linux takes 255 bytes (NAME_MAX); the answer's suffix and a number behind a twin in `rejected/` must fit as well. */
export const MAX_NAME_BYTES = 200;
/** Letters, digits and marks of any script, and what people put between them. No control, format or separator characters. */
const PLAIN = /^[\p{L}\p{N}_][\p{L}\p{M}\p{N} ._+@=,~-]*$/u;

const DOT = 0x2e;

/** Names are bytes: what is looked at is decided on them. */
export function isRequestName(name: Buffer): boolean {
  if (name[0] === DOT) return false;
  const text = name.toString('latin1');
  return (text.endsWith('.json') || text.endsWith('.yaml')) && !text.endsWith(ANSWER_SUFFIX);
}

export const isYaml = (name: string): boolean => name.endsWith('.yaml');

/** The name as text, or why a request cannot be called so: a sentence without its subject. */
export function plainName(name: Buffer): { readonly name: string } | { readonly why: string } {
  if (name.length > MAX_NAME_BYTES) return { why: `has a name of ${name.length} bytes; ${MAX_NAME_BYTES} is the most` };
  const text = name.toString('utf8');
  if (!Buffer.from(text, 'utf8').equals(name)) return { why: 'has a name that is not UTF-8' };
  if (PLAIN.test(text)) return { name: text };
  return { why: 'has a name with other characters than letters, digits, spaces and _ . - + @ = , ~' };
}

/** What it is called in `rejected/`: its own name where that is plain, else a digest of it. Always ASCII-safe and short. */
export function rejectedName(name: Buffer): string {
  const plain = plainName(name);
  if ('name' in plain) return plain.name;
  const suffix = name.subarray(-5).toString('latin1');
  return `unnamed-${createHash('sha256').update(name).digest('hex').slice(0, 16)}${suffix}`;
}
