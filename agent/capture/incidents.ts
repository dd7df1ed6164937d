import type { Execute } from './captures.ts';

/** How many captures run that no schedule asked for, and when that changes. */
export interface Incidents {
  readonly running: number;
  /** Resolves at the next change. */
  changed(): Promise<void>;
}

/** `requester.trigger` of what can wait. */
export const SCHEDULE_TRIGGER = 'schedule';

/** Counts them around `execute`, from before the target is looked for. */
export function countIncidents(execute: Execute): { execute: Execute; incidents: Incidents } {
  let running = 0;
  let change = Promise.withResolvers<void>();
  const by = (step: number) => {
    running += step;
    change.resolve();
    change = Promise.withResolvers();
  };
  return {
    incidents: {
      get running() {
        return running;
      },
      changed: () => change.promise,
    },
    execute: async (captureId, request, hooks) => {
      if (request.requester.trigger === SCHEDULE_TRIGGER) return await execute(captureId, request, hooks);
      by(1);
      try {
        return await execute(captureId, request, hooks);
      } finally {
        by(-1);
      }
    },
  };
}
