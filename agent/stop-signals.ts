/** Whoever listened to SIGTERM and SIGINT until now: the command that started this program. */
export interface EarlierListener {
  /** Aborted when one of them came. */
  readonly signal: AbortSignal;
  releaseSignals(): void;
}

/**
 * The name of the signal that asks this program to end, listened to from the call on; a second one ends it at once. A pod may be deleted
 * while its program is still being loaded, and process 1 of a container is asked once: one that came to `earlier` counts.
 */
export function stopSignal(earlier?: EarlierListener): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name));
  // Not before: what is on its way is heard by one of the two.
  earlier?.releaseSignals();
  if (earlier?.signal.aborted === true) resolve('earlier');
  return promise;
}
