import { z } from 'zod';

/** uid_t; -1 is nobody's. */
const MAX_UID = 2 ** 32 - 2;
const DAY_MS = 86_400_000;

/** The `requestFolder` section of the configuration; docs/request-folder.md. */
export const requestFolderSchema = z.strictObject({
  /** As the agent sees it. Made, for root alone, where it is missing at the start. */
  path: z.string().regex(/^\/.*[^/]$/, { error: 'an absolute path without a slash at its end' }),
  /** Who besides root may own the folder and the requests in it, by uid. */
  owners: z.array(z.number().int().min(0).max(MAX_UID)).max(32).default([]),
  /** Captures from this folder that run at a time; the other requests stay files. */
  concurrent: z.number().int().min(1).max(16).default(2),
  /** A file that does not tell that it is whole (YAML, or JSON that does not parse) must not change for so long. */
  settleMs: z.number().int().min(100).max(60_000).default(1000),
  /** A file that still changes after this is refused. */
  halfWrittenMs: z.number().int().min(1000).max(600_000).default(30_000),
  /** How long an answered request and its answer stay, after the end. */
  answersKeptMs: z
    .number()
    .int()
    .min(60_000)
    .default(7 * DAY_MS),
  /** What lies in `rejected/`: for how long, and how many requests. */
  rejectedKeptMs: z
    .number()
    .int()
    .min(60_000)
    .default(7 * DAY_MS),
  rejectedKept: z.number().int().min(1).max(10_000).default(1000),
  /** The folder is looked at this often even when the kernel tells of nothing; network file systems never do. */
  sweepMs: z.number().int().min(100).max(600_000).default(10_000),
});
export type RequestFolderConfig = z.output<typeof requestFolderSchema>;
