/**
 * Pure: the bytes of a systemd journal file, as systemd's "Journal File Format" and journal-def.h have them. Little-endian;
 * offsets are from the file's start, objects lie at multiples of 8.
 */

export const SIGNATURE = 'LPKSHHRH';

/** Up to systemd 187 a header had this much; later fields are read where `headerBytes` has them. */
export const MIN_HEADER_BYTES = 208;
/** What is read of a header. */
export const HEADER_BYTES = 272;

export const INCOMPATIBLE = { xz: 1, lz4: 2, keyedHash: 4, zstd: 8, compact: 16 } as const;
const KNOWN_INCOMPATIBLE = Object.values(INCOMPATIBLE).reduce((all, flag) => all | flag, 0);

export const STATES = ['offline', 'online', 'archived'] as const;

export const OBJECT = {
  data: 1,
  field: 2,
  entry: 3,
  dataHashTable: 4,
  fieldHashTable: 5,
  entryArray: 6,
  tag: 7,
} as const;
export const OBJECT_HEADER_BYTES = 16;
export const COMPRESSED = { xz: 1, lz4: 2, zstd: 4 } as const;

export const ENTRY_ITEMS_AT = 64;
export const ARRAY_ITEMS_AT = 24;
/** DATA: the payload comes after 64 bytes; in a compact file 8 more lie before it. */
export const payloadAt = (compact: boolean): number => (compact ? 72 : 64);
/** Offset and hash of a field, or in a compact file the offset alone. */
export const entryItemBytes = (compact: boolean): number => (compact ? 4 : 16);
export const arrayItemBytes = (compact: boolean): number => (compact ? 4 : 8);

export interface JournaldHeader {
  readonly state: (typeof STATES)[number];
  readonly compact: boolean;
  readonly machineId: string;
  readonly seqnumId: string;
  readonly headerBytes: number;
  readonly entries: number;
  readonly entryArrayOffset: number;
  readonly headRealtimeUs: bigint;
  readonly tailRealtimeUs: bigint;
}

/** The header, or why the file cannot be read. */
export function parseHeader(bytes: Buffer): JournaldHeader | string {
  if (bytes.length < MIN_HEADER_BYTES) return 'it is too short for a journal';
  if (bytes.toString('latin1', 0, 8) !== SIGNATURE) return 'it has no journal signature';
  const flags = bytes.readUInt32LE(12);
  const unknown = (flags & ~KNOWN_INCOMPATIBLE) >>> 0;
  if (unknown !== 0) return `it is of a newer format (incompatible flags 0x${unknown.toString(16)})`;
  const state = STATES[bytes.readUInt8(16)];
  const headerBytes = offsetOf(bytes, 88);
  if (state === undefined || headerBytes === undefined || headerBytes < MIN_HEADER_BYTES)
    return 'its header is damaged';
  return {
    state,
    compact: (flags & INCOMPATIBLE.compact) !== 0,
    machineId: bytes.toString('hex', 40, 56),
    seqnumId: bytes.toString('hex', 72, 88),
    headerBytes,
    entries: offsetOf(bytes, 152) ?? 0,
    entryArrayOffset: offsetOf(bytes, 176) ?? 0,
    headRealtimeUs: bytes.readBigUInt64LE(184),
    tailRealtimeUs: bytes.readBigUInt64LE(192),
  };
}

export interface ObjectHeader {
  readonly type: number;
  readonly flags: number;
  /** With this header. */
  readonly sizeBytes: number;
}

/** Undefined for a size that no file has. */
export function parseObjectHeader(bytes: Buffer): ObjectHeader | undefined {
  const sizeBytes = offsetOf(bytes, 8);
  if (sizeBytes === undefined || sizeBytes < OBJECT_HEADER_BYTES) return undefined;
  return { type: bytes.readUInt8(0), flags: bytes.readUInt8(1), sizeBytes };
}

/** A le64 that a file can have as an offset or length; undefined beyond. */
export function offsetOf(bytes: Buffer, at: number): number | undefined {
  const high = bytes.readUInt32LE(at + 4);
  return high > 0x1f_ffff ? undefined : high * 2 ** 32 + bytes.readUInt32LE(at);
}

/** An offset in an ENTRY or ENTRY_ARRAY, by the file's width. 0: none. */
export function itemOf(bytes: Buffer, at: number, compact: boolean): number | undefined {
  return compact ? bytes.readUInt32LE(at) : offsetOf(bytes, at);
}

export interface JournaldEntry {
  readonly offset: number;
  readonly seqnum: bigint;
  readonly realtimeUs: bigint;
  readonly monotonicUs: bigint;
  readonly bootId: string;
  readonly xorHash: bigint;
  /** Offsets of its DATA objects, in the file's order. */
  readonly items: readonly number[];
}

/** `body`: the whole ENTRY object. Offsets beyond what a file can have are 0. */
export function parseEntry(offset: number, body: Buffer, compact: boolean): JournaldEntry {
  const width = entryItemBytes(compact);
  const items: number[] = [];
  for (let at = ENTRY_ITEMS_AT; at + width <= body.length; at += width) items.push(itemOf(body, at, compact) ?? 0);
  return {
    offset,
    seqnum: body.readBigUInt64LE(16),
    realtimeUs: body.readBigUInt64LE(24),
    monotonicUs: body.readBigUInt64LE(32),
    bootId: body.toString('hex', 40, 56),
    xorHash: body.readBigUInt64LE(56),
    items,
  };
}
