import { zstdDecompressSync } from 'node:zlib';
import {
  ARRAY_ITEMS_AT,
  arrayItemBytes,
  COMPRESSED,
  ENTRY_ITEMS_AT,
  entryItemBytes,
  HEADER_BYTES,
  itemOf,
  type JournaldEntry,
  type JournaldHeader,
  MIN_HEADER_BYTES,
  OBJECT,
  OBJECT_HEADER_BYTES,
  type ObjectHeader,
  offsetOf,
  parseEntry,
  parseHeader,
  parseObjectHeader,
  payloadAt,
} from './journald-format.ts';
import { decodeLz4Block } from './lz4-block.ts';
import type { WindowedFile } from './windowed-file.ts';

/** journald doubles an array's room each time, so 64 hold more than any file has; a damaged chain ends here. */
const MAX_ARRAYS = 256;
/** ENTRY_FIELD_COUNT_MAX of journal-importer.h is 1,024; journald adds its own. */
const MAX_ITEMS = 4096;
/** Larger fields are core dumps; journald itself takes up to 768 MiB. */
export const MAX_FIELD_BYTES = 4 * 1024 * 1024;
/** A name is 64 bytes at most (journal_field_valid); this much is shown of a field that is not taken. */
const NAME_BYTES = 64;

export type FieldReading =
  | { readonly kind: 'read'; readonly bytes: Buffer }
  | { readonly kind: 'missing'; readonly name: string | undefined; readonly why: 'damaged' | 'large' | 'xz' };

/**
 * A journal file, perhaps one that journald writes at this moment, perhaps a damaged one: no offset is believed before its object
 * is seen to lie within the file and to be of its kind, and chains only lead forward, as journald makes them, so no loop is.
 */
export class JournaldFile {
  readonly header: JournaldHeader;
  /** What does not hold together, in words; each kind once. */
  readonly damage = new Set<string>();
  readonly #file: WindowedFile;
  readonly #arrays: { readonly offset: number; readonly first: number; readonly count: number }[] = [];
  /** Entries that can be reached. */
  readonly count: number;

  private constructor(file: WindowedFile, header: JournaldHeader) {
    this.#file = file;
    this.header = header;
    this.count = this.#walkArrays();
  }

  /** Or why it cannot be read. Throws a system error. */
  static open(file: WindowedFile): JournaldFile | string {
    const bytes = file.at(0, Math.min(HEADER_BYTES, file.sizeBytes));
    if (bytes === undefined || bytes.length < MIN_HEADER_BYTES) return 'it is too short for a journal';
    const header = parseHeader(bytes);
    return typeof header === 'string' ? header : new JournaldFile(file, header);
  }

  /** The entry with this index in the file's order, that of its sequence numbers. Undefined where it is damaged or not there yet. */
  entry(index: number): JournaldEntry | undefined {
    const { compact } = this.header;
    const array = this.#arrays.findLast(({ first }) => first <= index);
    if (array === undefined || index >= this.count) return undefined;
    const at = array.offset + ARRAY_ITEMS_AT + (index - array.first) * arrayItemBytes(compact);
    const item = this.#file.at(at, arrayItemBytes(compact));
    const offset = item === undefined ? undefined : itemOf(item, 0, compact);
    // journald links an entry after it has written it: what is empty is not there yet.
    return offset === undefined || offset === 0 ? undefined : this.#entryAt(offset);
  }

  /** The first index whose entry is not from before `fromUs`. An entry that cannot be read counts as such, so none is passed over. */
  firstSince(fromUs: bigint): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const entry = this.entry(middle);
      if (entry !== undefined && entry.realtimeUs < fromUs) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** `NAME=value` of a DATA object, unpacked. */
  field(offset: number): FieldReading {
    const head = this.#object(offset, OBJECT.data);
    const from = payloadAt(this.header.compact);
    if (head === undefined || head.sizeBytes < from) return this.#missing('a field is damaged', undefined, 'damaged');
    const length = head.sizeBytes - from;
    if (length > MAX_FIELD_BYTES) return { kind: 'missing', name: this.#nameAt(head, offset + from), why: 'large' };
    const bytes = this.#file.at(offset + from, length);
    if (bytes === undefined) return this.#missing('a field is damaged', undefined, 'damaged');
    return this.#unpacked(head.flags, bytes);
  }

  #unpacked(flags: number, bytes: Buffer): FieldReading {
    switch (flags & 7) {
      case 0:
        return { kind: 'read', bytes };
      case COMPRESSED.xz:
        return { kind: 'missing', name: undefined, why: 'xz' };
      case COMPRESSED.lz4:
        return this.#checked(unpackLz4(bytes));
      case COMPRESSED.zstd:
        return this.#checked(unpackZstd(bytes));
      default:
        return this.#missing('a field is packed in two ways', undefined, 'damaged');
    }
  }

