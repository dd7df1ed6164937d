import { jsonLine } from './decode.ts';

/** One tar member's worth of lines. */
export interface JsonLinesPart {
  /** `processes.jsonl`, then `processes-2.jsonl` and on. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly lines: Buffer[];
}

/** Gathers values as JSON lines until they make a part. */
export interface JsonLines {
  /** A part that is full, to be written now. Bytes are a line that is JSON already. */
  push(value: unknown): JsonLinesPart | undefined;
  /** The last part; undefined when there is nothing left and there was a part already. */
  end(): JsonLinesPart | undefined;
}

/** A tar header says the size first, so lines are gathered; this is what is held at a time. */
const PART_BYTES = 32 * 1024 * 1024;

const NEWLINE = Buffer.from('\n');

export function createJsonLines(name: string, partBytes = PART_BYTES): JsonLines {
  let part = 1;
  let lines: Buffer[] = [];
  let sizeBytes = 0;
  const take = (): JsonLinesPart => {
    const taken = { path: part === 1 ? `${name}.jsonl` : `${name}-${part}.jsonl`, sizeBytes, lines };
    part += 1;
    lines = [];
    sizeBytes = 0;
    return taken;
  };
  return {
    push(value) {
      const line = value instanceof Uint8Array ? Buffer.concat([value, NEWLINE]) : Buffer.from(`${jsonLine(value)}\n`);
      lines.push(line);
      sizeBytes += line.length;
      return sizeBytes >= partBytes ? take() : undefined;
    },
    end: () => (sizeBytes > 0 || part === 1 ? take() : undefined),
  };
}

/** `values` as parts; at least one, which may be empty. */
export function* jsonLinesParts(
  name: string,
  values: Iterable<unknown>,
  partBytes = PART_BYTES,
): Generator<JsonLinesPart> {
  const gathered = createJsonLines(name, partBytes);
  for (const value of values) {
    const full = gathered.push(value);
    if (full) yield full;
  }
  const last = gathered.end();
  if (last) yield last;
}
