import type { z } from 'zod';

/** Issues of a schema that are worth showing; a wrong array has one for each element. */
const MAX_ISSUES = 5;

/**
 * In words for a person. Keys that this reader does not know may be an enemy's, and may be those of an agent that is newer than
 * it: both are errors, and the second is said.
 */
export function whyNotOfShape(issues: readonly z.core.$ZodIssue[]): string {
  const words = issues
    .slice(0, MAX_ISSUES)
    .map(({ path, message }) => [path.join('.'), message].filter(Boolean).join(': '));
  if (!issues.every(({ code }) => code === 'unrecognized_keys')) return words.join('; ');
  return `${words.join('; ')} (a newer exhibit may know them: verify with one that is not older than the agent)`;
}
