import { ExhibitError } from '../../evidence/error.ts';

/**
 * One heavy capture at a time, and a line of bounded length for the others. Two at once would share one buffer budget, compress
 * against each other, and two freezes of one target would thaw each other. Captures that come by a schedule stand behind all
 * others: a person or an alert does not wait for a baseline.
 */
export interface HeavyLine {
  /** @throws ExhibitError `refused` where the line is full; nothing is waited for */
  join(rank: Rank): Turn;
  readonly running: number;
  readonly waiting: number;
  /** How long those waited that have their turn, or gave up. */
  readonly queuedMs: number;
}

export type Rank = 'asked' | 'scheduled';

/** A place in the line, from `join` to its disposal: that ends the turn, or leaves the line. */
export interface Turn extends Disposable {
  /** Captures before it, with the one that runs; 0: it has the turn. */
  readonly before: number;
  /**
   * True when it has the turn; false when it waited for longer than the line allows, and then it has left. `onPlace` is told of
   * every other place. An aborted wait rejects with the signal's reason, and has left the line.
   */
  wait(signal: AbortSignal, onPlace: (before: number) => void): Promise<boolean>;
}

export interface HeavyLineOptions {
  readonly length: number;
  /** From `join`. */
  readonly waitMs: number;
  readonly now?: () => number;
  /** A signal that aborts after so long. */
  readonly after?: (ms: number) => AbortSignal;
}

interface Place {
  readonly rank: Rank;
  readonly joinedMs: number;
  changed: PromiseWithResolvers<void>;
}

export function createHeavyLine(options: HeavyLineOptions): HeavyLine {
  const { length, waitMs, now = () => performance.now(), after = AbortSignal.timeout } = options;
  /** The first has the turn. */
  const line: Place[] = [];
  let queuedMs = 0;

  const changed = () => {
    for (const place of line) {
      const { resolve } = place.changed;
      place.changed = Promise.withResolvers();
      resolve();
    }
  };
  const leave = (place: Place) => {
    const at = line.indexOf(place);
    if (at < 0) return;
    line.splice(at, 1);
    changed();
  };
  const enter = (place: Place) => {
    const behind = place.rank === 'scheduled' ? -1 : line.findIndex((one, at) => at > 0 && one.rank === 'scheduled');
    line.splice(behind < 0 ? line.length : behind, 0, place);
    changed();
  };

  async function wait(place: Place, signal: AbortSignal, onPlace: (before: number) => void): Promise<boolean> {
    const patience = after(Math.max(0, Math.round(place.joinedMs + waitMs - now())));
    const given = AbortSignal.any([signal, patience]);
    const gaveUp = Promise.withResolvers<void>();
    given.addEventListener('abort', () => gaveUp.resolve(), { once: true });
    let told = 0;
    try {
      for (let before = line.indexOf(place); before > 0 && !given.aborted; before = line.indexOf(place)) {
        if (before !== told) onPlace(before);
        told = before;
        await Promise.race([place.changed.promise, gaveUp.promise]);
      }
    } finally {
      queuedMs += now() - place.joinedMs;
    }
    if (line[0] === place && !signal.aborted) return true;
    leave(place);
    signal.throwIfAborted();
    return false;
  }

  return {
    join(rank) {
      if (line.length > length)
        throw new ExhibitError(
          'refused',
          `${line.length - 1} captures wait for the one that runs, and limits.queue.length is ${length}: ask again later, ` +
            'or for what is taken at once (processes, network, node, spec)',
        );
      const place: Place = { rank, joinedMs: now(), changed: Promise.withResolvers() };
      enter(place);
      return {
        get before() {
          return Math.max(0, line.indexOf(place));
        },
        wait: async (signal, onPlace) => line[0] === place || (await wait(place, signal, onPlace)),
        [Symbol.dispose]: () => leave(place),
      };
    },
    get running() {
      return Math.min(1, line.length);
    },
    get waiting() {
      return Math.max(0, line.length - 1);
    },
    get queuedMs() {
      return queuedMs;
    },
  };
}

/** The turn of what waits for nobody. */
export const NO_TURN: Turn = { before: 0, wait: async () => true, [Symbol.dispose]: () => undefined };
