import { createHash } from 'node:crypto';
import type { SparseRecord } from '../../evidence/inventory.ts';
import { type Node, openForReading } from '../host/directory.ts';
import { SystemError } from '../host/libc.ts';
import type { FileAhead } from '../host/read-ahead.ts';
import {
  dataExtents,
  type Extent,
  newOutcome,
  type ReadOutcome,
  readExtents,
  readWhole,
  WHOLE_BYTES,
} from '../host/regular-file.ts';
import type { Stat } from '../host/stat.ts';

const GIB = 1024n ** 3n;

/** Zeros that a file's holes may add to the archive, whatever its size. */
export const HOLES_ALWAYS = GIB;
/** Beyond that, holes may be this many times the data: a thin disk image is stored as it reads, an 8 EiB decoy is not. */
export const HOLES_PER_DATA = 15n;
/** Zeros that all holes of one capture may add: a thousand decoys are no better than one. */
export const HOLES_IN_ALL = 16n * GIB;
/** Extents listed (in memory, and on one inventory line) of a file that is stored as its extents. */
export const MAX_EXTENTS = 65_536;

/** How a file's content is stored: every byte as it reads, or only what is not a hole. */
export type StoreForm = 'as-it-reads' | 'data-only';

/** `allocatedBytes` is st_blocks times 512; a compressing file system may report less than there is data. */
export function chooseForm(sizeBytes: bigint, allocatedBytes: bigint, holesLeft: bigint): StoreForm {
  const holes = sizeBytes - allocatedBytes;
  if (holes <= BigInt(WHOLE_BYTES)) return 'as-it-reads';
  const allowed = allocatedBytes * HOLES_PER_DATA > HOLES_ALWAYS ? allocatedBytes * HOLES_PER_DATA : HOLES_ALWAYS;
  return holes <= allowed && holes <= holesLeft ? 'as-it-reads' : 'data-only';
}

/** A file's content, ready to be stored. */
export interface Content {
  /** Of the member. */
  readonly sizeBytes: number;
  readonly body: Uint8Array | AsyncIterable<Uint8Array>;
  /** Complete when `body` has been read. */
  readonly outcome: ReadOutcome;
  readonly sparse: SparseRecord | undefined;
  /** Known before reading: what of the file is not going to be stored. */
  readonly missing: string | undefined;
  /** Zeros that stand for holes. */
  readonly holeBytes: bigint;
}

/** `node` is open for reading at `fd`; a small file is read into `room`. Throws a system error. */
export function contentOf(fd: number, node: Node, room: Buffer, holesLeft: bigint, signal: AbortSignal): Content {
  const { size, blocks } = node.stat;
  if (size <= BigInt(WHOLE_BYTES)) return wholeContent(fd, node.stat, room);
  const allocated = blocks * 512n;
  if (chooseForm(size, allocated, holesLeft) === 'data-only') return dataContent(fd, size, allocated, signal);
  const holeBytes = size > allocated ? size - allocated : 0n;
  return {
    ...streamed(fd, [{ offset: 0n, sizeBytes: size }], signal),
    sparse: undefined,
    missing: undefined,
    holeBytes,
  };
}

/** A small file that was read before. */
export function contentAhead({ content }: FileAhead): Content {
  const outcome = { bytes: content.length, changed: false, failure: undefined };
  return { sizeBytes: content.length, body: content, outcome, sparse: undefined, missing: undefined, holeBytes: 0n };
}

function wholeContent(fd: number, stat: Stat, room: Buffer): Content {
  const { content, outcome } = readWhole(fd, stat, room);
  // A file that failed keeps its size, so that offsets hold; one that changed has the size it was read with.
  const sizeBytes = outcome.failure === undefined ? content.length : Number(stat.size);
  return { sizeBytes, body: content, outcome, sparse: undefined, missing: undefined, holeBytes: 0n };
}

function dataContent(fd: number, size: bigint, allocated: bigint, signal: AbortSignal): Content {
  const found = dataExtents(fd, size, MAX_EXTENTS);
  // Holes cannot be asked for: the beginning, as long as there is data, is all that can be bounded.
  const extents = found?.extents ?? [{ offset: 0n, sizeBytes: allocated }];
  const complete = found?.complete ?? false;
  const missing =
    found === undefined
      ? `a file with holes, which cannot be found here: its first ${allocated} of ${size} bytes are stored`
      : complete
        ? undefined
        : `a file with more than ${MAX_EXTENTS} runs of data: what comes after byte ${endOf(extents)} is not stored`;
  const sparse: SparseRecord = {
    apparentBytes: String(size),
    complete,
    extents: extents.map(({ offset, sizeBytes }) => [String(offset), String(sizeBytes)]),
  };
  return { ...streamed(fd, extents, signal), sparse, missing, holeBytes: 0n };
}

function endOf(extents: readonly Extent[]): bigint {
  const last = extents.at(-1);
  return last === undefined ? 0n : last.offset + last.sizeBytes;
}

function streamed(
  fd: number,
  extents: readonly Extent[],
  signal: AbortSignal,
): Pick<Content, 'sizeBytes' | 'body' | 'outcome'> {
  const total = extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);
  // No file system stores so much; a file that says so is not read.
  if (total > BigInt(Number.MAX_SAFE_INTEGER)) throw new SystemError('EFBIG', 'read');
  const outcome = newOutcome();
  return { sizeBytes: Number(total), body: readExtents(fd, extents, outcome, signal), outcome };
}

/** What is missing of a content that has been stored, in words; undefined when nothing is. */
export function shortfall(content: Content): { errno?: string; why: string } | undefined {
  const { outcome, sizeBytes } = content;
  const rest = `the remaining ${sizeBytes - outcome.bytes} of ${sizeBytes} bytes are zeros`;
  if (outcome.failure !== undefined) {
    return { errno: outcome.failure.errno, why: `reading failed at byte ${outcome.failure.offset}: ${rest}` };
  }
  if (outcome.bytes < sizeBytes) return { why: `it became shorter while it was read: ${rest}` };
  return content.missing === undefined ? undefined : { why: content.missing };
}

/** Lower files up to this size are digested for the comparison. */
export const DIGEST_FILE_BYTES = GIB;
/** And so many bytes of them in one capture. */
export const DIGEST_ALL_BYTES = 8n * GIB;

/** SHA-256 of a lower layer's file, or undefined when it cannot be read; `room` is for a small one. Adds what it read to `outcome`. */
export async function digestNode(
  node: Node,
  room: Buffer,
  outcome: ReadOutcome,
  signal: AbortSignal,
): Promise<string | undefined> {
  const readable = openForReading(node);
  const hash = createHash('sha256');
  if (node.stat.size <= BigInt(WHOLE_BYTES)) {
    const whole = readWhole(readable.fd, node.stat, room);
    Object.assign(outcome, whole.outcome);
    hash.update(whole.content);
  } else {
    const all = [{ offset: 0n, sizeBytes: node.stat.size }];
    for await (const chunk of readExtents(readable.fd, all, outcome, signal)) hash.update(chunk);
  }
  const complete = outcome.failure === undefined && BigInt(outcome.bytes) === node.stat.size;
  return complete ? hash.digest('hex') : undefined;
}
