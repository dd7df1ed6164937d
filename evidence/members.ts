import { z } from 'zod';
import type { ByteSource } from './byte-sink.ts';
import { ExhibitError } from './error.ts';
import { decodeFrames } from './frame-decoder.ts';
import { parseJson } from './json.ts';
import type { Member } from './manifest.ts';

/**
 * A line of an object that lists an archive's members (`membersIn`), in archive order. It has at least a member's fields,
 * where `path` is the name in the archive, and whatever else its writer knows about the thing.
 */
const lineSchema = z.looseObject({
  path: z.string(),
  pathBase64: z.string().optional(),
  type: z.string(),
  sizeBytes: z.number().int().nonnegative(),
  sha256: z.string().optional(),
  /** False for what has a line and no member: a socket cannot be in a tar. */
  inArchive: z.literal(false).optional(),
});

/** What a list says of a member; a manifest's members are of this shape too. */
export interface ListedMember {
  readonly path: string;
  readonly pathBase64?: string | undefined;
  readonly type: string;
  readonly sizeBytes: number;
  readonly sha256?: string | undefined;
}

/** A path, its base64 and a hundred attributes of 64 KiB fit. */
export const MAX_LINE_BYTES = 16 * 1024 * 1024;

/** Members of the archive as a JSON-lines object lists them. Throws ExhibitError `bundle-corrupt`. */
export async function* readMemberLines(stored: ByteSource): AsyncGenerator<ListedMember> {
  let number = 0;
  for await (const line of splitLines(decodeFrames(stored))) {
    number += 1;
    const parsed = lineSchema.safeParse(parseJson(line, MAX_LINE_BYTES, `line ${number}`));
    if (!parsed.success) throw new ExhibitError('bundle-corrupt', `line ${number} does not describe a member`);
    if (parsed.data.inArchive !== false) yield parsed.data;
  }
}

/** The lines without their newline; a last one without newline is a line cut short. Throws `bundle-corrupt`. */
export async function* splitLines(chunks: ByteSource): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let heldBytes = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, start)) {
      parts.push(chunk.subarray(start, end));
      yield Buffer.concat(parts);
      parts = [];
      heldBytes = 0;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    heldBytes += chunk.length - start;
    if (heldBytes > MAX_LINE_BYTES)
      throw new ExhibitError('bundle-corrupt', `a line longer than ${MAX_LINE_BYTES} bytes`);
    parts.push(chunk.slice(start));
  }
  if (heldBytes > 0) throw new ExhibitError('bundle-corrupt', 'the last line is cut short');
}

/** A member's line, as members objects made by exhibit itself have it. */
export function memberLine(member: Member): string {
  return JSON.stringify(member);
}
