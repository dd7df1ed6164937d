import type { CaptureRow, Store } from '../store/store.ts';
import { commandOf, stepsFor } from './commands.ts';
import type { NewsDesk } from './news.ts';
import type { Session } from './session.ts';
import type { Turns } from './turns.ts';

export interface DispatchParts {
  readonly store: Store;
  readonly news: NewsDesk;
  /** Of questions to the store alone: a slow agent must not take one while it is waited for. */
  readonly turns: Turns;
  readonly now: () => number;
}

const EXPIRED = 'It was not sent before its time was over';

/**
 * Sends what the store has open for the node of this stream. One run at a time and stream: a call during a run makes it look
 * again afterwards. Rejects when the store does; what was marked as sent by then is sent again on the next stream.
 */
export async function dispatch(session: Session, parts: DispatchParts): Promise<void> {
  session.dispatchAgain = true;
  if (session.dispatching) return;
  session.dispatching = true;
  try {
    while (session.dispatchAgain && !session.ended) {
      session.dispatchAgain = false;
      for (const row of await parts.turns(() => parts.store.openCaptures(session.node))) {
        await session.room();
        if (session.ended) return;
        await carry(session, row, parts);
      }
    }
  } finally {
    session.dispatching = false;
  }
}

async function carry(session: Session, row: CaptureRow, parts: DispatchParts): Promise<void> {
  const { store, news, now } = parts;
  const { captureId } = row;
  for (const step of stepsFor(row, session.known(captureId), now())) {
    switch (step) {
      case 'withdraw':
        await news.conclude(row, ['queued'], {
          ...{ state: 'cancelled', error: 'Cancelled before it was sent', actor: 'controller', details: {} },
        });
        break;
      case 'expire':
        await expire(row, news);
        break;
      case 'first': {
        const sent = await store.changeCapture(captureId, ['queued'], { state: 'sent', sentAtMs: now() });
        if (sent === undefined) break;
        news.publish(captureId);
        await carry(session, sent, parts);
        break;
      }
      case 'again':
      case 'resume':
        session.remember(row).commanded = true;
        session.send({ capture: commandOf(row, step === 'resume') });
        break;
      case 'cancel':
        session.remember(row).cancelled = true;
        session.send({ cancel: { captureId } });
        break;
      default:
        return step satisfies never;
    }
  }
}

/** Never sent, or never approved: no agent will see it. */
export async function expire(row: CaptureRow, news: NewsDesk): Promise<void> {
  await news.conclude(row, ['awaiting-approval', 'queued'], {
    ...{ state: 'expired', error: EXPIRED, actor: 'controller', details: { expiresAtMs: row.expiresAtMs } },
  });
}
