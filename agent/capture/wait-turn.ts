import type { Plan, PlanStep } from '../../evidence/manifest.ts';
import { isHeavy } from '../limits.ts';
import type { CaptureHooks } from './captures.ts';
import type { Turn } from './heavy-line.ts';

/** Where a capture waits among its steps: what is gone first was taken before. */

/** What callers see while a capture waits for its turn. */
const QUEUE_STAGE = 'queue';

export const isHeavyStep = ({ artifact, action }: PlanStep): boolean => action === 'collect' && isHeavy(artifact);

/** The stages that a caller may expect, in their order, without the seal. */
export function stagesOf({ steps }: Plan, turn: Turn): string[] {
  const first = turn.before > 0 ? steps.find(isHeavyStep) : undefined;
  return steps.flatMap((step) => (step === first ? [QUEUE_STAGE, step.artifact] : [step.artifact]));
}

/** Undefined: it has the turn, and there is room; else why what is heavy is left out. */
export async function waitForTurn({
  hooks,
  turn,
  waitMs,
  stillShort,
}: {
  readonly hooks: Pick<CaptureHooks, 'signal' | 'emit'>;
  readonly turn: Turn;
  /** For the words. */
  readonly waitMs: number;
  /** The node may have filled up meanwhile. */
  readonly stillShort: () => Promise<string | undefined>;
}): Promise<string | undefined> {
  if (turn.before === 0) return undefined;
  const startedMs = performance.now();
  const hasTurn = await turn.wait(hooks.signal, (before) =>
    hooks.emit({ kind: 'stage-started', stage: QUEUE_STAGE, before }),
  );
  const wallMs = Math.round(performance.now() - startedMs);
  const reason = hasTurn ? '' : `other captures ran for all of the ${waitMs} ms that limits.queue.waitMs allows`;
  const status = hasTurn ? 'captured' : 'skipped';
  const nothing = { storedBytes: 0, pauseMs: 0, gapCount: 0 };
  hooks.emit({ kind: 'stage-ended', result: { stage: QUEUE_STAGE, status, reason, wallMs, ...nothing } });
  return hasTurn ? await stillShort() : reason;
}
