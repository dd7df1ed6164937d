import { Cron } from 'croner';
import { z } from 'zod';
import { ARTIFACTS } from '../../evidence/layout.ts';
import { SCOPES } from '../../evidence/request-words.ts';
import { byteSize } from '../byte-size.ts';
import { MAX_OWN_TAGS_WITH_SCHEDULES } from '../sink/s3-labels.ts';

/** The `schedules` and `scheduleBudget` sections of the configuration; docs/schedules.md. */

const DAY_MS = 86_400_000;
/** Each holds a timer and a line of the doctor. */
const MOST_SCHEDULES = 32;
const MAX_TEXT = 1000;
const MOST_PATTERNS = 64;
/** What a tag of S3 can hold without being changed. */
const NAME = /^[a-z0-9][a-z0-9-]{0,39}$/;
/** Kubernetes' own names, with `*` for any run of characters. */
const PATTERN = /^[A-Za-z0-9._*-]{1,253}$/;

/**
 * Small, and telling by comparison: who runs, who talks to whom, what the node's kernel holds, and which files of the writable
 * layer there are. No memory, no checkpoint, no logs: nothing that stops a container or takes long.
 */
export const LIGHT_ARTIFACTS = ['processes', 'network', 'node', 'rootfs'] as const;

const patterns = z
  .array(z.string().regex(PATTERN, { error: 'a name, with * for any characters' }))
  .min(1)
  .max(MOST_PATTERNS);

const selectorSchema = z
  .strictObject({
    namespaces: patterns.optional(),
    pods: patterns.optional(),
    containers: patterns.optional(),
    labels: z.record(z.string().max(MAX_TEXT), z.string().max(MAX_TEXT)).optional(),
    /** Instead of those: one target, as `exhibit capture` takes it: `unit:kubelet.service`. */
    target: z.string().min(1).max(MAX_TEXT).optional(),
  })
  .refine(({ target, ...rest }) => (target === undefined) === Object.values(rest).some((one) => one !== undefined), {
    error: 'one of namespaces, pods, containers and labels, or more, or target alone',
  });
export type ScheduleSelector = z.output<typeof selectorSchema>;

const timeZone = z.string().refine(isTimeZone, { error: 'a time zone such as Europe/Berlin, or UTC' });

export const scheduleSchema = z
  .strictObject({
    name: z.string().regex(NAME, { error: 'a name of a-z, 0-9 and -, at most 40 characters' }),
    /** Five fields, or six with the seconds in front. */
    cron: z.string().min(1).max(MAX_TEXT),
    timeZone: timeZone.default('UTC'),
    /** Each node adds a part of this to every time, always the same one; see schedule-time.ts. */
    jitterMs: z.number().int().min(0).max(DAY_MS).default(60_000),
    selector: selectorSchema,
    /** LIGHT_ARTIFACTS unless told; those that are told are never narrowed by the policy. */
    artifacts: z.array(z.enum(ARTIFACTS)).min(1).optional(),
    consistency: z.enum(['live', 'frozen']).default('live'),
    scope: z.enum(SCOPES).default('container'),
    case: z.string().max(MAX_TEXT).default(''),
    reason: z.string().max(MAX_TEXT).default(''),
    sinks: z.array(z.string()).min(1).optional(),
    /** Of one run, in the order of their names. */
    maxTargets: z.number().int().min(1).max(1000).default(50),
    /** Runs whose bundles a file:// sink keeps; the agent removes those of older ones. Absent: it removes nothing. */
    keep: z.number().int().min(1).max(100_000).optional(),
    /** For a lifecycle rule of the bucket, as a tag; the agent may not delete there. */
    keepDays: z.number().int().min(1).max(36_500).optional(),
    /** What becomes of a run whose time came while there was no agent. */
    missed: z.enum(['skip', 'once']).default('once'),
    /** And how late that one may be. */
    maxLateMs: z
      .number()
      .int()
      .min(1000)
      .max(31 * DAY_MS)
      .default(3_600_000),
  })
  .superRefine(({ cron, timeZone }, context) => {
    const fault = cronFault(cron, timeZone);
    if (fault !== undefined) context.addIssue({ code: 'custom', path: ['cron'], message: fault });
  });
export type ScheduleConfig = z.output<typeof scheduleSchema>;

export const schedulesSchema = z
  .array(scheduleSchema)
  .max(MOST_SCHEDULES)
  .refine((all) => new Set(all.map(({ name }) => name)).size === all.length, { error: 'each name once' })
  .default([]);

/** Of all schedules of the node together. */
export const scheduleBudgetSchema = z
  .strictObject({
    concurrent: z.number().int().min(1).max(8).default(1),
    capturesPerHour: z.number().int().min(1).max(10_000).default(120),
    bytesPerHour: byteSize.optional(),
    /** How long a scheduled capture waits for an incident capture, or for another schedule's, before it is left out. */
    waitMs: z.number().int().min(0).max(DAY_MS).default(600_000),
  })
  .prefault({});
export type ScheduleBudgetConfig = z.output<typeof scheduleBudgetSchema>;

function isTimeZone(name: string): boolean {
  // ECMAScript also takes offsets, which have no summer time.
  if (!/^[A-Za-z]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Undefined for an expression that fires some time. */
function cronFault(cron: string, zone: string): string | undefined {
  if (!isTimeZone(zone)) return undefined;
  try {
    const fires = new Cron(cron, { paused: true, mode: '5-or-6-parts', timezone: zone }).nextRun() !== null;
    return fires ? undefined : 'a cron expression that fires some time';
  } catch {
    return 'a cron expression of five fields, or of six with the seconds in front';
  }
}

/** What the sinks of a configuration make of its schedules: lines as of other faults. Pure. */
export function scheduleFaults(config: {
  readonly schedules: readonly Pick<ScheduleConfig, 'name' | 'sinks'>[];
  readonly sinks: readonly { readonly name: string; readonly sink: { readonly tags?: unknown } }[];
}): string[] {
  const { schedules, sinks } = config;
  const known = sinks.map(({ name }) => name);
  const strange = schedules.flatMap((schedule, index) =>
    (schedule.sinks ?? []).flatMap((name, at) =>
      known.includes(name)
        ? []
        : [`schedules.${index}.sinks.${at}: expected one of ${known.join(', ')}, found ${JSON.stringify(name)}`],
    ),
  );
  const crowded = sinks.filter(({ sink }) => Object.keys(sink.tags ?? {}).length > MAX_OWN_TAGS_WITH_SCHEDULES);
  if (schedules.length === 0) return strange;
  return [
    ...strange,
    ...crowded.map(
      ({ name }) => `sink ${name}: expected at most ${MAX_OWN_TAGS_WITH_SCHEDULES} tags, since schedules set four`,
    ),
  ];
}
