/** Takes bytes, or text that becomes UTF-8. */
export type Write = (piece: Uint8Array | string) => void;

/**
 * Bytes gathered in few large pieces. Thousands of small buffers cost more than their bytes: each is memory outside of V8's
 * heap, and V8 collects garbage more often the more of it there is.
 */
export interface Blocks {
  /** Where the bytes are now. They stay there. */
  add(piece: Uint8Array | string): Buffer;
  readonly sizeBytes: number;
  /** All of it, in order. */
  readonly pieces: readonly Buffer[];
}

/** As large as what a tar writer hands on at a time. */
const BLOCK_BYTES = 1024 * 1024;

export function createBlocks(blockBytes = BLOCK_BYTES): Blocks {
  const full: Buffer[] = [];
  let block = Buffer.alloc(0);
  let filled = 0;
  let sizeBytes = 0;
  return {
    add(piece) {
      const length = typeof piece === 'string' ? Buffer.byteLength(piece) : piece.length;
      if (filled + length > block.length) {
        if (filled > 0) full.push(block.subarray(0, filled));
        block = Buffer.allocUnsafeSlow(Math.max(blockBytes, length));
        filled = 0;
      }
      if (typeof piece === 'string') block.write(piece, filled);
      else block.set(piece, filled);
      filled += length;
      sizeBytes += length;
      return block.subarray(filled - length, filled);
    },
    get sizeBytes() {
      return sizeBytes;
    },
    get pieces() {
      return filled === 0 ? full : [...full, block.subarray(0, filled)];
    },
  };
}
