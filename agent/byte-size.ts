import { z } from 'zod';

const UNITS = new Map([
  ['', 1],
  ['KiB', 2 ** 10],
  ['MiB', 2 ** 20],
  ['GiB', 2 ** 30],
]);

/** A size as people write it in a configuration: `512MiB`, `2 GiB`, or a number of bytes. */
export const byteSize = z
  .union([z.number(), z.string()], { error: 'a size such as 512MiB or a number of bytes' })
  .transform((given, context) => {
    const match = /^(\d+)\s*(KiB|MiB|GiB|)$/.exec(String(given));
    const sizeBytes = match === null ? Number.NaN : Number(match[1]) * (UNITS.get(match[2] ?? '') ?? Number.NaN);
    if (Number.isSafeInteger(sizeBytes)) return sizeBytes;
    context.addIssue({ code: 'custom', message: 'a size such as 512MiB or a number of bytes' });
    return z.NEVER;
  });

/** One between two bounds. */
export const byteSizeWithin = (leastBytes: number, mostBytes = Number.MAX_SAFE_INTEGER) =>
  byteSize.refine((sizeBytes) => sizeBytes >= leastBytes && sizeBytes <= mostBytes, {
    error: `a size of at least ${leastBytes} bytes${mostBytes === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${mostBytes}`}`,
  });
