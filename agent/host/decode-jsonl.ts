import { jsonLine } from './decode.ts';
import { type Blocks, createBlocks, type Write } from './decode-blocks.ts';

/** One tar member's worth of lines. */
export interface JsonLinesPart {
  /** `processes.jsonl`, then `processes-2.jsonl` and on. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly pieces: readonly Buffer[];
}

/** A line that is JSON already, for whoever writes it. */
export type LineWriter = (write: Write) => void;

/** Gathers values as JSON lines until they make a part. */
export interface JsonLines {
  /** A part that is full, to be written now. A function is a LineWriter. */
  push(value: unknown): JsonLinesPart | undefined;
  /** The last part; undefined when there is nothing left and there was a part already. */
  end(): JsonLinesPart | undefined;
}

/** A tar header says the size first, so lines are gathered; this is what is held at a time. */
const PART_BYTES = 32 * 1024 * 1024;

export function createJsonLines(name: string, partBytes = PART_BYTES): JsonLines {
  let part = 1;
  let blocks: Blocks = createBlocks();
  const take = (): JsonLinesPart => {
    const { sizeBytes, pieces } = blocks;
    const taken = { path: part === 1 ? `${name}.jsonl` : `${name}-${part}.jsonl`, sizeBytes, pieces };
    part += 1;
    blocks = createBlocks();
    return taken;
  };
  return {
    push(value) {
      if (isLineWriter(value)) {
        value(blocks.write);
        blocks.write('\n');
      } else {
        blocks.write(`${jsonLine(value)}\n`);
      }
      return blocks.sizeBytes >= partBytes ? take() : undefined;
    },
    end: () => (blocks.sizeBytes > 0 || part === 1 ? take() : undefined),
  };
}

function isLineWriter(value: unknown): value is LineWriter {
  return typeof value === 'function';
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
