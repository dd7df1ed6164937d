import { z } from 'zod';
import { checkpointPlanSchema } from './dump.ts';
import { ARTIFACTS } from './layout.ts';
import { list } from './list-schema.ts';

/**
 * The shapes of `request.json` and `manifest.json`. These schemas are the format's definition: the agent writes through
 * them and `verify` reads through them. Times are RFC 3339 UTC with milliseconds; sizes are bytes; digests lower-case hex.
 * Every object is closed with `strictObject`: a key nobody defined is corruption, not an extension.
 */

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const sizeBytes = z.number().int().nonnegative();
const time = z.iso.datetime({ precision: 3 });

export const digestSchema = z.strictObject({ sha256, sizeBytes });
export type Digest = z.infer<typeof digestSchema>;

/** Of content; without a digest only where it is stored as it is, in raw blocks, so that the stored digest covers it. */
export const contentSchema = z.strictObject({ sha256: sha256.optional(), sizeBytes });
export type ContentDigest = z.infer<typeof contentSchema>;

/** What was not captured: which thing, why (errno where the kernel said one, and words), when. */
export const gapSchema = z.strictObject({
  /** The thing in words an analyst can search for: a member path, `pid 17 maps`, `memory of pid 17`. */
  what: z.string(),
  /** The path's bytes in base64 when they are not UTF-8. */
  pathBase64: z.string().optional(),
  pid: z.number().int().positive().optional(),
  /** First address not captured, and the first after it: lower-case hex with 0x. */
  startAddress: z
    .string()
    .regex(/^0x[0-9a-f]+$/)
    .optional(),
  endAddress: z
    .string()
    .regex(/^0x[0-9a-f]+$/)
    .optional(),
  errno: z.string().optional(),
  why: z.string(),
  at: time,
});
export type Gap = z.infer<typeof gapSchema>;

export const memberSchema = z.strictObject({
  /** The member's name as the archive has it; bytes that are not UTF-8 are shown as U+FFFD and kept in `pathBase64`. */
  path: z.string(),
  pathBase64: z.string().optional(),
  type: z.enum(['file', 'directory', 'symlink', 'hardlink', 'fifo', 'character-device', 'block-device']),
  sizeBytes,
  /** Of the content; absent for members without content. */
  sha256: sha256.optional(),
});
export type Member = z.infer<typeof memberSchema>;

/** One stored object. `stored` is of the bytes in the sink, `content` of what they decompress to. */
export const objectSchema = z.strictObject({
  name: z.string(),
  mediaType: z.string(),
  stored: digestSchema,
  content: contentSchema.optional(),
  /** The tar members, in archive order. */
  members: list(memberSchema).optional(),
  /** For an archive with more members than a manifest should hold: the JSON-lines object that lists them in archive order. */
  membersIn: z.string().optional(),
  /** Encrypted to recipients as a whole; it lies in the sink as `<name>.age`, and `stored` is of that. */
  encryption: z.literal('age').optional(),
  /** Why the object ends before its content did: `stored` is of what there is, and nothing says what was to follow. */
  truncated: z.string().optional(),
});
export type StoredObject = z.infer<typeof objectSchema>;

/** What the observer itself did, so that its traces can be told from the intruder's. */
export const footprintSchema = z.strictObject({
  wallMs: z.number().nonnegative(),
  /** CPU time of the agent process during the step, all threads. */
  cpuMs: z.number().nonnegative(),
  /** How long the target stood still for this step. */
  pauseMs: z.number().nonnegative(),
  bytesRead: sizeBytes,
  bytesStored: sizeBytes,
  filesOpened: z.number().int().nonnegative(),
});

export const ARTIFACT_STATUSES = ['captured', 'partial', 'failed', 'skipped'] as const;

export const artifactSchema = z.strictObject({
  name: z.enum(ARTIFACTS),
  /** `captured`: no gaps. `partial`: stored, with gaps. `failed`: nothing stored that can be relied on. `skipped`: not tried. */
  status: z.enum(ARTIFACT_STATUSES),
  /** Why it failed or was skipped. */
  reason: z.string().optional(),
  objects: list(z.string()),
  gaps: list(gapSchema),
  /** All gaps, also those beyond the bound of the list. */
  gapCount: z.number().int().nonnegative(),
  /** Things an analyst should know that are not gaps: how it was read, what a field means here. */
  notes: list(z.string()),
  /** The artifact's own facts, for programs: rungs of a checkpoint, numbers of processes, findings. */
  facts: z.record(z.string(), z.unknown()),
  startedAt: time,
  finishedAt: time,
  footprint: footprintSchema,
});
export type ArtifactRecord = z.infer<typeof artifactSchema>;

