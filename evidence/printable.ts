/** Runs of printable characters in memory that passes by in pieces, as binutils' strings(1) finds them in a file. */

export const STRING_ENCODINGS = ['ascii', 'utf16le'] as const;
export type StringEncoding = (typeof STRING_ENCODINGS)[number];

export interface FoundString {
  readonly address: bigint;
  readonly encoding: StringEncoding;
  readonly text: string;
  /** Longer than is held in memory: the next string goes on where this one ends. */
  readonly cut: boolean;
}

export interface StringFinder {
  /** What ends within `bytes`, in address order. A piece that does not follow the last ends what was open. */
  push(address: bigint, bytes: Uint8Array): FoundString[];
  /** What was open at the end. */
  end(): FoundString[];
}

/** A string that is longer comes in parts. */
export const MAX_STRING_CHARACTERS = 1024 * 1024;

/** Space to tilde, and the tab: what strings(1) takes by default. */
const PRINTABLE = Uint8Array.from({ length: 256 }, (_, byte) => (byte === 9 || (byte >= 0x20 && byte <= 0x7e) ? 1 : 0));

export function createStringFinder(minLength: number, encodings: readonly StringEncoding[]): StringFinder {
  const scanners = encodings.map((encoding) => (encoding === 'ascii' ? scanAscii(minLength) : scanWide(minLength)));
  let expected: bigint | undefined;
  const inOrder = (found: FoundString[]) => found.sort((a, b) => (a.address < b.address ? -1 : 1));
  const end = () => scanners.flatMap((scanner) => scanner.end());
  return {
    push(address, bytes) {
      const before = expected === address ? [] : end();
      expected = address + BigInt(bytes.length);
      return inOrder([...before, ...scanners.flatMap((scanner) => scanner.push(address, bytes))]);
    },
    end: () => inOrder(end()),
  };
}

/** Text that is being gathered: the part of it that lay in pieces before. */
class OpenString {
  readonly #encoding: StringEncoding;
  readonly #minLength: number;
  #address = 0n;
  #text = '';
  /** It was cut before: what is left is shown however short it is. */
  #continues = false;

  constructor(encoding: StringEncoding, minLength: number) {
    this.#encoding = encoding;
    this.#minLength = minLength;
  }

  get isOpen(): boolean {
    return this.#text !== '';
  }

  /** `address` is that of the text's first character. */
  add(address: bigint, text: string): void {
    if (this.#text === '') this.#address = address;
    this.#text += text;
  }

  close(into: FoundString[]): void {
    const isLong = this.#text.length >= this.#minLength || (this.#continues && this.#text !== '');
    if (isLong) into.push(this.#found(false));
    this.#text = '';
    this.#continues = false;
  }

  cutIfTooLong(into: FoundString[]): void {
    if (this.#text.length < MAX_STRING_CHARACTERS) return;
    into.push(this.#found(true));
    this.#text = '';
    this.#continues = true;
  }

  #found(cut: boolean): FoundString {
    return { address: this.#address, encoding: this.#encoding, text: this.#text, cut };
  }
}

function scanAscii(minLength: number): StringFinder {
  const open = new OpenString('ascii', minLength);
  return {
    push(address, bytes) {
      const found: FoundString[] = [];
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      let start = 0;
      for (let at = 0; at < bytes.length; at += 1) {
        if (PRINTABLE[bytes[at] ?? 0] === 1) continue;
        // Most runs are short and are dropped without making a string of them.
        const isWanted = at - start >= minLength || (start === 0 && open.isOpen);
        if (isWanted && at > start) open.add(address + BigInt(start), text.toString('latin1', start, at));
        if (isWanted) open.close(found);
        start = at + 1;
      }
      if (start < bytes.length) open.add(address + BigInt(start), text.toString('latin1', start));
      open.cutIfTooLong(found);
      return found;
    },
    end() {
      const found: FoundString[] = [];
      open.close(found);
      return found;
    },
  };
}

/**
 * Printable ASCII in two bytes each, at even and odd addresses. A pair is a printable byte and a zero, so two runs of
 * pairs never overlap, whatever their parity.
 */
function scanWide(minLength: number): StringFinder {
  const open = new OpenString('utf16le', minLength);
  /** The last byte of the piece before; 0 is not printable and starts no pair. */
  let lastByte = 0;
  /** Index of the zero of the last pair, in the piece being read; -3 is before any. */
  let pairEnd = -3;

  /** Adds the pairs from the one whose character is at `from` to the one whose zero is at `pairEnd`. */
  const gather = (address: bigint, bytes: Uint8Array, from: number): void => {
    const characters = Buffer.alloc((pairEnd - from + 1) / 2);
    for (let at = from, index = 0; at < pairEnd; at += 2, index += 1)
      characters[index] = at < 0 ? lastByte : (bytes[at] ?? 0);
    open.add(address + BigInt(from), characters.toString('latin1'));
  };
  return {
    push(address, bytes) {
      const found: FoundString[] = [];
      let from: number | undefined;
      const close = (): void => {
        if (from !== undefined && (open.isOpen || (pairEnd - from + 1) / 2 >= minLength)) gather(address, bytes, from);
        open.close(found);
        from = undefined;
      };
      for (let at = 0; at < bytes.length; at += 1) {
        if (bytes[at] !== 0 || PRINTABLE[at === 0 ? lastByte : (bytes[at - 1] ?? 0)] === 0) continue;
        if (at !== pairEnd + 2) close();
        from ??= at - 1;
        pairEnd = at;
      }
      // A pair that could follow would end in the piece to come.
      if (pairEnd + 2 < bytes.length) close();
      else if (from !== undefined) gather(address, bytes, from);
      open.cutIfTooLong(found);
      pairEnd = Math.max(pairEnd - bytes.length, -3);
      lastByte = bytes.at(-1) ?? lastByte;
      return found;
    },
    end() {
      const found: FoundString[] = [];
      open.close(found);
      lastByte = 0;
      pairEnd = -3;
      return found;
    },
  };
}
