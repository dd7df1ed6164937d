import { z } from 'zod';

/**
 * Memory of a process that is in the archive, but not in its core: `<pid>/elsewhere.jsonl`, one line a run of pages, in
 * address order, without overlap among themselves or with the captured parts of the core. Two things are kept apart:
 *
 * - What several processes map (shmem, memfd, System V, files mapped shared) is stored once, in `shared/<n>.pages`.
 * - What was read before the freeze and had not changed by then is in `<pid>/precopy.pages`.
 *
 * Both hold pages and nothing else, one run after the other. A complete core is the process' own core with these runs added
 * as PT_LOADs (elfmerge.ts; `exhibit core`).
 */

const address = z.string().regex(/^0x[0-9a-f]+$/);
const sizeBytes = z.number().int().nonnegative();

export const elsewhereSchema = z.strictObject({
  start: address,
  end: address,
  /** A member of the same archive. */
  member: z.string(),
  /** Where in the member's content the byte at `start` is. */
  offset: sizeBytes,
});
export type ElsewhereRecord = z.infer<typeof elsewhereSchema>;

/** One line of `shared/objects.jsonl`: an object of memory that several mappings show. */
export const sharedObjectSchema = z.strictObject({
  member: z.string(),
  /** Major and minor number in hex, as in proc(5). */
  device: z.string(),
  /** Decimal. */
  inode: z.string().regex(/^[0-9]+$/),
  path: z.string(),
  pathBase64: z.string().optional(),
  capturedBytes: sizeBytes,
  /** `live`: some of it was read while processes ran. */
  consistency: z.enum(['frozen', 'live']),
  /** Every mapping of it that was seen. */
  mappings: z.array(z.strictObject({ pid: z.number().int().positive(), start: address, fileOffset: address })),
  /** By offset in the object. */
  gaps: z.array(z.strictObject({ start: address, end: address, errno: z.string().optional(), why: z.string() })),
});
export type SharedObjectRecord = z.infer<typeof sharedObjectSchema>;

/** Names of the members of `memory.tar.zst`. */
export const MEMORY_MEMBERS = {
  core: (pid: number) => `${pid}/core`,
  regions: (pid: number) => `${pid}/regions.jsonl`,
  elsewhere: (pid: number) => `${pid}/elsewhere.jsonl`,
  precopy: (pid: number) => `${pid}/precopy.pages`,
  shared: (number: number) => `shared/${number}.pages`,
  sharedObjects: 'shared/objects.jsonl',
} as const;
