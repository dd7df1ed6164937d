import type { Capture__Output } from '../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureEvent__Output } from '../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { StageEnded__Output } from '../proto/gen/exhibit/v1/StageEnded.ts';
import { isTime } from './print.ts';

/** The API's messages as `--json` shows them: numbers as numbers, times in RFC 3339, what is empty as null. */
export interface CaptureView {
  readonly captureId: string;
  readonly state: string;
  readonly target: string;
  readonly scope: string;
  readonly caseId: string | null;
  readonly reason: string | null;
  readonly bundleUrl: string | null;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly storedBytes: number;
  readonly gapCount: number;
  readonly pauseMs: number;
  readonly error: string | null;
  readonly stages: readonly StageView[];
  /** Sinks in which it has ended and is not sealed yet. */
  readonly waitingSinks: readonly string[];
  /** In their order, what each of them failed with when it was last tried; null where nothing is known. */
  readonly waitingProblems: readonly (string | null)[];
  /** What differs from the last good snapshot; null where it was not compared. */
  readonly changes: ChangesView | null;
}

export interface ChangesView {
  /** The capture it was compared with; null where there was none. */
  readonly baseline: string | null;
  readonly kinds: readonly { kind: string; new: number; gone: number; changed: number }[];
}

export interface StageView {
  readonly stage: string;
  readonly status: string;
  readonly reason: string | null;
  readonly storedBytes: number;
  readonly wallMs: number;
  readonly pauseMs: number;
  readonly gapCount: number;
}

/** As a controller works it out; null where it cannot say. */
export interface SpeedView {
  readonly bytesPerSecond: number | null;
  /** Until the stage is done. */
  readonly remainingMs: number | null;
}

/** One line of `capture --json`. The last has the event `ended`. */
export type EventView = { readonly captureId: string; readonly at: string | null } & (
  | { event: 'accepted'; target: string; sinkUrl: string; stages: readonly string[]; created: boolean }
  /** `before`: of the stage `queue`, captures that it waits for. */
  | { event: 'stage-started'; stage: string; before?: number }
  | ({ event: 'stage-progress'; stage: string; doneBytes: number; totalBytes: number | null } & Partial<SpeedView>)
  | ({ event: 'stage-ended' } & StageView)
  | { event: 'ended'; capture: CaptureView }
);

export function captureView(capture: Capture__Output): CaptureView {
  return {
    captureId: capture.captureId,
    state: capture.state,
    target: capture.target,
    scope: capture.scope || 'container',
    caseId: capture.caseId || null,
    reason: capture.reason || null,
    bundleUrl: capture.bundleUrl || null,
    startedAt: timeView(capture.startedAtMs),
    finishedAt: timeView(capture.finishedAtMs),
    storedBytes: Number(capture.storedBytes),
    gapCount: capture.gapCount,
    pauseMs: capture.pauseMs,
    error: capture.error || null,
    stages: capture.stages.map(stageView),
    waitingSinks: capture.waitingSinks,
    waitingProblems: capture.waitingSinks.map((_, index) => capture.waitingProblems[index] || null),
    changes: capture.changes ? { baseline: capture.changes.baseline || null, kinds: capture.changes.kinds } : null,
  };
}

function stageView(stage: StageEnded__Output): StageView {
  return {
    stage: stage.stage,
    status: stage.status,
    reason: stage.reason || null,
    storedBytes: Number(stage.storedBytes),
    wallMs: Number(stage.wallMs),
    pauseMs: stage.pauseMs,
    gapCount: stage.gapCount,
  };
}

/** Undefined for an event of a newer agent, which an older program passes over. */
export function eventView(event: CaptureEvent__Output): EventView | undefined {
  const head = { captureId: event.captureId, at: timeView(event.atMs) };
  if (event.accepted) {
    const { target, sinkUrl, stages, created } = event.accepted;
    return { ...head, event: 'accepted', target, sinkUrl, stages, created };
  }
  if (event.stageStarted) {
    const { stage, before } = event.stageStarted;
    return { ...head, event: 'stage-started', stage, ...(before > 0 ? { before } : {}) };
  }
  if (event.stageProgress) {
    const { stage, doneBytes, totalBytes } = event.stageProgress;
    return {
      ...head,
      event: 'stage-progress',
      stage,
      doneBytes: Number(doneBytes),
      totalBytes: Number(totalBytes) || null,
    };
  }
  if (event.stageEnded) return { ...head, event: 'stage-ended', ...stageView(event.stageEnded) };
  if (event.ended) return { ...head, event: 'ended', capture: captureView(event.ended) };
  return undefined;
}

/** `complete, waits for s3`: what the agent has done its part of, and a sink has not. */
export function stateWords({ state, waitingSinks }: Pick<CaptureView, 'state' | 'waitingSinks'>): string {
  return waitingSinks.length === 0 ? state : `${state}, waits for ${waitingSinks.join(', ')}`;
}

/** `2 new, 1 changed processes; 1 new ports`. */
export function changesWords({ baseline, kinds }: ChangesView): string {
  if (baseline === null) return 'no good snapshot of this workload to compare with';
  const words = kinds.flatMap((one) => {
    const counts = (['new', 'gone', 'changed'] as const)
      .filter((how) => one[how] > 0)
      .map((how) => `${one[how]} ${how}`);
    return counts.length === 0 ? [] : [`${one.kind}: ${counts.join(', ')}`];
  });
  return `${words.join('; ') || 'none in what was compared'} (since ${baseline})`;
}

function timeView(epochMs: string): string | null {
  const value = Number(epochMs);
  return isTime(value) ? new Date(value).toISOString() : null;
}
