import type { FreezeSpec } from '../runtime/runtime.ts';
import { type FreezerFile, readFreezer } from './cgroup.ts';

/** The freezer at which one sees that a target stands; undefined where there is none, or several. */
export function freezerFileOf(spec: FreezeSpec): FreezerFile | undefined {
  switch (spec.kind) {
    case 'containerd':
      return spec.cgroup === undefined ? undefined : { version: spec.cgroup.version, folder: spec.cgroup.path };
    case 'cgroup-v2':
      return { version: 2, folder: spec.path };
    case 'cgroup-v1':
      return { version: 1, folder: spec.path };
    case 'signal':
    case 'group':
      return undefined;
    default:
      return spec satisfies never;
  }
}

/** True when the cgroup stands still, or is about to; false also where its freezer cannot be read. */
export function stands(file: FreezerFile): boolean {
  try {
    return readFreezer(file) !== 'thawed';
  } catch {
    return false;
  }
}

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
