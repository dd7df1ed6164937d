import { isUtf8 } from 'node:buffer';

/**
 * Bytes and words. /proc of a container is hostile text: it is read as bytes, cut as Latin-1 (one character a byte, so
 * that nothing is lost by cutting), and only the pieces become words.
 */

/** `name` holds the words; `nameBase64` is there when the bytes are not UTF-8, and then it alone is exact. */
export type Worded<Name extends string> = { [K in Name]: string } & { [K in `${Name}Base64`]?: string };

export function worded<Name extends string>(name: Name, bytes: Uint8Array): Worded<Name> {
  const buffer = asBuffer(bytes);
  const fields: Record<string, string> = { [name]: buffer.toString('utf8') };
  if (!isUtf8(buffer)) fields[`${name}Base64`] = buffer.toString('base64');
  return fields as Worded<Name>;
}

/** As `worded`, of Latin-1: most names are ASCII, and those are words already. */
export function wordedText<Name extends string>(name: Name, text: string): Worded<Name> {
  const words: Record<string, string> = { [name]: text };
  return isAscii(text) ? (words as Worded<Name>) : worded(name, fromLatin1(text));
}

/** Words of Latin-1, with U+FFFD for what is not UTF-8. */
export function wordsOf(text: string): string {
  return isAscii(text) ? text : fromLatin1(text).toString('utf8');
}

function isAscii(text: string): boolean {
  return /^[\x00-\x7f]*$/.test(text);
}

/** A view, no copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** One character a byte. */
export function latin1(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('latin1');
}

export function fromLatin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Lines without their newline; a last line without one counts, an empty last one does not. */
export function linesOf(bytes: Uint8Array): string[] {
  const lines = latin1(bytes).split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/** Fields between runs of spaces and tabs. */
export function columns(line: string): string[] {
  return line.split(/[ \t]+/).filter((part) => part !== '');
}

/** Undoes the kernel's octal escapes (seq_escape: `\040`), as in mountinfo. Works on Latin-1. */
export function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replaceAll(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** A decimal integer, or undefined for anything else. Beyond 2^53 it is not exact: use `bigOf` for addresses. */
export function intOf(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d{1,20}$/.test(text) ? Number(text) : undefined;
}

/** A decimal integer of up to 64 bits. */
export function bigOf(text: string | undefined): bigint | undefined {
  return text !== undefined && /^-?\d{1,20}$/.test(text) ? BigInt(text) : undefined;
}

/** Hexadecimal of up to 64 bits, with or without 0x. */
export function hexOf(text: string | undefined): bigint | undefined {
  const digits = text?.startsWith('0x') ? text.slice(2) : text;
  if (digits === undefined || !/^[0-9a-fA-F]{1,16}$/.test(digits)) return undefined;
  // Up to 52 bits a number holds it, which is faster to read.
  return digits.length <= 13 ? BigInt(Number.parseInt(digits, 16)) : BigInt(`0x${digits}`);
}

/** How addresses are written in evidence: lower-case hex with 0x. */
export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** Stands for the value of a field that is filled in later; see decode-template.ts. */
export const OPEN: unique symbol = Symbol('an open field');

/**
 * JSON with sorted keys; bigints become numbers where exact, otherwise decimal strings; undefined is left out. One line:
 * JSON escapes every control character, so a hostile name cannot break out of its line.
 */
export function jsonLine(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value);
    case 'number':
      return Number.isFinite(value) ? String(value) : 'null';
    case 'boolean':
      return value ? 'true' : 'false';
    case 'bigint':
      return bigJson(value);
    case 'object': {
      if (value === null) return 'null';
      const known = kept.get(value);
      if (known !== undefined) return known;
      return Array.isArray(value) ? `[${value.map(jsonLine).join(',')}]` : objectJson(value);
    }
    default:
      return 'null';
  }
}

const kept = new WeakMap<object, string>();

/** For a value that is written many times and never changed: its text is made once. */
export function keepJson(value: object): void {
  kept.set(value, jsonLine(value));
}

function objectJson(value: object): string {
  const held = value as Readonly<Record<string, unknown>>;
  const { keys, heads } = shapeOf(value);
  let text = '';
  for (let index = 0; index < keys.length; index += 1) {
    const field = held[keys[index] ?? ''];
    if (field === OPEN) text += `\0${keys[index]}\0`;
    else if (field !== undefined) text += (text === '' ? '' : ',') + heads[index] + jsonLine(field);
  }
  return `{${text}}`;
}

function bigJson(value: bigint): string {
  const exact = value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER);
  return exact ? value.toString() : `"${value}"`;
}

/** The keys of an object as they come, and sorted with how each begins its field: `"pid":`. */
interface Shape {
  readonly own: readonly string[];
  readonly keys: readonly string[];
  readonly heads: readonly string[];
}

/** Records have few shapes: 20,000 descriptors are sorted once. Bounded, because counters by name make shapes too. */
const SHAPES_MAX = 32;
/** By the number of keys. */
const shapes = new Map<number, Shape[]>();

function shapeOf(value: object): Shape {
  const own = Object.keys(value);
  const alike = shapes.get(own.length) ?? [];
  const known = alike.find((shape) => isSame(shape.own, own));
  if (known !== undefined) return known;
  const keys = own.toSorted();
  const shape = { own, keys, heads: keys.map((key) => `${JSON.stringify(key)}:`) };
  if (alike.length === 0 && shapes.size < SHAPES_MAX) shapes.set(own.length, alike);
  if (alike.length < SHAPES_MAX) alike.push(shape);
  return shape;
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  for (let index = 0; index < a.length; index += 1) if (a[index] !== b[index]) return false;
  return true;
}
