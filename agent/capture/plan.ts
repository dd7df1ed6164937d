import type { CheckpointPlan } from '../../evidence/dump.ts';
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
  /** How a CRIU checkpoint is tried; undefined where none was asked for, or the runtime offers no way. */
  readonly checkpoint: CheckpointPlan | undefined;
  readonly bufferBytes: number;
  readonly freezeDeadlineMs: number;
  /** What the agent's policy leaves out of it, and why; absent: nothing. See Permit in admission.ts. */
  readonly left?: ReadonlyMap<ArtifactName, string>;
  /** Why the policy does not let the target be stopped; absent: it does. */
  readonly live?: string | undefined;
}

/** Those of which there is something when the container has ended. */
export const keptArtifacts = (artifacts: readonly ArtifactName[]): ArtifactName[] =>
  VOLATILITY.filter(({ artifact, needs }) => artifacts.includes(artifact) && !needs.includes('process')).map(
    ({ artifact }) => artifact,
  );

/** Pure: what will be done, in which order, and why not where something is left out. */
export function planCapture(input: PlanInput): Plan {
  const { left = new Map<ArtifactName, string>(), live } = input;
  const consistency = input.target.freeze === undefined || live !== undefined ? 'live' : input.consistency;
  const isAsked = (artifact: ArtifactName) => input.artifacts.includes(artifact) || left.has(artifact);
  const steps = VOLATILITY.filter((row) => isAsked(row.artifact)).map((row): PlanStep => {
    const lacking = row.needs.map((need) => lacks(need, input)).find((reason) => reason !== undefined);
    const missing = left.get(row.artifact) ?? lacking;
    const why = row.artifact === 'memory' && live !== undefined ? `${row.why}; taken live: ${live}` : row.why;
    return {
      artifact: row.artifact,
      volatility: row.rfc3227,
      frozen: row.artifact === 'memory' && consistency === 'frozen',
      action: missing === undefined ? 'collect' : 'skip',
      reason: missing ?? why,
    };
  });
  return {
    consistency,
    scope: input.scope,
    freezeDeadlineMs: input.freezeDeadlineMs,
    bufferBytes: input.bufferBytes,
    steps,
    ...(input.checkpoint === undefined ? {} : { checkpoint: input.checkpoint }),
  };
}

function lacks(need: Need, input: PlanInput): string | undefined {
  switch (need) {
    case 'process':
      return input.target.record.ended === undefined
        ? undefined
        : 'the container has ended: it has no process any more';
    case 'rootfs':
      return input.target.rootfs === undefined
        ? `a ${input.target.record.kind} has no writable layer that the runtime knows of`
        : undefined;
    case 'checkpoint':
      return lacksCheckpoint(input);
    default:
      return need satisfies never;
  }
}

function lacksCheckpoint({ checkpoint, target }: PlanInput): string | undefined {
  if (checkpoint === undefined) return `the ${target.record.runtime} runtime offers no CRIU checkpoint`;
  const { ladder } = checkpoint;
  if (ladder.length === 0) return 'checkpoint.rungs allows no way that the runtime offers';
  if (ladder.some(({ expected, askAnyway }) => expected !== 'fails' || askAnyway)) return undefined;
  return `it is expected to fail, and nobody is asked for it: ${ladder[0]?.reasons.join('; ')}`;
}
