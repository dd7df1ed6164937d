import { type FreezerFile, readFreezer } from './cgroup.ts';

/** A pause is known to this; asking costs microseconds. */
const EVERY_MS = 5;

/**
 * Watches a cgroup that somebody else freezes and thaws, as a runtime does for a checkpoint. `stop` ends it and returns for
 * how many milliseconds the cgroup stood still, to within EVERY_MS a pause, or undefined where its freezer cannot be read.
 */
export function watchFreezer(file: FreezerFile): { stop(): number | undefined } {
  let stoodMs = 0;
  let since: number | undefined;
  let readable = true;
  const look = () => {
    const at = performance.now();
    let still = false;
    try {
      still = readFreezer(file) !== 'thawed';
    } catch {
      readable = false;
    }
    if (since !== undefined) stoodMs += at - since;
    since = still ? at : undefined;
  };
  look();
  const timer = setInterval(look, EVERY_MS);
  return {
    stop: () => {
      clearInterval(timer);
      look();
      return readable ? stoodMs : undefined;
    },
  };
}
