import type { Logger } from 'pino';
import { explain, isExhibitError } from '../../evidence/error.ts';
import type { ArtifactRecord, FreezeRecord, Gap, Plan, PlanStep } from '../../evidence/manifest.ts';
import type { CollectContext, Collector } from '../collect/collector.ts';
import type { Host } from '../host/host.ts';
import type { Runtime, Target } from '../runtime/runtime.ts';
import type { Bundle } from './bundle.ts';
import type { Frozen } from './freeze.ts';

/** One step of the plan, carried out: the collector's context, and the record that the manifest keeps of it. */
export interface StepInput {
  readonly captureId: string;
  readonly step: PlanStep;
  readonly plan: Plan;
  readonly collector: Collector;
  readonly target: Target;
  readonly runtime: Runtime;
  readonly host: Host;
  readonly bundle: Bundle;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly now: () => number;
  readonly freeze: () => Promise<Frozen>;
  readonly progress: (doneBytes: number, totalBytes: number) => void;
}

export interface StepResult {
  readonly artifact: ArtifactRecord;
  /** Present when the step stopped the target. */
  readonly freeze: FreezeRecord | undefined;
}

/** Gaps kept one by one in the manifest; beyond it they are counted, and the archive's own inventory names them. */
const MAX_GAPS = 10_000;

export function skippedStep(step: PlanStep, now: () => number): ArtifactRecord {
  const at = new Date(now()).toISOString();
  const footprint = { wallMs: 0, cpuMs: 0, pauseMs: 0, bytesRead: 0, bytesStored: 0, filesOpened: 0 };
  const { artifact: name, reason } = step;
  return {
    name,
    status: 'skipped',
    reason,
    objects: [],
    gaps: [],
    gapCount: 0,
    notes: [],
    facts: {},
    startedAt: at,
    finishedAt: at,
    footprint,
  };
}

/**
 * Never throws for what a collector could not get: that is a `failed` artifact. Errors of the sink pass, for there is
 * nowhere to write the rest; so does an abort.
 */
export async function runStep(input: StepInput): Promise<StepResult> {
  const { step, collector, bundle, now, signal } = input;
  const startedAt = new Date(now()).toISOString();
  const startedMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const objectsBefore = bundle.objects.length;
  const tally = createTally(input);
  let failure: string | undefined;
  try {
    await collector.collect(tally.context);
  } catch (error) {
    signal.throwIfAborted();
    if (isExhibitError(error, 'sink-failed') || isExhibitError(error, 'sink-exists')) throw error;
    failure = explain(error);
    input.log.warn({ artifact: step.artifact, error: failure }, 'artifact failed');
  } finally {
    await tally.thaw();
  }

  const stored = bundle.objects.slice(objectsBefore);
  const cpu = process.cpuUsage(cpuBefore);
  const { gaps, gapCount, notes, facts, bytesRead, filesOpened, pausedMs, freeze } = tally.read();
  const artifact: ArtifactRecord = {
    name: step.artifact,
    status: failure !== undefined ? 'failed' : gapCount > 0 ? 'partial' : 'captured',
    ...(failure === undefined ? {} : { reason: failure }),
    objects: stored.map((object) => object.name),
    gaps,
    gapCount,
    notes,
    facts,
    startedAt,
    finishedAt: new Date(now()).toISOString(),
    footprint: {
      wallMs: round(performance.now() - startedMs),
      cpuMs: round((cpu.user + cpu.system) / 1000),
      pauseMs: round((freeze?.pauseMs ?? 0) + pausedMs),
      bytesRead,
      bytesStored: stored.reduce((total, object) => total + object.stored.sizeBytes, 0),
      filesOpened,
    },
  };
  return { artifact, freeze };
}

const round = (ms: number) => Math.round(ms * 1000) / 1000;

/** The context handed to the collector, and what it reported. */
function createTally(input: StepInput) {
  const gaps: Gap[] = [];
  const notes: string[] = [];
  const facts: Record<string, unknown> = {};
  let gapCount = 0;
  let bytesRead = 0;
  let filesOpened = 0;
  let pausedMs = 0;
  let held: Frozen | undefined;
  let freeze: FreezeRecord | undefined;

  const context: CollectContext = {
    captureId: input.captureId,
    target: input.target,
    runtime: input.runtime,
    host: input.host,
    signal: input.signal,
    log: input.log.child({ artifact: input.step.artifact }),
    now: input.now,
    consistency: input.plan.consistency,
    bufferBytes: input.plan.bufferBytes,
    archive: (name, options) => input.bundle.archive(name, options),
    foreignArchive: (name) => input.bundle.foreignArchive(name, (why) => void notes.push(`${name}: ${why}`)),
    text: (name, mediaType) => input.bundle.text(name, mediaType),
    gap: (gap) => {
      gapCount += 1;
      if (gaps.length < MAX_GAPS) gaps.push({ ...gap, at: new Date(input.now()).toISOString() });
    },
    note: (text) => void notes.push(text),
    fact: (name, value) => {
      facts[name] = value;
    },
    read: (bytes, files = 0) => {
      bytesRead += bytes;
      filesOpened += files;
    },
    paused: (ms) => {
      pausedMs += ms;
    },
    progress: (doneBytes, totalBytes = 0) => input.progress(doneBytes, totalBytes),
    freeze: async () => {
      const frozen = await input.freeze();
      held = {
        get deadline() {
          return frozen.deadline;
        },
        get expired() {
          return frozen.expired;
        },
        thaw: async () => {
          freeze = await frozen.thaw();
          return freeze;
        },
        [Symbol.asyncDispose]: async () => {
          freeze ??= await frozen.thaw();
        },
      };
      return held;
    },
  };
  return {
    context,
    thaw: async () => held?.[Symbol.asyncDispose](),
    read: () => ({ gaps, gapCount, notes, facts, bytesRead, filesOpened, pausedMs, freeze }),
  };
}
