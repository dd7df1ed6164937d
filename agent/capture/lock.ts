/** One at a time, in the order of asking. */
export interface Lock {
  /** Resolves with the release. An aborted wait leaves the queue. */
  acquire(signal: AbortSignal): Promise<() => void>;
}

export function createLock(): Lock {
  let last: Promise<void> = Promise.resolve();
  return {
    acquire: async (signal) => {
      const mine = Promise.withResolvers<void>();
      const before = last;
      last = before.then(() => mine.promise);
      const aborted = Promise.withResolvers<never>();
      const onAbort = () => aborted.reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      try {
        signal.throwIfAborted();
        await Promise.race([before, aborted.promise]);
      } catch (error) {
        mine.resolve();
        throw error;
      } finally {
        signal.removeEventListener('abort', onAbort);
      }
      return mine.resolve;
    },
  };
}
