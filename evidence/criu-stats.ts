/**
 * CRIU's `stats-dump` image: two magic numbers (the image's kind and its own), then entries of a length and a protobuf message,
 * here one StatsEntry with a DumpStatsEntry as its field 1. Numbers are little-endian.
 */
import protobuf from 'protobufjs/minimal.js';
import type { DumpStats } from './dump.ts';

/** criu/include/magic.h: IMG_SERVICE_MAGIC and STATS_MAGIC. */
const MAGIC = [0x55105940, 0x57093306];
const HEADER_BYTES = 12;
/** The entry has some fifteen numbers. */
export const MAX_STATS_BYTES = 4096;

const DUMP_ENTRY = 1;
/** images/stats.proto, DumpStatsEntry. */
const FIELDS = new Map<number, keyof DumpStats>([
  [1, 'freezingTimeUs'],
  [2, 'frozenTimeUs'],
  [3, 'memdumpTimeUs'],
  [4, 'memwriteTimeUs'],
  [5, 'pagesScanned'],
  [7, 'pagesWritten'],
  [14, 'sharedPagesWritten'],
]);

/** Undefined for bytes that are no statistics of a dump. */
export function parseDumpStats(file: Uint8Array): DumpStats | undefined {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length < HEADER_BYTES || bytes.length > MAX_STATS_BYTES) return undefined;
  if (MAGIC.some((magic, index) => bytes.readUInt32LE(index * 4) !== magic)) return undefined;
  const end = HEADER_BYTES + bytes.readUInt32LE(8);
  if (end > bytes.length) return undefined;
  try {
    return readEntry(bytes.subarray(HEADER_BYTES, end));
  } catch {
    return undefined;
  }
}

function readEntry(message: Uint8Array): DumpStats | undefined {
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === DUMP_ENTRY) return readStats(reader.bytes());
    reader.skipType(tag & 7);
  }
  return undefined;
}

function readStats(message: Uint8Array): DumpStats {
  const stats: DumpStats = {
    freezingTimeUs: 0,
    frozenTimeUs: 0,
    memdumpTimeUs: 0,
    memwriteTimeUs: 0,
    pagesScanned: 0,
    pagesWritten: 0,
    sharedPagesWritten: 0,
  };
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const field = (tag & 7) === 0 ? FIELDS.get(tag >>> 3) : undefined;
    if (field === undefined) reader.skipType(tag & 7);
    else stats[field] = Number(reader.uint64());
  }
  return stats;
}
