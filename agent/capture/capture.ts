import type { Logger } from 'pino';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { type ArtifactName, bundlePath, FORMAT_VERSION, REQUEST_OBJECT } from '../../evidence/layout.ts';
import type {
  ArtifactRecord,
  FreezeRecord,
  HostRecord,
  Manifest,
  Plan,
  RequestRecord,
  TargetRecord,
} from '../../evidence/manifest.ts';
import type { Signer } from '../../evidence/seal.ts';
import type { Collector } from '../collect/collector.ts';
import type { Config } from '../config.ts';
import type { Host } from '../host/host.ts';
import { hostIdentity } from '../host/identity.ts';
import { agentDiskWriteBytes, hurry } from '../host/self.ts';
import type { Runtime, Target } from '../runtime/runtime.ts';
import { parseSelector, resolveTarget } from '../runtime/select.ts';
import type { Sink } from '../sink/sink.ts';
import { type Bundle, openBundle } from './bundle.ts';
import type { CaptureHooks, CaptureRequest, Execute } from './captures.ts';
import type { Freezer, Frozen, startFreezer } from './freeze.ts';
import { createLock, type Lock } from './lock.ts';
import { planCapture } from './plan.ts';
import { runStep, skippedStep } from './step.ts';

export interface CaptureParts {
  readonly config: Config;
  readonly host: Host;
  readonly sink: Sink;
  /** In the order in which they are asked for a target. */
  readonly runtimes: readonly Runtime[];
  readonly collectors: Readonly<Record<ArtifactName, Collector>>;
  readonly signer: Signer;
  readonly startFreezer: typeof startFreezer;
  readonly version: string;
  readonly now: () => number;
  readonly log: Logger;
}

/** Looking a target up asks the runtime a handful of questions; longer means that it hangs. */
const RESOLVE_TIMEOUT_MS = 20_000;
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
    const { runtime, target } = await resolve(parts, request, hooks.signal);
    const plan = planFor(parts, request, runtime, target);
    const { config } = parts;
    const path = bundlePath(config.cluster, config.node, captureId);
    const bundle = openBundle({ sink: parts.sink, path, level: config.compression.level, signal: hooks.signal });
    const record = await requestRecord(parts, captureId, request, { runtime, target, plan, signal: hooks.signal });
    await bundle.json(REQUEST_OBJECT, record);
    hooks.emit({
      kind: 'accepted',
      target: displayName(target.record),
      bundleUrl: `${parts.sink.url.replace(/\/$/, '')}/${path}`,
      stages: [...plan.steps.map((step) => step.artifact), 'seal'],
    });
    return carryOut({
      parts,
      captureId,
      record,
      runtime,
      target,
      plan,
      bundle,
      hooks,
      lock,
      log: parts.log.child({ captureId }),
    });
  };
}

/** `prod/web-0/web` for a container of a pod. */
function displayName({ pod, name }: TargetRecord): string {
  return pod === undefined ? name : `${pod.namespace}/${pod.name}/${name}`;
}

async function resolve(
  parts: CaptureParts,
  request: CaptureRequest,
  signal: AbortSignal,
): Promise<{ runtime: Runtime; target: Target }> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(RESOLVE_TIMEOUT_MS)]);
  return resolveTarget(parseSelector(request.selector), parts.runtimes, bounded);
}

function planFor({ config }: CaptureParts, request: CaptureRequest, runtime: Runtime, target: Target): Plan {
  return planCapture({
    artifacts: request.artifacts,
    consistency: request.consistency,
    target,
    canCheckpoint: runtime.kind === 'cri',
    bufferBytes: config.memory.bufferBytes,
    freezeDeadlineMs: config.freeze.deadlineMs,
  });
}

