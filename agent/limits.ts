import { z } from 'zod';
import { ARTIFACTS, type ArtifactName } from '../evidence/layout.ts';
import { byteSize, byteSizeWithin } from './byte-size.ts';
import { TRIGGERS } from './policy.ts';

/**
 * What the agent leaves to the node's own work: the section `limits` of its configuration, and the numbers that say what came of
 * it. docs/good-neighbour.md has the reasons; capture/neighbour.ts applies it.
 */

/** A file is read a MiB at a time: slower, and one piece would hold everything up for more than a second. */
const MIN_BYTES_PER_SECOND = 1024 * 1024;
/** As for one sink: S3's smallest part then takes 80 s on the line. */
const MIN_UPLOAD_BYTES_PER_SECOND = 64 * 1024;
/** More than any node has cores. */
const MOST_CPU_PERCENT = 100_000;
/** A longer line is never emptied before what is in it has gone by itself. */
const MOST_WAITING = 64;

const IO_PRIORITIES = ['normal', 'low', 'idle'] as const;
export type IoPriority = (typeof IO_PRIORITIES)[number];

const percent = z.number().min(0).max(100);

export const limitsSchema = z.strictObject({
  /** Of one core, for what a heavy capture does while its target runs; 0: no limit. */
  cpuPercent: z.number().int().min(0).max(MOST_CPU_PERCENT).default(50),
  /** From disks: volumes, writable layer, image, logs. 0: no limit. */
  readBytesPerSecond: byteSize
    .refine((sizeBytes) => sizeBytes === 0 || sizeBytes >= MIN_BYTES_PER_SECOND, { error: '0, or at least 1MiB' })
    .default(64 * 2 ** 20),
  /** To all S3 sinks together; none unless told. */
  uploadBytesPerSecond: byteSizeWithin(MIN_UPLOAD_BYTES_PER_SECOND).optional(),
  ioPriority: z.enum(IO_PRIORITIES).default('low'),
  queue: z
    .strictObject({
      /** Heavy captures that may wait for the one that runs; one more is refused. */
      length: z.number().int().min(0).max(MOST_WAITING).default(8),
      /** What was not begun by then is left out; the rest is sealed. */
      waitMs: z
        .number()
        .int()
        .min(1000)
        .max(24 * 3_600_000)
        .default(30 * 60_000),
    })
    .prefault({}),
  memory: z
    .strictObject({
      /** Below it no heavy capture is begun, and the copy buffer leaves so much. 0: no limit. */
      minAvailableBytes: byteSize.default(256 * 2 ** 20),
      /** `full avg10` of /proc/pressure/memory. 100: no limit. */
      maxPressurePercent: percent.default(20),
    })
    .prefault({}),
  disk: z
    .strictObject({
      /** Below it nothing is begun that would be written there. 0: no limit. */
      minFreeBytes: byteSize.default(1 * 2 ** 30),
      /** The same, of the file systems that the kubelet watches; it begins to evict pods at 10 or 15 %. */
      minFreePercent: percent.default(15),
    })
    .prefault({}),
  /** Triggers whose requests may say that a refusal for want of memory or disk does not hold. */
  override: z.array(z.enum(TRIGGERS)).default([]),
});
export type Limits = z.output<typeof limitsSchema>;

/** Small, gone first, and read in milliseconds: they never wait, and nobody waits for them. */
const LIGHT: readonly ArtifactName[] = ['processes', 'network', 'node', 'spec'];
export const isHeavy = (artifact: ArtifactName): boolean => !LIGHT.includes(artifact);
export const HEAVY_ARTIFACTS: readonly ArtifactName[] = ARTIFACTS.filter(isHeavy);

export type Scarce = 'memory' | 'pressure' | 'disk' | 'queue';

/** For metrics: counters since the agent's start, but for the first two, which are as of now. */
export interface LimitNumbers {
  readonly heavyRunning: number;
  readonly heavyWaiting: number;
  /** By which limit, how long something waited that was to be read, compressed or sent. */
  readonly pacedSeconds: Readonly<Record<'cpu' | 'read' | 'upload', number>>;
  /** How long captures waited for their turn. */
  readonly queuedSeconds: number;
  /** By what was short. */
  readonly refusals: Readonly<Record<Scarce, number>>;
  /** Refusals that a request was allowed to pass. */
  readonly overridden: number;
}
