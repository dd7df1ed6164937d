import { explain } from '../../evidence/error.ts';
import type { Domain } from '../domain.ts';
import { expire } from './decide.ts';

/** Often enough for times that people set in minutes. */
const EVERY_MS = 5_000;
/** Rows at a time; the rest comes in the next round. */
const A_ROUND = 200;

/** Ends what nobody approved, and what no agent fetched, in time. Any number of replicas may do it: each capture expires once. */
export function startExpiry(domain: Domain, everyMs = EVERY_MS): AsyncDisposable {
  let round: Promise<void> = Promise.resolve();
  let isBusy = false;
  const timer = setInterval(() => {
    if (isBusy) return;
    isBusy = true;
    round = expireAll(domain)
      .catch((error: unknown) => domain.log.error({ error: explain(error) }, 'expiry failed'))
      .finally(() => {
        isBusy = false;
      });
  }, everyMs).unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await round;
    },
  };
}

export async function expireAll(domain: Domain): Promise<void> {
  for (const row of await domain.store.expiredCaptures(domain.now(), A_ROUND)) {
    if (await expire(domain, row)) domain.log.info({ captureId: row.captureId, state: row.state }, 'capture expired');
  }
}
