import type { Logger } from 'pino';
import type { Encrypt } from '../../evidence/age-writer.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { type ArtifactName, bundlePath, CHANGES_OBJECT, REQUEST_OBJECT } from '../../evidence/layout.ts';
import type { ArtifactRecord, Manifest, Plan, PlanStep } from '../../evidence/manifest.ts';
import type { Collector, DumpNote } from '../collect/collector.ts';
import { agentDiskWriteBytes } from '../host/self.ts';
import { gapCounts } from '../metrics/gap-reason.ts';
import { methodOf } from '../runtime/pause/pause.ts';
import { OF_ONE_CONTAINER, ownTarget } from '../runtime/pod.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { type NamedSink, pickSinks } from '../sink/several.ts';
import type { Vault } from '../sink/vault.ts';
import type { Admission } from './admission.ts';
import { type BaselineRun, type Baselines, sumOf } from './baselines.ts';
import { type Bundle, openBundle } from './bundle.ts';
import { type CaptureEnd, type CaptureEvent, type CaptureHooks, type Execute, newEntry } from './captures.ts';
import {
  accepted,
  agentName,
  artifactEnded,
  artifactStarted,
  cancelledBy,
  clockOf,
  failedBy,
  freezing,
  notFrozen,
  requested,
  thawed,
} from './custody-events.ts';
import type { Delivery } from './delivery.ts';
import { type Begun, type Ended, requestIn } from './draft.ts';
import { type CustodyNote, createDraft, type Draft } from './drafts.ts';
import type { startFreezer } from './freeze.ts';
import type { Turn } from './heavy-line.ts';
import { type Hold, prepareHold } from './hold.ts';
import type { JournalEntry } from './journal.ts';
import { carefreeNeighbour, type Entrance, type Neighbour } from './neighbour.ts';
import type { Pacer } from './pacer.ts';
import { displayName, type RecordParts, requestRecord } from './record.ts';
import { type Resolved, resolveAndPlan } from './resolve.ts';
import { runStep, skippedStep } from './step.ts';
import { isHeavyStep, stagesOf, waitForTurn } from './wait-turn.ts';

export interface CaptureParts extends RecordParts {
  /** Those of the configuration, among which a request picks. */
  readonly sinks: readonly NamedSink[];
  /** In the order in which they are asked for a target. */
  readonly runtimes: readonly Runtime[];
  readonly collectors: Readonly<Record<ArtifactName, Collector>>;
  readonly startFreezer: typeof startFreezer;
  /** The agent's policy: it is asked once for each capture. */
  readonly admission: Admission;
  /** For the drafts. */
  readonly vault: Vault;
  readonly delivery: Delivery;
  /** What is left to the node's own work; absent: one heavy capture at a time, and no other limit. */
  readonly neighbour?: Neighbour | undefined;
  /** Absent where evidence is stored as it is. */
  readonly encrypt?: Encrypt | undefined;
  /** Absent: captures are compared with nothing. */
  readonly baselines?: Baselines | undefined;
  readonly log: Logger;
}

/** One question at the end; a runtime that hangs must not keep the seal. */
const CONCLUDE_TIMEOUT_MS = 5_000;
/** A cancelled capture is sealed all the same, within the time that Kubernetes leaves after SIGTERM. */
const SEAL_TIMEOUT_MS = 30_000;

/**
 * The spine: request -> target -> plan -> request.json -> steps -> manifest.json -> seal. Only the target, the plan and all
 * sinks together can end a capture; every other failure becomes part of the record. The draft is told of each step, so that
 * the next agent can seal what this one stored.
 */