async function requestRecord(
  parts: CaptureParts,
  captureId: string,
  request: CaptureRequest,
  found: { runtime: Runtime; target: Target; plan: Plan; signal: AbortSignal },
): Promise<RequestRecord> {
  const { config, now } = parts;
  const [identity, host]: [{ name: string; version: string }, HostRecord] = await Promise.all([
    found.runtime.identify(found.signal),
    hostIdentity(parts.host, now),
  ]);
  return {
    formatVersion: FORMAT_VERSION,
    captureId,
    cluster: config.cluster,
    node: config.node,
    requestedAt: new Date(now()).toISOString(),
    requester: request.requester,
    ...(request.caseId === '' ? {} : { caseId: request.caseId }),
    ...(request.reason === '' ? {} : { reason: request.reason }),
    selector: request.selector,
    artifacts: [...request.artifacts],
    runtime: { name: identity.name, version: identity.version },
    target: found.target.record,
    plan: found.plan,
    agent: {
      name: 'exhibit',
      version: parts.version,
      nodeVersion: process.version,
      pid: process.pid,
      keyId: parts.signer.keyId,
    },
    host,
  };
}

interface Run {
  readonly parts: CaptureParts;
  readonly captureId: string;
  readonly record: RequestRecord;
  readonly runtime: Runtime;
  readonly target: Target;
  readonly plan: Plan;
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
    target: run.target.record,
    freeze: freezes[0] ?? notFrozen(plan),
    artifacts,
    objects: [...bundle.objects],
    agent: run.record.agent,
    nodeBytesWritten: parts.sink.url.startsWith('file:') ? Math.max(0, written - bundle.storedBytes()) : written,
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
  await using freezer = await prepareFreezer(run);
  for (const step of plan.steps) {
    hooks.signal.throwIfAborted();
    hooks.emit({ kind: 'stage-started', stage: step.artifact });
    const release = EXCLUSIVE.includes(step.artifact) ? await run.lock.acquire(hooks.signal) : () => undefined;
    try {
      const { artifact, freeze } =
        step.action === 'skip'
          ? { artifact: skippedStep(step, run.parts.now), freeze: undefined }
          : await runStep({
              captureId: run.captureId,
              step,
              plan,
              collector: run.parts.collectors[step.artifact],
              target: run.target,
              runtime: run.runtime,
              host: run.parts.host,
              bundle: run.bundle,
              signal: hooks.signal,
              log: run.log,
              now: run.parts.now,
              freeze: () => freezer.freeze(),
              progress: (doneBytes, totalBytes) =>
                hooks.emit({ kind: 'stage-progress', stage: step.artifact, doneBytes, totalBytes }),
            });
      artifacts.push(artifact);
      if (freeze !== undefined) freezes.push(freeze);
      hooks.emit({ kind: 'stage-ended', result: stageResult(artifact) });
    } finally {
      release();
    }
  }
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

/** Starts the guard at once, beside the live steps, where the plan will freeze; the journal knows before it does. */
async function prepareFreezer(run: Run): Promise<AsyncDisposable & { freeze(): Promise<Frozen> }> {
  const { parts, hooks, plan, target } = run;
  const spec = target.freeze;
  const wanted = spec !== undefined && plan.steps.some((step) => step.frozen && step.action === 'collect');
  const starting: Promise<Freezer> | undefined = wanted ? parts.startFreezer(spec, hooks.signal) : undefined;
  starting?.catch(() => undefined);
  return {
    freeze: async () => {
      if (starting === undefined) throw new ExhibitError('freeze-failed', 'The plan does not stop this target');
      const freezer = await starting;
      await hooks.frozen(spec);
      const calmDown = hurry();
      let frozen: Frozen;
      try {
        frozen = await freezer.freeze({ deadlineMs: plan.freezeDeadlineMs, signal: hooks.signal });
      } catch (error) {
        calmDown();
        await hooks.frozen(undefined);
        throw error;
      }
      const thaw = async () => {
        const record = await frozen.thaw().finally(calmDown);
        await hooks.frozen(undefined);
        return record;
      };
      return {
        get deadline() {
          return frozen.deadline;
        },
        get expired() {
          return frozen.expired;
        },
        thaw,
        [Symbol.asyncDispose]: async () => void (await thaw()),
      };
    },
    [Symbol.asyncDispose]: async () => {
      await starting?.then(
        (freezer) => freezer[Symbol.asyncDispose](),
        () => undefined,
      );
    },
  };
}
