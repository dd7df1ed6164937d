import { watch } from 'chokidar';
import type { Logger } from 'pino';
import { errnoOf, explain } from '../../evidence/error.ts';

/** Tells that something happened in the folder; what it was is for the folder itself to say. */
export interface FolderWatch extends AsyncDisposable {
  readonly kind: 'inotify' | 'polling';
}

/** inotify(7): no more instances (EMFILE), watches (ENOSPC) or memory. Where there is none at all the call is missing. */
const NO_INOTIFY = ['EMFILE', 'ENFILE', 'ENOSPC', 'ENOMEM', 'ENOSYS', 'EPERM'];
/** stat(2) of the folder alone, so it costs nothing. */
const POLL_MS = 1000;

/**
 * One watch, of the folder and of no file in it: whatever is in there is ignored by chokidar, whose raw events are wake-ups.
 * A folder that is removed and made anew is another one, and the watch ends with the old one.
 */
export async function watchFolder(
  path: string,
  onEvent: (name: string) => void,
  log: Logger,
  usePolling = false,
): Promise<FolderWatch> {
  const watcher = watch(path, {
    ...{ depth: 0, ignoreInitial: true, followSymlinks: false, usePolling, interval: POLL_MS },
    ignored: (one) => one !== path,
  });
  const state = Promise.withResolvers<unknown>();
  watcher.on('raw', (_event, name) => onEvent(String(name)));
  watcher.on('ready', () => state.resolve(undefined));
  watcher.on('error', (error) => {
    state.resolve(error);
    log.debug({ error: explain(error) }, 'watching the request folder failed');
  });
  const error = await state.promise;
  if (error === undefined || usePolling) {
    const kind = usePolling ? 'polling' : 'inotify';
    return { kind, [Symbol.asyncDispose]: () => watcher.close() };
  }
  await watcher.close();
  if (!NO_INOTIFY.includes(errnoOf(error) ?? '')) throw error;
  log.warn({ path, errno: errnoOf(error), everyMs: POLL_MS }, 'no inotify for the request folder: it is polled');
  return await watchFolder(path, onEvent, log, true);
}