export function captureExecutor(parts: CaptureParts): Execute {
  const neighbour = parts.neighbour ?? carefreeNeighbour();
  return async (captureId, request, hooks) => {
    const found = await resolveAndPlan({ ...parts, neighbour }, captureId, request, hooks.signal);
    const { runtime, target, conclude, plan, entrance } = found;
    using permit = found.permit;
    using turn = entrance.turn;
    const { config } = parts;
    const path = bundlePath(config.cluster, config.node, captureId);
    const sinks = pickSinks(parts.sinks, permit.sinks);
    const facts = { runtime, target, plan, sinks, overridden: entrance.overridden, signal: hooks.signal };
    const record = await requestRecord(parts, captureId, request, facts);
    const name = displayName(target.record);
    const acceptance: Extract<CaptureEvent, { kind: 'accepted' }> = {
      kind: 'accepted',
      target: name,
      bundleUrl: `${(sinks[0]?.sink.url ?? '').replace(/\/$/, '')}/${path}`,
      stages: [...stagesOf(plan, turn), 'seal'],
      namespace: target.record.pod?.namespace,
      ...(permit.reservedFreezeMs === 0 ? {} : { reservedFreezeMs: permit.reservedFreezeMs }),
    };
    const begun: Begun = {
      kind: 'begun',
      captureId,
      path,
      sinks: sinks.map(({ name }) => name),
      request: record,
      ...(parts.encrypt === undefined ? {} : { recipients: [...parts.encrypt.recipients] }),
      entry: newEntry(captureId, request, acceptance, parts.now()),
    };
    const draft = await createDraft(parts, begun, requested(record, clockOf(sinks)));
    const by = agentName(record.agent);
    const { level } = config.compression;
    const baseline = parts.baselines?.begin(captureId, record);
    const { encrypt } = parts;
    const bundle = openBundle({ sinks, draft, by, level, encrypt, keep: baseline?.keep, signal: hooks.signal });
    await writeRequest(draft, sinks, () => bundle.json(REQUEST_OBJECT, record));
    await draft.note({ kind: 'event' }, accepted(record, name, sinks));
    hooks.emit(acceptance);
    // The permit is held until the end.
    return await carryOut({
      parts,
      captureId,
      runtime,
      target,
      conclude,
      plan,
      sinks,
      draft,
      by,
      bundle,
      baseline,
      hooks,
      turn,
      stillShort: entrance.stillShort,
      pacer: neighbour.pacer,
      log: parts.log.child({ captureId }),
    });
  };
}

/**
 * The first object decides whether there is a capture: where no sink takes it, or one has a bundle of this id, nothing of the
 * target is touched and the draft goes.
 */
async function writeRequest(draft: Draft, sinks: readonly NamedSink[], write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
    const ends = [...(requestIn(draft.state)?.ends.values() ?? [])];
    const taken = ends.find((end) => end.kind === 'failed' && end.exists);
    if (taken?.kind === 'failed') throw new ExhibitError('sink-exists', taken.why);
  } catch (error) {
    const name = requestIn(draft.state)?.name ?? REQUEST_OBJECT;
    await Promise.allSettled(sinks.map(({ sink }) => sink.forget(`${draft.state.path}/${name}`)));
    await draft.remove();
    throw error;
  }
}

interface Run extends Resolved {
  readonly parts: CaptureParts;
  readonly captureId: string;
  readonly plan: Plan;
  readonly sinks: readonly NamedSink[];
  readonly draft: Draft;
  /** Who does it, for the custody log. */
  readonly by: string;
  readonly bundle: Bundle;
  readonly baseline: BaselineRun | undefined;
  readonly hooks: CaptureHooks;
  readonly turn: Turn;
  readonly stillShort: Entrance['stillShort'];
  readonly pacer: Pacer;
  readonly log: Logger;
}

/**
 * Whatever ends the steps, what was stored is sealed. A capture that no sink took any more of, or that failed in a way nobody
 * foresaw, is sealed as `truncated` as far as the sinks allow, and then fails.
 */
