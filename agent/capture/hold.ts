import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { FreezeRecord, Plan } from '../../evidence/manifest.ts';
import { hurryIo } from '../host/io-priority.ts';
import { methodOf } from '../runtime/pause/pause.ts';
import type { FreezeSpec, Target } from '../runtime/runtime.ts';
import type { CaptureHooks } from './captures.ts';
import { type Freezer, type Frozen, type startFreezer, thawedBy } from './freeze.ts';

export interface HoldInput {
  readonly target: Target;
  readonly plan: Plan;
  readonly hooks: CaptureHooks;
  readonly startFreezer: typeof startFreezer;
  /** The /proc whose pids the agent uses. */
  readonly procRoot: string;
  /** Every freeze that ended, also one in a step that was cancelled. */
  readonly onThawed: (record: FreezeRecord) => void;
  /** A freeze that failed; `runsOn` unless nobody knows. Not told of one that was called off. */
  readonly onNotFrozen: (record: FreezeRecord, runsOn: boolean) => void;
}

/** One capture's way to stop its target. Disposal ends the guard. */
export interface Hold extends AsyncDisposable {
  freeze(): Promise<Frozen>;
}

/** Starts the guard at once, beside the live steps, where the plan will freeze; the journal knows before it does. */
export async function prepareHold(input: HoldInput): Promise<Hold> {
  const { hooks, plan, target } = input;
  const spec = target.freeze;
  const wanted = spec !== undefined && plan.steps.some((step) => step.frozen && step.action === 'collect');
  const starting: Promise<Freezer> | undefined = wanted
    ? input.startFreezer(spec, hooks.signal, { procRoot: input.procRoot })
    : undefined;
  starting?.catch(() => undefined);
  return {
    freeze: async () => {
      if (starting === undefined || spec === undefined)
        throw new ExhibitError('freeze-failed', 'The plan does not stop this target');
      const freezer = await starting;
      await hooks.frozen(spec);
      const calmDown = hurryIo();
      let frozen: Frozen;
      try {
        frozen = await freezer.freeze({ deadlineMs: plan.freezeDeadlineMs, signal: hooks.signal });
      } catch (error) {
        calmDown();
        // Where it may still stand, the journal keeps it: the next agent tries again.
        const runsOn = !isExhibitError(error, 'freeze-stuck');
        if (!hooks.signal.aborted) input.onNotFrozen(notFrozen(spec, error), runsOn);
        if (runsOn) await hooks.frozen(undefined);
        throw error;
      }
      const end = async () => {
        const record = { ...(await frozen.thaw().finally(calmDown)), method: methodOf(spec) };
        input.onThawed(record);
        await hooks.frozen(undefined);
        return record;
      };
      let ended: Promise<FreezeRecord> | undefined;
      const thaw = () => {
        ended ??= end();
        return ended;
      };
      return thawedBy(frozen, thaw);
    },
    [Symbol.asyncDispose]: async () => {
      await starting?.then(
        (freezer) => freezer[Symbol.asyncDispose](),
        () => undefined,
      );
    },
  };
}

/** The error's own words say whether it runs on. */
const notFrozen = (spec: FreezeSpec, error: unknown): FreezeRecord => ({
  consistency: 'live',
  method: methodOf(spec),
  pauseMs: 0,
  notes: [explain(error)],
});
