import type { Capture__Output } from '../../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureEvent__Output } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { Changes__Output } from '../../proto/gen/exhibit/v1/Changes.ts';
import type { StageEnded__Output } from '../../proto/gen/exhibit/v1/StageEnded.ts';
import type { CaptureRow, CaptureState } from '../store/store.ts';

/** What an agent tells of a capture, as the store keeps it. Pure. */

/** The ends that an agent tells, and between which a delivery may still decide. */
const TOLD_ENDS = [
  'complete',
  'partial',
  'cancelled',
  'truncated',
  'failed',
  'interrupted',
] as const satisfies readonly CaptureState[];
export type ToldEnd = (typeof TOLD_ENDS)[number];

export const toldEnd = (state: string): ToldEnd | undefined => TOLD_ENDS.find((one) => one === state);

/**
 * An end that only a newer agent knows: evidence may be there, so it is not `failed`; and nobody here knows that nothing is
 * missing, so it is not `complete`. Were it passed over, the capture would seem to run for ever. Undefined: it says no end.
 */
export const endOf = (state: string): ToldEnd | undefined =>
  toldEnd(state) ?? (state === '' || state === 'running' ? undefined : 'partial');

/** An agent's own stages are some fifteen, its sinks eight at most. */
const MAX_STAGES = 64;
const MAX_SINKS = 32;
/** Of changes: an agent compares seven. */
const MAX_KINDS = 32;
const MAX_NAME_CHARS = 256;
/** A sentence with its causes. */
const MAX_WORDS_CHARS = 4_000;

/** PostgreSQL takes no NUL in text, and a compromised node may tell of megabytes. */
export const clip = (text: string, mostChars = MAX_WORDS_CHARS): string =>
  text.slice(0, mostChars).replaceAll('\0', '\uFFFD');

const name = (text: string): string => clip(text, MAX_NAME_CHARS);

export function clipCapture(capture: Capture__Output): Capture__Output {
  const waitingSinks = capture.waitingSinks.slice(0, MAX_SINKS);
  return {
    ...capture,
    captureId: capture.captureId.toLowerCase(),
    state: name(capture.state),
    target: clip(capture.target),
    caseId: name(capture.caseId),
    reason: clip(capture.reason),
    bundleUrl: clip(capture.bundleUrl),
    error: clip(capture.error),
    scope: name(capture.scope),
    stages: capture.stages.slice(0, MAX_STAGES).map(clipStage),
    waitingSinks: waitingSinks.map(name),
    waitingProblems: capture.waitingProblems.slice(0, waitingSinks.length).map((text) => clip(text)),
    changes: capture.changes && clipChanges(capture.changes),
  };
}

const clipChanges = ({ baseline, kinds }: Changes__Output): Changes__Output => ({
  baseline: name(baseline),
  kinds: kinds.slice(0, MAX_KINDS).map((one) => ({ ...one, kind: name(one.kind) })),
});

const clipStage = (stage: StageEnded__Output): StageEnded__Output => ({
  ...stage,
  stage: name(stage.stage),
  status: name(stage.status),
  reason: clip(stage.reason),
});

/** Undefined: the event says nothing that is not there already. */
export function foldEvent(told: Capture__Output | null, event: CaptureEvent__Output): Capture__Output | undefined {
  const before = told ?? begun(event);
  if (event.accepted) {
    const { target, sinkUrl } = event.accepted;
    const after = { ...before, target: clip(target), bundleUrl: clip(sinkUrl) };
    const same = told !== null && after.target === told.target && after.bundleUrl === told.bundleUrl;
    return same ? undefined : after;
  }
  if (event.stageEnded) {
    const stage = clipStage(event.stageEnded);
    if (before.stages.some((one) => one.stage === stage.stage) || before.stages.length >= MAX_STAGES) return undefined;
    const stages = [...before.stages, stage];
    const sum = (pick: (one: StageEnded__Output) => number) => stages.reduce((total, one) => total + pick(one), 0);
    return {
      ...before,
      stages,
      storedBytes: String(sum((one) => Number(one.storedBytes))),
      gapCount: sum((one) => one.gapCount),
      pauseMs: sum((one) => one.pauseMs),
    };
  }
  return told === null ? before : undefined;
}

function begun({ captureId, atMs }: CaptureEvent__Output): Capture__Output {
  return {
    captureId: captureId.toLowerCase(),
    state: 'running',
    target: '',
    caseId: '',
    reason: '',
    bundleUrl: '',
    startedAtMs: atMs,
    finishedAtMs: '0',
    storedBytes: '0',
    gapCount: 0,
    pauseMs: 0,
    error: '',
    stages: [],
    scope: '',
    waitingSinks: [],
    waitingProblems: [],
    changes: null,
  };
}

/** A replay of what the store has. Problems of sinks come and go, and are no reason to write. */
export function sameEnd(row: CaptureRow, told: Capture__Output): boolean {
  const known = row.told?.waitingSinks ?? [];
  return (
    row.state === told.state && row.waits === told.waitingSinks.length > 0 && known.join() === told.waitingSinks.join()
  );
}
