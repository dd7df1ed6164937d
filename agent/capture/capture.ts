import type { Logger } from 'pino';
import type { Encrypt } from '../../evidence/age-writer.ts';
import type { CheckpointPlan } from '../../evidence/dump.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { type ArtifactName, bundlePath, FORMAT_VERSION, REQUEST_OBJECT } from '../../evidence/layout.ts';
import type {
  ArtifactRecord,
  FreezeRecord,
  Manifest,
  Plan,
  PlanStep,
  RequestRecord,
  TargetRecord,
} from '../../evidence/manifest.ts';
import type { Collector, DumpNote } from '../collect/collector.ts';
import { memoryRoom } from '../host/memory-room.ts';
import { preflight } from '../host/preflight.ts';
import { type Asker, openAsker } from '../host/preflight-ask.ts';
import { agentDiskWriteBytes } from '../host/self.ts';
import { OF_ONE_CONTAINER, ownTarget, podScoped } from '../runtime/pod.ts';
import { asPid, type Runtime, type Target } from '../runtime/runtime.ts';
import { parseSelector, resolveTarget } from '../runtime/select.ts';
import { type NamedSink, pickSinks } from '../sink/several.ts';
import type { Sink } from '../sink/sink.ts';
import { type Bundle, openBundle } from './bundle.ts';
import type { CaptureHooks, CaptureRequest, Execute } from './captures.ts';
import type { startFreezer } from './freeze.ts';
import { prepareHold } from './hold.ts';
import type { JournalEntry } from './journal.ts';
import { planLadder } from './ladder.ts';
import { createLock, type Lock } from './lock.ts';
import { planCapture } from './plan.ts';
import { displayName, type RecordParts, requestRecord } from './record.ts';
import { runStep, skippedStep } from './step.ts';

export interface CaptureParts extends RecordParts {
  /** Those of the configuration, among which a request picks. */
  readonly sinks: readonly NamedSink[];
  /** In the order in which they are asked for a target. */
  readonly runtimes: readonly Runtime[];
  readonly collectors: Readonly<Record<ArtifactName, Collector>>;
  readonly startFreezer: typeof startFreezer;
  /** Absent where evidence is stored as it is. */
  readonly encrypt?: Encrypt | undefined;
  readonly log: Logger;
}

/** Looking a target up asks the runtime a handful of questions; longer means that it hangs. */
const RESOLVE_TIMEOUT_MS = 20_000;
/** One question at the end; a runtime that hangs must not keep the seal. */
const CONCLUDE_TIMEOUT_MS = 5_000;
/** A cancelled capture is sealed all the same, within the time that Kubernetes leaves after SIGTERM. */
const SEAL_TIMEOUT_MS = 30_000;

/** These stop the target and share the memory budget: never two at a time in one agent. */
const EXCLUSIVE: readonly ArtifactName[] = ['memory', 'checkpoint'];

/**
 * The spine: request -> target -> plan -> request.json -> steps -> manifest.json -> seal. Only the target, the plan and the
 * sink can end a capture; every other failure becomes part of the record.
 */
export function captureExecutor(parts: CaptureParts): Execute {
  const lock = createLock();
  return async (captureId, request, hooks) => {
    const { runtime, target, conclude, plan } = await resolveAndPlan(parts, request, hooks.signal);
    const { config } = parts;
    const path = bundlePath(config.cluster, config.node, captureId);
    const sinks = pickSinks(parts.sinks, request.sinks ?? config.defaultSinks);
    const [first] = sinks;
    if (first === undefined) throw new ExhibitError('internal', 'the agent has no sink');
    const { sink } = first;
    const bundle = openBundle({
      sink,
      path,
      level: config.compression.level,
      encrypt: parts.encrypt,
      signal: hooks.signal,
    });
    const record = await requestRecord(parts, captureId, request, {
      runtime,
      target,
      plan,
      sinks: [first],
      signal: hooks.signal,
    });
    await bundle.json(REQUEST_OBJECT, record);
    hooks.emit({
      kind: 'accepted',
      target: displayName(target.record),
      bundleUrl: `${sink.url.replace(/\/$/, '')}/${path}`,
      stages: [...plan.steps.map((step) => step.artifact), 'seal'],
    });
    return carryOut({
      parts,
      captureId,
      record,
      runtime,
      target,
      conclude,
      plan,
      sink,
      bundle,
      hooks,
      lock,
      log: parts.log.child({ captureId }),
    });
  };
}

