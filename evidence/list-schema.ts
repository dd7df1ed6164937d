import { z } from 'zod';

/** Issues of one list that are worth showing. */
const MAX_ISSUES = 5;

/**
 * `z.array` for lists that somebody else may have made: it stops at the first element that is wrong. z.array makes an issue
 * of each, and a manifest of 64 MiB has room for millions of wrong elements, which are gigabytes of issues.
 */
export function list<T>(element: z.ZodType<T>): z.ZodType<T[]> {
  return z.custom<T[]>().check(({ value, issues }) => {
    const elements: unknown = value;
    if (!Array.isArray(elements)) {
      issues.push({ code: 'custom', message: 'Invalid input: expected array', input: elements });
      return;
    }
    for (const [index, one] of elements.entries()) {
      const parsed = element.safeParse(one);
      if (parsed.success) continue;
      for (const { message, path } of parsed.error.issues.slice(0, MAX_ISSUES)) {
        issues.push({ code: 'custom', message, path: [index, ...path], input: undefined });
      }
      return;
    }
  });
}
