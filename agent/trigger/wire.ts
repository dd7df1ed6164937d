import type { Capture } from '../../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureEvent as WireEvent } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureEvent } from '../capture/captures.ts';
import type { JournalEntry, StageResult } from '../capture/journal.ts';

/** Captures and their events as messages, for whoever asked: on the node's socket or through the controller. */

export interface WireOptions {
  /** What a sink failed with when it was last tried to deliver to it. */
  readonly problemOf: (sink: string) => string | undefined;
}

export function wireEvent(
  { captureId, created }: { readonly captureId: string; readonly created: boolean },
  event: CaptureEvent,
  options: WireOptions,
): WireEvent {
  const base = { captureId, atMs: Date.now() };
  switch (event.kind) {
    case 'accepted':
      return {
        ...base,
        accepted: { target: event.target, sinkUrl: event.bundleUrl, stages: [...event.stages], created },
      };
    case 'stage-started':
      return { ...base, stageStarted: { stage: event.stage, before: event.before ?? 0 } };
    case 'stage-progress':
      return {
        ...base,
        stageProgress: { stage: event.stage, doneBytes: event.doneBytes, totalBytes: event.totalBytes },
      };
    case 'stage-ended':
      return { ...base, stageEnded: event.result };
    case 'ended':
      return { ...base, ended: wireCapture(event.capture, options) };
    default:
      return event satisfies never;
  }
}

export function wireCapture(entry: JournalEntry, { problemOf }: WireOptions): Capture {
  const sum = (pick: (stage: StageResult) => number) => entry.stages.reduce((total, stage) => total + pick(stage), 0);
  return {
    captureId: entry.captureId,
    state: entry.state,
    target: entry.target,
    caseId: entry.caseId,
    reason: entry.reason,
    bundleUrl: entry.bundleUrl,
    startedAtMs: entry.startedAtMs,
    finishedAtMs: entry.finishedAtMs,
    storedBytes: sum((stage) => stage.storedBytes),
    gapCount: sum((stage) => stage.gapCount),
    pauseMs: sum((stage) => stage.pauseMs),
    error: entry.error,
    stages: entry.stages,
    scope: entry.scope ?? 'container',
    waitingSinks: entry.waiting ?? [],
    waitingProblems: (entry.waiting ?? []).map((sink) => problemOf(sink) ?? ''),
    ...(entry.changes === undefined
      ? {}
      : { changes: { baseline: entry.changes.baseline ?? '', kinds: entry.changes.kinds } }),
  };
}