interface Resolved {
  readonly runtime: Runtime;
  readonly target: Target;
  /** The target's record with what was learned during the capture. */
  readonly conclude: (signal: AbortSignal) => Promise<TargetRecord>;
}

async function resolve(parts: CaptureParts, request: CaptureRequest, signal: AbortSignal): Promise<Resolved> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(RESOLVE_TIMEOUT_MS)]);
  const selector = parseSelector(request.selector);
  if (request.scope === 'container') {
    const { runtime, target } = await resolveTarget(selector, parts.runtimes, bounded);
    const noted = withNotes(target);
    return { runtime, target: noted, conclude: async () => noted.record };
  }
  const { runtime, target } = await resolveTarget(selector, parts.runtimes.map(podScoped), bounded);
  const noted = withNotes(target);
  return { runtime, target: noted, conclude: (until) => runtime.conclude(noted, until) };
}

function withNotes(target: Target): Target {
  if (target.notes.length === 0) return target;
  return { ...target, record: { ...target.record, notes: [...target.notes] } };
}

async function resolveAndPlan(
  parts: CaptureParts,
  request: CaptureRequest,
  signal: AbortSignal,
): Promise<Resolved & { readonly plan: Plan }> {
  // Started while the target is looked up: a process takes longer to start than to answer.
  const wanted = request.artifacts.includes('checkpoint') && parts.runtimes.some(({ rungs }) => rungs.length > 0);
  await using asker = wanted ? openAsker(parts.host, signal) : undefined;
  const resolved = await resolve(parts, request, signal);
  const plan = await planFor(parts, request, { ...resolved, asker, signal });
  return { ...resolved, plan };
}

interface PlanParts {
  readonly runtime: Runtime;
  readonly target: Target;
  /** Present where a checkpoint was asked for. */
  readonly asker: Asker | undefined;
  readonly signal: AbortSignal;
}

async function planFor(
  parts: CaptureParts,
  request: CaptureRequest,
  { runtime, target, asker, signal }: PlanParts,
): Promise<Plan> {
  const { config } = parts;
  const own = ownTarget(target);
  return planCapture({
    artifacts: request.artifacts,
    consistency: request.consistency,
    scope: request.scope,
    target,
    checkpoint:
      asker === undefined || runtime.rungs.length === 0
        ? undefined
        : await ladderFor(parts, { runtime, target: own, asker, signal }),
    bufferBytes: config.memory.bufferBytes,
    freezeDeadlineMs: config.freeze.deadlineMs,
  });
}

async function ladderFor(
  { config, host }: CaptureParts,
  { runtime, target, asker, signal }: PlanParts & { asker: Asker },
): Promise<CheckpointPlan> {
  const obstacle = await runtime.dumpObstacle?.();
  const [seen, room] = await Promise.all([
    preflight(host, target.record.pids.map(asPid), signal, { openAsker: () => asker }),
    memoryRoom(host.procRoot),
  ]);
  return planLadder({
    offered: runtime.rungs,
    policy: config.checkpoint,
    preflight: seen,
    obstacle,
    availableBytes: room.availableBytes,
  });
}

interface Run extends Resolved {
  readonly parts: CaptureParts;
  readonly captureId: string;
  readonly record: RequestRecord;
  readonly plan: Plan;
  readonly sink: Sink;
  readonly bundle: Bundle;
  readonly hooks: CaptureHooks;
  readonly lock: Lock;
  readonly log: Logger;
}

