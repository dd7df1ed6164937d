import type { Logger } from 'pino';
import { explain } from '../evidence/error.ts';
import type { Store } from './store/store.ts';

/** Whether this replica can serve: its listeners are up, since it asks after they are, and its store answers. */
export interface ControllerReadiness {
  now(): Promise<{ readonly ready: boolean; readonly reasons: readonly string[] }>;
}

/** Probes come every few seconds, of kubelet and of load balancers; together they ask once in this time. */
const ANSWER_AGE_MS = 1_000;
/** A store that is slower than this serves nobody. Below the second that kubelet gives a probe by default. */
const STORE_TIMEOUT_MS = 800;
/** No node is called so: the question costs one look into an index. */
const NOBODY = { cluster: 'readiness', node: 'readiness' };

/** The store's own words go to the log: whoever may ask whether it is ready need not know where it is. */
export function openReadiness(store: Pick<Store, 'node'>, log: Logger): ControllerReadiness {
  let last: { readonly atMs: number; readonly answer: Promise<string | undefined> } | undefined;
  let asked: Promise<string | undefined> | undefined;
  let told: string | undefined;
  const tell = (why: string | undefined) => {
    if (why === told) return;
    if (why === undefined) log.info('the store answers again');
    else log.error({ reason: why }, 'the store does not answer: not ready');
    told = why;
  };
  const ask = (): Promise<string | undefined> => {
    // One that hangs is asked once more only when it has answered.
    asked ??= store
      .node(NOBODY)
      .then(() => undefined, explain)
      .finally(() => {
        asked = undefined;
      });
    return withinTime(asked);
  };
  return {
    async now() {
      const nowMs = performance.now();
      if (last === undefined || nowMs - last.atMs > ANSWER_AGE_MS) last = { atMs: nowMs, answer: ask() };
      const why = await last.answer;
      tell(why);
      return why === undefined
        ? { ready: true, reasons: [] }
        : { ready: false, reasons: ['the store does not answer; the log of the controller says why'] };
    },
  };
}

async function withinTime(answer: Promise<string | undefined>): Promise<string | undefined> {
  const late = Promise.withResolvers<string>();
  const timer = setTimeout(() => late.resolve(`no answer within ${STORE_TIMEOUT_MS} ms`), STORE_TIMEOUT_MS);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
