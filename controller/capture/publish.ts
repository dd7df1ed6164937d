import { explain } from '../../evidence/error.ts';
import type { Domain } from '../domain.ts';
import type { Topic } from '../store/store.ts';

/**
 * Messages about what is stored already. A bus that does not take one must not make the call fail that stored it: its caller
 * would hear that nothing was stored, and ask again.
 */

/** A database that is restarted is back within seconds. After that agents that come back, and gaps of the bus, do the same. */
const AGAIN_MS = [250, 1_000, 5_000, 15_000, 60_000];

/** Resolves when it was sent, or is sent again later. Never rejects. */
export async function publishStored(
  domain: Pick<Domain, 'store' | 'log'>,
  topic: Topic,
  message: string,
): Promise<void> {
  try {
    await domain.store.bus.publish(topic, message);
  } catch (error) {
    domain.log.warn({ topic, error: explain(error) }, 'message not sent, and tried again');
    publishAgain(domain, topic, message, 0);
  }
}

function publishAgain(domain: Pick<Domain, 'store' | 'log'>, topic: Topic, message: string, attempt: number): void {
  const pauseMs = AGAIN_MS[attempt];
  if (pauseMs === undefined) return;
  const send = () =>
    domain.store.bus.publish(topic, message).catch(() => publishAgain(domain, topic, message, attempt + 1));
  setTimeout(() => void send(), pauseMs).unref();
}
