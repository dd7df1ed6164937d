import type { ArtifactName } from '../../evidence/layout.ts';
import type { Plan, PlanStep } from '../../evidence/manifest.ts';
import type { Scope, Target } from '../runtime/runtime.ts';
import { type Need, VOLATILITY } from './volatility.ts';

export interface PlanInput {
  /** What was asked for, in any order. */
  readonly artifacts: readonly ArtifactName[];
  readonly consistency: 'frozen' | 'live';
  readonly scope: Scope;
  readonly target: Pick<Target, 'record' | 'rootfs' | 'freeze'>;
  /** The runtime can be asked for a CRIU checkpoint. */
  readonly canCheckpoint: boolean;
  readonly bufferBytes: number;
  readonly freezeDeadlineMs: number;
}

/** Pure: what will be done, in which order, and why not where something is left out. */
export function planCapture(input: PlanInput): Plan {
  const consistency = input.target.freeze === undefined ? 'live' : input.consistency;
  const steps = VOLATILITY.filter((row) => input.artifacts.includes(row.artifact)).map((row): PlanStep => {
    const missing = row.needs.map((need) => lacks(need, input)).find((reason) => reason !== undefined);
    return {
      artifact: row.artifact,
      volatility: row.rfc3227,
      frozen: row.artifact === 'memory' && consistency === 'frozen',
      action: missing === undefined ? 'collect' : 'skip',
      reason: missing ?? row.why,
    };
  });
  return {
    consistency,
    scope: input.scope,
    freezeDeadlineMs: input.freezeDeadlineMs,
    bufferBytes: input.bufferBytes,
    steps,
  };
}

function lacks(need: Need, input: PlanInput): string | undefined {
  switch (need) {
    case 'rootfs':
      return input.target.rootfs === undefined
        ? `a ${input.target.record.kind} has no writable layer that the runtime knows of`
        : undefined;
    case 'checkpoint':
      return input.canCheckpoint ? undefined : `the ${input.target.record.runtime} runtime offers no CRIU checkpoint`;
    default:
      return need satisfies never;
  }
}
