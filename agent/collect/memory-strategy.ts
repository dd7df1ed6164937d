import type { WhenLarger } from './memory-choices.ts';

/** How a target's memory is brought together with the buffer that there is. Pure. */

export interface Strategy {
  readonly kind: /** All of it is copied while the target stands still. */
    | 'buffered'
    /** Most is read before the freeze; in the freeze, what has changed since is copied. */
    | 'pre-copy'
    /** The target stands still until what the buffer does not hold is stored. */
    | 'stream-frozen'
    /** What the buffer does not hold, or everything, is read while the target runs. */
    | 'live';
  /** For the manifest. */
  readonly why: string;
  /** How `pre-copy` knows what changed. */
  readonly changes?: 'soft-dirty' | 'fingerprints';
}

export interface StrategyInput {
  readonly consistency: 'frozen' | 'live';
  readonly whenLarger: WhenLarger;
  /** Resident and swapped, with what may come until the freeze. */
  readonly neededBytes: number;
  readonly bufferBytes: number;
  readonly hasSoftDirty: boolean;
}

export function chooseStrategy(input: StrategyInput): Strategy {
  const { neededBytes, bufferBytes, whenLarger } = input;
  if (input.consistency === 'live') return { kind: 'live', why: 'the plan reads the target as it runs' };
  if (neededBytes <= bufferBytes) {
    return { kind: 'buffered', why: `${neededBytes} bytes at most fit into the buffer of ${bufferBytes}` };
  }
  const why = `${neededBytes} bytes do not fit into the buffer of ${bufferBytes}; memory.whenLarger is ${whenLarger}`;
  switch (whenLarger) {
    case 'pre-copy':
      return { kind: 'pre-copy', why, changes: input.hasSoftDirty ? 'soft-dirty' : 'fingerprints' };
    case 'stream-frozen':
    case 'live':
      return { kind: whenLarger, why };
    default:
      return whenLarger satisfies never;
  }
}

/** What a copy buffer may take of a node. */
export interface BufferBudget {
  /** `memory.bufferBytes`. */
  readonly askedBytes: number;
  /** MemAvailable of proc(5) meminfo. */
  readonly availableBytes: number;
  /** What the agent's own cgroup and those above it still allow; undefined: no limit. */
  readonly cgroupRoomBytes: number | undefined;
  /** `limits.memory.minAvailableBytes`: so much stays available on the node beside the buffer. */
  readonly keptBytes?: number;
}

/** Of the node's available memory; the rest is for its workload, which goes on. */
const SHARE_OF_AVAILABLE = 0.5;
/** The agent's own needs while it captures, beside the buffer: see docs/bench.md. */
const OWN_BYTES = 192 * 1024 * 1024;

/** Never more than was asked for, and why less. */
export function affordBuffer(budget: BufferBudget): { readonly bytes: number; readonly why?: string } {
  const limits = [
    {
      bytes: budget.availableBytes * SHARE_OF_AVAILABLE,
      why: `half of the ${budget.availableBytes} bytes that are available on the node`,
    },
    {
      bytes: budget.availableBytes - (budget.keptBytes ?? 0),
      why: `${budget.availableBytes} bytes are available on the node, of which limits.memory.minAvailableBytes keeps ${budget.keptBytes}`,
    },
    {
      bytes: (budget.cgroupRoomBytes ?? Number.POSITIVE_INFINITY) - OWN_BYTES,
      why: `the agent's memory limit leaves it ${budget.cgroupRoomBytes} bytes, and it needs ${OWN_BYTES} beside the buffer`,
    },
  ];
  const [least] = limits.toSorted((a, b) => a.bytes - b.bytes);
  if (least === undefined || least.bytes >= budget.askedBytes) return { bytes: budget.askedBytes };
  return { bytes: Math.max(0, Math.floor(least.bytes)), why: least.why };
}
