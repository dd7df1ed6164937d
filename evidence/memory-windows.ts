import type { WalkedProcess } from './memory-walk.ts';

/** A stretch of memory without a hole, in one buffer. */
export interface MemoryWindow {
  readonly start: bigint;
  /** A view of the buffer that the next window is put into. */
  readonly bytes: Uint8Array;
  /** How many of its first bytes the window before it held as well. */
  readonly overlapBytes: number;
}

export interface WindowOptions {
  /** A window is at most this long; the process' longest stretch decides whether it gets there. */
  readonly windowBytes: number;
  /** What a window repeats of the one before: longer matches that lie across the cut are missed. */
  readonly overlapBytes: number;
}

/** Memory that is known to be zeros is put between captured bytes up to this length; more ends the stretch. */
export const MAX_ZERO_FILL_BYTES = 64 * 1024;

/** Adjacent memory comes in one window, over the borders of mappings, up to the window's size. */
export async function* memoryWindows(
  parts: ReturnType<WalkedProcess['parts']>,
  { windowBytes, overlapBytes }: WindowOptions,
): AsyncGenerator<MemoryWindow> {
  const buffer = Buffer.alloc(windowBytes);
  let start = 0n;
  let filled = 0;
  let repeated = 0;
  /** Zeros after what is filled, put in when captured bytes follow. */
  let zeros = 0;

  const view = (): MemoryWindow => ({ start, bytes: buffer.subarray(0, filled), overlapBytes: repeated });
  const slide = (): void => {
    buffer.copyWithin(0, filled - overlapBytes, filled);
    start += BigInt(filled - overlapBytes);
    filled = overlapBytes;
    repeated = overlapBytes;
  };
  for await (const part of parts) {
    const follows = filled > 0 && part.start === start + BigInt(filled + zeros);
    if (!follows) {
      if (filled > repeated) yield view();
      start = part.start;
      filled = 0;
      repeated = 0;
      zeros = 0;
    }
    if (part.kind === 'zeros') {
      const length = part.end - part.start;
      // More zeros than are filled in: what comes next does not follow.
      zeros = filled > 0 && BigInt(zeros) + length <= MAX_ZERO_FILL_BYTES ? zeros + Number(length) : Number.NaN;
      if (Number.isNaN(zeros)) {
        if (filled > repeated) yield view();
        filled = 0;
        repeated = 0;
        zeros = 0;
      }
      continue;
    }
    for (const source of [new Uint8Array(zeros), part.bytes]) {
      for (let at = 0; at < source.length; ) {
        if (filled === windowBytes) {
          yield view();
          slide();
        }
        const taken = source.subarray(at, at + windowBytes - filled);
        buffer.set(taken, filled);
        filled += taken.length;
        at += taken.length;
      }
    }
    zeros = 0;
  }
  if (filled > repeated) yield view();
}
