/**
 * What is known about a CRIU checkpoint before one is tried, and what each try did: part of `request.json` (plan) and
 * `manifest.json` (facts of the checkpoint artifact).
 */
import { z } from 'zod';

/** Who can be asked for a checkpoint: containerd's Tasks service, Docker's API, CRI. */
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
