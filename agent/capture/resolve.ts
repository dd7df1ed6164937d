import type { CheckpointPlan } from '../../evidence/dump.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { Plan, TargetRecord } from '../../evidence/manifest.ts';
import { memoryRoom } from '../host/memory-room.ts';
import { preflight } from '../host/preflight.ts';
import { type Asker, openAsker } from '../host/preflight-ask.ts';
import { ownTarget, podScoped } from '../runtime/pod.ts';
import { asPid, type Runtime, type Selector, type Target } from '../runtime/runtime.ts';
import { parseSelector, resolveTarget, selectorText } from '../runtime/select.ts';
import { pickSinks } from '../sink/several.ts';
import type { Found, Permit } from './admission.ts';
import type { CaptureParts } from './capture.ts';
import type { CaptureRequest } from './captures.ts';
import { planLadder } from './ladder.ts';
import type { Entrance, Neighbour } from './neighbour.ts';
import { keptArtifacts, planCapture } from './plan.ts';

/** From a request to its target and plan: what is asked of the node before anything is decided. */

type ResolveParts = Pick<CaptureParts, 'config' | 'host' | 'runtimes' | 'sinks' | 'admission'> & {
  readonly neighbour: Neighbour;
};

/** Looking a target up asks the runtime a handful of questions; longer means that it hangs. */
const RESOLVE_TIMEOUT_MS = 20_000;

export interface Resolved {
  readonly runtime: Runtime;
  readonly target: Target;
  /** The target's record with what was learned during the capture. */
  readonly conclude: (signal: AbortSignal) => Promise<TargetRecord>;
}

async function resolve(parts: ResolveParts, request: CaptureRequest, signal: AbortSignal): Promise<Resolved> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(RESOLVE_TIMEOUT_MS)]);
  if (request.scope === 'container') {
    const { runtime, target } = await resolveContainer(parts, request, bounded);
    const noted = withNotes(target);
    return { runtime, target: noted, conclude: async () => noted.record };
  }
  const { runtime, target } = await resolveTarget(
    parseSelector(request.selector),
    parts.runtimes.map(podScoped),
    bounded,
  );
  const noted = withNotes(target);
  return { runtime, target: noted, conclude: (until) => runtime.conclude(noted, until) };
}

async function resolveContainer(
  { runtimes }: ResolveParts,
  request: CaptureRequest,
  signal: AbortSignal,
): Promise<Found> {
  const selector = parseSelector(request.selector);
  if (request.ended === true) return resolveEnded(runtimes, selector, signal);
  try {
    return await resolveTarget(selector, runtimes, signal);
  } catch (error) {
    const some = keptArtifacts(request.artifacts).length > 0;
    if (!some || !isExhibitError(error, 'target-not-running')) throw error;
    return await resolveEnded(runtimes, selector, signal, error);
  }
}

/**
 * Of a container that has ended there may still be the writable layer and the log. Fails with `reason`, or the first
 * runtime's own, where nothing is kept.
 */
async function resolveEnded(
  runtimes: readonly Runtime[],
  selector: Selector,
  signal: AbortSignal,
  reason?: unknown,
): Promise<Found> {
  let missing = reason;
  for (const runtime of runtimes) {
    if (runtime.resolveEnded === undefined) continue;
    try {
      return { runtime, target: await runtime.resolveEnded(selector, signal) };
    } catch (error) {
      if (!isExhibitError(error, 'target-not-running') && !isExhibitError(error, 'target-not-found')) throw error;
      missing ??= error;
    }
  }
  throw (
    missing ?? new ExhibitError('target-not-running', `${selectorText(selector)} has ended, and nothing is kept of it`)
  );
}

function withNotes(target: Target): Target {
  if (target.notes.length === 0) return target;
  return { ...target, record: { ...target.record, notes: [...target.notes] } };
}

/**
 * The target is known before it is judged, and judged before anything of it is read. The permit and the turn are the caller's to
 * release. @throws ExhibitError `refused` by the agent's policy or for want of room, and what the runtimes fail with
 */
export async function resolveAndPlan(
  parts: ResolveParts,
  captureId: string,
  request: CaptureRequest,
  signal: AbortSignal,
): Promise<Resolved & { readonly plan: Plan; readonly permit: Permit; readonly entrance: Entrance }> {
  // Started while the target is looked up: a process takes longer to start than to answer.
  const wanted = request.artifacts.includes('checkpoint') && parts.runtimes.some(({ rungs }) => rungs.length > 0);
  await using asker = wanted ? openAsker(parts.host, signal) : undefined;
  const resolved = await resolve(parts, request, signal);
  const permit = await parts.admission.admit(captureId, request, resolved, signal);
  using held = new DisposableStack();
  held.use(permit);
  const what = { artifacts: permit.artifacts, sinks: pickSinks(parts.sinks, permit.sinks) };
  const entrance = await parts.neighbour.admit(captureId, request, what);
  held.use(entrance.turn);
  const plan = await planFor(parts, request, { ...resolved, permit, asker, signal });
  held.move();
  return { ...resolved, plan, permit, entrance };
}

interface PlanParts {
  readonly runtime: Runtime;
  readonly target: Target;
  readonly permit: Permit;
  /** Present where a checkpoint was asked for. */
  readonly asker: Asker | undefined;
  readonly signal: AbortSignal;
}

async function planFor(
  parts: ResolveParts,
  request: CaptureRequest,
  { runtime, target, permit, asker, signal }: PlanParts,
): Promise<Plan> {
  const { config } = parts;
  const own = ownTarget(target);
  return planCapture({
    artifacts: permit.artifacts,
    left: permit.left,
    live: permit.live,
    consistency: request.consistency,
    scope: request.scope,
    target,
    checkpoint:
      asker === undefined ||
      runtime.rungs.length === 0 ||
      target.record.ended !== undefined ||
      !permit.artifacts.includes('checkpoint')
        ? undefined
        : await ladderFor(parts, { runtime, target: own, asker, signal }),
    bufferBytes: config.memory.bufferBytes,
    freezeDeadlineMs: permit.freezeDeadlineMs,
  });
}

async function ladderFor(
  { config, host }: ResolveParts,
  { runtime, target, asker, signal }: Omit<PlanParts, 'permit'> & { asker: Asker },
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