  #checked(unpacked: Buffer | 'large' | undefined): FieldReading {
    if (unpacked === 'large') return { kind: 'missing', name: undefined, why: 'large' };
    if (unpacked === undefined) return this.#missing('a packed field is damaged', undefined, 'damaged');
    return { kind: 'read', bytes: unpacked };
  }

  #missing(damage: string, name: string | undefined, why: 'damaged'): FieldReading {
    this.damage.add(damage);
    return { kind: 'missing', name, why };
  }

  /** Of a field too large to take: its name is in front, unless it is packed. */
  #nameAt(head: ObjectHeader, at: number): string | undefined {
    if ((head.flags & 7) !== 0) return undefined;
    return fieldName(this.#file.at(at, NAME_BYTES + 1) ?? Buffer.alloc(0));
  }

  #entryAt(offset: number): JournaldEntry | undefined {
    const { compact } = this.header;
    const head = this.#object(offset, OBJECT.entry);
    const sizeBytes = head?.sizeBytes ?? 0;
    const fits = sizeBytes >= ENTRY_ITEMS_AT && sizeBytes <= ENTRY_ITEMS_AT + MAX_ITEMS * entryItemBytes(compact);
    const body = fits ? this.#file.at(offset, sizeBytes) : undefined;
    if (body !== undefined) return parseEntry(offset, body, compact);
    this.damage.add('an entry is damaged');
    return undefined;
  }

  #object(offset: number, type: number): ObjectHeader | undefined {
    if (offset % 8 !== 0 || offset < this.header.headerBytes) return undefined;
    const bytes = this.#file.at(offset, OBJECT_HEADER_BYTES);
    const head = bytes === undefined ? undefined : parseObjectHeader(bytes);
    if (head === undefined || head.type !== type || offset + head.sizeBytes > this.#file.sizeBytes) return undefined;
    return head;
  }

  /** The chain of arrays; only their heads are read. Returns how many entries they hold. */
  #walkArrays(): number {
    const { compact, entries, entryArrayOffset } = this.header;
    let first = 0;
    for (let offset = entryArrayOffset; offset !== 0 && first < entries; ) {
      const head = this.#object(offset, OBJECT.entryArray);
      const next = this.#file.at(offset + OBJECT_HEADER_BYTES, 8);
      if (head === undefined || next === undefined || this.#arrays.length === MAX_ARRAYS) {
        this.damage.add(`the list of entries breaks off after ${first} of ${entries}`);
        return first;
      }
      const room = Math.floor(Math.max(0, head.sizeBytes - ARRAY_ITEMS_AT) / arrayItemBytes(compact));
      const count = Math.min(room, entries - first);
      this.#arrays.push({ offset, first, count });
      first += count;
      const following = offsetOf(next, 0);
      if (following !== undefined && (following === 0 || following > offset)) offset = following;
      else {
        this.damage.add(`the list of entries leads backwards after ${first} of ${entries}`);
        return first;
      }
    }
    if (first < entries) this.damage.add(`the list of entries ends after ${first} of ${entries}`);
    return first;
  }
}

/** Of `NAME=value`; undefined where there is none. */
export function fieldName(bytes: Buffer): string | undefined {
  const equals = bytes.subarray(0, NAME_BYTES + 1).indexOf(0x3d);
  return equals <= 0 ? undefined : bytes.toString('latin1', 0, equals);
}

/** Before the block the unpacked length is in eight bytes. */
function unpackLz4(bytes: Buffer): Buffer | 'large' | undefined {
  const sizeBytes = bytes.length < 8 ? undefined : offsetOf(bytes, 0);
  if (sizeBytes === undefined) return undefined;
  return sizeBytes > MAX_FIELD_BYTES ? 'large' : decodeLz4Block(bytes.subarray(8), sizeBytes);
}

function unpackZstd(bytes: Buffer): Buffer | 'large' | undefined {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: MAX_FIELD_BYTES });
  } catch (error) {
    return error instanceof RangeError ? 'large' : undefined;
  }
}
