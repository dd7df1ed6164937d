import { REGION_KINDS } from '../../evidence/elfregion.ts';

/** What the configuration can choose of memory. Its own file: a command line that only checks one needs no collector. */

/** `memory.whenLarger`: what to do when more is in memory than the buffer holds; see memory-strategy.ts. */
export const WHEN_LARGER = ['pre-copy', 'stream-frozen', 'live'] as const;
export type WhenLarger = (typeof WHEN_LARGER)[number];

/** `memory.include`: kinds of mappings; `modified` is, of private file mappings, only what the process changed. */
export const INCLUDABLE = [...REGION_KINDS, 'modified'] as const;
export type Includable = (typeof INCLUDABLE)[number];
