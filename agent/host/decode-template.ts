import { jsonLine } from './decode.ts';

/**
 * JSON text with fields left open, for what is known only when everything has been read: the text is made where the bytes
 * are, and nobody holds objects. `jsonLine` leaves a mark for a field that is OPEN: its key between two NULs, which JSON
 * never has of its own, because it escapes every control character. The first field of an object cannot be open: the comma
 * before a field comes and goes with it.
 */

/** The text with its open fields filled in their order; a field whose value is undefined is left out. */
export function fillTemplate(template: Buffer, fieldOf: (key: string) => unknown): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (let mark = template.indexOf(0); mark !== -1; mark = template.indexOf(0, at)) {
    const end = template.indexOf(0, mark + 1);
    const key = template.toString('latin1', mark + 1, end);
    const value = fieldOf(key);
    parts.push(template.subarray(at, mark));
    if (value instanceof Uint8Array)
      parts.push(Buffer.from(`,"${key}":`), Buffer.from(value.buffer, value.byteOffset, value.length));
    else if (value !== undefined) parts.push(Buffer.from(`,"${key}":${jsonLine(value)}`));
    at = end + 1;
  }
  if (at === 0) return template;
  parts.push(template.subarray(at));
  return Buffer.concat(parts);
}
