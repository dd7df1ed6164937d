import type { FreezeRecord } from '../../evidence/manifest.ts';
import type { FreezeSpec } from '../runtime/runtime.ts';

/**
 * A target that stands still. Disposal thaws. The guard process, not the agent, holds the freeze: it thaws by itself when
 * the agent dies, when the deadline passes, or when it gets a signal.
 */
export interface Frozen extends AsyncDisposable {
  /** performance.now() by which the guard thaws, whatever the agent does. */
  readonly deadline: number;
  /** True once the guard has thawed by itself; what was read after that is not of one moment. */
  readonly expired: boolean;
  /** Idempotent. */
  thaw(): Promise<FreezeRecord>;
}

/** One guard process, started before the freeze so that its start-up costs the target nothing. */
export interface Freezer extends AsyncDisposable {
  freeze(options: { deadlineMs: number; signal: AbortSignal }): Promise<Frozen>;
}

/** Starts the guard for `spec` and waits until it is ready to freeze. */
export declare function startFreezer(spec: FreezeSpec, signal: AbortSignal): Promise<Freezer>;