export const freezeSchema = z.strictObject({
  /** `frozen`: memory was read while the target stood still. `live`: it ran on, pages may be torn. */
  consistency: z.enum(['frozen', 'live']),
  /**
   * How it was stopped: `containerd`, `cgroup-v2`, `cgroup-v1`, `signal`; `none`; or for the containers of a pod stopped
   * together, how many by which of these: `group: containerd x2`.
   */
  method: z.string(),
  frozenAt: time.optional(),
  thawedAt: time.optional(),
  pauseMs: z.number().nonnegative(),
  /** Who thawed it: the agent as planned, or the guard because the deadline passed. */
  thawedBy: z.enum(['agent', 'guard']).optional(),
  notes: list(z.string()),
});
export type FreezeRecord = z.infer<typeof freezeSchema>;

export const podSchema = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  uid: z.string(),
  sandboxId: z.string(),
});

/** How a container ended that had ended before its capture; what the runtime does not say is absent. */
export const endedSchema = z.strictObject({
  exitCode: z.number().int().optional(),
  finishedAt: time.optional(),
  /** In the runtime's words: `OOMKilled`, `Error`, `Completed`. */
  reason: z.string().optional(),
  oomKilled: z.boolean().optional(),
});
export type EndedRecord = z.infer<typeof endedSchema>;

const containerFields = {
  runtime: z.string(),
  kind: z.enum(['container', 'process-tree', 'cgroup']),
  id: z.string(),
  name: z.string(),
  pod: podSchema.optional(),
  labels: z.record(z.string(), z.string()),
  image: z.strictObject({ name: z.string(), id: z.string() }).optional(),
  /** 0: it has none, see `ended`. */
  initPid: z.number().int().nonnegative(),
  /** Its processes; in a pod's manifest everybody who was seen in this container during the capture. */
  pids: list(z.number().int().positive()),
  cgroup: z.string().optional(),
  /** Present when it had ended before it was captured: then there are no processes. */
  ended: endedSchema.optional(),
  /** What could not be learned about it. */
  notes: list(z.string()).optional(),
};

export const targetSchema = z.strictObject({
  ...containerFields,
  /**
   * The other containers of the pod that were stopped and read together with this one; their processes, sockets and memory
   * are in the same artifacts. Absent when there are none.
   */
  companions: list(z.strictObject(containerFields)).optional(),
});
export type TargetRecord = z.infer<typeof targetSchema>;

/** The sink that this bundle lies in, as the agent that sealed it was configured. */
export const sinkRecordSchema = z.strictObject({
  name: z.string(),
  url: z.string(),
  /** How the store encrypts at rest, where it was asked to. */
  serverSideEncryption: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']).optional(),
  objectLock: z
    .strictObject({
      mode: z.enum(['GOVERNANCE', 'COMPLIANCE']).optional(),
      retainUntil: time.optional(),
      legalHold: z.boolean(),
    })
    .optional(),
});
export type SinkRecord = z.infer<typeof sinkRecordSchema>;

/**
 * One link of the chain of an agent's sealed captures in one sink. A chain begins when the agent finds none of its own, at
 * the latest when the node boots.
 */
export const chainSchema = z.strictObject({
  chainId: z.uuid(),
  /** From 1, without holes. */
  sequence: z.number().int().positive(),
  /** The capture before; absent in the first. `sealSha256` is of its `manifest.dsse.json` as stored. */
  previous: z.strictObject({ captureId: z.string(), sealSha256: sha256 }).optional(),
});
export type ChainLink = z.infer<typeof chainSchema>;

export const planStepSchema = z.strictObject({
  artifact: z.enum(ARTIFACTS),
  /** The row of RFC 3227, section 2.1, that it belongs to; lower is gone sooner. */
  volatility: z.number().int().positive(),
  frozen: z.boolean(),
  action: z.enum(['collect', 'skip']),
  reason: z.string(),
});
export type PlanStep = z.infer<typeof planStepSchema>;

