import type { Logger } from 'pino';
import { explain, isExhibitError } from '../../evidence/error.ts';
import type { ArtifactRecord, Gap, Plan, PlanStep } from '../../evidence/manifest.ts';
import type { CollectContext, Collector } from '../collect/collector.ts';
import type { Host } from '../host/host.ts';
import type { Runtime, Target } from '../runtime/runtime.ts';
import type { Bundle } from './bundle.ts';
import type { Frozen } from './freeze.ts';
import { paceStep } from './paced.ts';
import type { Pacer } from './pacer.ts';

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
  readonly pacer: Pacer;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly now: () => number;
  readonly freeze: () => Promise<Frozen>;
  readonly dumping: CollectContext['dumping'];
  readonly progress: (doneBytes: number, totalBytes: number) => void;
}

/** Gaps kept one by one in the manifest; beyond it they are counted, and the archive's own inventory names them. */
const MAX_GAPS = 10_000;

export function skippedStep(
  step: PlanStep,
  reason: string,
  now: () => number,
  facts: ArtifactRecord['facts'] = {},
): ArtifactRecord {
  const at = new Date(now()).toISOString();
  const footprint = { wallMs: 0, cpuMs: 0, pauseMs: 0, bytesRead: 0, bytesStored: 0, filesOpened: 0 };
  return {
    name: step.artifact,
    status: 'skipped',
    reason,
    objects: [],
    gaps: [],
    gapCount: 0,
    notes: [],
    facts,
    startedAt: at,
    finishedAt: at,
    footprint,
  };
}

/**
 * Never throws for what a collector could not get: that is a `failed` artifact, or a `partial` one where a full spool ended
 * it. When no sink is left the error passes, for there is nowhere to write the rest; so does an abort.
 */
export async function runStep(input: StepInput): Promise<ArtifactRecord> {
  const { step, collector, bundle, now, signal } = input;
  const startedAt = new Date(now()).toISOString();
  const startedMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const objectsBefore = bundle.objects.length;
  const tally = createTally(input);
  let failure: string | undefined;
  let full = false;
  try {
    await collector.collect(tally.context);
  } catch (error) {
    signal.throwIfAborted();
    if (isExhibitError(error, 'sink-failed') || isExhibitError(error, 'sink-exists')) throw error;
    failure = explain(error);
    full = isExhibitError(error, 'spool-full');
    input.log.warn({ artifact: step.artifact, error: failure }, 'artifact failed');
  } finally {
    await tally.thaw();
  }

  const stored = bundle.objects.slice(objectsBefore);
  const cpu = process.cpuUsage(cpuBefore);
  const { gaps, gapCount, notes, facts, bytesRead, filesOpened, pausedMs, pacedMs } = tally.read();
  return {
    name: step.artifact,
    status: statusOf(failure, full && stored.length > 0, gapCount),
    ...(failure === undefined ? {} : { reason: failure }),
    objects: stored.map((object) => object.name),
    gaps,
    gapCount,
    notes,
    facts: pacedMs === 0 ? facts : { ...facts, pacedMs },
    startedAt,
    finishedAt: new Date(now()).toISOString(),
    footprint: {
      wallMs: round(performance.now() - startedMs),
      cpuMs: round((cpu.user + cpu.system) / 1000),
      pauseMs: round(pausedMs),
      bytesRead,
      bytesStored: stored.reduce((total, object) => total + object.stored.sizeBytes, 0),
      filesOpened,
    },
  };
}

/** What a full spool left out is a gap that is told when the sinks have said how much of it they have. */
function statusOf(failure: string | undefined, usable: boolean, gapCount: number): ArtifactRecord['status'] {
  if (failure !== undefined) return usable ? 'partial' : 'failed';
  return gapCount > 0 ? 'partial' : 'captured';
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
  const bundle = input.bundle.of(input.step);
  const pace = paceStep(input);

  const context: CollectContext = {
    captureId: input.captureId,
    target: input.target,
    runtime: input.runtime,
    host: input.host,
    signal: input.signal,
    log: input.log.child({ artifact: input.step.artifact }),
    now: input.now,
    dumping: async (dump) => {
      await input.dumping(dump);
      pace.dumping(dump !== undefined);
    },
    checkpoint: input.plan.checkpoint,
    consistency: input.plan.consistency,
    bufferBytes: input.plan.bufferBytes,
    archive: async (name, options) => pace.archive(await bundle.archive(name, options)),
    foreignArchive: async (name) =>
      pace.foreignArchive(await bundle.foreignArchive(name, (why) => void notes.push(`${name}: ${why}`))),
    text: async (name, mediaType) => pace.text(await bundle.text(name, mediaType)),
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
      pace.read(bytes);
      filesOpened += files;
    },
    paused: (ms) => {
      pausedMs += ms;
    },
    progress: (doneBytes, totalBytes = 0) => input.progress(doneBytes, totalBytes),
    freeze: async () => {
      held = await pace.freezing(input.freeze);
      return held;
    },
  };
  const thaw = async () => {
    try {
      if (held !== undefined) pausedMs += (await held.thaw()).pauseMs;
    } catch (error) {
      // The guard goes on trying, and the journal keeps it for the next start: the rest of the evidence is still there.
      notes.push(explain(error));
      input.log.error({ artifact: input.step.artifact, error: explain(error) }, 'target may still be frozen');
    }
  };
  return {
    context,
    thaw,
    read: () => ({ gaps, gapCount, notes, facts, bytesRead, filesOpened, pausedMs, pacedMs: Math.round(pace.pacedMs) }),
  };
}
