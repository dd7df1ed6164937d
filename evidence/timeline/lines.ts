import type { z } from 'zod';
import type { ByteSource } from '../byte-sink.ts';
import type { TimelineBundle, TimelineObject } from './timeline.ts';

/** Lines of text that nobody vouches for: bounded, decoded with U+FFFD for what is not UTF-8, counted when they are no use. */

/** What is wrong with lines of one member; told once, with the first of them. */
export interface LineTally {
  bad(line: number, why: string): void;
  tell(bundle: TimelineBundle, object: TimelineObject, member: string | undefined): void;
}

export function createTally(): LineTally {
  let count = 0;
  let first = '';
  return {
    bad(line, why) {
      if (count === 0) first = `line ${line} ${why}`;
      count += 1;
    },
    tell(bundle, { name }, member) {
      if (count === 0) return;
      const more = count === 1 ? first : `${count} lines are left out, the first: ${first}`;
      bundle.problem({ object: name, ...(member === undefined ? {} : { member }), why: more });
    },
  };
}

/** Lines that end within one piece of content; one that is too long is an empty string, and told. */
export interface LineBatch {
  /** Number of the first line; the file's first is 1. */
  readonly first: number;
  readonly lines: readonly string[];
}

/** A last line without a newline counts. */
export async function* lineBatches(
  chunks: ByteSource,
  limitBytes: number,
  tally: LineTally,
): AsyncGenerator<LineBatch> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  let first = 1;
  let dropping = false;
  for await (const bytes of chunks) {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const end = chunk.lastIndexOf(0x0a);
    if (end !== -1) {
      const firstEnd = chunk.indexOf(0x0a);
      const begun = dropping ? '' : Buffer.concat([...held, chunk.subarray(0, firstEnd)]).toString('utf8');
      const lines = firstEnd === end ? [begun] : [begun].concat(chunk.toString('utf8', firstEnd + 1, end).split('\n'));
      yield { first, lines };
      first += lines.length;
      held = [];
      heldBytes = 0;
      dropping = false;
    }
    const rest = chunk.subarray(end + 1);
    if (dropping || rest.length === 0) continue;
    held.push(Buffer.from(rest));
    heldBytes += rest.length;
    if (heldBytes <= limitBytes) continue;
    tally.bad(first, `is longer than ${limitBytes} bytes`);
    dropping = true;
    held = [];
    heldBytes = 0;
  }
  if (dropping) return;
  const last = Buffer.concat(held).toString('utf8');
  if (last !== '') yield { first, lines: [last] };
}

export interface JsonRecord<T> {
  readonly line: number;
  readonly value: T;
}

/** Lines of JSON in the shape of `schema`; empty ones are passed over, others are counted by `tally`. */
export async function* jsonBatches<T>(
  chunks: ByteSource,
  schema: z.ZodType<T>,
  limitBytes: number,
  tally: LineTally,
): AsyncGenerator<Iterable<JsonRecord<T>>> {
  for await (const batch of lineBatches(chunks, limitBytes, tally)) yield records(batch, schema, tally);
}

function* records<T>({ first, lines }: LineBatch, schema: z.ZodType<T>, tally: LineTally): Generator<JsonRecord<T>> {
  for (const [index, text] of lines.entries()) {
    if (text === '') continue;
    const line = first + index;
    const parsed = schema.safeParse(jsonOf(text));
    if (parsed.success) yield { line, value: parsed.data };
    else tally.bad(line, 'is not JSON of the shape that is expected');
  }
}

/** Undefined, which no schema takes, for what is not JSON. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