async function carryOut(run: Run): Promise<{ state: 'complete' | 'partial' | 'cancelled' }> {
  const { parts, bundle, hooks, plan } = run;
  const startedAt = new Date(parts.now()).toISOString();
  const diskBefore = await agentDiskWriteBytes();
  const artifacts: ArtifactRecord[] = [];
  const freezes: FreezeRecord[] = [];
  let cancelled = false;
  try {
    await runSteps(run, artifacts, freezes);
  } catch (error) {
    if (!hooks.signal.aborted || isExhibitError(error, 'sink-failed')) throw error;
    cancelled = true;
    for (const step of plan.steps.slice(artifacts.length)) {
      artifacts.push(skippedStep(step, 'the capture was cancelled before this was stored', parts.now));
    }
  }
  hooks.emit({ kind: 'stage-started', stage: 'seal' });
  const sealStartedMs = performance.now();
  const partial = artifacts.some((artifact) => artifact.status === 'partial' || artifact.status === 'failed');
  const outcome = cancelled ? 'cancelled' : partial ? 'partial' : 'complete';
  const written = Math.max(0, (await agentDiskWriteBytes()) - diskBefore);
  const manifest: Manifest = {
    formatVersion: FORMAT_VERSION,
    captureId: run.captureId,
    cluster: parts.config.cluster,
    node: parts.config.node,
    outcome,
    startedAt,
    finishedAt: new Date(parts.now()).toISOString(),
    target: await run.conclude(AbortSignal.timeout(CONCLUDE_TIMEOUT_MS)),
    freeze: freezes[0] ?? notFrozen(plan),
    artifacts,
    objects: [...bundle.objects],
    agent: run.record.agent,
    nodeBytesWritten: run.sink.url.startsWith('file:') ? Math.max(0, written - bundle.storedBytes()) : written,
  };
  await bundle.seal(manifest, parts.signer, AbortSignal.timeout(SEAL_TIMEOUT_MS));
  const wallMs = Math.round(performance.now() - sealStartedMs);
  hooks.emit({
    kind: 'stage-ended',
    result: {
      stage: 'seal',
      status: 'captured',
      reason: '',
      storedBytes: 0,
      wallMs,
      pauseMs: 0,
      gapCount: 0,
    },
  });
  run.log.info({ outcome, objects: bundle.objects.length, storedBytes: bundle.storedBytes() }, 'capture sealed');
  return { state: outcome };
}

function notFrozen(plan: Plan): FreezeRecord {
  const wanted = plan.consistency === 'frozen';
  return {
    consistency: 'live',
    method: 'none',
    pauseMs: 0,
    notes: [wanted ? 'no step stopped the target' : 'the plan reads the target as it runs'],
  };
}

async function runSteps(run: Run, artifacts: ArtifactRecord[], freezes: FreezeRecord[]): Promise<void> {
  const { hooks, plan } = run;
  await using hold = await prepareHold({
    ...run,
    startFreezer: run.parts.startFreezer,
    procRoot: run.parts.host.procRoot,
    onThawed: (record) => freezes.push(record),
  });
  for (const step of plan.steps) {
    hooks.signal.throwIfAborted();
    hooks.emit({ kind: 'stage-started', stage: step.artifact });
    const release = EXCLUSIVE.includes(step.artifact) ? await run.lock.acquire(hooks.signal) : () => undefined;
    try {
      const artifact =
        step.action === 'skip'
          ? skippedStep(step, step.reason, run.parts.now, factsOfPlan(step, plan))
          : await runStep({
              captureId: run.captureId,
              step,
              plan,
              collector: run.parts.collectors[step.artifact],
              target: OF_ONE_CONTAINER.includes(step.artifact) ? ownTarget(run.target) : run.target,
              runtime: run.runtime,
              host: run.parts.host,
              bundle: run.bundle,
              signal: hooks.signal,
              log: run.log,
              now: run.parts.now,
              freeze: () => hold.freeze(),
              dumping: (dump) => hooks.dumping(dumpOf(run, dump)),
              progress: (doneBytes, totalBytes) =>
                hooks.emit({ kind: 'stage-progress', stage: step.artifact, doneBytes, totalBytes }),
            });
      artifacts.push(artifact);
      hooks.emit({ kind: 'stage-ended', result: stageResult(artifact) });
    } finally {
      release();
    }
  }
}

/** What is known about an artifact that is not taken. */
function factsOfPlan({ artifact }: PlanStep, { checkpoint }: Plan): ArtifactRecord['facts'] {
  return artifact === 'checkpoint' && checkpoint !== undefined ? { preflight: checkpoint.preflight } : {};
}

function dumpOf({ runtime, target, parts }: Run, dump: DumpNote | undefined): JournalEntry['dumping'] {
  if (dump === undefined) return undefined;
  const { rung, resume } = dump;
  const pause = resume ? runtime.pauseOf(ownTarget(target)) : undefined;
  return { rung, containerId: target.record.id, startedAtMs: parts.now(), ...(pause === undefined ? {} : { pause }) };
}

function stageResult(artifact: ArtifactRecord) {
  const { name, status, reason, gapCount, footprint } = artifact;
  return {
    stage: name,
    status,
    reason: reason ?? '',
    storedBytes: footprint.bytesStored,
    wallMs: Math.round(footprint.wallMs),
    pauseMs: footprint.pauseMs,
    gapCount,
  };
}
