import type { ByteSource } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import { type Finding, findingSchema } from './file-finding.ts';
import { parseJson } from './json.ts';
import { MAX_LINE_BYTES, splitLines } from './members.ts';

/** The findings of an object, decompressed, in its order. `what` names it in errors: ExhibitError `bundle-corrupt`. */
export async function* readFindings(content: ByteSource, what: string): AsyncGenerator<Finding, void, void> {
  let number = 0;
  for await (const line of splitLines(content)) {
    number += 1;
    const parsed = findingSchema.safeParse(parseJson(line, MAX_LINE_BYTES, `line ${number} of ${what}`));
    if (!parsed.success) throw new ExhibitError('bundle-corrupt', `line ${number} of ${what} is no finding`);
    yield parsed.data;
  }
}
