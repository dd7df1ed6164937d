/**
 * Text as both databases take it. PostgreSQL holds no NUL, and UTF-8 no half of a surrogate pair; what people and agents send may
 * have both. They are kept, not replaced: two names that differ must never become one. Done in the drivers, so that no query
 * can forget it.
 */

/** A code point that Unicode promises never to give to a character; valid in UTF-8. What is escaped is it and four hex digits. */
const ESCAPE = '\uFDD0';
const UNSTORABLE = /[\0\uFDD0]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

const isPlain = (text: string): boolean => text.isWellFormed() && !text.includes('\0') && !text.includes(ESCAPE);

export function storableText(text: string): string {
  if (isPlain(text)) return text;
  return text.replace(UNSTORABLE, (unit) => ESCAPE + unit.charCodeAt(0).toString(16).padStart(4, '0'));
}

export function textOfStored(stored: string): string {
  if (!stored.includes(ESCAPE)) return stored;
  return stored.replace(/\uFDD0([0-9a-f]{4})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** The columns of a row as the database gave them, with their text as it was. */
export function rowOfStored(row: Record<string, unknown>): Record<string, unknown> {
  for (const [column, value] of Object.entries(row)) if (typeof value === 'string') row[column] = textOfStored(value);
  return row;
}

/** PostgreSQL's index entries end at 2,704 bytes, and an index has up to two keys; a name in Kubernetes has 253 bytes. */
export const MAX_KEY_BYTES = 1024;

/** Whether text can be the key of a row: what names a capture, a node, a case. */
export const isKey = (text: string): boolean => isPlain(text) && Buffer.byteLength(text) <= MAX_KEY_BYTES;

/** The least text after all that begin with `prefix`, by code points as both databases sort; undefined: there is none. */
export function afterPrefix(prefix: string): string | undefined {
  const points = Array.from(prefix, (character) => character.codePointAt(0) ?? 0);
  while (points.length > 0) {
    const last = points.pop() ?? 0;
    if (last === 0x10ffff) continue;
    // The surrogates are no characters of their own.
    return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
  }
  return undefined;
}
