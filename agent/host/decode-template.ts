import { jsonLine } from './decode.ts';
import type { Write } from './decode-blocks.ts';

/**
 * JSON text with fields left open, for what is known only when everything has been read: the text is made where the bytes
 * are, and nobody holds objects. `jsonLine` leaves a mark for a field that is OPEN: its key between two NULs, which JSON
 * never has of its own, because it escapes every control character. The first field of an object cannot be open: the comma
 * before a field comes and goes with it.
 */

/** What an open field becomes: left out, a value, or JSON that somebody else writes. */
export type Filling = undefined | { readonly value: unknown } | { readonly write: (write: Write) => void };

/** Writes the text with its open fields filled, in their order. */
export function fillTemplate(template: Buffer, fieldOf: (key: string) => Filling, write: Write): void {
  let at = 0;
  for (let mark = template.indexOf(0); mark !== -1; mark = template.indexOf(0, at)) {
    const end = template.indexOf(0, mark + 1);
    const key = template.toString('latin1', mark + 1, end);
    const filling = fieldOf(key);
    write(template, at, mark);
    at = end + 1;
    if (filling === undefined) continue;
    if ('value' in filling) write(`,"${key}":${jsonLine(filling.value)}`);
    else {
      write(`,"${key}":`);
      filling.write(write);
    }
  }
  write(template, at, template.length);
}
