import type { CheckpointRung } from '../../../agent/runtime/runtime.ts';
import type { CheckpointPlan, PlannedRung } from '../../../evidence/dump.ts';

export const NO_OPTIONS = { openTcp: false, fileLocks: false, externalUnixSockets: false };

/** A plan in which every rung is expected to work, in their order. */
export function planFor(rungs: readonly CheckpointRung[], change: Partial<PlannedRung> = {}): CheckpointPlan {
  return {
    preflight: { processes: 1, obstacles: [], obstacleCount: 0, dumpBytes: 0, notes: [], wallMs: 1 },
    tmpfsBytes: 4 * 1024 * 1024,
    hugePages: false,
    ladder: rungs.map(({ name }) => ({
      rung: name,
      expected: 'works',
      reasons: [],
      askAnyway: true,
      options: NO_OPTIONS,
      ...change,
    })),
  };
}
