import { readSync } from 'node:fs';

/** Pieces that are read at a time: neighbouring objects of a journal mostly lie in one. */
export const WINDOW_BYTES = 64 * 1024;
/** Pieces that are kept, 4 MiB. */
const WINDOWS = 64;

/**
 * A file that is read here and there, by pread(2) into windows of which the last used are kept. Not by mmap: a file that is cut
 * while it is mapped kills the reader. What was read once is not read again, so a file that grows shows no more than it had.
 */
export class WindowedFile {
  readonly sizeBytes: number;
  /** By the kernel, all in all. */
  bytesRead = 0;
  readonly #fd: number;
  readonly #windows = new Map<number, Buffer>();

  constructor(fd: number, sizeBytes: number) {
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
  }

  /** Exactly these bytes, or undefined where the file does not have all of them. A view or a copy. Throws a system error. */
  at(offset: number, length: number): Buffer | undefined {
    if (offset < 0 || length < 0 || offset + length > this.sizeBytes) return undefined;
    if (length > WINDOW_BYTES) return this.#read(offset, length);
    const first = Math.floor(offset / WINDOW_BYTES);
    const from = offset - first * WINDOW_BYTES;
    const window = this.#window(first);
    if (from + length <= WINDOW_BYTES)
      return window.length < from + length ? undefined : window.subarray(from, from + length);
    if (window.length < WINDOW_BYTES) return undefined;
    const rest = length - (WINDOW_BYTES - from);
    const next = this.#window(first + 1);
    return next.length < rest ? undefined : Buffer.concat([window.subarray(from), next.subarray(0, rest)]);
  }

  /** Lets go of what is kept. */
  drop(): void {
    this.#windows.clear();
  }

  #window(index: number): Buffer {
    const known = this.#windows.get(index);
    if (known !== undefined) {
      this.#windows.delete(index);
      this.#windows.set(index, known);
      return known;
    }
    const offset = index * WINDOW_BYTES;
    const window = this.#fill(offset, Math.min(WINDOW_BYTES, this.sizeBytes - offset));
    this.#windows.set(index, window);
    for (const oldest of this.#windows.keys()) {
      if (this.#windows.size <= WINDOWS) break;
      this.#windows.delete(oldest);
    }
    return window;
  }

  #read(offset: number, length: number): Buffer | undefined {
    const bytes = this.#fill(offset, length);
    return bytes.length < length ? undefined : bytes;
  }

  /** Shorter where the file has become so. */
  #fill(offset: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    while (filled < length) {
      const got = readSync(this.#fd, bytes, filled, length - filled, offset + filled);
      if (got === 0) break;
      filled += got;
    }
    this.bytesRead += filled;
    return bytes.subarray(0, filled);
  }
}
