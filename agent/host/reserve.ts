/**
 * Processes or threads that are up before they are needed, for what must not wait until they have started. They know nothing
 * yet and hold nothing; each is used once, by whoever took it, and another takes its place when nothing is in a hurry.
 */
export interface Reserve<Item> extends AsyncDisposable {
  /** One that waits, or a new one. It is the caller's, who ends it. */
  take(): Item;
  /** Starts as many as are missing. */
  refill(): void;
}

export interface ReserveOptions<Item> {
  readonly count: number;
  readonly start: () => Item;
  /** Calls back when it has ended by itself: it was killed, and whoever comes next must not get it. */
  readonly onEnd: (item: Item, ended: () => void) => void;
  readonly end: (item: Item) => Promise<unknown>;
}

export function openReserve<Item>({ count, start, onEnd, end }: ReserveOptions<Item>): Reserve<Item> {
  const waiting = new Set<Item>();
  let isClosed = false;
  return {
    take() {
      const [item = start()] = waiting;
      waiting.delete(item);
      return item;
    },
    refill() {
      while (!isClosed && waiting.size < count) {
        const item = start();
        waiting.add(item);
        onEnd(item, () => waiting.delete(item));
      }
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      const rest = [...waiting];
      waiting.clear();
      await Promise.all(rest.map(end));
    },
  };
}

/**
 * The same work, and `then` once none of it runs any more: whoever still works may not be made to wait for a processor. `isIdle` tells
 * whether that is still so; if not, `then` comes again.
 */
export function followedBy<Given extends readonly unknown[], Result>(
  work: (...given: Given) => Promise<Result>,
  then: (isIdle: () => boolean) => void,
): (...given: Given) => Promise<Result> {
  let running = 0;
  return async (...given) => {
    running += 1;
    try {
      return await work(...given);
    } finally {
      running -= 1;
      if (running === 0) then(() => running === 0);
    }
  };
}

/**
 * Fills reserves where there is memory for what waits in them, and nothing has begun meanwhile. Never rejects: without them all goes on,
 * and is slower. A process that cannot be started (ENOMEM, EMFILE) is for `onFailure`.
 */
export function refillWithin(
  reserves: readonly Pick<Reserve<unknown>, 'refill'>[],
  { hasRoom, onFailure }: { readonly hasRoom: () => Promise<boolean>; readonly onFailure: (error: unknown) => void },
): (isIdle?: () => boolean) => Promise<void> {
  return async (isIdle = () => true) => {
    try {
      if (!(await hasRoom()) || !isIdle()) return;
      for (const reserve of reserves) reserve.refill();
    } catch (error) {
      onFailure(error);
    }
  };
}
