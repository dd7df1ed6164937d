/** What a new buffer starts with; most objects of a capture are JSON of this order. */
const FIRST_BYTES = 64 * 1024;

/**
 * One part being filled: a contiguous buffer, because a request that must be sent again needs all of its body. It doubles as
 * bytes come, so a small object never costs a whole part.
 */
export class PartBuffer {
  readonly limitBytes: number;
  #buffer: Buffer;
  #length = 0;

  constructor(limitBytes: number, reuse?: Buffer) {
    this.limitBytes = limitBytes;
    this.#buffer = reuse ?? Buffer.allocUnsafeSlow(Math.min(FIRST_BYTES, limitBytes));
  }

  get length(): number {
    return this.#length;
  }

  get leftBytes(): number {
    return this.limitBytes - this.#length;
  }

  get full(): boolean {
    return this.leftBytes === 0;
  }

  /** The bytes so far: a view, not a copy. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Copies as much of `chunk` as fits and returns the rest. */
  take(chunk: Uint8Array): Uint8Array {
    const taken = Math.min(chunk.length, this.leftBytes);
    this.#reserve(this.#length + taken);
    this.#buffer.set(chunk.subarray(0, taken), this.#length);
    this.#length += taken;
    return chunk.subarray(taken);
  }

  /** For the next part of the same limit, once nothing reads this one any more. */
  release(): Buffer {
    this.#length = 0;
    return this.#buffer;
  }

  #reserve(neededBytes: number): void {
    if (neededBytes <= this.#buffer.length) return;
    const capacity = Math.min(this.limitBytes, Math.max(neededBytes, this.#buffer.length * 2));
    const larger = Buffer.allocUnsafeSlow(capacity);
    larger.set(this.bytes);
    this.#buffer = larger;
  }
}
