import { latin1 } from './decode.ts';
import { SystemError } from './libc.ts';
import { newOutcome, readExtents } from './regular-file.ts';

/** A longer line is no log's: it is left out. */
const MAX_LINE_BYTES = 64 * 1024;

/** How reading went. */
export interface LineReader {
  bytesRead: number;
  overlong: number;
}

/**
 * The lines of a part of a file in Latin-1, without their newlines, as many at a time as a chunk has; a part that begins within a
 * line gives that line's rest. Throws a system error.
 */
export async function* readLines(
  fd: number,
  offset: number,
  sizeBytes: number,
  reader: LineReader,
  signal: AbortSignal,
): AsyncGenerator<string[], void, void> {
  const outcome = newOutcome();
  let open = '';
  const isWanted = (line: string): boolean => {
    if (line.length <= MAX_LINE_BYTES) return line !== '';
    reader.overlong += 1;
    return false;
  };
  for await (const chunk of readExtents(
    fd,
    [{ offset: BigInt(offset), sizeBytes: BigInt(sizeBytes) }],
    outcome,
    signal,
  )) {
    reader.bytesRead += chunk.length;
    const lines = (open + latin1(chunk)).split('\n');
    open = lines.pop() ?? '';
    // What is too long is not gathered: one character more than the limit shows it.
    if (open.length > MAX_LINE_BYTES) open = open.slice(0, MAX_LINE_BYTES + 1);
    yield lines.filter(isWanted);
  }
  if (isWanted(open)) yield [open];
  if (outcome.failure !== undefined) throw new SystemError(outcome.failure.errno as 'EIO', 'read');
}