async function carryOut(run: Run): Promise<CaptureEnd> {
  const { draft, hooks } = run;
  const written = await diskFootprint(run);
  let failure: { readonly error: unknown } | undefined;
  let cancelled = false;
  try {
    await runSteps(run, written);
  } catch (error) {
    cancelled = hooks.signal.aborted && !isExhibitError(error, 'sink-failed');
    if (cancelled) await skipTheRest(run, await written());
    else failure = { error };
  }
  // The seal is light: the next one need not wait for a sink that is away.
  run.turn[Symbol.dispose]();
  const why = failure === undefined ? '' : `the capture ended: ${explain(failure.error)}`;
  const events = cancelled ? [cancelledBy(run.by, hooks.signal)] : failure === undefined ? [] : [failedBy(run.by, why)];
  const partial = draft.state.artifacts.some(({ status }) => status === 'partial' || status === 'failed');
  const outcome = failure !== undefined ? 'truncated' : cancelled ? 'cancelled' : partial ? 'partial' : 'complete';
  const end = await seal(run, { outcome, why, nodeBytesWritten: await written() }, events);
  if (failure !== undefined) throw failure.error;
  const [refusal] = draft.state.refused.values();
  if (refusal !== undefined && draft.state.refused.size === run.sinks.length)
    throw new ExhibitError('sink-exists', refusal);
  return end;
}

async function skipTheRest({ draft, plan, parts, by }: Run, nodeBytesWritten: number): Promise<void> {
  for (const step of plan.steps.slice(draft.state.artifacts.length)) {
    const record = skippedStep(step, 'the capture was cancelled before this was stored', parts.now);
    await draft.note({ kind: 'artifact', record, nodeBytesWritten }, artifactEnded(by, record));
  }
}

async function seal(
  run: Run,
  end: Pick<Ended, 'outcome' | 'why' | 'nodeBytesWritten'>,
  events: readonly CustodyNote[],
): Promise<CaptureEnd> {
  const { parts, draft, bundle, conclude, hooks, log } = run;
  hooks.emit({ kind: 'stage-started', stage: 'seal' });
  const startedMs = performance.now();
  const finishedAt = new Date(parts.now()).toISOString();
  const target = await conclude(AbortSignal.timeout(CONCLUDE_TIMEOUT_MS));
  const changes = await addChanges(run, end.outcome, target);
  await draft.note({ kind: 'ended', ...end, finishedAt, target }, ...events);
  const { outcome, waiting } = await parts.delivery.conclude(draft, AbortSignal.timeout(SEAL_TIMEOUT_MS));
  await hooks.waiting(waiting);
  if (waiting.length === 0) await run.baseline?.sealed(outcome);
  hooks.emit({
    kind: 'stage-ended',
    result: {
      stage: 'seal',
      status: waiting.length === 0 ? 'captured' : 'partial',
      reason: waiting.length === 0 ? '' : `waits for ${waiting.join(', ')}`,
      storedBytes: 0,
      wallMs: Math.round(performance.now() - startedMs),
      pauseMs: 0,
      gapCount: 0,
    },
  });
  const sealed = { outcome, waiting, objects: bundle.objects.length, storedBytes: bundle.storedBytes() };
  log.info(sealed, waiting.length === 0 ? 'capture sealed' : 'capture ended, and waits to be sealed');
  return { state: outcome, ...changes };
}

/** The target runs again. A comparison that fails is logged, and costs the capture nothing else. */
async function addChanges(
  { baseline, bundle, captureId, draft, log }: Run,
  outcome: Manifest['outcome'],
  target: Manifest['target'],
): Promise<Pick<CaptureEnd, 'changes'>> {
  if (baseline === undefined || (outcome !== 'complete' && outcome !== 'partial')) return {};
  const { startedAt, artifacts, request } = draft.state;
  const { cluster, node } = request;
  const changes = await baseline.compare({ cluster, node, startedAt, outcome, target, artifacts });
  if (changes === undefined) return {};
  try {
    await bundle.json(CHANGES_OBJECT, changes);
  } catch (error) {
    log.error({ captureId, error: explain(error) }, 'changes not stored');
  }
  return { changes: sumOf(changes) };
}

