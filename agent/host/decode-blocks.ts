/** Takes bytes, of which `from` to `to` are meant, or text that becomes UTF-8. */
export interface Write {
  (bytes: Buffer, from: number, to: number): void;
  (text: string): void;
}

/**
 * Bytes gathered in few large pieces. Thousands of small buffers cost more than their bytes: each is memory outside of V8's
 * heap, and V8 collects garbage more often the more of it there is.
 */
export interface Blocks {
  readonly write: Write;
  /** As `write` of all of them; where they are now, and stay. */
  add(bytes: Buffer): Buffer;
  readonly sizeBytes: number;
  /** All of it, in order. */
  readonly pieces: readonly Buffer[];
}

/** As large as what a tar writer hands on at a time. */
const BLOCK_BYTES = 1024 * 1024;
/** UTF-8 of one UTF-16 unit. */
const UNIT_BYTES_MAX = 3;

export function createBlocks(blockBytes = BLOCK_BYTES): Blocks {
  const full: Buffer[] = [];
  let block = Buffer.alloc(0);
  let filled = 0;
  let fullBytes = 0;
  const makeRoom = (length: number): void => {
    if (filled + length <= block.length) return;
    if (filled > 0) full.push(block.subarray(0, filled));
    fullBytes += filled;
    block = Buffer.allocUnsafeSlow(Math.max(blockBytes, length));
    filled = 0;
  };
  const write = (piece: Buffer | string, from = 0, to = piece.length): void => {
    if (typeof piece === 'string') {
      // Mostly there is room for any text of that length, so that it need not be measured first.
      if (filled + piece.length * UNIT_BYTES_MAX > block.length) makeRoom(Buffer.byteLength(piece));
      filled += block.write(piece, filled);
    } else if (to > from) {
      makeRoom(to - from);
      filled += piece.copy(block, filled, from, to);
    }
  };
  return {
    write,
    add(bytes) {
      write(bytes);
      return block.subarray(filled - bytes.length, filled);
    },
    get sizeBytes() {
      return fullBytes + filled;
    },
    get pieces() {
      return filled === 0 ? full : [...full, block.subarray(0, filled)];
    },
  };
}
