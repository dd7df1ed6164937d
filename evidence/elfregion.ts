import { z } from 'zod';

/**
 * One line of `<pid>/regions.jsonl`: one mapping of the process, also one of which nothing was captured. Lines are in
 * address order. Addresses are lower-case hex with 0x, from `start` up to but not including `end`.
 */

const address = z.string().regex(/^0x[0-9a-f]+$/);
const sizeBytes = z.number().int().nonnegative();

export const REGION_KINDS = [
  /** Private memory without a file. */
  'anonymous',
  'heap',
  'stack',
  'file-private',
  'file-shared',
  /** shmem: System V, memfd, shared anonymous, files of a tmpfs in /dev/shm. */
  'shared-memory',
  /** hugetlbfs, named or not. */
  'huge-pages',
  /** The kernel's own pages in every process: vdso, vvar, vsyscall. */
  'kernel',
] as const;

export const regionSchema = z.strictObject({
  start: address,
  end: address,
  /** As in proc(5): `rw-p`. */
  permissions: z.string(),
  /** Byte offset of `start` in the file. */
  fileOffset: address,
  /** Major and minor number in hex, as in proc(5). */
  device: z.string(),
  /** Decimal. */
  inode: z.string().regex(/^[0-9]+$/),
  /** As /proc/PID/maps shows it, a newline in it as \012; bytes that are not UTF-8 are shown as U+FFFD and kept in base64. */
  path: z.string(),
  pathBase64: z.string().optional(),
  kind: z.enum(REGION_KINDS),
  /** VmFlags of /proc/PID/smaps from just before the freeze; absent for a mapping that appeared after. */
  flags: z.array(z.string()).optional(),
  residentBytes: sizeBytes,
  swappedBytes: sizeBytes,
  /** Resident, but the kernel's shared page of zeros: recorded here, not stored. */
  zeroBytes: sizeBytes,
  /** Pages of a private file mapping that are the process' own: changed after it mapped the file. */
  modifiedBytes: sizeBytes,
  /** Bytes of the region in the core file. */
  capturedBytes: sizeBytes,
  /** Bytes of the region that are stored in another member of the archive: see elsewhere.ts. Absent: none. */
  elsewhereBytes: sizeBytes.optional(),
  /** `live`: some of it was read while the process ran, and pages may be torn. */
  consistency: z.enum(['frozen', 'live']),
  /** How much of `capturedBytes` was read while the process ran. */
  liveBytes: sizeBytes,
  /** Why nothing was read although something is resident. */
  skipped: z.string().optional(),
  gaps: z.array(
    z.strictObject({
      start: address,
      end: address,
      errno: z.string().optional(),
      why: z.string(),
      /** The core was laid out before the read failed: it holds zeros here that nobody saw in the process. */
      zerosInCore: z.literal(true).optional(),
    }),
  ),
});
export type RegionRecord = z.infer<typeof regionSchema>;
