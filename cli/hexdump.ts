import { hex } from '../evidence/memory-pieces.ts';

/** Memory as people read it: address, 16 bytes in hex, ASCII. Pure; makes only printable ASCII. */
export interface HexDump {
  /** Lines that `bytes` complete. */
  bytes(start: bigint, bytes: Uint8Array): string;
  zeros(start: bigint, end: bigint): string;
  /** A line of its own that says what is missing. */
  mark(start: bigint, end: bigint, what: string): string;
  end(): string;
}

const LINE_BYTES = 16;

/** Lines like the one before are one `*`, as hexdump(1) has it. Rows start at multiples of 16. */
export function createHexDump(): HexDump {
  let row: number[] = [];
  let rowStart = 0n;
  /** Up to the next multiple of 16. */
  let rowBytes = LINE_BYTES;
  let lastLine = '';
  let starred = false;

  const line = (): string => {
    if (row.length === 0) return '';
    const cells = row.map((byte) => byte.toString(16).padStart(2, '0'));
    const text = row.map((byte) => (byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : '.')).join('');
    const words = `${cells.join(' ').padEnd(LINE_BYTES * 3 - 1)}  ${text}`;
    const isSame = words === lastLine && row.length === LINE_BYTES;
    const out = isSame ? (starred ? '' : '*\n') : `${address(rowStart)}  ${words}\n`;
    starred = isSame;
    lastLine = words;
    row = [];
    return out;
  };
  const bytes = (start: bigint, content: Uint8Array): string => {
    const lines: string[] = [];
    for (let at = 0; at < content.length; at += 1) {
      if (row.length === 0) {
        rowStart = start + BigInt(at);
        rowBytes = LINE_BYTES - Number(rowStart % BigInt(LINE_BYTES));
      }
      row.push(content[at] ?? 0);
      if (row.length === rowBytes) lines.push(line());
    }
    return lines.join('');
  };
  return {
    bytes,
    zeros(start, end) {
      // Two rows and the ends are written out; what lies between is one star, be it a terabyte.
      const whole = 4n * BigInt(LINE_BYTES);
      if (end - start <= 2n * whole) return bytes(start, new Uint8Array(Number(end - start)));
      const head = whole - (start % BigInt(LINE_BYTES));
      const tail = BigInt(LINE_BYTES) + (end % BigInt(LINE_BYTES));
      return bytes(start, new Uint8Array(Number(head))) + bytes(end - tail, new Uint8Array(Number(tail)));
    },
    mark(start, end, what) {
      const before = line();
      lastLine = '';
      starred = false;
      return `${before}${address(start)}  -- ${what} (up to ${hex(end)})\n`;
    },
    end: line,
  };
}

function address(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