export const planSchema = z.strictObject({
  consistency: z.enum(['frozen', 'live']),
  /** What is stopped and read together. Absent in older bundles, which knew containers only. */
  scope: z.enum(['container', 'pod']).optional(),
  freezeDeadlineMs: z.number().int().positive(),
  bufferBytes: sizeBytes,
  steps: list(planStepSchema),
  /** Absent where no checkpoint is taken, and in older bundles. */
  checkpoint: checkpointPlanSchema.optional(),
});
export type Plan = z.infer<typeof planSchema>;

export const agentSchema = z.strictObject({
  name: z.literal('exhibit'),
  version: z.string(),
  nodeVersion: z.string(),
  pid: z.number().int().positive(),
  /** SHA-256 of the public key's SubjectPublicKeyInfo: which key will seal this bundle. */
  keyId: sha256,
});

export const hostSchema = z.strictObject({
  hostname: z.string(),
  kernel: z.string(),
  machine: z.string(),
  bootId: z.string(),
  /** Wall clock minus boot time, so that times since boot in /proc can be placed. */
  bootTime: time,
  clock: z.strictObject({
    wall: time,
    /** adjtimex(2): whether the kernel's clock is disciplined, its estimated error; undefined where it cannot be asked. */
    synchronised: z.boolean().optional(),
    estimatedErrorUs: z.number().optional(),
    timezone: z.string(),
  }),
});
export type HostRecord = z.infer<typeof hostSchema>;

export const requestSchema = z.strictObject({
  formatVersion: z.literal(1),
  captureId: z.string(),
  cluster: z.string(),
  node: z.string(),
  requestedAt: time,
  requester: z.strictObject({
    /** How the request came: `socket`, `controller`, `folder`, `schedule`. */
    trigger: z.string(),
    /** As far as the trigger can vouch for it: `uid 0, pid 4711`. */
    identity: z.string(),
  }),
  /** Of a scheduled capture: its schedule, the time of the schedule that it is for, and what the schedule says of keeping it. */
  schedule: z
    .strictObject({ name: z.string(), tick: time, keepDays: z.number().int().positive().optional() })
    .optional(),
  caseId: z.string().optional(),
  /** The number that the exhibit has in its case, as the requester gave it. */
  exhibitNumber: z.string().optional(),
  /** Who acquires the evidence, by the name that the requester claims; `requester` is what the agent knows. */
  acquirer: z.string().optional(),
  reason: z.string().optional(),
  /** Limits of memory and disk that stood against the capture, and that the requester was allowed to pass. */
  overridden: list(z.string()).optional(),
  /** Names of the agent's sinks that this capture was to go to. Absent in older bundles, whose agent had one. */
  sinks: list(z.string()).optional(),
  selector: z.string(),
  artifacts: list(z.enum(ARTIFACTS)),
  runtime: z.strictObject({ name: z.string(), version: z.string() }),
  target: targetSchema,
  plan: planSchema,
  agent: agentSchema,
  host: hostSchema,
});
export type RequestRecord = z.infer<typeof requestSchema>;

export const manifestSchema = z.strictObject({
  formatVersion: z.literal(1),
  captureId: z.string(),
  cluster: z.string(),
  node: z.string(),
  /**
   * `complete`: every step captured. `partial`: gaps, or a step failed. `cancelled`: ended early by request. `truncated`: the
   * agent died during the capture, or no sink took any more; what had reached this one was sealed.
   */
  outcome: z.enum(['complete', 'partial', 'cancelled', 'truncated']),
  startedAt: time,
  finishedAt: time,
  target: targetSchema,
  freeze: freezeSchema,
  artifacts: list(artifactSchema),
  /** Every object of the bundle but this manifest and its seal. */
  objects: list(objectSchema),
  agent: agentSchema,
  /** Absent in older bundles. */
  sink: sinkRecordSchema.optional(),
  /** Absent in older bundles. */
  chain: chainSchema.optional(),
  /**
   * Bytes that the agent's own process wrote to block devices during the capture, less what a folder sink took (proc(5) io).
   * Not in it: other captures' bytes cannot be told apart, and what a runtime writes for its checkpoint is the runtime's.
   */
  nodeBytesWritten: sizeBytes,
});
export type Manifest = z.infer<typeof manifestSchema>;
