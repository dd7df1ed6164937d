import type { Container__Output } from '../../proto/gen/exhibit/v1/Container.ts';
import type { Selector__Output } from '../../proto/gen/exhibit/v1/Selector.ts';
import type { NodeName } from '../store/store.ts';

/**
 * The agents whose streams this replica holds. What their agents tell is written to the store here, and published on the bus as
 * `captures`; what the store has for a node is sent when it connects and when `commands` names it.
 */
export interface AgentLinks extends AsyncDisposable {
  connected(): readonly NodeName[];
  /**
   * Asks those that `wanted` picks, all at once. Answers as they come; those that did not answer in time, or could not, say why.
   * Leaving the loop lets go of the rest.
   */
  lookup(wanted: (node: NodeName) => boolean, question: Question, signal: AbortSignal): AsyncIterable<Answer>;
  /** Sends what the store has for the node, where it is connected here. */
  wake(node: NodeName): void;
}

export interface Question {
  /** Absent: every container. */
  readonly selector?: Selector__Output;
  readonly namespace: string;
}

export type Answer =
  | { readonly kind: 'found'; readonly node: NodeName; readonly containers: readonly Container__Output[] }
  | { readonly kind: 'unreached'; readonly node: NodeName; readonly reason: string };

/** What `captures` on the bus carries, as JSON. Progress is there for watchers alone and comes once a second at most. */
export interface CaptureMessage {
  readonly captureId: string;
  /** The agent's event as proto3 JSON of the loader's options; absent when the row alone has changed. */
  readonly event?: unknown;
}
