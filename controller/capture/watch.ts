import { ExhibitError } from '../../evidence/error.ts';
import type { CaptureUpdate } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { CaptureEvent__Output } from '../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CallContext } from '../api/api.ts';
import type { Domain } from '../domain.ts';
import type { CaptureRow } from '../store/store.ts';
import { findCapture } from './get.ts';
import type { NewsOfCaptures } from './inbox.ts';
import { nextRate, type Rate } from './rate.ts';
import { hasEnded, wireCapture } from './wire.ts';

/** The store is looked into that often even when the bus is silent: it may have lost a message without knowing. */
const LOOK_MS = 10_000;
/** The bus takes some milliseconds; an event that has not come by then was lost. */
const LAST_EVENT_MS = 1_000;

/**
 * The row as it is, then each change until the update that shows it ended. What happened while the reader was busy comes at once:
 * every event but progress, then the row as it is now; the times of the states in between are in it.
 */
export async function* watchCapture(
  domain: Domain,
  news: NewsOfCaptures,
  { captureId }: { readonly captureId: string },
  { caller, signal }: CallContext,
): AsyncIterable<CaptureUpdate> {
  const found = await findCapture(domain, 'WatchCapture', captureId, caller);
  using inbox = news.follow(found.captureId);
  // Again, for what happened before the inbox was there.
  let shown = await reread(domain, found.captureId);
  const rates = new Map<string, Rate>();
  yield { capture: wireCapture(shown) };
  let endBy = Number.POSITIVE_INFINITY;
  while (!hasEnded(shown.state)) {
    await inbox.wait(signal, Math.ceil(Math.max(0, Math.min(LOOK_MS, endBy - performance.now()))));
    const { events, isStale } = inbox.take();
    const isProgress = events.length > 0 && !isStale;
    const fresh = isProgress ? shown : await reread(domain, found.captureId);
    if (awaitsLastEvent(fresh, events)) endBy = Math.min(endBy, performance.now() + LAST_EVENT_MS);
    const isHeldBack = awaitsLastEvent(fresh, events) && performance.now() < endBy;
    for (const [index, event] of events.entries()) {
      // Only the last one may show the end: whoever sees that stops reading.
      const row = index === events.length - 1 && !isHeldBack ? fresh : shown;
      yield { capture: wireCapture(row), event, ...speed(rateAfter(rates, event)) };
    }
    if (isHeldBack) continue;
    if (events.length === 0 && differs(shown, fresh)) yield { capture: wireCapture(fresh) };
    shown = fresh;
  }
}

/** The row knows the agent's end already, and the event that tells of it, behind others, is still on its way. */
const awaitsLastEvent = (row: CaptureRow, events: readonly CaptureEvent__Output[]): boolean =>
  hasEnded(row.state) && row.told?.state === row.state && !events.some(({ ended }) => Boolean(ended));

async function reread({ store }: Domain, captureId: string): Promise<CaptureRow> {
  const row = await store.capture(captureId);
  if (row === undefined) throw new ExhibitError('capture-not-found', `The capture ${captureId} is gone from the store`);
  return row;
}

const differs = (before: CaptureRow, after: CaptureRow): boolean => JSON.stringify(before) !== JSON.stringify(after);

/** An agent has some fifteen stages and eight sinks; one that names more has no rates. */
const MOST_STAGES = 64;

/** Several stages can run at once, so each has its own. */
function rateAfter(
  rates: Map<string, Rate>,
  { atMs, stageStarted, stageProgress, stageEnded }: CaptureEvent__Output,
): Rate | undefined {
  if (stageEnded) rates.delete(stageEnded.stage);
  const at = stageProgress ?? (stageStarted ? { ...stageStarted, doneBytes: '0', totalBytes: '0' } : undefined);
  if (!at) return undefined;
  const { stage, doneBytes, totalBytes } = at;
  const before = stageStarted ? undefined : rates.get(stage);
  const progress = { stage, doneBytes: Number(doneBytes), totalBytes: Number(totalBytes), atMs: Number(atMs) };
  const rate = nextRate(before, progress);
  if (rates.has(stage) || rates.size < MOST_STAGES) rates.set(stage, rate);
  return rate;
}

const speed = (rate: Rate | undefined) => ({
  bytesPerSecond: Math.round(rate?.bytesPerSecond ?? 0),
  remainingMs: rate?.remainingMs ?? 0,
});
