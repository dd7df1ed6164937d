/**
 * What the walk and the thread that reads ahead of it share: a ring of slots, one for each name that is to be read, and a few
 * counters. A slot belongs to whoever its state says, so nothing is ever written by one side while the other looks at it.
 */

/** Whose a slot is, and what is in it. */
export const SLOT = {
  /** The walk's, with nothing in it. */
  free: 0,
  /** Anybody's: a name that nobody looked at yet. */
  waiting: 1,
  /** The thread's. */
  busy: 2,
  /** The walk's: a whole file. */
  read: 3,
  /** The walk's: something that it has to look at itself. */
  left: 4,
} as const;

/** Counters, before the slots. Names are counted from the first one on; a capture has no 2^31 of them. */
export const COUNTER = { ready: 0, stop: 1, given: 2, done: 3, wanted: 4 } as const;
const COUNTERS = 8;

/** Names that are read ahead: some 2 ms of work, and 2.4 MiB. */
export const SLOTS = 64;
/** linux/limits.h NAME_MAX and a NUL; a longer name, which some FUSE file systems have, is not read ahead. */
export const NAME_ROOM = 256;
const STAT_BYTES = 256;
export const SHA256_HEX_BYTES = 64;
/** Of all attributes of a file: their names as the kernel lists them, then each value after its length. */
export const XATTR_ROOM = 4096;
/** A larger file is mostly reading and hashing, for which the walk has larger means. */
export const CONTENT_ROOM = 32 * 1024;

const NUMBERS_BYTES = 16;
const STAT_AT = NUMBERS_BYTES;
const NAME_AT = STAT_AT + STAT_BYTES;
const SHA256_AT = NAME_AT + NAME_ROOM;
const XATTR_AT = SHA256_AT + SHA256_HEX_BYTES;
const CONTENT_AT = XATTR_AT + XATTR_ROOM;
const SLOT_BYTES = CONTENT_AT + CONTENT_ROOM;

/** The parts of one slot. */
export interface Slot {
  /** See `NUMBER`. */
  readonly numbers: Int32Array;
  /** statx(2)'s answer, in units of 4 bytes. */
  readonly stat: Uint32Array;
  /** The name, ended by a NUL byte. */
  readonly name: Buffer;
  readonly sha256: Buffer;
  readonly xattrs: Buffer;
  readonly content: Buffer;
}

/** `folder`: the descriptor that the name lies below. The others are of what was read: bytes of content, and of the list of attribute names. */
export const NUMBER = { folder: 0, contentBytes: 1, xattrNamesBytes: 2 } as const;

export interface Ring {
  readonly room: SharedArrayBuffer;
  readonly counters: Int32Array;
  readonly states: Int32Array;
  readonly slots: readonly Slot[];
}

export function ringOf(
  room = new SharedArrayBuffer((COUNTERS + SLOTS) * Int32Array.BYTES_PER_ELEMENT + SLOTS * SLOT_BYTES),
): Ring {
  const first = (COUNTERS + SLOTS) * Int32Array.BYTES_PER_ELEMENT;
  return {
    room,
    counters: new Int32Array(room, 0, COUNTERS),
    states: new Int32Array(room, COUNTERS * Int32Array.BYTES_PER_ELEMENT, SLOTS),
    slots: Array.from({ length: SLOTS }, (_, index) => slotAt(room, first + index * SLOT_BYTES)),
  };
}

function slotAt(buffer: SharedArrayBuffer, at: number): Slot {
  return {
    numbers: new Int32Array(buffer, at, NUMBERS_BYTES / Int32Array.BYTES_PER_ELEMENT),
    stat: new Uint32Array(buffer, at + STAT_AT, STAT_BYTES / Uint32Array.BYTES_PER_ELEMENT),
    name: Buffer.from(buffer, at + NAME_AT, NAME_ROOM),
    sha256: Buffer.from(buffer, at + SHA256_AT, SHA256_HEX_BYTES),
    xattrs: Buffer.from(buffer, at + XATTR_AT, XATTR_ROOM),
    content: Buffer.from(buffer, at + CONTENT_AT, CONTENT_ROOM),
  };
}