/** What this process wrote to block devices since, less what the sinks that are folders took. */
async function diskFootprint({ sinks, bundle }: Run): Promise<() => Promise<number>> {
  const before = await agentDiskWriteBytes();
  const folders = sinks.filter(({ sink }) => sink.url.startsWith('file:')).length;
  return async () => Math.max(0, (await agentDiskWriteBytes()) - before - folders * bundle.storedBytes());
}

async function runSteps(run: Run, written: () => Promise<number>): Promise<void> {
  const { draft, hooks, plan, by, turn } = run;
  await using holds = new AsyncDisposableStack();
  const prepare = async () => holds.use(await holdFor(run));
  // Beside the live steps where it is needed soon; not for a capture that may wait for half an hour.
  let hold = turn.before === 0 ? await prepare() : undefined;
  let late: string | undefined;
  let isWaited = false;
  for (const step of plan.steps) {
    hooks.signal.throwIfAborted();
    if (isHeavyStep(step) && !isWaited) {
      isWaited = true;
      const { waitMs } = run.parts.config.limits.queue;
      late = await waitForTurn({ hooks, turn, waitMs, stillShort: run.stillShort });
      // What the light steps used, and the agent since its last capture, is no debt of what begins here.
      run.pacer.forgive();
    }
    hooks.emit({ kind: 'stage-started', stage: step.artifact });
    const isLeft = late !== undefined && isHeavyStep(step);
    if (!isLeft && isHeavyStep(step)) hold ??= await prepare();
    const record = isLeft ? skippedStep(step, late ?? '', run.parts.now) : await takeStep(run, step, hold);
    await draft.note({ kind: 'artifact', record, nodeBytesWritten: await written() }, artifactEnded(by, record));
    const { bytesRead } = record.footprint;
    hooks.emit({ kind: 'stage-ended', result: stageResult(record), bytesRead, gaps: gapCounts(record) });
  }
}

function holdFor(run: Run): Promise<Hold> {
  const { draft, hooks, by } = run;
  return prepareHold({
    ...run,
    hooks: { ...hooks, frozen: (spec) => noteFreeze(run, spec) },
    startFreezer: run.parts.startFreezer,
    procRoot: run.parts.host.procRoot,
    onThawed: (record) => void draft.note({ kind: 'freeze', record }, thawed(by, record)),
    onNotFrozen: (record, runsOn) =>
      void draft.note({ kind: 'freeze', record }, ...(runsOn ? [notFrozen(by, record)] : [])),
  });
}

/** Noted before the target is stopped, in the journal as well: a new agent thaws it and says so. */
async function noteFreeze({ draft, hooks, by }: Run, spec: JournalEntry['frozen']): Promise<void> {
  if (spec !== undefined) {
    const method = methodOf(spec);
    await draft.note({ kind: 'freezing', method }, freezing(by, method));
  }
  await hooks.frozen(spec);
}

async function takeStep(run: Run, step: PlanStep, hold: Hold | undefined): Promise<ArtifactRecord> {
  const { draft, hooks, plan, by } = run;
  if (step.action === 'skip') return skippedStep(step, step.reason, run.parts.now, factsOfPlan(step, plan));
  await draft.note({ kind: 'step', artifact: step.artifact }, artifactStarted(by, step.artifact));
  return runStep({
    captureId: run.captureId,
    step,
    plan,
    collector: run.parts.collectors[step.artifact],
    target: OF_ONE_CONTAINER.includes(step.artifact) ? ownTarget(run.target) : run.target,
    runtime: run.runtime,
    host: run.parts.host,
    bundle: run.bundle,
    pacer: run.pacer,
    signal: hooks.signal,
    log: run.log,
    now: run.parts.now,
    freeze: async () => {
      if (hold === undefined) throw new ExhibitError('internal', `${step.artifact} is not to stop the target`);
      return hold.freeze();
    },
    dumping: (dump) => hooks.dumping(dumpOf(run, dump)),
    progress: (doneBytes, totalBytes) =>
      hooks.emit({ kind: 'stage-progress', stage: step.artifact, doneBytes, totalBytes }),
  });
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
