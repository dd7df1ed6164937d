/**
 * What is known about a CRIU checkpoint before one is tried, and what each try did: part of `request.json` (plan) and
 * `manifest.json` (facts of the checkpoint artifact).
 */
import { z } from 'zod';

/**
 * Who can be asked for a checkpoint: containerd's Tasks service, Docker's API, CRI. From the one that stops the target for the
 * shortest time to the longest; measured in docs/bench.md.
 */
export const RUNGS = ['tasks', 'docker', 'cri'] as const;
export type RungName = (typeof RUNGS)[number];

/** What CRIU refuses, or fails on, in an ordinary dump. */
export const OBSTACLES = [
  'tcp-established',
  'tcp-backlog',
  'mptcp',
  'vsock',
  'unix-half-pair',
  'unix-external',
  'io-uring',
  'inotify',
  'ghost-file',
  'uprobes',
  'file-locks',
  'gpu',
  'traced',
  'nested-namespace',
  'unsupported-descriptor',
  'unsupported-mapping',
] as const;
export type ObstacleKind = (typeof OBSTACLES)[number];

/** What CRIU is told beyond its defaults, see criu(8): --tcp-established, --file-locks, --ext-unix-sk. */
export const dumpOptionsSchema = z.strictObject({
  openTcp: z.boolean(),
  fileLocks: z.boolean(),
  externalUnixSockets: z.boolean(),
});
export type DumpOptions = z.infer<typeof dumpOptionsSchema>;

export const obstacleSchema = z.strictObject({
  kind: z.enum(OBSTACLES),
  /** The process that has it, as `procRoot` shows pids; absent for what belongs to none. */
  pid: z.number().int().positive().optional(),
  /** In words, escaped: `TCP 10.88.0.2:8080 to 10.88.0.1:41234, established`. */
  what: z.string(),
  /** The option with which CRIU takes it; absent where none does. */
  liftedBy: dumpOptionsSchema.keyof().optional(),
  /** `certain`: CRIU refuses it always. `likely`: it depends on what cannot be seen from /proc. */
  certainty: z.enum(['certain', 'likely']),
});
export type Obstacle = z.infer<typeof obstacleSchema>;

/** What /proc alone says about a dump, before anything is touched. */
export const preflightSchema = z.strictObject({
  processes: z.number().int().nonnegative(),
  /** At most a hundred, each kind with its first ones; `obstacleCount` counts all. */
  obstacles: z.array(obstacleSchema),
  obstacleCount: z.number().int().nonnegative(),
  /** About how many bytes of memory images CRIU will write: resident and swapped, anonymous and shared. */
  dumpBytes: z.number().int().nonnegative(),
  /** What could not be looked at, and why. */
  notes: z.array(z.string()),
  wallMs: z.number().nonnegative(),
});
export type Preflight = z.infer<typeof preflightSchema>;

/** One way of making a checkpoint, as the plan sees it. */
export const plannedRungSchema = z.strictObject({
  rung: z.enum(RUNGS),
  /** `may-fail`: only obstacles stand in its way that may not be ones. */
  expected: z.enum(['works', 'may-fail', 'fails']),
  /** What speaks against it; empty where it is expected to work. */
  reasons: z.array(z.string()),
  /** Whether it is tried for CRIU's own words although it is expected to fail, where no other was tried. */
  askAnyway: z.boolean(),
  /** What CRIU will be told by this way. */
  options: dumpOptionsSchema,
});
export type PlannedRung = z.infer<typeof plannedRungSchema>;

/** The checkpoint's part of the plan: what was seen, and the ways in the order in which they are tried. */
export const checkpointPlanSchema = z.strictObject({
  preflight: preflightSchema,
  /** The most that a rung which leaves CRIU's files may write into memory. */
  tmpfsBytes: z.number().int().nonnegative(),
  /** Whether that memory is asked for in huge pages, which halves the time that writing takes. */
  hugePages: z.boolean(),
  ladder: z.array(plannedRungSchema),
});
export type CheckpointPlan = z.infer<typeof checkpointPlanSchema>;

/** CRIU's own figures of a dump: the entry `dump` of its stats-dump. Times in microseconds. */
export const dumpStatsSchema = z.strictObject({
  freezingTimeUs: z.number(),
  /** How long the processes stood still. */
  frozenTimeUs: z.number(),
  memdumpTimeUs: z.number(),
  memwriteTimeUs: z.number(),
  pagesScanned: z.number(),
  pagesWritten: z.number(),
  sharedPagesWritten: z.number(),
});
export type DumpStats = z.infer<typeof dumpStatsSchema>;

/** CRIU about one dump: its log is whole in the bundle, here is what a person reads first. */
export const criuWordsSchema = z.strictObject({
  /** Its lines with `Error`, the reason first. */
  errors: z.array(z.string()),
  /** The last lines of its log. */
  lastLines: z.array(z.string()),
  stats: dumpStatsSchema.optional(),
  /** Where the whole log is: an object of the bundle and a member. */
  log: z.string().optional(),
});

/** What became of one rung. In the artifact's fact `rungs`, in the order of the ladder. */
export const rungRecordSchema = z.strictObject({
  ...plannedRungSchema.shape,
  outcome: z.enum(['worked', 'failed', 'not-offered', 'not-tried']),
  wallMs: z.number().nonnegative(),
  /** How long the target stood still, by CRIU's figures and by its freezer, whichever is more; absent where neither tells. */
  stallMs: z.number().nonnegative().optional(),
  /** Why it failed, or was not tried. */
  error: z.string().optional(),
  criu: criuWordsSchema.optional(),
});
export type RungRecord = z.infer<typeof rungRecordSchema>;
