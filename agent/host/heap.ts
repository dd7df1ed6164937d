import { setFlagsFromString } from 'node:v8';

/**
 * How much V8's heap may grow, in percent of what was alive, before it is searched for garbage. Set for as long as something lasts, because
 * no one value is right: V8 itself lets the heap of an agent that holds 40 MiB grow to hundreds where the node has memory.
 */
const PERCENT = {
  /**
   * A scan hands tens of MiB of short-lived bytes from the reader to the archive, which count to V8's heap. Kept smaller, it
   * went through all that the agent holds every few MiB: a quarter of the agent's time. Costs some 5 MiB of peak memory.
   */
  roomy: 150,
  /** A walk of files leaves a little garbage with each of them, for as long as there are files. */
  tight: 40,
} as const;

/** Until it is disposed. Of two at a time the later one counts, and V8 decides by itself as soon as one has ended. */
export function holdHeap(size: keyof typeof PERCENT): Disposable {
  setFlagsFromString(`--heap-growing-percent=${PERCENT[size]}`);
  return { [Symbol.dispose]: () => setFlagsFromString('--heap-growing-percent=0') };
}
