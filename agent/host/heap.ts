import { setFlagsFromString } from 'node:v8';

/**
 * A scan hands tens of MiB of short-lived bytes from the reader to the archive. V8 counts them to its own heap, which is kept small
 * (agent/environment.ts), and so went through all that the agent holds every few MiB: a quarter of the agent's time.
 */
const GROWING_PERCENT = 150;

/** Until it is disposed, V8's heap may grow by more than usual before it is searched for garbage: some 5 MiB of peak memory. */
export function holdRoomyHeap(): Disposable {
  setFlagsFromString(`--heap-growing-percent=${GROWING_PERCENT}`);
  // 0 is V8's default: it decides by itself.
  return { [Symbol.dispose]: () => setFlagsFromString('--heap-growing-percent=0') };
}
