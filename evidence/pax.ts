import { ExhibitError } from './error.ts';

/** Records beyond this make a header hostile: no file has so many attributes. */
export const MAX_PAX_RECORDS = 65_536;

const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

/**
 * The records of a pax extended header, `<length> <key>=<value>\n` each, values as bytes; a later one of a key replaces an
 * earlier one, and an empty value removes it (IEEE Std 1003.1, pax). Throws ExhibitError `bundle-corrupt`.
 */
export function readPax(body: Buffer): ReadonlyMap<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0, count = 0; at < body.length; count += 1) {
    const space = body.indexOf(SPACE, at);
    const digits = body.toString('latin1', at, Math.min(space === -1 ? at : space, at + 11));
    const end = at + (/^\d{1,10}$/.test(digits) ? Number(digits) : 0);
    const equals = body.indexOf(EQUALS, space);
    if (
      end <= equals ||
      equals <= space ||
      end > body.length ||
      body[end - 1] !== NEWLINE ||
      count >= MAX_PAX_RECORDS
    ) {
      throw new ExhibitError('bundle-corrupt', 'the tar archive is damaged: an extended header that cannot be read');
    }
    const key = body.toString('utf8', space + 1, equals);
    const value = body.subarray(equals + 1, end - 1);
    if (value.length > 0 || key.startsWith('SCHILY.xattr.')) records.set(key, value);
    else records.delete(key);
    at = end;
  }
  return records;
}
